"""What a sweep came to: one row per head, one per point with its interval over seeds, and files of both.

results.json     all of it, with the lines of metrics of every head
results.csv      one row per head (and results.parquet, with the extra `parquet`)
points.csv       one row per point, the seeds together
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from frz.store.atomic import write_file
from frz.training.monitor import Side
from frz.training.record import Metrics

LEVEL = 0.95
"""Of the intervals."""


class Outcome(NamedTuple):
    """What became of one head."""

    name: str
    run: str
    """Folder of its run, below `heads/<name>`."""
    chosen: dict[str, Any]
    """Values by key, without the seed."""
    seed: int
    status: str
    """`trained`, `dropped after epoch n`, `failed: …`; or how else it came to its end."""
    score: float | None
    """Best value of `monitor`, of a dropped or failed head its best so far; None without a whole epoch."""
    epochs: int
    metrics: dict[str, float]
    """Of the validation split, in physical units; of trained heads."""
    lines: list[Metrics]
    """Of `metrics.jsonl`."""
    monitor: str = "val/loss"
    """The metric that decides: without validation events the training loss stands in for that of the validation."""
    monitor_mode: Side = "min"
    """Which values of it are better."""
    stack: int = 0
    """Heads of the stack that it began in; 0 of one that the sweep did not stack."""

    @property
    def loss(self) -> float | None:
        """The score, turned so that smaller is better."""
        return -self.score if self.score is not None and self.monitor_mode == "max" else self.score

    @property
    def trained(self) -> bool:
        """Whether its run lies on disk, whole."""
        return not self.status.startswith(("dropped", "failed"))


def rows_of(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per head, the best first, those without a score last."""
    ranked = sorted(outcomes, key=_rank)
    return [
        {
            "name": outcome.name,
            **{_last(key): value for key, value in outcome.chosen.items()},
            "seed": outcome.seed,
            "score": outcome.score,
            "epochs": outcome.epochs,
            **{f"val/{key}": value for key, value in outcome.metrics.items()},
            "status": outcome.status,
        }
        for outcome in ranked
    ]


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The best head; None if there is none."""
    return min(outcomes, key=_rank, default=None)


def points_of(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per point, the best first: mean score of its trained heads and its interval, if there are several.

    The interval is Student's t at 95 %: mean +- t s / sqrt(n), s the standard deviation over the seeds.
    """
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(json.dumps(outcome.chosen, sort_keys=True), []).append(outcome)
    rows: list[tuple[float, dict[str, Any]]] = []
    for of_point in found.values():
        scores = [outcome.score for outcome in of_point if outcome.trained and outcome.score is not None]
        low, high = interval(scores)
        chosen = {_last(key): value for key, value in of_point[0].chosen.items()}
        mean = float(np.mean(scores)) if scores else None
        row = {**chosen, "score": mean, "low": low, "high": high, "seeds": len(scores), "of": len(of_point)}
        losses = [outcome.loss for outcome in of_point if outcome.trained and outcome.loss is not None]
        rows.append((float(np.mean(losses)) if losses else math.inf, row))
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Interval of the mean of `values`; None, None for less than two."""
    if len(values) < 2:
        return None, None
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    mean = float(np.mean(values))
    return mean - half, mean + half


def write(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the tables of a sweep; `result` has `heads` and `points`.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    write_file(folder / "results.json", json.dumps(result, allow_nan=False, indent=1).encode())
    for name, rows in (("results", result["heads"]), ("points", result["points"])):
        write_file(folder / f"{name}.csv", _csv(rows))
    if find_spec("pyarrow") and find_spec("pandas"):
        import pandas

        buffer = io.BytesIO()
        plain = [{key: _cell(value) for key, value in row.items()} for row in result["heads"]]
        pandas.DataFrame(plain).to_parquet(buffer, index=False)
        write_file(folder / "results.parquet", buffer.getvalue())


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _last(key: str) -> str:
    """Columns are called by the last word of a key; `seed` and `score` are taken."""
    word = key.rpartition(".")[2]
    return key if word in ("name", "seed", "score", "epochs", "status") else word


def _rank(outcome: Outcome) -> tuple[bool, float]:
    """Trained heads before others, the best first, those without a score last."""
    return not outcome.trained, math.inf if outcome.loss is None else outcome.loss
