"""What the loop writes to the folder of a run, in which order, and what a continuation finds there.

  metrics.jsonl         one line per epoch, or per validation where there are several in an epoch
  best.safetensors      weights with the best value of the monitored metric
  top-*.safetensors     the best few, where more than one is kept (named after step and value)
  last.safetensors      weights of the last line of metrics
  last-ema.safetensors  their average, where one is kept
  state.safetensors     all that it takes to go on from a step
  tensorboard/          a copy of the metrics as event files, if asked for

Where weights are averaged (`ema_decay`), the average is what was validated, so it lies in `best` and `top-*`;
`weights` in the metadata of each file says `raw` or `ema`. Files are written in that order, so the state never
knows of more than the others hold; lines and files that it does not know of are removed, their epochs come again.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor

from frz.errors import CheckpointError, TrainingError
from frz.store.atomic import append_line, full_disk, make_folder, write_file
from frz.training import checkpoint
from frz.training.board import Board
from frz.training.config import NOT_IDENTITY, TIMING, TrainerConfig

METRICS, BEST, LAST, STATE = "metrics.jsonl", "best.safetensors", "last.safetensors", "state.safetensors"
LAST_EMA = "last-ema.safetensors"
TOP = "top-*.safetensors"

Metrics: TypeAlias = dict[str, float | None]
Weights: TypeAlias = Literal["raw", "ema"]
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
    writes : bool
        Whether this process writes; else it notes nothing and leaves the folder alone.
    """

    def __init__(
        self, path: Path, config: TrainerConfig, sizes: Mapping[str, int], meta: Meta | None, writes: bool = True
    ) -> None:
        if writes:
            with full_disk(path):
                make_folder(path)
        self._writes = writes
        self.path, self._config, self._meta = path, config, meta
        self._identity = {"trainer": config.model_dump(mode="json", exclude=set(NOT_IDENTITY)), "sizes": dict(sizes)}
        self._board = Board(path / METRICS) if config.tensorboard else None
        self._metrics_bytes = 0
        self._lines: list[str] = []  # that are not on disk yet
        self._pending: dict[str, tuple[Mapping[str, Tensor], Metrics, Weights]] = {}  # weights likewise, by file

    def add_line(self, line: Metrics) -> None:
        """Note a line of metrics for the next save."""
        if self._writes:
            self._lines.append(json.dumps(line, allow_nan=False))

    def add_weights(self, names: Iterable[str], weights: Mapping[str, Tensor], line: Metrics, kind: Weights) -> None:
        """Note (copy) weights and their metrics for the next save, under one name or several."""
        if not self._writes:
            return
        copy = {name: value.clone() for name, value in weights.items()}
        self._pending |= dict.fromkeys(names, (copy, line, kind))

    def save(
        self,
        state: Mapping[str, Tensor],
        values: Mapping[str, Any],
        top: Collection[str],
    ) -> None:
        """Write what was noted and then the state; of the files `top-*` only those in `top` are kept.

        Raises
        ------
        StoreError
            If no space is left; the state of the save before stays.
        """
        if not self._writes:
            return
        if self._lines:
            text = "\n".join(self._lines)
            append_line(self.path / METRICS, text)
            self._metrics_bytes += len(text.encode()) + 1
            self._lines.clear()
            if self._board is not None:
                self._board.follow()
        for name in [name for name in self._pending if fnmatch(name, TOP) and name not in top]:
            del self._pending[name]  # was among the best for a while
        for name, (weights, line, kind) in self._pending.items():
            self._save_weights(name, weights, line, kind)
        self._pending.clear()
        meta = {**self._identity, "metrics_bytes": self._metrics_bytes, "top": list(top), **values}
        checkpoint.save(self.path / STATE, state, meta)
        self._keep_top(top)

    def close(self) -> None:
        """End what is open."""
        if self._board is not None:
            self._board.close()

    def _keep_top(self, top: Collection[str]) -> None:
        for path in self.path.glob(TOP):
            if path.name not in top:
                path.unlink()

    def _save_weights(self, name: str, weights: Mapping[str, Tensor], line: Metrics, kind: Weights) -> None:
        checkpoint.save(self.path / name, weights, about_weights(self._config, weights, line, kind, self._meta))

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
        if not path.is_file():
            if self._writes:
                metrics.unlink(missing_ok=True)  # lines of a run that ended before its first state
                self._keep_top(())
            return None
        state, meta = checkpoint.load(path)
        self._check_identity(meta)
        if not self._writes:
            return state, meta
        self._keep_top(meta["top"])
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


def about_weights(
    config: TrainerConfig, weights: Mapping[str, Tensor], line: Metrics, kind: Weights, meta: Meta | None
) -> dict[str, Any]:
    """What is kept beside weights: their metrics too, without the times, so that equal runs give equal files."""
    metrics = {key: value for key, value in line.items() if key not in TIMING}
    about = {"trainer": config.model_dump(mode="json"), "metrics": metrics, "weights": kind}
    return {**about, **(meta(weights) if meta else {})}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
