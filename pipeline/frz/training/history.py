"""The metrics of a run, read back, and which epoch its weights are of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frz import artifacts
from frz.errors import CheckpointError
from frz.training.record import METRICS


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

    The card of a finished run says which was best. Before that it is the first with the lowest validation (else
    training) loss.
    """
    best = artifacts.card(run).get("epoch_metrics", {}).get("best", {})
    found = lines[-1] if weights == "last" else best if "epoch" in best else _lowest(lines)
    return float(found["epoch"])


def _lowest(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    monitored = "val/loss" if any(line.get("val/loss") is not None for line in lines) else "train/loss"
    known = [line for line in lines if line.get(monitored) is not None]
    return min(known, key=lambda line: float(line[monitored])) if known else lines[-1]
