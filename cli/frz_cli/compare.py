"""`frz compare`: heads side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from frz_cli import options
from frz_cli.output import emit


def compare(
    heads: Annotated[list[str], typer.Argument(metavar="HEAD...", help="Heads: names, runs or files of weights.")],
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores", metavar="FILE", help="Predictions of another model, as frz predict writes them; repeatable."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option("--resamples", min=1, help="Samples drawn for the intervals.")] = 1000,
    split: Annotated[str, typer.Option("--split", help="Split of the data set, or 'all'.")] = "test",
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Put heads side by side on the same events.

    Settings that differ, metrics with 68.3 % intervals; '*' marks the best, where the paired 95 % interval says so.
    Below, what each is less the best value, with that interval.
    """
    from frz.artifacts import root
    from frz.evaluation.compare import compare as run

    result = run(heads, root(artifacts), split, resamples, scores or ())
    emit(result if as_json else _for_people(result), as_json)


def _for_people(result: Mapping[str, Any]) -> dict[str, Any]:
    """One row per setting that differs and per metric, one column per head."""
    metrics = {
        name: {label: _cell(number, found["best"] == label) for label, number in found["heads"].items()}
        for name, found in result["metrics"].items()
    }
    told = {key: result[key] for key in ("split", "events", "resamples")}
    settings = {"config": result["config"], "made_from": result["made_from"]}
    rows = {name: [{"": key, **values} for key, values in found.items()] for name, found in settings.items() if found}
    told |= {"heads": [{"": label, **card} for label, card in result["heads"].items()], **rows}
    told["metrics"] = [{"": name, **cells} for name, cells in metrics.items()]
    apart = {
        name: {label: _apart(one["difference"]) for label, one in found["heads"].items() if "difference" in one}
        for name, found in result["metrics"].items()
    }
    if any(apart.values()):
        told["less_the_best_value"] = [{"": name, **cells} for name, cells in apart.items() if cells]
    return told


def _apart(difference: Mapping[str, Any]) -> str:
    """`-0.0121 (-0.0203 to -0.0041), p 0.01`."""
    if difference["low"] is None:
        return f"{difference['value']:.3g}"
    return f"{difference['value']:.3g} ({difference['low']:.3g} to {difference['high']:.3g}), p {difference['p']:.2g}"


def _cell(number: Mapping[str, Any], best: bool) -> str:
    """`0.0863 (0.0851 to 0.0877) *`."""
    interval = "" if number["low"] is None else f" ({number['low']:.4g} to {number['high']:.4g})"
    return f"{number['value']:.4g}{interval}{' *' if best else ''}"
