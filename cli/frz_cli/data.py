"""`frz data`: build a data set from a recipe, and look at one."""

from pathlib import Path
from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit

app = typer.Typer(no_args_is_help=True, help="Data sets: build, show.", rich_markup_mode=None)


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
