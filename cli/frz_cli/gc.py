"""`frz gc`: what no version needs any more, and runs. Says what could go, and removes it with `--yes` alone."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frz.errors import ConfigError, StoreError, nearest
from frz_cli import options
from frz_cli.output import emit

if TYPE_CHECKING:
    from frz.store.gc import Report
    from frz.training.discard import Removable

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def gc(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Data sets and feature stores, or their folders; default all."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="NAME@N", help="Drop version N of a store; repeatable.")
    ] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="Keep what is younger, as in 90m, 24h, 7d.")
    ] = "24h",
    runs: Annotated[
        list[str] | None,
        typer.Option("--runs", metavar="NAME@RUN", help="Remove a run of a backbone or head; repeatable."),
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Remove runs that never finished, and are older than --grace.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; otherwise nothing is changed.")] = False,
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Free what no version needs; remove runs.

    Tells what that is, and removes it with --yes alone. With --runs or --unfinished stores are looked at only if they
    are named.
    """
    from frz.artifacts import root
    from frz.inventory import referring
    from frz.progress import size
    from frz.store.gc import collect

    folder, seconds = root(artifacts), _seconds(grace)
    about_runs = bool(runs or unfinished)
    looked_at = _stores(names or [], folder) if names or not about_runs else []
    drops: dict[Path, dict[int, list[str]]] = {store: {} for store in looked_at}
    for spec in drop or ():
        store, version = _version(spec, folder)
        near = {folder, store.parent.parent}  # a store that is named by its path may have runs beside it
        drops.setdefault(store, {})[version] = [run for place in near for run in referring(store, version, place)]
    reports = {
        store: collect(store, grace=seconds, drop=list(referred), referred=referred, delete=yes)
        for store, referred in drops.items()
    }
    gone = _discard(folder, runs or (), unfinished, seconds, yes) if about_runs else []
    left = None if names or about_runs else _left_behind(folder, yes)
    if as_json:
        stores = [{"store": store, **_plain(report)} for store, report in reports.items()]
        killed = [{"path": item.path, "bytes": item.bytes} for item in left.garbage] if left else []
        emit({"removed": yes, "stores": stores, "runs": [run._asdict() for run in gone], "left_behind": killed}, True)
        return
    if gone:
        emit([{"run": r.run, "state": r.state, "files": r.files, "size": size(r.bytes)} for r in gone], False)
    named = [(f"{store.parent.name}/{store.name}", report) for store, report in reports.items()]
    named += [("runs", left)] if left else []
    if rows := [row for name, report in named for row in _rows(name, report)]:
        emit(rows, False)
    for store, report in reports.items():
        if report.live:
            typer.echo(f"{store}: {', '.join(report.live)} works on it, so all that is committed stays", err=True)
        for version in drops[store]:
            typer.echo(f"version {version} of {store} {'is dropped' if yes else 'can be dropped'}", err=True)
    freed = [item.bytes for _, report in named for item in report.garbage] + [run.bytes for run in gone]
    total = size(sum(freed))
    typer.echo(f"{total} removed" if yes else f"{total} can go; nothing was changed, --yes removes it", err=True)


def _discard(folder: Path, runs: Sequence[str], unfinished: bool, grace: float, yes: bool) -> "list[Removable]":
    from frz.training.discard import discard

    return discard(folder, runs, unfinished=unfinished, grace=grace, delete=yes)


def _left_behind(folder: Path, delete: bool) -> "Report":
    from frz.training.discard import left_behind

    return left_behind(folder, delete=delete)


def _plain(report: "Report") -> dict[str, Any]:
    garbage = [item._asdict() for item in report.garbage]
    return {"live": report.live, "bytes": sum(item.bytes for item in report.garbage), "garbage": garbage}


def _rows(name: str, report: "Report") -> list[dict[str, Any]]:
    """A row for all garbage of one kind."""
    from frz.progress import size

    sizes: dict[tuple[str, str], list[int]] = {}
    for item in report.garbage:
        sizes.setdefault((item.what, item.why), []).append(item.bytes)
    return [
        {"store": name, "what": what, "number": len(each), "size": size(sum(each)), "why": why}
        for (what, why), each in sizes.items()
    ]


def _stores(names: list[str], folder: Path) -> list[Path]:
    """Folders of the stores that are named, or of all; also of those that hold no version yet."""
    from frz import artifacts
    from frz.artifacts.places import is_store
    from frz.location import location

    known = {
        f"{kind}/{path.name}": path for kind in ("datasets", "features") for path in artifacts.entries(folder, kind)
    }
    found: list[Path] = []
    for name in names:
        fitting = {full: path for full, path in known.items() if name in (full, path.name, str(path))}
        if not fitting and is_store(place := location(name)):
            fitting = {name: place}
        if len(fitting) != 1:
            what = f"{name!r} fits several stores" if fitting else f"no store {name!r}"
            names_of = fitting or [path.name for path in known.values()]
            raise StoreError(what, where=str(folder), way_out=nearest(name, names_of))
        found += fitting.values()
    return found if names else list(known.values())


def _version(spec: str, folder: Path) -> tuple[Path, int]:
    """A store and the number of one of its versions."""
    name, _, number = spec.rpartition("@")
    if not name or not number.isdigit():
        raise ConfigError(f"{spec!r} names no version", where="--drop", way_out="give NAME@N, as in muon-sim@2")
    return _stores([name], folder)[0], int(number)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match:
        raise ConfigError(f"{text!r} is no time", where="--grace", way_out="give a number and s, m, h or d, as in 24h")
    return float(match[1]) * UNITS[match[2]]
