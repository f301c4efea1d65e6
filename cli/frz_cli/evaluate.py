"""`frz evaluate` and `frz predict`: what a trained backbone or head is worth, and what it says."""

from pathlib import Path
from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit


def evaluate(
    target: Annotated[str, typer.Argument(metavar="NAME", help="A backbone or a head: its name or its run's folder.")],
    artifacts: options.Artifacts = None,
    overrides: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Measure a backbone or head on the test split."""
    from frz.artifacts import root
    from frz.config import override
    from frz.evaluation.run import evaluate as run

    emit(run(target, root(artifacts), override({}, overrides or ())), as_json)


def predict(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="A head: its name or its run's folder.")],
    data: Annotated[str, typer.Option("--data", metavar="NAME", help="Data set to apply backbone and head to.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet file to write.")],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Apply backbone and head to a data set.

    Writes one row per prediction to a Parquet file.
    """
    from frz.artifacts import root
    from frz.joint.predict import predict as run

    emit(run(head, root(artifacts), data, out), as_json)
