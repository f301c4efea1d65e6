"""Which weights are worth keeping, and when there is no more progress: by the metric that a config monitors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from frz.training.config import TrainerConfig
from frz.training.monitor import Monitor
from frz.training.record import BEST, Metrics, Record, Weights


class Standing:
    """The best line of metrics so far, and whether there is still progress.

    Parameters
    ----------
    monitor : Monitor
        Compares.
    patience : int
        Validations without a better value after which there is none; 0 for any number.
    """

    def __init__(self, monitor: Monitor, patience: int) -> None:
        self.monitor, self._patience = monitor, patience
        self.best: Metrics = {}
        """Line of metrics with the best value; the first one while none could be measured."""
        self.stale = 0
        """Validations since the best one."""

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._patience <= self.stale

    def add(self, line: Metrics) -> bool:
        """Judge a line; whether its weights are the best now. What cannot be measured is no progress."""
        if self.monitor.name not in line:
            return False
        value, best = self.monitor.value(line), self.monitor.value(self.best)
        better = value is not None and (best is None or value < best)
        self.stale = 0 if better else self.stale + 1
        if chosen := better or not self.best:
            self.best = line
        return chosen


class Selection:
    """The best weights so far.

    Parameters
    ----------
    config : TrainerConfig
        `patience` and `save_top_k` are looked at.
    monitor : Monitor
        Compares.
    record : Record
        Keeps the weights.
    """

    def __init__(self, config: TrainerConfig, monitor: Monitor, record: Record) -> None:
        self.standing = Standing(monitor, config.patience)
        self._n_top, self._monitor, self._record = config.save_top_k, monitor, record
        self.top: dict[str, float] = {}
        """Files of the best few, with the metric turned so that smaller is better; the best first."""

    def add(self, line: Metrics, weights: Mapping[str, Tensor], kind: Weights) -> None:
        """Judge the weights that a line of metrics was measured with."""
        files = [BEST] if self.standing.add(line) else []
        value = self._monitor.value(line)
        if value is not None and self._n_top > 1:
            metric = f"{self._monitor.name.replace('/', '_')}-{line[self._monitor.name]:.4g}"
            name = f"top-step{line['step']}-{metric}.safetensors"
            ranked = sorted([*self.top.items(), (name, value)], key=lambda item: item[1])  # stable: the earlier first
            self.top = dict(ranked[: self._n_top])
            files += [name] if name in self.top else []
        if files:
            self._record.add_weights(files, weights, line, kind)

    def state(self) -> dict[str, Any]:
        """What `restore` needs; JSON, whose objects have no order."""
        of, top = self.standing, list(self.top.items())
        return {"best": of.best, "top": top, "stale": of.stale, "mode": self._monitor.mode}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo `state`."""
        self.standing.best, self.standing.stale, self.top = state["best"], state["stale"], dict(state["top"])
        self._monitor.mode = state.get("mode") or self._monitor.mode  # what `check` found before the first step
