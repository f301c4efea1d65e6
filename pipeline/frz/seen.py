"""Which held-out events a frozen backbone was trained on.

A data set that is built again with another split deals its events anew: its test events may be what a backbone was
trained on, and every number on its features would flatter without a sign of it. A split is a function of `event/group`
alone, so under the split that the backbone was trained with nothing can leak, and nothing is read.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz import artifacts as names
from frz.errors import DamageError
from frz.store.reader import EventStore
from frz.store.schema import GROUP, KEY
from frz.store.split import Split

TRAIN = "train"


def warning(
    store: EventStore,
    artifacts: Path,
    trained: Mapping[str, Any] | None = None,
    split: str = "",
    *,
    unsure: bool = True,
) -> str:
    """A line that says how many held-out events the backbone was trained on, and the way out; '' if none.

    Parameters
    ----------
    store : EventStore
        Features, or the data set that is about to be extracted.
    artifacts : Path
        Where artifacts lie: the data set that the backbone was trained on is looked for there.
    trained : mapping, optional
        Name, version, hash (and split, if it says) of that data set, `earlier` ones alike, and the name of the
        `backbone`. Default what features say, or the card of their backbone; where neither is here, nothing can be
        said.
    split : str
        The split that is looked at; default all but `train`.
    unsure : bool
        Say it too where it cannot be told.

    Returns
    -------
    str
        Events of a data set of the same name count as trained on if their group was in its training split; of one of
        another name, if their key (id and inputs) was, which needs that data set in place.
    """
    trained = trained or trained_on(store, artifacts)
    if trained is None:
        return ""
    each = [trained, *(one | {"backbone": trained["backbone"]} for one in trained.get("earlier", ()))]
    return next(filter(None, (_warning(store, artifacts, one, split, unsure) for one in each)), "")


def _warning(store: EventStore, artifacts: Path, trained: Mapping[str, Any], split: str, unsure: bool) -> str:
    """`warning` about one of the data sets that the backbone was trained on."""
    about = store.snapshot.about
    data = about["data"] if "fingerprint" in about else {"name": store.snapshot.name, **_version(store)}
    held = [name for name in store.snapshot.split.names if name != TRAIN and split in ("", name)]
    if data["hash"] == trained["hash"] or not held:
        return ""
    which = f"{data['name']}@{data['version']}"
    before = f"{trained['name']}@{trained['version']} ({trained['hash'][:8]})"
    try:
        n_seen, n_held = _count(store, held, trained, data["name"] == trained["name"], artifacts)
    except (LookupError, DamageError) as error:
        if not unsure:
            return ""
        return (
            f"warning: whether backbone {trained['backbone']} was trained on {' and '.join(held)} events of {which} "
            f"cannot be told, from {before}: {error}; put that version back, or train a backbone on {which} to be sure"
        )
    if not n_seen:
        return ""
    return (
        f"warning: backbone {trained['backbone']} was trained on {n_seen:,} of the {n_held:,} {' and '.join(held)} "
        f"events of {which} (in {before}), so numbers on them flatter; build the data with the split of that version, "
        f"or train a backbone on {which}"
    )


def _count(
    store: EventStore, held: Sequence[str], trained: Mapping[str, Any], same_name: bool, artifacts: Path
) -> tuple[int, int]:
    """How many of the held-out events were trained on, and how many there are.

    Raises
    ------
    LookupError
        If the data set that was trained on is needed and not here.
    """
    there = _in_place(trained, artifacts)
    theirs = there.snapshot.split if there else Split.model_validate(trained["split"]) if "split" in trained else None
    if same_name and theirs == store.snapshot.split:
        return 0, 0
    if not same_name and there is None:  # most likely other events altogether
        return 0, 0
    if theirs is None:
        raise LookupError("it is not here")
    positions = np.concatenate([store.split(name) for name in held])
    if same_name:
        groups = store.array(GROUP)[positions]
        seen = theirs.which(groups) == theirs.names.index(TRAIN)  # where the data set is gone: as far as it had them
        if there is not None:
            seen &= np.isin(groups, there.array(GROUP))
    else:
        assert there is not None
        seen = np.isin(_keys(store, positions), _keys(there, there.split(TRAIN)))
    return int(seen.sum()), len(positions)


def trained_on(store: EventStore, artifacts: Path) -> dict[str, Any] | None:
    """The data set that the backbone of some features was trained on, as they or its card say; None if neither does."""
    backbone, fingerprint = store.snapshot.about["backbone"], store.snapshot.about["fingerprint"]["value"]
    said: dict[str, Any] | None = backbone.get("data")
    if said is None:
        said = names.card_of(backbone["name"], fingerprint, artifacts).get("data")
    return None if said is None else {**said, "backbone": backbone["name"]}


def _keys(store: EventStore, positions: NDArray[np.int64]) -> NDArray[np.void]:
    """Event keys (n,), each one value."""
    keys: NDArray[np.uint8] = np.ascontiguousarray(store.array(KEY)[positions])
    return keys.view(f"V{keys.shape[1]}").ravel()


def _in_place(data: Mapping[str, Any], artifacts: Path) -> EventStore | None:
    """The version of a data set with the hash that was recorded, whatever its number is now."""
    place = artifacts / "datasets" / data["name"]
    for number in sorted(names.versions(place), key=lambda number: number != data["version"]):
        with suppress(DamageError):
            store = EventStore(place, number)
            if store.snapshot.hash == data["hash"]:
                return store
    return None


def _version(store: EventStore) -> dict[str, Any]:
    return {"version": store.snapshot.version, "hash": store.snapshot.hash}
