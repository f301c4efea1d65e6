"""The features that a head is for: found by the weights that wrote them and the data set that they are of."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from frz import artifacts as names
from frz import seen
from frz.config import StrictModel
from frz.errors import CheckpointError, DamageError, IdentityError
from frz.inventory import is_complete
from frz.lineage import changed_since
from frz.progress import note
from frz.store.reader import EventStore
from frz.store.schema import Array, Schema


class Features(StrictModel):
    """Which features a head is for; compared with what the store says of itself."""

    backbone: str
    """Backbone by name (`muon`, `muon@<run>`): its weights must be those that wrote the features."""
    data: str
    """Data set, by name or `name@<version>`."""


def open_features(asked: Features, artifacts: Path, place: str | None = None) -> EventStore:
    """`find_features`, or what lies at `place`, whatever is asked for; tells what is to be known of them.

    Warns if there are newer data, if other versions computed them, if the backbone of the features at `place` has other
    weights by now, or if held-out events leak.
    """
    if place is None:
        store = find_features(asked, artifacts)
    else:
        store, asked = _at(place, artifacts)
    of = store.snapshot.about["data"]
    if "@" not in asked.data and (newest := names.newer_data(of, artifacts)):
        way_out = f"'frz extract --ckpt {asked.backbone}' adds what is new"
        note(f"the features are of {of['name']}@{of['version']}, the data set has version {newest}; {way_out}")
    if changed := changed_since(store.snapshot.about["made_with"]):
        way_out = f"'frz extract --ckpt {asked.backbone} --check' says whether it matters"
        note(f"warning: the features were made with other {'; '.join(changed)}; {way_out}")
    if leak := seen.warning(store, artifacts, unsure=False):  # extraction and evaluation say where it cannot be told
        note(leak)
    return store


def _at(place: str, artifacts: Path) -> tuple[EventStore, Features]:
    """Features by name or path, and what they are of."""
    found = names.features(place, artifacts)
    store = EventStore(found.path, found.version)
    about = store.snapshot.about
    of = Features(backbone=about["backbone"]["name"], data=about["data"]["name"])
    theirs, present = about["fingerprint"]["value"], _fingerprint(of.backbone, artifacts)
    if present not in (None, theirs):
        what = f"were written by weights {theirs[:12]}, backbone {of.backbone!r} has {present[:12]} by now"
        note(f"warning: the features {what}")
    return store, of


def find_features(asked: Features, artifacts: Path) -> EventStore:
    """The features that a head asks for: of exactly these weights, of this data set.

    Raises
    ------
    IdentityError
        If the store was written by other weights or of another data set, naming both.
    StoreError
        If there is none.
    """
    expected = _fingerprint(asked.backbone, artifacts)
    if expected is None:
        found = names.features(asked.backbone, artifacts)
    else:
        found = names.features(_store_of(asked, expected, artifacts), artifacts)
    store = EventStore(found.path, found.version)
    theirs = store.snapshot.about["fingerprint"]["value"]
    if expected is not None and theirs != expected:
        raise IdentityError(
            f"these features were written by weights {theirs[:12]}, backbone {asked.backbone!r} has {expected[:12]}",
            where=str(store.root),
            way_out=f"run 'frz extract --ckpt {asked.backbone}', or name their run (backbone: name@<run>)",
        )
    return _of_data(store, asked.data)


def stored_features(head: Mapping[str, Any], data: EventStore, artifacts: Path) -> EventStore | None:
    """What the backbone of a head says of a version of a data set, if all of it is stored.

    Parameters
    ----------
    head : mapping
        What the head's checkpoint says of it.
    data : EventStore
        The version.
    artifacts : Path
        Where artifacts lie.

    Returns
    -------
    EventStore or None
        Complete features of exactly these weights and events, made and rounded as those that the head was trained on.
    """
    trained, types = head["features"], Schema.model_validate(head["event_schema"]).arrays
    name = names.features_name(trained["backbone"], trained["fingerprint"])
    for place in (names.store_path(artifacts, "features", n) for n in (f"{name}-{data.snapshot.name}", name)):
        for number in reversed(names.versions(place)):
            with suppress(DamageError):
                if _is_of(store := EventStore(place, number), trained, data, types) and is_complete(store):
                    return store
    return None


def _is_of(store: EventStore, trained: Mapping[str, Any], data: EventStore, types: Mapping[str, Array]) -> bool:
    """Whether features are of this data, and made and rounded like those that a head was trained on."""
    about, found = store.snapshot.about, store.schema.arrays.items()
    return (
        about["data"]["hash"] == data.snapshot.hash
        and about["fingerprint"]["value"] == trained["fingerprint"]
        and about["recipe"] == trained["recipe"]
        and all(spec.dtype == types[name].dtype for name, spec in found if name in types)
    )


def _fingerprint(backbone: str, artifacts: Path) -> str | None:
    """Fingerprint of the best weights of a backbone; None if only its features are here."""
    try:
        run_of = names.backbone(backbone, artifacts)
    except CheckpointError:
        return None
    found: str | None = names.card(run_of.path).get("fingerprint")
    return found


def _store_of(asked: Features, fingerprint: str, artifacts: Path) -> Path:
    name = names.features_name(asked.backbone.partition("@")[0], fingerprint)
    data = asked.data.partition("@")[0]
    places = [names.store_path(artifacts, "features", n) for n in (f"{name}-{data}", name)]
    for place in places:
        if names.versions(place):
            return place
    raise IdentityError(
        f"no features of backbone {asked.backbone!r} with its present weights {fingerprint[:12]}",
        where=str(places[-1]),
        way_out=f"run 'frz extract --ckpt {asked.backbone}'",
    )


def _of_data(store: EventStore, data: str) -> EventStore:
    """The newest version of the store that holds the data set asked for."""
    name, _, version = data.partition("@")
    known = []
    for number in reversed(names.versions(store.root)):
        candidate = EventStore(store.root, number)
        about = candidate.snapshot.about["data"]
        if about["name"] == name and (
            version in ("", "latest", str(about["version"])) or names.hash_fits(version, about["hash"])
        ):
            return candidate
        known.append(f"{about['name']}@{about['version']}")
    raise IdentityError(
        f"holds features of {', '.join(known)}, the head asks for {data}",
        where=str(store.root),
        way_out=f"run 'frz extract --ckpt {store.snapshot.about['backbone']['name']} --data {data}', "
        f"or ask for what is there (--data {known[0]})",
    )
