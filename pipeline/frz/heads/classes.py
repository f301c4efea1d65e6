"""One of K classes: softmax over K outputs, cross-entropy or focal loss, class weights from the training split.

The classes are the values that the training split shows, in ascending order; they travel with the checkpoint.
"""

# Axes: N members (slots or events), K classes.

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frz.errors import TrainingError
from frz.heads.answers import Answers, Floats
from frz.heads.losses import Weighting, class_loss, class_weights
from frz.heads.scores import class_metrics


class Classes(Answers):
    """A field of classes.

    Parameters
    ----------
    label : str
        Its name.
    n_class : int
        K.
    weighting : str, sequence of float (K,), or None
        See `class_weights`.
    gamma : float
        Of the focal loss; 0 is cross-entropy.
    """

    values: Tensor
    share: Tensor
    weight: Tensor

    def __init__(
        self, label: str, n_class: int = 2, weighting: Weighting | Sequence[float] | None = None, gamma: float = 0.0
    ) -> None:
        super().__init__()
        self.labels, self.n_output = (label,), n_class
        self.weighting, self.gamma = weighting, gamma
        self.register_buffer("values", torch.arange(n_class, dtype=torch.float32))
        self.register_buffer("share", torch.full((n_class,), 1 / n_class))
        self.register_buffer("weight", torch.ones(n_class))

    def goals(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values (N, 1) themselves: their place among the classes is known once they are measured."""
        return values

    def measure(self, values: NDArray[np.float32]) -> None:
        """Find the classes, their shares and weights.

        Raises
        ------
        TrainingError
            If the values are not of K classes.
        """
        known, counts = np.unique(values[:, 0], return_counts=True)
        if len(known) != self.n_output:
            shown = ", ".join(f"{value:g}" for value in known[:6]) + (", ..." if len(known) > 6 else "")
            raise TrainingError(
                f"target {self.labels[0]!r} shows {len(known)} values in the training split ({shown or 'none'}), the "
                f"head has {self.n_output} classes",
                way_out="set classes, or check the target and which members count",
            )
        self.values.copy_(torch.from_numpy(known))
        self.share.copy_(torch.from_numpy(counts / counts.sum()))
        self.weight.copy_(class_weights(counts.tolist(), self.weighting))

    def losses(self, raw: Tensor, goals: Tensor, counts: Tensor) -> Tensor:
        """Mean over the members that count of w (1 - p)^gamma (-ln p), p the probability of the true class."""
        # A value that the training split did not show (or of a member that does not count) is put with the nearest.
        true = (goals[:, :1] - self.values).abs().argmin(1)  # (N,)
        log_p = raw.log_softmax(-1).gather(-1, true.expand(raw.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        loss = class_loss(log_p, self.weight[true], self.gamma)
        scale = counts.to(loss.dtype) / counts.sum().clamp(min=1)
        return (loss @ scale).unsqueeze(-1)

    def predictions(self, raw: Tensor, shift: Tensor | None = None) -> dict[str, Tensor]:
        """Likeliest value; `<label>_probability` of the upper of two classes, `<label>_probability_<value>` of more."""
        del shift
        label, probability = self.labels[0], raw.softmax(1)
        found = {label: self.values[raw.argmax(1)]}
        if self.n_output == 2:
            return found | {f"{label}_probability": probability[:, 1]}
        return found | dict(zip(self._names(), probability.unbind(1), strict=True))

    def _names(self) -> list[str]:
        return [f"{self.labels[0]}_probability_{value:g}" for value in self.values.tolist()]

    def mean_outputs(self, n_member: int) -> Tensor:
        """ln of the shares of the classes."""
        return self.share.log().expand(n_member, -1)

    def metrics(self, found: dict[str, Floats], truth: Floats) -> dict[str, float]:
        """Accuracy, AUROC, AUPRC and the other numbers of `class_metrics`."""
        label = self.labels[0]
        if self.n_output == 2:
            upper = found[f"{label}_probability"]
            probability = np.stack((1 - upper, upper), 1)
        else:
            probability = np.stack([found[name] for name in self._names()], 1)
        known = self.values.cpu().numpy()
        true = np.abs(truth[:, :1] - known).argmin(1)
        return {f"{label}/{name}": value for name, value in class_metrics(probability, true).items()}
