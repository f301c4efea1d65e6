"""The metrics of a run, read back: one mapping per line of `metrics.jsonl`."""

import json
from pathlib import Path
from typing import Any

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
