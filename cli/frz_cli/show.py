"""`frz ls` and `frz show`: what lies in the artifacts folder."""

from itertools import groupby
from typing import Annotated, Any

import typer

from frz_cli import options
from frz_cli.output import emit


def ls(
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="Part of kind/name@run, as in heads; or a pattern: 'heads/muon*'."),
    ] = "",
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """List data sets, features, backbones and heads.

    What lies elsewhere (features with `--set out=DIR`) is named by its folder in all other commands. Parts are not
    looked for: `frz show` tells whether they are in place.
    """
    from frz.artifacts import root
    from frz.inventory import listing

    folder = root(artifacts)
    rows = listing(folder, name)
    if as_json:
        emit(rows, as_json)
    elif rows:  # a table per kind, whose rows have the same columns
        emit({kind: list(of_kind) for kind, of_kind in groupby(rows, lambda row: row.pop("kind"))}, as_json)
    elif name:
        typer.echo(f"nothing in {folder} fits {name!r}", err=True)
    else:
        typer.echo(f"nothing in {folder} yet; start with 'frz demo' or 'frz data build'", err=True)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any artifact: its name, kind/name, or a path.")],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Describe one artifact: sizes, arrays, origin. `--json` has all that is recorded, the hash of every tensor too."""
    from frz.artifacts import root
    from frz.inventory import describe

    described = describe(name, root(artifacts))
    emit(described if as_json else _brief(described), as_json)


def _brief(value: Any) -> Any:
    """The same without what only programs read: tables of hashes, and the config that a fingerprint repeats."""
    if not isinstance(value, dict):
        return value
    if len(value) > 1 and all(isinstance(item, str) and len(item) == 64 for item in value.values()):
        return f"{len(value)} hashes"
    kept = {key: item for key, item in value.items() if not (key == "config" and "tensors" in value)}
    return {key: _brief(item) for key, item in kept.items()}
