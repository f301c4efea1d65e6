"""What the loop writes to the folder of a run, in which order, and what a continuation finds there.

  metrics.jsonl       one line per epoch
  best.safetensors    weights of the epoch with the lowest validation loss
  last.safetensors    weights of the last finished epoch
  state.safetensors   all that it takes to go on from a step

They are written in that order, so the state never knows of more than the other files hold; lines that it
does not know of are cut off, their epochs come again.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from frz.errors import CheckpointError, TrainingError
from frz.store.atomic import append_line, full_disk, make_folder, write_file
from frz.training import checkpoint
from frz.training.config import NOT_IDENTITY, TIMING, TrainerConfig

METRICS, BEST, LAST, STATE = "metrics.jsonl", "best.safetensors", "last.safetensors", "state.safetensors"

Metrics: TypeAlias = dict[str, float | None]
Meta: TypeAlias = Callable[[Mapping[str, Tensor]], Mapping[str, Any]]
"""JSON to keep beside weights that are about to be saved (config, versions, their fingerprint)."""


class Record:
    """Writes the files of one run.

    Parameters
    ----------
    path : Path
        Made if missing.
    config : TrainerConfig
        Kept in every checkpoint.
    sizes : mapping
        Numbers that a continuation must have in common with the run (events of the splits).
    meta : callable, optional
        See `Meta`.
    """

    def __init__(self, path: Path, config: TrainerConfig, sizes: Mapping[str, int], meta: Meta | None) -> None:
        with full_disk(path):
            make_folder(path)
        self.path, self._config, self._meta = path, config, meta
        self._identity = {"trainer": config.model_dump(mode="json", exclude=set(NOT_IDENTITY)), "sizes": dict(sizes)}
        self._metrics_bytes = 0
        self._lines: list[str] = []  # of epochs that are not on disk yet
        self._best: tuple[dict[str, Tensor], Metrics] | None = None  # likewise

    def add_epoch(self, line: Metrics) -> None:
        """Note the metrics of a finished epoch for the next save."""
        self._lines.append(json.dumps(line, allow_nan=False))

    def add_best(self, weights: Mapping[str, Tensor], line: Metrics) -> None:
        """Note (copy) the weights of the best epoch for the next save."""
        self._best = {name: value.clone() for name, value in weights.items()}, line

    def save(
        self, state: Mapping[str, Tensor], values: Mapping[str, Any], last: tuple[Mapping[str, Tensor], Metrics] | None
    ) -> None:
        """Write what was noted, the weights of the last epoch (between two epochs) and then the state.

        Raises
        ------
        StoreError
            If no space is left; the state of the save before stays.
        """
        if self._lines:
            text = "\n".join(self._lines)
            append_line(self.path / METRICS, text)
            self._metrics_bytes += len(text.encode()) + 1
            self._lines.clear()
        if self._best is not None:
            self._save_weights(BEST, *self._best)
            self._best = None
        if last is not None:
            self._save_weights(LAST, *last)
        meta = {**self._identity, "metrics_bytes": self._metrics_bytes, **values}
        checkpoint.save(self.path / STATE, state, meta)

    def _save_weights(self, name: str, weights: Mapping[str, Tensor], line: Metrics) -> None:
        """Write the weights of an epoch with its metrics, without the times: equal runs give equal files."""
        metrics = {key: value for key, value in line.items() if key not in TIMING}
        meta = {"trainer": self._config.model_dump(mode="json"), "metrics": metrics}
        checkpoint.save(self.path / name, weights, {**meta, **(self._meta(weights) if self._meta else {})})

    def restore(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read the saved state and cut the metrics to what it knows; None if there is none.

        Raises
        ------
        TrainingError
            If the state is of a run with other settings, naming them.
        CheckpointError
            If the state is damaged, or the metrics are shorter than it knows.
        """
        path, metrics = self.path / STATE, self.path / METRICS
        for name in (METRICS, BEST, LAST, STATE):
            for left in self.path.glob(f".{name}.*"):  # by a process that was killed while it wrote
                left.unlink()
        if not path.is_file():
            metrics.unlink(missing_ok=True)  # lines of a run that ended before its first state
            return None
        state, meta = checkpoint.load(path)
        self._check_identity(meta)
        self._metrics_bytes = meta["metrics_bytes"]
        lines = metrics.read_bytes() if metrics.is_file() else b""
        if len(lines) < self._metrics_bytes:
            what = f"{METRICS} is shorter than when the state was saved"
            raise CheckpointError(what, where=str(self.path), way_out="put it back, or start in another folder")
        if len(lines) > self._metrics_bytes:
            write_file(metrics, lines[: self._metrics_bytes])
        return state, meta

    def _check_identity(self, meta: Mapping[str, Any]) -> None:
        changed: list[str] = []
        for part, ours in self._identity.items():
            theirs = meta.get(part, {})
            changed += [f"{key} {theirs.get(key)} -> {ours[key]}" for key in ours if theirs.get(key) != ours[key]]
        if changed:
            what = f"the run began with other settings: {', '.join(changed)}"
            way_out = "go on with the old ones, or start in another folder"
            raise TrainingError(what, where=str(self.path / STATE), way_out=way_out)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
