"""Which weights are worth keeping, and when there is no more progress: by the metric that a config monitors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from frz.training.config import TrainerConfig
from frz.training.monitor import Monitor
from frz.training.record import BEST, Metrics, Record, Weights


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
        self._config, self._monitor, self._record = config, monitor, record
        self.best: Metrics = {}
        """Line of metrics of the best weights."""
        self.top: dict[str, float] = {}
        """Files of the best few, with the metric turned so that smaller is better; the best first."""
        self._stale = 0  # validations since the best one

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._config.patience <= self._stale

    def add(self, line: Metrics, weights: Mapping[str, Tensor], kind: Weights) -> None:
        """Judge the weights that a line of metrics was measured with; what cannot be measured is no progress."""
        if self._monitor.name not in line:
            return
        value, best = self._monitor.value(line), self._monitor.value(self.best)
        better = value is not None and (best is None or value < best)
        self._stale = 0 if better else self._stale + 1
        files = []
        if better or not self.best:
            self.best = line
            files.append(BEST)
        if value is not None and self._config.save_top_k > 1:
            metric = f"{self._monitor.name.replace('/', '_')}-{line[self._monitor.name]:.4g}"
            name = f"top-step{line['step']}-{metric}.safetensors"
            ranked = sorted([*self.top.items(), (name, value)], key=lambda item: item[1])  # stable: the earlier first
            self.top = dict(ranked[: self._config.save_top_k])
            files += [name] if name in self.top else []
        if files:
            self._record.add_weights(files, weights, line, kind)

    def state(self) -> dict[str, Any]:
        """What `restore` needs; JSON, whose objects have no order."""
        return {"best": self.best, "top": list(self.top.items()), "stale": self._stale}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo `state`."""
        self.best, self.top, self._stale = state["best"], dict(state["top"]), state["stale"]
