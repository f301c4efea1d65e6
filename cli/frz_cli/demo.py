"""`frz demo`: the whole path on simulated data."""

from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit


def demo(
    family: Annotated[
        str, typer.Option("--family", metavar="muon|icu", help="Muons in a spectrometer, or stays in intensive care.")
    ] = "muon",
    artifacts: options.Artifacts = None,
    overrides: options.SetBelow = None,
    as_json: options.Json = False,
) -> None:
    """The whole path on simulated data, in minutes.

    Simulates, trains a backbone, extracts, trains a head and reports.
    """
    from frz.artifacts import root
    from frz.config import override
    from frz.evaluation.demo import demo as run

    emit(run(root(artifacts), override({}, overrides or ()), family), as_json)
