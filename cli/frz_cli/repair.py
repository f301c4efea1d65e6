"""`frz repair`: what `frz verify` finds, made again. Exit code 1 if something stays damaged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frz.errors import StoreError
from frz_cli import options
from frz_cli.output import emit
from frz_cli.verify import DAMAGED

if TYPE_CHECKING:
    from frz.store.mend import Outcome
    from frz.store.snapshot import Snapshot
    from frz.store.verify import Report


def repair(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A data set or feature store, or its folder; all its versions.")
    ],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Make again what is damaged in a store.

    Features are made by their backbone, data are read from their source.

    What comes out with other content gets a new version. Exit code 1 if something stays damaged.
    """
    from frz.artifacts import find, root
    from frz.store.lease import Leases
    from frz.store.verify import verify

    folder = root(artifacts)
    store = find(name, folder, ("datasets", "features")).path
    with Leases(store).alone() as survey:
        if survey.live:
            way_out = "run the same command when that has ended"
            raise StoreError(f"{survey.live[0]} works on the store", where=str(store), way_out=way_out)
        report = verify(store)
        outcomes, added = _mend(store, folder, report)
    left = sum(not outcome.repaired for outcome in outcomes)
    if as_json:
        found = {
            **report.as_json(),
            "outcomes": [outcome._asdict() for outcome in outcomes],
            "new_version": added.version if added else None,
            "whole": not left,
        }
        emit(found, True)
    else:
        _print(report, outcomes, added, left)
    if left:
        raise typer.Exit(DAMAGED)


def _mend(store: Path, folder: Path, report: "Report") -> "tuple[list[Outcome], Snapshot | None]":
    from frz.store.verify import readable

    newest = next((found for version in reversed(report.versions) if (found := readable(store, version))), None)
    if newest is not None and "fingerprint" in newest.about:
        from frz.extract.restore import repair as run

        return run(store, folder, report)
    from frz.data.restore import repair as run_data

    return run_data(store, report)


def _print(report: "Report", outcomes: "list[Outcome]", added: "Snapshot | None", left: int) -> None:
    for damage in [*report.damages, *report.warnings]:
        typer.echo(f"damaged: {damage}")
    for outcome in outcomes:
        same = ", equal to what was committed" if outcome.repaired and outcome.same else ""
        typer.echo(f"{'repaired' if outcome.repaired else 'not repaired'}: {outcome.path}: {outcome.how}{same}")
    if added is not None:
        typer.echo(f"version {added.version} is new: it points at what came out with other content")
    typer.echo(f"{f'{left} damaged' if left else 'whole'}: {report.root}: {len(outcomes) - left} repaired")
