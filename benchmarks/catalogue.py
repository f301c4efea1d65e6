"""How long it takes to open, list and plan over a data set of 100,000 parts: snapshots alone, no part is looked at.

`python -m benchmarks catalogue --json` writes the snapshots of such a data set and of its features (their parts do not
exist: nothing that is timed may touch them) and times opening both, `frz ls`, planning a first extraction, one where
nothing changed, and one for a version without the last part.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from frz.extract.plan import make_plan
from frz.extract.settings import ANNOTATION, CARRIED, FEATURES
from frz.inventory import listing
from frz.store import snapshot
from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.part import part_name
from frz.store.reader import EventStore
from frz.store.schema import Array, Axis, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split

EVENTS = 1024
SCHEMA = Schema(axes={"hit": Axis()}, arrays={"event/id": Array(dtype="int64"), "hit/raw": Array(dtype="float32")})
IDENTITY = {group: sha256(group.encode()).hexdigest() for group in (FEATURES, CARRIED, ANNOTATION)}


def data_set(n_parts: int) -> Catalogue:
    """Parts of a data set."""
    digests = [sha256(str(number).encode()).hexdigest() for number in range(n_parts)]
    return Catalogue.of(
        PartEntry(EVENTS, {"events": (Piece(d, d, 0, EVENTS),)}, {"hit": 90 * EVENTS}, {"hit": 300}, events=d)
        for d in digests
    )


def features_of(data: Catalogue) -> Catalogue:
    """Parts of the features of a data set."""
    return Catalogue.of(
        part._replace(origin=part.content(), groups=dict.fromkeys(IDENTITY, part.groups["events"])) for part in data
    )


def commit(root: Path, parts: Catalogue, about: dict[str, Any]) -> None:
    snapshot.prepare_root(root)
    made = Snapshot(name=root.name, event_schema=SCHEMA, split=Split(), parts=parts, about=about)
    snapshot.commit(root, lambda latest: made)


def measure(folder: Path, n_parts: int) -> dict[str, float]:
    """Seconds of each step."""
    data = data_set(n_parts)
    places = folder / "datasets" / "many", folder / "features" / "many-0"
    commit(places[0], data, {})
    of = {"name": "many", "version": 1, "hash": ""}
    commit(places[1], features_of(data), {"identity": IDENTITY, "data": of})
    source, features = (EventStore(place) for place in places)
    there = {part_name(group, key) for group, held in features.snapshot.parts.groups.items() for key in held.key}
    fewer = source.snapshot.model_copy(update={"parts": data_set(n_parts - 1)})
    shorter = EventStore.of(places[0], fewer)

    def plan(store: EventStore, history: list[Snapshot]) -> None:
        make_plan(store, places[1], there, history, SCHEMA, IDENTITY, (), EVENTS)

    steps: dict[str, Callable[[], object]] = {
        "open_data_set": lambda: EventStore(places[0]),
        "open_features": lambda: EventStore(places[1]),
        "ls": lambda: listing(folder),
        "plan_first_extraction": lambda: plan(source, []),
        "plan_of_what_is_there": lambda: plan(source, [features.snapshot]),
        "plan_without_the_last_part": lambda: plan(shorter, [features.snapshot]),
    }
    seconds = {}
    for name, step in steps.items():
        begin = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - begin
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks catalogue", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--parts", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"parts": arguments.parts, "seconds": measure(Path(folder), arguments.parts)}
    print(json.dumps(found, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
