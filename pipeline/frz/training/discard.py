"""Runs that nobody wants any more, and their removal.

Particular: a run that something points at is never removed (features made with its weights, heads on these, sweeps,
runs that began with it), nor one that is being trained. It goes whole, with the reports and curves in its folder.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from frz import artifacts as names
from frz.artifacts.places import is_run
from frz.errors import CheckpointError, ConfigError, TrainingError
from frz.location import is_remote
from frz.progress import note
from frz.store import atomic
from frz.store.gc import GRACE, Report, temporary
from frz.training import checkpoint
from frz.training.lock import only_writer
from frz.training.run import MADE_FIRST, remove_if_empty

RUNS: tuple[names.Kind, ...] = ("backbones", "heads")


class Removable(NamedTuple):
    """A run that can go, or has gone."""

    run: str
    """`heads/<name>@<run>`."""
    path: Path
    bytes: int
    state: str
    """`finished` or `unfinished`."""
    files: list[str]
    """What lies in it for people: reports, figures."""


def discard(
    artifacts: Path,
    specs: Sequence[str] = (),
    *,
    unfinished: bool = False,
    grace: float = GRACE,
    delete: bool = False,
    now: float | None = None,
) -> list[Removable]:
    """Find the runs that are to go, and remove them if asked to.

    Parameters
    ----------
    artifacts : Path
        Where artifacts lie.
    specs : sequence of str
        Runs by name: `muon-regression@3f2a9c01`, `heads/muon@77aa`.
    unfinished : bool
        Also all unfinished runs in which nothing has changed for `grace` seconds, and that nothing points at.
    grace : float
        See there.
    delete : bool
        Remove them; otherwise nothing is changed.
    now : float, optional
        Seconds since the epoch.

    Raises
    ------
    ConfigError
        If a name does not say which run.
    CheckpointError
        If there is no such run, or something points at it; nothing is removed then.
    TrainingError
        If a run that is named is being trained; those before it are gone then.
    """
    named = [_named(spec, artifacts) for spec in specs]
    for run in named:
        if by := list(pointing_at(run, artifacts)):
            way_out = "remove these first ('frz gc --runs' for runs, the folder for sweeps and features)"
            raise CheckpointError(f"{', '.join(by)} point at it", where=_label(run), way_out=way_out)
    before = (time.time() if now is None else now) - grace
    changed = {run: atomic.measure(run)[1] for run in _unfinished(artifacts)} if unfinished else {}
    old = [run for run, at in changed.items() if at <= before]
    if young := [_label(run) for run, at in changed.items() if at > before and run not in named]:
        what = f"unfinished and younger than the grace of {grace / 3600:g} h, so they stay: {', '.join(young)}"
        note(f"{what}; '--grace 0s' takes them too")
    old = [run for run in old if run not in named and not any(pointing_at(run, artifacts))]
    found = {run: _removable(run) for run in (*named, *old)}
    if delete:
        atomic.sweep(artifacts / "tmp")  # runs that a killed call was removing
        for run in list(found):
            try:
                with only_writer(run):
                    atomic.discard(run, artifacts / "tmp")
            except TrainingError:  # being trained
                if run in named:
                    raise
                del found[run]
            remove_if_empty(run.parent)
    return list(found.values())


def left_behind(artifacts: Path, *, delete: bool = False) -> Report:
    """What processes that were killed have left: files begun in the folders of runs and sweeps, runs half removed.

    Removed if asked to.
    """
    if is_remote(artifacts):
        return Report([], [])  # a put is whole or not there
    places = (artifacts / "tmp", *_all_runs(artifacts), *names.folders(artifacts / "sweeps"))
    left = [temporary(path) for place in places for path in atomic.left_in(place)]
    for item in left if delete else ():
        atomic.remove(item.path)
    return Report(left, [])


def pointing_at(run: Path, artifacts: Path) -> Iterator[str]:
    """What would lose its origin with a run: other runs, features and sweeps, by name."""
    wanted = {*_fingerprints(run), f"{run.parent.name}@{run.name}", f"{run.parent.name}/{run.name}"}
    for path in names.entries(artifacts, "features"):
        about = names.latest_snapshot(path).get("about", {})
        if about.get("fingerprint", {}).get("value") in wanted:
            yield f"features/{path.name}"
    for other in _all_runs(artifacts):
        files = [other / name for name in sorted(MADE_FIRST) if (other / name).is_file()]
        if other != run and any(text in file.read_text(errors="replace") for file in files for text in wanted):
            yield _label(other)
    for results in (sweep / "results.json" for sweep in names.folders(artifacts / "sweeps")):
        outcomes: list[dict[str, Any]] = json.loads(results.read_text())["outcomes"] if results.is_file() else []
        if any((one["name"], one["run"]) == (run.parent.name, run.name) for one in outcomes):
            yield f"sweeps/{results.parent.name}"


def _fingerprints(run: Path) -> Iterator[str]:
    """Of all the weights of a backbone that features can have been made with."""
    if run.parent.parent.name == "backbones":
        for file in run.glob("*.safetensors"):
            with suppress(CheckpointError):
                if found := checkpoint.load(file)[1].get("fingerprint"):
                    yield found


def _named(spec: str, artifacts: Path) -> Path:
    found = names.find(spec, artifacts, RUNS)
    if "@" not in spec and Path(spec).name != found.path.name:
        way_out = f"name a run, as in {found.path.parent.name}@{found.path.name}"
        raise ConfigError(f"{spec!r} does not say which run", where="--runs", way_out=way_out)
    return found.path


def _all_runs(artifacts: Path) -> Iterator[Path]:
    return (run for kind in RUNS for path in names.entries(artifacts, kind) for run in names.runs(path))


def _unfinished(artifacts: Path) -> Iterator[Path]:
    begun = (run for run in _all_runs(artifacts) if is_run(run) or (run / "config.yaml").is_file())
    return (run for run in begun if not names.card(run).get("finished"))


def _removable(run: Path) -> Removable:
    state = "finished" if names.card(run).get("finished") else "unfinished"
    shown = sorted(file.name for file in run.iterdir() if file.suffix in (".html", ".png"))
    return Removable(_label(run), run, atomic.measure(run)[0], state, shown)


def _label(run: Path) -> str:
    return f"{run.parent.parent.name}/{run.parent.name}@{run.name}"
