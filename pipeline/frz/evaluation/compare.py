"""`frz compare`: heads side by side on the same events: what differs in their settings, and what it did.

Intervals of a metric are 68.3 % as everywhere. Which head is best is another question: all heads are measured on
the same drawn events, and a head is called best only if, against each of the others, the 95 % interval of the
difference excludes zero. Events that are hard for one head are hard for the other, so differences are known far
better than the metrics themselves.
"""

# Axes: H heads, R samples drawn.

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frz import artifacts as names
from frz import seen
from frz.ancestry import config_of, differing, flat
from frz.errors import CheckpointError, ConfigError, StoreError
from frz.evaluation.bootstrap import Floats, around, interval, percentiles, resamples
from frz.evaluation.outside import read_scores, scores_for
from frz.heads.contract import COUNTS, Head
from frz.heads.prefix import prepare
from frz.heads.run import load_head, predict
from frz.progress import note, progress
from frz.store import ragged
from frz.store.reader import EventStore
from frz.store.schema import GROUP, ID, KEY, EventArrays
from frz.store.table import pick
from frz.training.checkpoint import load
from frz.training.history import history
from frz.training.monitor import better_side

RESAMPLES = 1000
LEVEL, SURE = 0.683, 0.95
"""Of the interval of a metric, and of that of a difference."""


class Tested(NamedTuple):
    """A head and what it says of the events of the split."""

    label: str
    run: Path
    metrics: dict[str, Any]
    """The line of `metrics.jsonl` that these weights are of."""
    about: dict[str, Any]
    head: Head
    groups: NDArray[np.int64]
    prepared: EventArrays
    predictions: EventArrays


def compare(
    heads: Sequence[str], artifacts: Path, split: str = "test", n: int = RESAMPLES, scores: Sequence[Path] = ()
) -> dict[str, Any]:
    """Put trained heads side by side.

    Parameters
    ----------
    heads : sequence of str
        One or more heads: names, runs, folders, or files of weights of a run (`last.safetensors`).
    artifacts : Path
        Where artifacts lie.
    split : str
        Events to measure on, or `all`.
    n : int
        Samples drawn for the intervals.
    scores : sequence of Path
        Files of somebody else's predictions of the same events, see `scores_for`; with the heads two or more.

    Returns
    -------
    dict
        `heads`: features, parameters, epochs, by head; `seconds` of training, those of a sweep's pass being of all its
        `heads_at_once`; `score`, the value of `monitor` for these weights. `config`: dotted keys whose values differ,
        and `made_from`: where weights or data differ, both by head. `metrics`: by name `best` (a head or None) and
        `heads`, with value, low, high each, and `difference`, that from the head with the best value: value, low, high,
        and the two-sided p-value of no difference. Files of scores are called by their names among the heads there.

    Raises
    ------
    ConfigError
        If fewer than two heads or files are given, they were tested on other events or have no metric in common.
    FrzError
        If a head or its features are missing, or its training is not finished.
    """
    runs = {_label(run): run for run in (names.head(head, artifacts) for head in heads)}
    if len(runs) + len(scores) < 2:
        raise ConfigError(f"only {', '.join(runs) or 'nothing'} to compare", way_out="give two different heads or more")
    cards = {label: names.card(run.path) for label, run in runs.items()}
    for label, card in cards.items():
        if not card.get("finished"):
            raise CheckpointError("this run is not finished", where=label, way_out="run train-head again")
    tables = {path: read_scores(path) for path in scores}
    tested = list(_tested(runs, artifacts, split))
    metrics = _metrics([*tested, *_outside(tested[0], tables)], n)
    configs = [flat(_settings(head.run)) for head in tested]
    origins = [flat(_origin(head.about["features"])) for head in tested]
    by_head = {key: _by_head(runs, differing(*each)) for key, each in (("config", configs), ("made_from", origins))}
    return {
        "split": split,
        "events": len(tested[0].groups),
        "resamples": n,
        "heads": {head.label: _card(cards[head.label], head) for head in tested},
        **by_head,
        "metrics": metrics,
    }


def _by_head(labels: Mapping[str, Any], differences: Mapping[str, list[Any]]) -> dict[str, dict[str, Any]]:
    return {key: dict(zip(labels, values, strict=True)) for key, values in differences.items()}


def _label(run: names.Run) -> str:
    weights = "" if run.weights == "best" else f"/{run.weights}"
    return f"{run.path.parent.name}@{run.path.name}{weights}"


def _settings(run: Path) -> dict[str, Any]:
    return {key: value for key, value in config_of(run).items() if key not in ("name", "features")}


def _origin(features: Mapping[str, Any]) -> dict[str, Any]:
    """What the features are, without where they lie."""
    return {key: features[key] for key in ("backbone", "fingerprint", "data", "recipe")}


def _card(card: Mapping[str, Any], tested: Tested) -> dict[str, Any]:
    data, lines = tested.about["features"]["data"], history(tested.run)
    monitor = card.get("monitor", "val/loss")
    return {
        "head": tested.about["head"],
        "backbone": f"{tested.about['features']['backbone']} ({tested.about['features']['fingerprint'][:12]})",
        "data": f"{data['name']}@{data['version']} ({data['hash'][:12]})",
        "parameters": card.get("parameters"),
        "epochs": card.get("epochs"),
        "seconds": sum(line["seconds"] for line in lines) if lines else None,
        "heads_at_once": card["sweep"]["heads"] if "sweep" in card else 1,
        "monitor": monitor,
        "score": tested.metrics.get(monitor, tested.metrics.get("train/loss")),
    }


def _tested(runs: Mapping[str, names.Run], artifacts: Path, split: str) -> Iterator[Tested]:
    """Every head on the events of the split, in one order."""
    first: tuple[str, NDArray[Any]] | None = None
    said: set[str] = set()
    for label, run in runs.items():
        file = run.path / f"{run.weights}.safetensors"
        metrics = load(file)[1]["metrics"]
        head, about = load_head(str(file), Path())
        store = EventStore(about["features"]["store"], about["features"]["version"])
        positions = np.arange(store.n_events) if split == "all" else store.split(split)
        if not len(positions):
            raise StoreError(f"split {split!r} holds no events", where=str(store.root), way_out="give another --split")
        if (leak := seen.warning(store, artifacts, split=split, unsure=False)) and leak not in said:
            note(leak)
            said.add(leak)
        identity = KEY if KEY in store.schema.arrays else ID
        found = store.events(positions, [identity, GROUP])
        keys = found[identity].reshape(len(positions), -1)
        order = np.lexsort(keys.T)
        if first is None:
            first = label, keys[order]
        elif not np.array_equal(first[1], keys[order]):
            raise ConfigError(
                f"{first[0]} and {label} have other events in {split!r} ({len(first[1]):,} and {len(keys):,})",
                way_out="compare heads of one data set in one version",
            )
        table = prepare(head, store, positions[order])
        made = predict(head, table, np.arange(len(order)))
        yield Tested(label, run.path, metrics, about, head, found[GROUP][order], table.arrays, made)


def _outside(head: Tested, scores: Mapping[Path, Any]) -> Iterator[Tested]:
    """Files of scores as if `head` had said them: its events, its truth, its metrics."""
    if scores and ID not in head.prepared:
        raise ConfigError("the head keeps no event ids to match scores by", where=head.label)
    for path, table in scores.items():
        made = scores_for(table, path, head.prepared[ID], head.predictions)
        yield head._replace(label=str(path), predictions=made)


def _metrics(tested: Sequence[Tested], n: int) -> dict[str, dict[str, Any]]:
    """Every metric that the heads have in common, with intervals and the head that is best."""
    values: list[dict[str, float]] = []
    drawn: list[dict[str, Floats]] = []
    with progress("compare", total=n * len(tested), unit="sample") as bar:
        for head in tested:
            watched, schema = _Watched(head.prepared), head.head.prepared
            values.append(head.head.metrics(head.predictions, watched))
            # A sample does not copy features that no metric reads.
            truth = pick(head.prepared, schema, [name for name in head.prepared if name in watched.seen])
            made = pick(head.prepared | head.predictions, schema, head.predictions)
            samples = []
            for chosen in resamples(tested[0].groups, n):
                predictions = ragged.take(made, schema, chosen)
                named = {name: predictions[name] for name in head.predictions}
                samples.append(head.head.metrics(named, ragged.take(truth, schema, chosen)))
                bar.advance()
            drawn.append({name: np.array([sample.get(name, np.nan) for sample in samples]) for name in values[-1]})
    shared = [name for name in values[0] if all(name in of_head for of_head in values)]
    if not shared:
        known = "; ".join(f"{h.label} has {', '.join(list(v)[:4])}" for h, v in zip(tested, values, strict=True))
        raise ConfigError(f"no metric in common: {known}", way_out="compare heads that predict the same")
    if alone := sorted({name for of_head in values for name in of_head} - set(shared)):
        more = f" and {len(alone) - 6} more" if len(alone) > 6 else ""
        note(f"not compared, because not all heads have them: {', '.join(alone[:6])}{more}")
    labels = [head.label for head in tested]
    return {
        name: _ranked(name, labels, np.array([v[name] for v in values]), np.stack([d[name] for d in drawn]))
        for name in shared
    }


def _ranked(name: str, labels: Sequence[str], values: Floats, drawn: Floats) -> dict[str, Any]:
    """Intervals of one metric: `values` (H,), `drawn` (H, R)."""
    each = {}
    for label, value, samples in zip(labels, values.tolist(), drawn, strict=True):
        between = None if name in COUNTS else interval(name, value, samples, LEVEL)
        low, high = between or (None, None)
        each[label] = {"value": value, "low": low, "high": high}
    found: dict[str, Any] = {"best": None, "heads": each}
    as_loss = _as_loss(name)
    if as_loss is None or not np.isfinite(values).all():
        return found
    drawn = around(name, values[:, None], drawn)
    loss, losses = as_loss(values), as_loss(drawn)
    leader, sure = int(np.argmin(loss)), True
    for other, label in enumerate(labels):
        if other != leader:
            between = percentiles(losses[other] - losses[leader], SURE)
            sure = sure and between is not None and between[0] > 0
            each[label]["difference"] = _difference(values[other] - values[leader], drawn[other] - drawn[leader])
    return found | {"best": labels[leader] if sure else None}


def _difference(value: float, drawn: Floats) -> dict[str, float | None]:
    """A paired difference, its interval, and twice the share of the samples (R,) on the rarer side of zero.

    One is added to both counts of the share, so that p is never smaller than the samples can tell.
    """
    low, high = percentiles(drawn, SURE) or (None, None)
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = None if low is None else min(1.0, 2 * (1 + rarer) / (1 + len(drawn)))
    return {"value": float(value), "low": low, "high": high, "p": p}


def _as_loss(name: str) -> Callable[[Floats], Floats] | None:
    """Turns values of a metric so that lower is better; None where the name does not tell which way that is."""
    side = better_side(name)
    if isinstance(side, float):
        return lambda values: np.abs(values - side)
    return None if side is None else np.negative if side == "max" else np.positive


class _Watched(dict[str, NDArray[Any]]):
    """Event arrays that note which of them are looked at."""

    def __init__(self, arrays: EventArrays) -> None:
        super().__init__(arrays)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> NDArray[Any]:
        self.seen.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.seen.add(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.seen.update(super().keys())
        return super().__iter__()

    get = Mapping.get  # type: ignore[assignment]  # these go through the methods above
    keys = Mapping.keys  # type: ignore[assignment]
    items = Mapping.items  # type: ignore[assignment]
    values = Mapping.values  # type: ignore[assignment]
