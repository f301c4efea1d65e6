"""What heads on slots and heads on events learn and answer alike: loss, predictions, and metrics of members that count.

A subclass adds its net (`forward`) to what it prepares (`RowPrefix`).
"""

# Axes: N members (slots or events) of a batch, F fields, O raw outputs.

from abc import abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from frz.errors import TrainingError
from frz.heads.contract import Batch
from frz.heads.rows import RowPrefix
from frz.store.schema import EventArrays


class RowHead(RowPrefix):
    """A head that answers for slots or for events, see `RowPrefix` for its parameters."""

    @abstractmethod
    def look(self, block: EventArrays) -> None:
        """Take in a block of the prepared training split."""

    @abstractmethod
    def settle(self) -> None:
        """Turn what was looked at into constants."""

    def fit(self, prepared: Iterable[EventArrays]) -> None:
        """Measure target statistics on the members that count, and what `look` measures.

        Raises
        ------
        TrainingError
            If the features carry no truth, nothing counts, or a class field does not have its classes.
        """
        if not self.truth:
            raise TrainingError("the features carry no targets", way_out="extract from a data set with truth")
        found = [np.zeros((0, len(self.labels)), np.float32)]
        references = [np.zeros((0, len(self.references)), np.float32)]
        for block in prepared:
            counts = block[f"{self.axis}/counts"]
            found.append(block[f"{self.axis}/target"][counts])
            if self.references:
                references.append(block["slot/reference"][counts])
            self.look(block)
            if self.descriptors is not None:
                self.descriptors.standard.look(block[f"{self.axis}/descriptors"])
        self.settle()
        if self.descriptors is not None:
            self.descriptors.standard.settle()
        values = np.concatenate(found)
        if self.references:
            reference = np.concatenate(references)
            self.offsets.measure(values, reference)
            values = values - self.offsets(torch.from_numpy(reference)).numpy()
        self.targets.measure(values)

    @property
    def n_described(self) -> int:
        """Numbers that `described` joins."""
        return self.descriptors.n_output if self.descriptors else 0

    def described(self, found: Tensor, batch: Batch) -> Tensor:
        """What is known of members (N, ...) and, joined to it, their descriptors."""
        if self.descriptors is None:
            return found
        return torch.cat((found, self.descriptors(batch[f"{self.axis}/descriptors"])), 1)

    def _shift(self, batch: Batch) -> Tensor | None:
        """What is added to the fields (N, F) that are regressed relative to a hit."""
        found: Tensor | None = self.offsets(batch["slot/reference"]) if self.references else None
        return found

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean over fields of the mean over the members that count, and each field's part.

        Raw outputs may have leading axes; loss and parts have them too.
        """
        goals, shift = batch[f"{self.axis}/goal"], self._shift(batch)
        goals = goals if shift is None else goals - shift
        outputs = self(batch).float()
        with torch.autocast(outputs.device.type, enabled=False):  # or products would round the loss to 8 bits
            losses = self.targets.losses(outputs, goals, batch[f"{self.axis}/counts"])  # (F,)
            total = self.config.loss_weight * (losses @ self.field_weights) / self.field_weights.sum()
        return total, dict(zip(self.labels, losses.detach().unbind(-1), strict=True))

    def predict(self, batch: Batch) -> Batch:
        """What the fields say of every kept member, by `<axis>/<field>` (N,), in physical units.

        A ratio is called `q_over_pt`. Inverse and log fields stay within the range of the training targets.
        """
        with torch.no_grad():
            found = self.targets.predictions(self(batch), self._shift(batch))
        return {f"{self.axis}/{name}": values for name, values in found.items()}

    def predict_mean(self, prepared: EventArrays) -> EventArrays:
        """The yardstick: what a head without features predicts, the training mean (classes: the likelier one)."""
        n_member = len(prepared[f"{self.axis}/counts"])
        shift = None
        if self.references:
            shift = self.offsets(torch.from_numpy(prepared["slot/reference"]).to(self.field_weights.device))
        found = self.targets.predictions(self.targets.mean_outputs(n_member), shift)
        return {f"{self.axis}/{name}": values.cpu().numpy() for name, values in found.items()}

    def metrics(self, predictions: EventArrays, prepared: EventArrays) -> dict[str, float]:
        """Metrics over the members that count.

        `slots` (or `events`) and `slots_empty` (no assigned hit) are counts; per field see `field_metrics` and
        `class_metrics`.
        """
        counts = prepared[f"{self.axis}/counts"]
        result = {f"{self.axis}s": float(counts.sum())}
        for name in ("pair/offsets", "member/offsets"):
            if name in prepared:
                result[f"{self.axis}s_empty"] = float((np.diff(prepared[name])[counts] == 0).sum())
        found = {name.partition("/")[2]: values[counts] for name, values in predictions.items()}
        return result | self.targets.metrics(found, prepared[f"{self.axis}/target"][counts])
