"""The metric that decides: which epoch is best, when to stop, which checkpoints are kept."""

from collections.abc import Iterable, Mapping

from frz.errors import TrainingError, nearest
from frz.training.config import TrainerConfig

SMALLER = frozenset(["abs", "brier", "ece", "error", "loss", "mae", "mse", "nll", "pinball", "rms", "rmse", "width"])
LARGER = frozenset(["accuracy", "auc", "auprc", "efficiency", "f1", "precision", "purity", "r2", "recall"])
"""Words in the last part of a name that tell which values are better."""
NEAR: Mapping[str, float] = {"bias": 0.0, "pull": 1.0}
"""Words there of metrics that are best at a value."""


def words_of(name: str) -> set[str]:
    """Words in the last part of the name of a metric: `pull`, `width` of `val/pt/pull_width`."""
    return set(name.rpartition("/")[2].split("_"))


class Monitor:
    """Compares values of the metric that a config names.

    Parameters
    ----------
    config : TrainerConfig
        `monitor` and `monitor_mode` are looked at.
    has_val : bool
        Without validation events the training loss stands in for the validation loss.

    Raises
    ------
    TrainingError
        If the metric needs validation events and there are none, or its better direction is not known.
    """

    def __init__(self, config: TrainerConfig, has_val: bool) -> None:
        self.name = config.monitor
        if self.name.startswith("val/") and not has_val:
            if self.name != "val/loss":
                raise TrainingError(
                    "no validation events to measure it on", where=f"monitor = {self.name}", way_out="set a train/ name"
                )
            self.name = "train/loss"
        words = words_of(self.name)
        mode = config.monitor_mode
        if mode == "auto":
            if words & NEAR.keys() or bool(words & SMALLER) == bool(words & LARGER):
                what = "not known whether smaller or larger is better"
                way_out = "check the name, or set monitor_mode to min or max"
                raise TrainingError(what, where=f"monitor = {self.name}", way_out=way_out)
            mode = "min" if words & SMALLER else "max"
        self.sign = 1.0 if mode == "min" else -1.0
        """Times the metric: the smaller the better."""

    def value(self, line: Mapping[str, float | None]) -> float | None:
        """The metric in a line of metrics, turned so that smaller is better; None where it was not measured."""
        value = line.get(self.name)
        return None if value is None else self.sign * value

    def shown(self, line: Mapping[str, float | None]) -> dict[str, float]:
        """What to show beside the training loss: the validation loss, and the metric where it is another."""
        names = dict.fromkeys(name for name in ("val/loss", self.name) if name != "train/loss")
        return {name: value for name in names if (value := line.get(name)) is not None}

    def named(self, measured: Mapping[str, float | None]) -> dict[str, float | None]:
        """What was measured, under the name asked for as well where that leaves the field out.

        `val/auc` stands for `val/label/auc` if no other field has an `auc`.
        """
        found = dict(measured)
        if self.name not in found:
            prefix, _, rest = self.name.partition("/")
            fields = [name for name in found if name.startswith(f"{prefix}/") and name.endswith(f"/{rest}")]
            if len(fields) == 1:
                found[self.name] = found[fields[0]]
        return found

    def check(self, known: Iterable[str]) -> None:
        """Refuse a metric that nobody measures.

        Raises
        ------
        TrainingError
            Naming the nearest of the metrics that there are.
        """
        names = set(known)
        if self.name not in names:
            raise TrainingError("no such metric", where=f"monitor = {self.name}", way_out=nearest(self.name, names))
