"""Where a number comes from, and what differs between two artifacts: read off cards, configs and snapshots.

Every artifact names what it was made from by hash. Following these names answers "which weights, which events?", and
whether what is named is still in place.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from frz import artifacts
from frz.artifacts import Kind
from frz.errors import ConfigError
from frz.location import location
from frz.store import snapshot
from frz.store.diff import diff as diff_stores
from frz.store.reader import EventStore

MOST_IDS = 10
"""Ids of events that are listed of each kind of difference."""


def why(spec: str, folder: Path) -> list[dict[str, Any]]:
    """What an artifact was made from, step by step back to the source of the events.

    Parameters
    ----------
    spec : str
        Any artifact.
    folder : Path
        Where artifacts lie.

    Returns
    -------
    list of dict
        The artifact first. Each with kind, name, identity (hash or fingerprint), created, in_place (whether what was
        named is still there and still the same), and of its settings those that people ask for. Where the backbone was
        trained on other data than the features are of, both follow, each with `read_by`. A backbone whose weights
        another one began with has `begun_by`.

    Raises
    ------
    FrzError
        If nothing or several things have the name.
    """
    found = artifacts.find(spec, folder)
    if found.version is not None:
        return list(_store_and_before(found.kind, found.path, found.version, folder))
    return list(_run_and_before(found.kind, found.path, folder))


def _run_and_before(kind: Kind, run: Path, folder: Path) -> Iterator[dict[str, Any]]:
    card = artifacts.card(run)
    step = {
        "kind": kind,
        "name": f"{run.parent.name}@{run.name}",
        "identity": str(card.get("fingerprint", run.name)),
        "created": card.get("created"),
        "in_place": True,
        "path": str(run),
        "score": card.get("score"),
        "monitor": card.get("monitor"),
        "made_with": card.get("versions"),
    }
    origin = card.get("finetune") or card.get("init") or {}
    step |= {"finetuned_from": card.get("finetune", {}).get("head"), "began_with": origin.get("checkpoint")}
    yield {key: value for key, value in step.items() if value is not None}
    if kind == "backbones":
        yield from _origin_and_before(origin, card.get("data"), str(step["name"]), folder)
        return
    features = card.get("features") or config_of(run).get("features")  # the card of an unfinished run does not tell
    if not features:
        return
    if place := features_of(features, folder):
        yield from _store_and_before("features", *place, folder)
        return
    yield _lost("features", f"{location(features['store']).name}@{features['version']}", features["hash"])
    yield from _backbone_and_before(features["backbone"], features["fingerprint"], folder)


def features_of(trained: Mapping[str, Any], folder: Path) -> tuple[Path, int] | None:
    """Where the features lie that a head was trained on, and their number: the version that has their hash.

    Among the artifacts in `folder`, or else where they lay then: artifacts may have moved, and been made anew.

    Parameters
    ----------
    trained : mapping
        `store`, `version` and `hash`, as the head's checkpoint and card have them.
    folder : Path
        Where artifacts lie.

    Returns
    -------
    (Path, int) or None
        None if they are in neither place.
    """
    then = location(trained["store"])
    for place in dict.fromkeys((folder / "features" / then.name, then)):
        numbers = artifacts.versions(place)
        for number in sorted(numbers, key=lambda number: number != trained["version"]):
            found = snapshot.read(place, number)
            if found is not None and found.hash == trained["hash"]:
                return place, number
    return None


def _origin_and_before(
    origin: Mapping[str, Any], data: Mapping[str, Any] | None, name: str, folder: Path
) -> Iterator[dict[str, Any]]:
    """The backbone whose weights backbone `name` began with, if it did; the data set that `name` was trained on."""
    before: list[dict[str, Any]] = []
    if "backbone" in origin:
        first, *before = _backbone_and_before(origin["backbone"].partition("@")[0], origin["fingerprint"], folder)
        yield first | {"begun_by": name}
    own = list(_dataset_and_before(data, folder))
    known = {step["identity"] for step in own}
    others = [step for step in before if step["identity"] not in known]
    yield from (step if "begun_by" in step else step | {"read_by": f"backbone {first['name']}"} for step in others)
    yield from own


def _store_and_before(kind: Kind, path: Path, version: int, folder: Path) -> Iterator[dict[str, Any]]:
    found = snapshot.read(path, version)
    assert found is not None, "a version that was found has a snapshot"
    step = {
        "kind": kind,
        "name": f"{path.name}@{version}",
        "identity": found.hash,
        "created": found.created,
        "in_place": True,
        "path": str(path),
        "events": found.n_events,
    }
    if kind == "datasets":
        yield step | {"source": found.about.get("source"), "licence": found.about.get("licence")}
        return
    data = found.about["data"]
    yield step | {
        "data": f"{data['name']}@{data['version']}",
        "recipe": found.about["recipe"],
        "made_with": {name: value for name, value in found.about["made_with"].items() if isinstance(value, str)},
    }
    fingerprint = found.about["fingerprint"]["value"]
    yield from _backbone_and_before(found.about["backbone"]["name"], fingerprint, folder, data)


def _backbone_and_before(
    name: str | None, fingerprint: str | None, folder: Path, data: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """The backbone of these weights; then the data set that was extracted, if it is not the one trained on."""
    runs = artifacts.runs(folder / "backbones" / str(name))
    of_weights = [run for run in runs if artifacts.card(run).get("fingerprint") == fingerprint]
    if not of_weights:
        yield _lost("backbones", str(name), fingerprint)
        yield from _dataset_and_before(data, folder)
        return
    run, *before = _run_and_before("backbones", of_weights[-1], folder)
    yield run
    if data is None or any(step["identity"] == data["hash"] for step in before):
        yield from before
        return
    yield from (step if "begun_by" in step else step | {"read_by": f"backbone {run['name']}"} for step in before)
    yield from (step | {"read_by": "these features"} for step in _dataset_and_before(data, folder))


def _dataset_and_before(data: Mapping[str, Any] | None, folder: Path) -> Iterator[dict[str, Any]]:
    if data is None:
        return
    place = folder / "datasets" / data["name"]
    for number in reversed(artifacts.versions(place)):
        found = snapshot.read(place, number)
        if found is not None and found.hash == data["hash"]:
            yield from _store_and_before("datasets", place, number, folder)
            return
    yield _lost("datasets", f"{data['name']}@{data['version']}", data["hash"])


def _lost(kind: Kind, name: str, identity: str | None) -> dict[str, Any]:
    return {"kind": kind, "name": name, "identity": identity, "in_place": False}


def compare(one: str, other: str, folder: Path) -> dict[str, Any]:
    """What differs between two artifacts of a kind.

    Parameters
    ----------
    one, other : str
        Two runs (of backbones or heads), or two versions of stores.
    folder : Path
        Where artifacts lie.

    Returns
    -------
    dict
        Of runs: `config` and `made_from` (key -> [one, other] where they differ) and `metrics` (key -> [one, other,
        difference]). Of stores: what `frz.store.diff` says, and `about`. Always `same`: whether nothing differs.

    Raises
    ------
    ConfigError
        If they are not of one kind.
    FrzError
        If nothing or several things have one of the names.
    """
    a, b = artifacts.find(one, folder), artifacts.find(other, folder)
    if a.kind != b.kind:
        raise ConfigError(f"{one} is one of {a.kind}, {other} of {b.kind}", way_out="give two of a kind")
    if a.version is not None and b.version is not None:
        stores = EventStore(a.path, a.version), EventStore(b.path, b.version)
        about = [flat(store.snapshot.about) for store in stores]
        found, origins = diff_stores(*stores), differing(about[0], about[1])
        return {"same": not found and not origins, **found.summary(MOST_IDS), "about": origins}
    cards = [artifacts.card(path) for path in (a.path, b.path)]
    made_from = [flat({key: card.get(key) for key in ("data", "features", "fingerprint")}) for card in cards]
    configs = [flat(config_of(path)) for path in (a.path, b.path)]
    for where in (*made_from, *configs):
        where.pop("features.store", None)  # a place, not what it was made from
    metrics = [_numbers(card) for card in cards]
    shared = [name for name in metrics[0] if name in metrics[1]]
    config, origin = differing(configs[0], configs[1]), differing(made_from[0], made_from[1])
    return {
        "same": not config and not origin and metrics[0] == metrics[1],
        "config": config,
        "made_from": origin,
        "metrics": {n: [metrics[0][n], metrics[1][n], metrics[1][n] - metrics[0][n]] for n in shared},
    }


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return result


def differing(*each: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Keys whose values are not the same in all mappings, with the value in each."""
    keys = dict.fromkeys(key for values in each for key in values)
    found = {key: [values.get(key) for values in each] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def config_of(run: Path) -> dict[str, Any]:
    """What a run was asked for ({} if that is lost)."""
    file = run / "config.yaml"
    return dict(yaml.safe_load(file.read_text())) if file.is_file() else {}


def _numbers(card: Mapping[str, Any]) -> dict[str, float]:
    """Score and metrics of a run."""
    found = flat({"score": card.get("score"), "metrics": card.get("metrics", {})})
    return {key: value for key, value in found.items() if isinstance(value, int | float)}
