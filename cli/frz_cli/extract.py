"""`frz extract`: run a frozen backbone over a data set and keep what it says."""

from typing import Annotated, Any

import typer

from frz.errors import ConfigError
from frz_cli import options
from frz_cli.output import emit

OUTSIDE = 1
"""Exit code of `--check` where canaries come out differently."""


def extract(
    ckpt: Annotated[str, typer.Option("--ckpt", metavar="NAME", help="Backbone: muon, muon@best, or a run's folder.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="Data set (default: what the backbone was trained on).")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Processes on this machine.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Threads in each (default: the cores, divided).")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A running dask cluster, tcp://host:port.")
    ] = None,
    fidelity: Annotated[
        bool, typer.Option("--fidelity", help="Extract nothing; measure on a sample what each type would cost.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Extract nothing; predict bytes, seconds and memory from a few batches.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Extract nothing; run a few stored events again here and compare.")
    ] = False,
    artifacts: options.Artifacts = None,
    overrides: options.SetBelow = None,
    as_json: options.Json = False,
) -> None:
    """Keep what a frozen backbone says of a data set.

    Only what is missing is computed. `--fidelity` takes settings too: `--set fidelity.head=CONFIG`.
    """
    from frz.artifacts import root
    from frz.config import override
    from frz.extract.cluster import Workers
    from frz.extract.run import extract as run

    settings = override({}, overrides or ())
    instead = {"--fidelity": fidelity, "--dry-run": dry_run, "--check": check}
    if (asked := [name for name, on in instead.items() if on])[1:]:
        raise ConfigError(f"{' and '.join(asked)} are different questions", way_out="ask one of them")
    if fidelity:
        from frz.joint.fidelity import fidelity as measure
        from frz_cli.fidelity import tables

        report = measure(ckpt, root(artifacts), data, settings)
        emit(report if as_json else tables(report), as_json)
        return
    if check:
        from frz.extract.run import check as run_canaries

        found = run_canaries(ckpt, root(artifacts), data, settings)
        emit(found, as_json)
        if not found["within"]:
            raise typer.Exit(OUTSIDE)
        return
    result = run(ckpt, root(artifacts), data, settings, Workers(workers, threads, scheduler), dry_run)
    emit(result if as_json else _short(result), as_json)


def _short(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what it says of each array beside the sums."""
    result = {key: value for key, value in result.items() if key not in ("arrays", "stages", "tried")}
    if "prediction" in result:
        result["prediction"] = {key: value for key, value in result["prediction"].items() if key != "arrays"}
    return result
