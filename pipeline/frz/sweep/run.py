"""`frz sweep`: many heads from one read of the features.

The same command goes on with a sweep that was broken off: heads that are finished (by it, or by `frz train-head`)
are not trained again; a pass that was under way starts again from its beginning.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from frz import artifacts as names
from frz.config import parse, read_yaml
from frz.errors import ConfigError, Diverged, FrzError
from frz.heads.features import open_features
from frz.heads.prefix import Prefix, prepared
from frz.heads.run import Sources, plan, train_planned
from frz.location import children, is_remote
from frz.progress import note
from frz.store.atomic import full_disk, make_folder, write_file
from frz.store.reader import EventStore
from frz.sweep import results
from frz.sweep.group import Member, alone_because, device_of, pass_key, passes, prefix_key
from frz.sweep.keep import keep
from frz.sweep.onepass import train_pass
from frz.sweep.results import Outcome
from frz.sweep.space import Point, SweepConfig, expand
from frz.sweep.team import Course
from frz.training.distributed import joined
from frz.training.lock import only_writer
from frz.training.monitor import Monitor
from frz.training.record import METRICS, Metrics
from frz.training.run import remove_refused

RESULTS = "results.json"


def sweep(
    values: Mapping[str, Any], artifacts: Path, where: str = "config", features: str | None = None
) -> dict[str, Any]:
    """Train the heads of a sweep, go on with one that was broken off, or report a finished one.

    Parameters
    ----------
    values : mapping
        A `SweepConfig`, as read from YAML.
    artifacts : Path
        Results go to `sweeps/<name>` below it, each head to `heads/<its name>/<run>`.
    where : str
        What errors call the config; a `base` that is a file lies beside it.
    features : str, optional
        A feature store by name or path, in place of the one that the config's backbone wrote.

    Returns
    -------
    dict
        Path, counts, what stacking and halving came to, `points` and `heads` (the best first).

    Raises
    ------
    FrzError
        If a key is unknown, the configs and the features do not fit, or a search is to lie in an object store.
    """
    config = parse(SweepConfig, values, where)
    base = dict(config.base) if isinstance(config.base, dict) else read_yaml(Path(where).parent / config.base)
    points = [] if config.search else expand(config, base, where)  # a misspelt key is told before any work
    folder = names.sweep_path(artifacts, config.name)
    if config.search and is_remote(folder):
        way_out = "give --artifacts a folder, or take random points (random: 64) instead of search"
        raise ConfigError("a search keeps its study in a file of this machine", where=str(folder), way_out=way_out)
    new = not children(folder)
    try:
        with full_disk(folder):
            make_folder(folder / "heads")
        with only_writer(folder):
            write_file(folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
            work = Sweep(config, base, artifacts, where, features)
            if config.search:
                from frz.sweep.search import search

                search(work)
            else:
                work.tell_what_is_replaced(points)
                work.train(points)
            return work.report()
    except FrzError:
        if new:
            remove_refused(folder, (folder / RESULTS).is_file)  # there once a head has come to an end
        raise


class Sweep:
    """A sweep under way.

    Parameters
    ----------
    config, base, artifacts, where, features
        As in `sweep`, read.
    """

    def __init__(
        self, config: SweepConfig, base: dict[str, Any], artifacts: Path, where: str, features: str | None
    ) -> None:
        self.config, self.base, self.where = config, base, where
        self.folder = names.sweep_path(artifacts, config.name)
        self.outcomes: dict[str, Outcome] = {}
        self._artifacts, self._features = artifacts, features
        self._stores: dict[str, EventStore] = {}
        self._prefix: tuple[str, Prefix] | None = None
        results_file = self.folder / RESULTS
        self._before: dict[str, Any] = json.loads(results_file.read_text()) if results_file.is_file() else {}
        self._earlier = self._dropped_earlier()
        self._epochs: dict[str, int] = {}  # that a head was to train
        self._batches: dict[str, tuple[str, str]] = {}  # that a head sees; it competes with those that see the same

    def tell_what_is_replaced(self, points: Sequence[Point]) -> None:
        """Warn if an earlier sweep of this name had heads that are not among these."""
        if {one["name"] for one in self._before.get("outcomes", [])} - {point.config.name for point in points}:
            way_out = "its results are replaced; give another name to keep both"
            note(f"warning: {self.folder} was a sweep of other points: {way_out}")

    def train(self, points: Sequence[Point]) -> list[Outcome]:
        """Train these heads, or take what there is of them; in their order."""
        members = [self._member(point) for point in points]
        waiting = [member for member in members if not self._known(member)]
        for member in waiting:
            text = yaml.safe_dump(member.point.values, sort_keys=False)
            write_file(self.folder / "heads" / f"{member.name}.yaml", text.encode(), self.folder)
        alone = {member.name: reason for member in waiting if (reason := alone_because(member))}
        for sharing in passes(member for member in waiting if member.name not in alone):
            alone |= self._pass(sharing)
            self.report()  # what was dropped or failed lies on disk nowhere else
        for sharing in passes(member for member in waiting if member.name in alone):
            for member in sharing:
                self._alone(member, alone[member.name])
                self.report()
        return [self.outcomes[member.name] for member in members]

    def _member(self, point: Point) -> Member:
        asked = point.config.features
        key = f"{asked.backbone} {asked.data}"
        if key not in self._stores:
            self._stores[key] = open_features(asked, self._artifacts, self._features)
        self._epochs[point.config.name] = point.config.trainer.max_epochs
        part = "base and over" if any(key.startswith(("head", "model")) for key in point.chosen) else "base"
        member = Member(point, plan(point.config, self._stores[key], self._artifacts, f"{self.where}: {part}"))
        self._batches[member.name] = prefix_key(member), pass_key(member)
        return member

    def _known(self, member: Member) -> bool:
        """Whether the head was finished, dropped or failed before; its outcome is then known."""
        card = names.card(member.run.folder)
        earlier = self._earlier.get((member.name, member.run.folder.name))
        if card.get("finished"):
            self._keep(_finished(member, card, card.get("sweep", {}).get("name") == self.config.name))
        elif earlier is not None:
            self._keep(earlier)
        return member.name in self.outcomes

    def _alone(self, member: Member, reason: str) -> None:
        note(f"{member.name} is trained alone: {reason}")
        begun = plan(member.point.config, member.run.store, self._artifacts, self.where)  # its head as at the beginning
        known = self._known_prefix(member) or prepared(
            begun.head, begun.store, begun.asked["model"], begun.config.loading, device_of([member])
        )
        self._prefix = prefix_key(member), known
        try:
            with joined(member.trainer.device) as world:
                train_planned(begun, world, known)
        except Diverged as error:
            self._keep(_outcome(member, f"failed: {error.what}", []))
        else:
            self._keep(_finished(member, names.card(member.run.folder), True, f" alone: {reason}"))

    def _pass(self, members: Sequence[Member]) -> dict[str, str]:
        """Train heads that share their batches; those that cannot be stacked, and why."""
        known = self._known_prefix(members[0])
        rivals: dict[str, list[list[Metrics]]] = {}
        for one in self.outcomes.values():
            if one.trained and self._batches[one.name] == self._batches[members[0].name]:
                rivals.setdefault(repr(one.chosen), []).append(one.lines)
        done = partial(self._done, len(members))
        found = train_pass(members, self.config.halving, rivals, done, known)
        self._prefix = prefix_key(members[0]), found.prefix
        return found.unfit

    def _known_prefix(self, member: Member) -> Prefix | None:
        """The prepared events of the heads before, if the head needs the same; else they leave memory."""
        if self._prefix is not None and self._prefix[0] != prefix_key(member):
            self._prefix = None
        return self._prefix[1] if self._prefix else None

    def _done(self, n_members: int, events: Sources, course: Course) -> None:
        member = course.member
        if course.over in ("whole", "early"):
            card = keep(course, events, {"name": self.config.name, "heads": n_members, "stack": course.stack})
            self._keep(_finished(member, card, True))
        else:
            dropped = course.over == "dropped"
            status = f"dropped after epoch {course.epochs}" if dropped else f"failed: {course.over}"
            self._keep(_outcome(member, status, course.lines)._replace(stack=course.stack))

    def _keep(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome

    def report(self) -> dict[str, Any]:
        """What there is so far; written to the folder of the sweep."""
        found = [self.outcomes[name] for name in self._epochs if name in self.outcomes]  # in the order of the sweep
        rows, points = results.rows_of(found), results.points_of(found)
        trained = sum(one.epochs for one in found)
        best = results.best_of(found)
        planned = sum(self._epochs[one.name] for one in found)
        told = {
            "name": self.config.name,
            "path": str(self.folder),
            "heads_trained": sum(one.trained for one in found),
            "heads_dropped": sum(one.status.startswith("dropped") for one in found),
            "heads_failed": sum(one.status.startswith("failed") for one in found),
            "head_epochs": trained,
            "head_epochs_asked": planned,
            "largest_stack": max((one.stack for one in found), default=0),
            **({"monitor": best.monitor, "monitor_mode": best.monitor_mode} if best else {}),
            "next": f"frz evaluate {rows[0]['name']}" if rows and rows[0]["score"] is not None else "",
            "points": points,
            "heads": rows,
        }
        outcomes = [outcome._asdict() for outcome in found]
        halving = self.config.halving.model_dump(mode="json") if self.config.halving else None
        results.write(self.folder, {**told, "halving": halving, "outcomes": outcomes})
        return told

    def _dropped_earlier(self) -> dict[tuple[str, str], Outcome]:
        """Heads that an earlier call dropped or saw failing, under the same halving; by name and run."""
        halving = self.config.halving.model_dump(mode="json") if self.config.halving else None
        if self._before.get("halving") != halving:
            return {}
        earlier = [Outcome(**outcome) for outcome in self._before.get("outcomes", [])]
        return {(one.name, one.run): one for one in earlier if not one.trained}


def _finished(member: Member, card: Mapping[str, Any], ours: bool, how: str = "") -> Outcome:
    text = (member.run.folder / METRICS).read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    metrics = card["metrics"].get("val", {}).get("head", {})
    status = f"trained{how}" if ours else "finished before"
    of = {key: card[key] for key in ("score", "monitor", "monitor_mode") if key in card}
    stack = card.get("sweep", {}).get("stack", 0) if ours else 0
    return _outcome(member, status, lines)._replace(**of, metrics=metrics, stack=stack)


def _outcome(member: Member, status: str, lines: list[dict[str, float | None]]) -> Outcome:
    # without validation events the training loss stands in, as in a run alone
    monitor = Monitor(member.trainer, not lines or any("val/loss" in line for line in lines))
    best = min((value for line in lines if (value := monitor.value(line)) is not None), default=None)
    return Outcome(
        name=member.name,
        run=member.run.folder.name,
        chosen=member.point.chosen,
        seed=member.trainer.seed,
        status=status,
        score=-best if best is not None and monitor.mode == "max" else best,
        epochs=int(lines[-1]["epoch"] or 0) if lines else 0,
        metrics={},
        lines=lines,
        monitor=monitor.name,
        monitor_mode=monitor.mode or "min",
    )
