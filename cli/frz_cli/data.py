"""`frz data`: build a data set from a recipe, add to it, and look at its versions."""

from pathlib import Path
from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit

app = typer.Typer(no_args_is_help=True, help="Data sets: build, add, show, diff.", rich_markup_mode=None)

EXAMPLES, MOST_IDS = 5, 1000
"""Ids of each kind that `diff` names for people and in JSON."""


@app.command("build")
def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file: which source, files and cuts.")],
    artifacts: options.Artifacts = None,
    overrides: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Read a source into a data set; a new version only if something changed."""
    from frz.artifacts import root
    from frz.config import read_yaml
    from frz.data.build import build as run

    emit(run(read_yaml(recipe, overrides or ()), root(artifacts), str(recipe)), as_json)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set: muon-sim, muon-sim@2, or its folder.")],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Describe a data set: arrays, events, splits, where it comes from."""
    from frz.artifacts import dataset, root
    from frz.inventory import describe_store

    emit(describe_store(*dataset(name, root(artifacts))), as_json)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set.")],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Parquet or CSV file, one row per event.")],
    on: Annotated[str, typer.Option("--on", metavar="COLUMN", help="Column with the event ids.")] = "id",
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Columns to add; default all others.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace columns that were added before.")] = False,
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Add columns of a table as targets `event/<column>`, by event id; nothing that is there is written again."""
    from frz.artifacts import root
    from frz.data.add import add as run

    emit(run(name, table, root(artifacts), on, columns.split(",") if columns else None, replace), as_json)


@app.command("diff")
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A data set or features: muon-sim@1, muon-sim@latest.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Which events and arrays were added, removed, changed or moved to another split from A to B."""
    from frz.artifacts import find, root
    from frz.store.diff import diff as run
    from frz.store.reader import EventStore

    places = [find(spec, root(artifacts), ("datasets", "features")) for spec in (a, b)]
    result = run(*(EventStore(place.path, place.version) for place in places)).summary(
        MOST_IDS if as_json else EXAMPLES
    )
    if not as_json:
        ids = result.pop("ids")
        result["events"] = [
            {"": kind, "events": n, "ids": [str(i) for i in ids.get(kind, [])]} for kind, n in result["events"].items()
        ]
        result = {part: found for part, found in result.items() if found}
    emit({"a": a, "b": b, **result}, as_json)
