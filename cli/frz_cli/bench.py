"""`frz bench`: what a head costs on this machine, behind its backbone and from stored features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from frz_cli import options
from frz_cli.output import emit


def bench(
    config: Annotated[Path, typer.Argument(metavar="HEAD-CONFIG", help="YAML file of a head, as for train-head.")],
    data: options.Data = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="About how long to measure.")] = 60.0,
    artifacts: options.Artifacts = None,
    overrides: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Measure what a head costs on this machine.

    Jointly with the backbone, behind the frozen backbone, and from stored features. Nothing is written.
    """
    from frz.artifacts import root
    from frz.config import read_yaml
    from frz.joint.bench import bench as run

    chosen = options.chosen(overrides, {"features.data": data})
    result = run(read_yaml(config, chosen), root(artifacts), str(config), seconds=seconds)
    emit(result if as_json else _for_people(result), as_json)
    if not as_json:
        typer.echo(f"{result['advice']}.")


def _for_people(result: Mapping[str, Any]) -> dict[str, Any]:
    """One row per way; shares in per cent, memory in MB."""
    told = {key: value for key, value in result.items() if key not in ("ways", "advice", "left_out", "prepare")}
    told |= {f"{way} is left out": why for way, why in result["left_out"].items()}
    cost = result["prepare"]
    told["prepare, once"] = f"{cost['seconds_for_all']:.3g} s ({cost['events_per_s']:,.0f} events/s)"
    return told | {"ways": [_row(way, row) for way, row in result["ways"].items()]}


def _row(way: str, row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"": way, "events/s": round(row["events_per_s"]), "s per epoch": row["epoch_s"]}
    found |= {f"× {other}": row[f"over_{other}"] for other in ("joint", "frozen") if f"over_{other}" in row}
    for name, key in (("memory", "memory"), ("GPU memory", "device_memory")):
        if row[key] is not None:
            found[name] = f"{row[key] / 1e6:,.0f} MB"
    return found | {part: f"{row[part]:.0%}" for part in ("reading", "copies", "compute")}
