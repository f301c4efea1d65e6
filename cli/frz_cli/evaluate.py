"""`frz evaluate` and `frz predict`: what a trained backbone or head is worth, and what it says."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from frz_cli import options
from frz_cli.output import emit


def evaluate(
    target: Annotated[str, typer.Argument(metavar="NAME", help="A backbone or a head: its name or its run's folder.")],
    artifacts: options.Artifacts = None,
    overrides: options.SetBelow = None,
    as_json: options.Json = False,
) -> None:
    """Measure a backbone or head on the test split."""
    from frz.artifacts import root
    from frz.config import override
    from frz.evaluation.run import evaluate as run

    result = run(target, root(artifacts), override({}, overrides or ()))
    emit(result if as_json else _for_people(result), as_json)


def _for_people(result: dict[str, Any]) -> dict[str, Any]:
    """Every number of tracking as a row with its interval and what it is counted of; bins with their edges."""
    from frz.heads.contract import COUNTS

    told = dict(result)
    if "classes" in told:  # of a head: their numbers are told with intervals, once
        shown = [f"{field}/" for field in told["classes"]]
        told["metrics"] = {
            who: {name: value for name, value in found.items() if not name.startswith(tuple(shown))}
            for who, found in told["metrics"].items()
        }
        if all(COUNTS.issuperset(found) for found in told["metrics"].values()):
            del told["metrics"]  # the classes tell how many members count
        told["classes"] = {field: _classes(found) for field, found in told["classes"].items()}
    if "tracking" in told:  # of a backbone
        valid, least = told.pop("valid_slots"), told.pop("min_hits")
        of = f"of {valid:,} valid slots those with {least} or more hits"
        told["predicted_tracks"] = f"{told['predicted_tracks']:,} ({of})"
    for table in ("slots", "tracking", "tracking_long"):
        if table in told:
            told[table] = {name: _interval(number) for name, number in told[table].items()}
    if "binned" in told:
        told["binned"] = {name: _bins(name, found) for name, found in told["binned"].items()}
    return told


def _classes(found: dict[str, Any]) -> dict[str, Any]:
    """Of a field of classes: a row per number, per part, and what a temperature changes; bins are for the report."""
    told = {key: value for key, value in found.items() if key not in ("reliability", "classes", "intervals")}
    members = ", ".join(f"{value}: {number:,}" for value, number in found["classes"].items())
    drawn = found["intervals"]
    told["counted"] = f"{told['counted']:,} ({members})"
    told["intervals"] = f"{100 * drawn['level']:.3g} % of {drawn['resamples']:,} samples"
    for name, parts in told.pop("by", {}).items():
        told[name] = [part | {key: _cell(part[key]) for key in ("auc", "auprc")} for part in parts]
    return told


def _cell(number: dict[str, Any]) -> str:
    """`0.853 (0.844 to 0.862)`, or why there is none."""
    if number["value"] is None:
        return f"- ({number['reason']})"
    interval = "" if number["low"] is None else f" ({number['low']:.4g} to {number['high']:.4g})"
    return f"{number['value']:.4g}{interval}"


def _interval(number: Any) -> dict[str, Any]:
    """One row: a proportion, a mean, or a plain number."""
    if not isinstance(number, dict):
        return {"value": number}
    value = number["value"]
    if "total" in number:
        low, high, counted = number["low"], number["high"], f"{number['successes']:,} of {number['total']:,}"
    else:
        error, counted = number["error"], f"mean of {number['count']:,}"
        low, high = (None, None) if error is None else (value - error, value + error)
    return {"value": value, "low": low, "high": high, "counted": counted}


def _bins(name: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of bins; what lies outside is the last, if there is any."""
    unit = "" if found["unit"] in ("", "1") else f" {found['unit']}"
    ranges = [f"{low:.4g} to {high:.4g}{unit}" for low, high in pairwise(found["edges"])]
    rows = [*zip(ranges, found["bins"], strict=True), ("outside", found["outside"])]
    return [{name: where, **_interval(number)} for where, number in rows if where != "outside" or number["total"]]


def predict(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="A head: its name or its run's folder.")],
    data: Annotated[str, typer.Option("--data", metavar="NAME", help="Data set to apply backbone and head to.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write: .parquet or .csv.")],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Apply backbone and head to a data set.

    Writes one row per prediction.
    """
    from frz.artifacts import root
    from frz.joint.predict import predict as run

    emit(run(head, root(artifacts), data, out), as_json)
