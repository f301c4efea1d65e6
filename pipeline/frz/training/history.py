"""The metrics of a run, read back, and which epoch its weights are of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frz import artifacts
from frz.ancestry import config_of
from frz.errors import CheckpointError
from frz.training.config import TrainerConfig
from frz.training.monitor import Monitor
from frz.training.record import METRICS

MONITOR = ("monitor", "monitor_mode")


def history(run: Path) -> list[dict[str, Any]]:
    """Lines of the metrics of a run, oldest first; none if there is no file.

    Raises
    ------
    CheckpointError
        If a line is damaged.
    """
    file = run / METRICS
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except ValueError as error:
        raise CheckpointError(f"not JSON lines ({error})", where=str(file), way_out="train again") from None


def kept(run: Path, lines: Sequence[Mapping[str, Any]], weights: str = "best") -> float:
    """Epoch of the `best` or `last` weights of a run whose metrics are `lines`.

    The card of a finished run says which was best. Before that it is the first with the best value of what its config
    monitors.
    """
    best = artifacts.card(run).get("epoch_metrics", {}).get("best", {})
    found = lines[-1] if weights == "last" else best if "epoch" in best else _best(run, lines)
    return float(found["epoch"])


def _best(run: Path, lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    asked = config_of(run).get("trainer", {})
    config = TrainerConfig(**{key: asked[key] for key in MONITOR if key in asked})
    validated = any(line.get("val/loss") is not None for line in lines)
    monitor = Monitor(config, validated or config.monitor != "val/loss")  # another metric may come with a later line
    known = [(value, number) for number, line in enumerate(lines) if (value := monitor.value(line)) is not None]
    return lines[min(known)[1] if known else -1]
