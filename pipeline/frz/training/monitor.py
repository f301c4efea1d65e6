"""The metric that decides: which epoch is best, when to stop, which checkpoints are kept."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeAlias

from frz.errors import TrainingError, nearest
from frz.training.config import TrainerConfig

Side: TypeAlias = Literal["min", "max"]
"""Which values of a metric are better: small ones, or large ones."""

SMALLER = frozenset(["abs", "brier", "ece", "error", "loss", "mae", "mse", "nll", "pinball", "rms", "rmse", "width"])
LARGER = frozenset(["accuracy", "auc", "auprc", "efficiency", "f1", "precision", "purity", "r2", "recall"])
"""Words in the last part of a name that tell which values are better."""
NEAR: Mapping[str, float] = {"bias": 0.0, "pull": 1.0}
"""Words there of metrics that are best at a value."""


def words_of(name: str) -> set[str]:
    """Words in the last part of the name of a metric: `pull`, `width` of `val/pt/pull_width`."""
    return set(name.rpartition("/")[2].split("_"))


def better_side(name: str) -> Side | float | None:
    """What the name of a metric tells of its better values: their side, the number they are near, or nothing."""
    words = words_of(name)
    if near := [best for word, best in NEAR.items() if word in words]:
        return near[0]
    if bool(words & SMALLER) == bool(words & LARGER):
        return None
    return "max" if words & LARGER else "min"


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
        If the metric needs validation events and there are none.
    """

    def __init__(self, config: TrainerConfig, has_val: bool) -> None:
        self.name = config.monitor
        if self.name.startswith("val/") and not has_val:
            if self.name != "val/loss":
                raise TrainingError(
                    "no validation events to measure it on", where=f"monitor = {self.name}", way_out="set a train/ name"
                )
            self.name = "train/loss"
        side = better_side(self.name) if config.monitor_mode == "auto" else config.monitor_mode
        self.mode: Side | None = side if isinstance(side, str) else None
        """None until `check`, where neither the config nor the name tells it."""

    def value(self, line: Mapping[str, float | None]) -> float | None:
        """The metric in a line of metrics, turned so that smaller is better; None where it was not measured."""
        value = line.get(self.name)
        return None if value is None else -value if self.mode == "max" else value

    def score(self, line: Mapping[str, float | None]) -> dict[str, Any]:
        """What the card of a run says of a line of metrics: `score`, and of which metric it is the value."""
        return {"score": line.get(self.name), "monitor": self.name, "monitor_mode": self.mode}

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

    def check(self, known: Collection[str], parts: Collection[str] = ()) -> None:
        """Refuse a metric that nobody measures, or whose better values are not known.

        Parameters
        ----------
        known : collection of str
            The metrics that there are.
        parts : collection of str
            Those of them that are a part of the loss: small values are better, whatever it is called.

        Raises
        ------
        TrainingError
            Naming the nearest of the metrics that there are, each by its shortest name, or how to say which values are
            better.
        """
        where = f"monitor = {self.name}"
        if self.name not in known:
            raise TrainingError("no such metric", where=where, way_out=nearest(self.name, _short(known, parts)))
        if self.mode is None and self.name in parts:
            self.mode = "min"
        if self.mode is None:
            what = "not known whether smaller or larger is better"
            raise TrainingError(what, where=where, way_out="set monitor_mode to min or max")


def _short(known: Collection[str], parts: Collection[str]) -> list[str]:
    """Names without the field where one field alone has the metric, as `Monitor.named` takes them."""
    pieces = {name: name.split("/", 2) for name in known}
    short = {name: f"{of[0]}/{of[2]}" for name, of in pieces.items() if len(of) == 3 and name not in parts}
    shared = Counter(short.values())
    return [short[name] if name in short and shared[short[name]] == 1 else name for name in known]
