"""`frz export`: a data set or features in a format of other tools."""

from pathlib import Path
from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit


def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set or features: muon-sim, muon-sim@2, or a path.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder (zarr, parquet) or file (safetensors) to make.")],
    to: Annotated[str, typer.Option("--format", metavar="FORMAT", help="zarr, parquet or safetensors.")],
    arrays: Annotated[
        str | None, typer.Option("--arrays", metavar="A,B", help="Export these arrays alone, as in hit/raw,event/id.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="SPLIT", help="Export the events of this split alone.")
    ] = None,
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Write a version as Zarr, Parquet or safetensors.

    Whatever is at OUT already is never touched.
    """
    from frz import artifacts as names
    from frz.store.export import export as run
    from frz.store.reader import EventStore

    found = names.find(name, names.root(artifacts), ("datasets", "features"))
    chosen = arrays.split(",") if arrays is not None else None
    emit(run(EventStore(found.path, found.version), out, to, chosen, split), as_json)
