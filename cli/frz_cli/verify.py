"""`frz verify`: is a store or a run whole? The one command whose exit code is 1: what it looked for, it found."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frz.errors import ConfigError, FrzError
from frz_cli import options
from frz_cli.output import emit

if TYPE_CHECKING:
    from frz.artifacts import Artifact
    from frz.store.verify import Report

DAMAGED = 1


def verify(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A data set or features: muon-sim, muon-sim@2, a folder; or a run: backbones/muon."
        ),
    ],
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", help="One version alone (default all).")
    ] = None,
    content: Annotated[
        bool, typer.Option("--content", help="Also compute the digest of all values; several times slower.")
    ] = False,
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Compare the checksums of a store or a run.

    Exit code 1 if anything is damaged. Of features and a backbone of one name the features are meant.
    """
    from frz.artifacts import root
    from frz.location import location
    from frz.store.verify import verify as run

    found = _find(name, root(artifacts))
    if found.version is None:
        if version is not None:
            raise ConfigError("a run has no versions", where=str(found.path), way_out="leave out --version")
        _verify_run(found.path, as_json)
        return
    if version is None and "@" in name and not location(name).exists():
        version = found.version
    report = run(found.path, version, content=content)
    if as_json:
        emit(report.as_json(), True)
    else:
        _print(report, name)
    if report.damages:
        raise typer.Exit(DAMAGED)


def _find(name: str, folder: Path) -> "Artifact":
    """A store; where no store has the name, a run."""
    from frz.artifacts import find

    try:
        return find(name, folder, ("datasets", "features"))
    except FrzError as refusal:
        # a name that a store has is the store's, also where the version is not there
        if isinstance(refusal, ConfigError) or "/" in name:
            with suppress(ConfigError):  # nor is it a run's
                return find(name, folder, ("backbones", "heads"))
        raise


def _verify_run(path: Path, as_json: bool) -> None:
    from frz.artifacts import card
    from frz.training.verify import verify as run

    files, damages = run(path)
    if as_json:
        emit({"root": path, "whole": not damages, "files": files, "damages": damages}, True)
    else:
        for damage in damages:
            typer.echo(f"damaged: {damage}")
        state = "damaged" if damages else "whole" if card(path).get("finished") else "unfinished, and whole so far"
        typer.echo(f"{state}: {path}: {', '.join(file.name for file in files) or 'nothing saved yet'}")
    if damages:
        raise typer.Exit(DAMAGED)


def _print(report: "Report", name: str) -> None:
    from frz.progress import size

    for damage in report.damages:
        typer.echo(f"damaged: {damage}")
    for warning in report.warnings:
        typer.echo(f"warning: {warning}")
    if report.orphans:
        what = f"{report.orphans} parts ({size(report.orphan_bytes)}) belong to no version"
        typer.echo(f"{what}; 'frz gc' frees them when they are old")
    rate = size(int(report.n_bytes / max(report.seconds, 1e-9)))
    versions = ", ".join(map(str, report.versions))
    typer.echo(
        f"{'damaged' if report.damages else 'whole'}: version {versions} of {report.root}: {report.n_parts:,} parts, "
        f"{report.n_files:,} files, {size(report.n_bytes)} in {report.seconds:.1f} s ({rate}/s)"
    )
    if report.damages:
        typer.echo(f"{len(report.damages)} damaged; run 'frz repair {name.partition('@')[0]}'")
