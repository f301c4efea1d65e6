"""`frz verify`: is a store whole? The one command whose exit code is 1: what it looked for, it found."""

from typing import TYPE_CHECKING, Annotated

import typer

from frz_cli import options
from frz_cli.output import emit

if TYPE_CHECKING:
    from frz.store.verify import Report

DAMAGED = 1


def verify(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A data set or feature store: muon-sim, muon-sim@2, or its folder.")
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
    """Read every byte of a store and compare checksums.

    Exit code 1 if anything is damaged.
    """
    from frz.artifacts import find, root
    from frz.location import location
    from frz.store.verify import verify as run

    found = find(name, root(artifacts), ("datasets", "features"))
    if version is None and "@" in name and not location(name).exists():
        version = found.version
    report = run(found.path, version, content=content)
    if as_json:
        emit(report.as_json(), True)
    else:
        _print(report, name)
    if report.damages:
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
