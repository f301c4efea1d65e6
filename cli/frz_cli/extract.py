"""`frz extract`: run a frozen backbone over a data set and keep what it says."""

from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit


def extract(
    ckpt: Annotated[str, typer.Option("--ckpt", metavar="NAME", help="Backbone: muon, muon@best, or a run's folder.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="Data set (default: what the backbone was trained on).")
    ] = None,
    artifacts: options.Artifacts = None,
    overrides: options.SetBelow = None,
    as_json: options.Json = False,
) -> None:
    """Keep what a frozen backbone says of a data set.

    Only what is missing is computed.
    """
    from frz.artifacts import root
    from frz.config import override
    from frz.extract.run import extract as run

    emit(run(ckpt, root(artifacts), data, override({}, overrides or ())), as_json)
