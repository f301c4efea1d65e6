"""Every fault is found, named, and mended; nothing else is."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pytest
from events_of_every_shape import equal, random_events

from frz.errors import ConfigError, DamageError, StoreError
from frz.store import EventStore, part, ragged, snapshot
from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.journal import Journal, UnitRecord
from frz.store.repair import LostPart, repair
from frz.store.schema import Array, Axis, EventArrays, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split
from frz.store.verify import Damage, verify

SCHEMA = Schema(
    axes={"hit": Axis(), "member": Axis(parent="hit")},
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        "event/group": Array(dtype="int64", role="meta"),
        "hit/raw": Array(dtype="float32", shape=(3,), description="where it was seen"),
        "member/value": Array(dtype="int16"),
        "hit/embedding": Array(dtype="float16", shape=(8,), role="feature", group="features"),
        "event/score": Array(dtype="bfloat16", role="feature", group="features"),
        "hit/packed": Array(dtype="float32", role="feature", group="features", codec="compact"),
    },
)
N_PARTS, N = 8, 4


class Made:
    """A store of two versions and what is in it: version 2 has a part of its own, and pieces of parts of version 1."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.arrays: dict[tuple[str, str], EventArrays] = {}
        self.events: dict[str, list[tuple[int, int, int]]] = {}
        """By folder of a part: version, first, last."""
        snapshot.prepare_root(root)
        pieces = [self._write(number) for number in range(N_PARTS + 1)]
        first = [PartEntry(N, {g: (p,) for g, p in piece.items()}, *({"hit": 0, "member": 0},) * 2) for piece in pieces]
        mixed = {g: (pieces[3][g]._replace(first=1, last=3), pieces[5][g]._replace(first=0, last=1)) for g in pieces[0]}
        second = [first[0], PartEntry(3, mixed, *({"hit": 0, "member": 0},) * 2), first[N_PARTS]]
        self.static = {"wall": np.arange(12, dtype=np.float32).reshape(3, 4)}
        static = {name: snapshot.write_static(root, name, values) for name, values in self.static.items()}
        for entries in (first[:N_PARTS], second):
            made = Snapshot(name="d", event_schema=SCHEMA, split=Split(), parts=Catalogue.of(entries), static=static)
            snapshot.commit(root, lambda latest, made=made: made)
        for number, piece in enumerate(pieces[:N_PARTS]):
            for group, (key, *_) in piece.items():
                self.events[part.part_name(group, key)] = [(1, N * number, N * number + N)]
        for number, found in {0: (2, 0, 4), 3: (2, 4, 6), 5: (2, 6, 7), N_PARTS: (2, 7, 11)}.items():
            for group, (key, *_) in pieces[number].items():
                self.events.setdefault(part.part_name(group, key), []).append(found)
        Journal(root / "journal").add(UnitRecord(key="ab" * 32, name="run 1", entries=tuple(first)))

    def _write(self, number: int) -> dict[str, Piece]:
        whole = random_events(SCHEMA.select(n for n, a in SCHEMA.arrays.items() if a.dtype != "bfloat16"), N, number)
        whole["event/score"] = np.arange(N, dtype=np.float32) + number
        whole["event/id"] += N * number
        found = {}
        for group in ("events", "features"):
            key = f"{number:02x}{group.encode().hex()}".ljust(64, "0")
            schema = SCHEMA.select(name for name, spec in SCHEMA.arrays.items() if spec.group == group)
            offsets = [f"{axis}/offsets" for axis in schema.ordered_axes()]
            arrays = {name: whole[name] for name in [*schema.arrays, *offsets]}
            record = part.write_part(self.root, group, key, schema, arrays)
            self.arrays[group, key] = arrays
            found[group] = Piece(key, record.digest, 0, N)
        return found

    def remake(self, lost: LostPart) -> EventArrays:
        """What a backbone or a source would do."""
        return self.arrays[lost.group, lost.part.key]

    def other_numbers(self, folder: str) -> EventArrays:
        """As another machine would make a part of group `events`: other values, one member for each hit."""
        arrays = next(found for (group, key), found in self.arrays.items() if part.part_name(group, key) == folder)
        n_hits = len(arrays["hit/raw"])
        members = {"member/offsets": np.arange(n_hits + 1), "member/value": np.arange(n_hits, dtype=np.int16)}
        return {**arrays, "hit/raw": arrays["hit/raw"] + 1, **members}

    def damages(self) -> set[str]:
        """What is damaged, by path."""
        report = verify(self.root)
        return {damage.path for damage in report.damages + report.warnings}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of repairs, and no power cut
    return Made(tmp_path / "d")


def flip_first(path: Path) -> None:
    """Another first bit of a file; a shard's last bytes are its index, which mapping checks."""
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])


def content(root: Path) -> dict[str, bytes]:
    """Every file of a store."""
    found = {}
    for folder, _, files in os.walk(root):
        for file in files:
            with open(os.path.join(folder, file), "rb") as stream:
                found[os.path.relpath(stream.name, root)] = stream.read()
    return found


def test_every_fault_is_found_named_and_mended(made: Made) -> None:
    whole = content(made.root)
    assert made.damages() == set()
    for seed in range(225):
        rng = np.random.default_rng(seed)
        kind = list(faults.KINDS)[seed % len(faults.KINDS)]
        fault = faults.KINDS[kind](rng, made.root)
        report = verify(made.root)
        found = report.damages + report.warnings
        assert {damage.path for damage in found} == fault.paths, (seed, kind)
        for damage in found:
            place = Path(damage.path).parts
            if place[0] == "events.zarr" and len(place) > 2 or damage.part:
                assert list(damage.events) == made.events[place[1]], (seed, kind)
                assert part.part_name(damage.group, damage.part.key) == place[1]
            if len(place) > 4:
                assert damage.array == "/".join(place[2:4])
            assert str(damage).startswith(damage.path)
        harmless = kind == "journal record" or (kind == "snapshot copy" and "is missing" in found[0].what)
        assert bool(report.damages) is not harmless

        outcomes, added = repair(made.root, report, made.remake, lambda name, digest: made.static[name])
        assert added is None
        assert all(outcome.repaired and outcome.same for outcome in outcomes), (seed, kind)
        if kind == "journal record":
            file = next(iter(fault.paths))
            (made.root / file).write_bytes(whole[file])
        assert content(made.root) == whole, (seed, kind)


def test_versions_that_read_the_same_events_are_named_together() -> None:
    events = ((1, 0, 32), (2, 0, 32), (3, 0, 32), (5, 0, 32), (4, 0, 8), (4, 16, 24))
    damage = Damage("part", "is missing", "events.zarr/x", events=events)
    assert str(damage).endswith("(events 0 to 31 of versions 1 to 3, 5, events 0 to 7, 16 to 23 of version 4)")


def test_what_lies_beside_the_versions_is_no_damage(made: Made) -> None:
    piece = made._write(99)["events"]
    report = verify(made.root, content=True)
    assert report.damages == report.warnings == []
    assert (report.orphans, report.n_parts, report.versions) == (2, 2 * (N_PARTS + 1), [1, 2])
    files = (made.root / "events.zarr").glob("*63*/**/*")  # the key of part 99 begins so
    assert report.orphan_bytes == sum(file.stat().st_size for file in files if file.is_file()) > 0
    assert piece.key.startswith("63")


def test_what_cannot_be_read_at_all_is_found_too(made: Made) -> None:
    folder = made.root / "events.zarr" / next(iter(made.events))
    files = [folder / "zarr.json", made.root / "snapshots/1.json", made.root / "events.zarr/zarr.json"]
    for file in files:
        file.unlink()
        file.mkdir()
    found = verify(made.root).damages
    assert {damage.path for damage in found} == {str(file.relative_to(made.root)) for file in files}
    assert all("cannot be read: Is a directory" in damage.what for damage in found)


def test_one_version_alone(made: Made) -> None:
    gone = next(name for name, events in made.events.items() if events[0][0] == 2)
    shutil.rmtree(made.root / "events.zarr" / gone)
    assert verify(made.root, 1).damages == []
    assert [damage.thing for damage in verify(made.root, 2).damages] == ["part"]
    with pytest.raises(StoreError, match=r"no version 3; versions: 1, 2"):
        verify(made.root, 3)


def test_content_finds_what_a_wrong_record_hides(made: Made) -> None:
    place = next((made.root / "events.zarr").glob("events-*"))
    record = part.read_record(place)
    file = next(place.glob("hit/raw/c/*/*"))
    flip_first(file)
    files = record.arrays["hit/raw"].files
    files[str(file.relative_to(place))] = (file.stat().st_size, part.shard.crc32c(file))
    sealed = part.group_metadata({"frz": part.seal(record.model_dump(mode="json"))})
    (place / "zarr.json").write_text(json.dumps(sealed))
    assert verify(made.root).damages == []
    report = verify(made.root, content=True)
    assert [(damage.thing, damage.path) for damage in report.damages] == [("part", f"events.zarr/{place.name}")]
    repair(made.root, report, made.remake)
    assert verify(made.root, content=True).damages == []


def test_other_content_makes_a_new_version_and_older_ones_refuse(made: Made) -> None:
    place = made.root / "events.zarr" / next(name for name in made.events if name.startswith("events-03"))
    next(place.glob("hit/raw/c/*/*")).unlink()
    before = EventStore(made.root)
    numbers = made.other_numbers(place.name)

    outcomes, added = repair(made.root, verify(made.root), lambda lost: numbers)
    assert [(outcome.repaired, outcome.same) for outcome in outcomes] == [(True, False)]
    assert "versions [1] cannot read these events any more" in outcomes[0].how
    assert added is not None
    assert added.version == 3
    store = EventStore(made.root)
    schema = SCHEMA.select(numbers.keys() & SCHEMA.arrays)
    equal(store.range(4, 6, list(schema.arrays)), ragged.slice_events(numbers, schema, 1, 3))
    equal(store.range(0, 4), before.range(0, 4))
    assert added.parts.counts["hit"][1] == store.lengths("hit")[4:7].sum()
    assert added.parts.largest["member"][1] == store.lengths("member")[4:7].max()

    report = verify(made.root)
    assert report.damages == []
    assert [(damage.path, damage.events) for damage in report.warnings] == [
        (f"events.zarr/{place.name}", ((1, 12, 16), (2, 4, 6)))
    ]
    with pytest.raises(DamageError, match=r"the snapshot says digest .*\(events 12 to 15 of version 1\).*frz repair"):
        EventStore(made.root, 1).range(12, 16)
    assert len(list((made.root / "damaged").iterdir())) == 1
    assert not list((made.root / "journal").iterdir())  # it named the digest of before


def test_other_content_of_one_group_does_not_wait_for_another_group(made: Made) -> None:
    folders = [next(name for name in made.events if name.startswith(f"{g}-03")) for g in ("events", "features")]
    numbers = made.other_numbers(folders[0])
    for folder in folders:
        shutil.rmtree(made.root / "events.zarr" / folder)

    def remake(lost: LostPart) -> EventArrays:
        if lost.group == "features":
            raise ConfigError("the weights are gone")
        return numbers

    outcomes, added = repair(made.root, verify(made.root), remake)
    assert sorted(outcome.repaired for outcome in outcomes) == [False, True]
    assert added is not None
    found = EventStore(made.root).range(4, 7, ["hit/raw", "member/value"])
    for axis in ("hit", "member"):
        lengths = ragged.lengths(found, SCHEMA, axis)
        assert (added.parts.counts[axis][1], added.parts.largest[axis][1]) == (lengths.sum(), lengths.max())
    assert {damage.group for damage in verify(made.root).damages} == {"features"}


def test_other_content_for_old_versions_alone_changes_nothing(made: Made) -> None:
    place = made.root / "events.zarr" / next(name for name in made.events if name.startswith("events-07"))
    next(place.glob("hit/raw/c/*/*")).unlink()
    before = content(made.root)
    numbers = made.other_numbers(place.name)
    outcomes, added = repair(made.root, verify(made.root), lambda lost: numbers)
    assert (outcomes[0].repaired, added) == (False, None)
    assert content(made.root) == before


def test_what_cannot_be_made_again_says_why(made: Made) -> None:
    place = next((made.root / "events.zarr").glob("features-*"))
    shutil.rmtree(place)

    def refuse(lost: LostPart) -> EventArrays:
        raise ConfigError("the weights are gone", where=str(lost.events))

    for remake, reason in ((None, "nothing makes them again"), (refuse, "the weights are gone")):
        outcomes, _ = repair(made.root, verify(made.root), remake)
        assert [(outcome.repaired, reason in outcome.how) for outcome in outcomes] == [(False, True)]


def test_a_version_lost_with_its_copy_does_not_block_the_store(made: Made) -> None:
    for folder in ("snapshots", "copies"):
        (made.root / folder / "2.json").write_text("{")
    report = verify(made.root)
    assert {damage.path for damage in report.damages} == {"snapshots/2.json", "copies/2.json"}
    outcomes, _ = repair(made.root, report)
    assert not any(outcome.repaired for outcome in outcomes)
    assert snapshot.versions(made.root) == [1]
    assert verify(made.root).damages == []


@pytest.mark.parametrize("name", ["hit/raw", "hit/packed", "event/score"])
@pytest.mark.parametrize("fault", [faults.truncate, faults.delete])
def test_readers_refuse_a_file_of_another_size_mapped_or_packed(made: Made, fault: Any, name: str) -> None:
    place = next(path for path in (made.root / "events.zarr").glob("*-02*") if (path / name).exists())
    file = next(path for path in (place / name / "c").rglob("0") if path.is_file())
    fault(np.random.default_rng(0), file)
    message = rf"array '{name}': (is missing|has \d+ bytes).*events 8 to 11 of version 1\); run 'frz repair"
    old = EventStore(made.root, 1)
    for read in (lambda: old.array(name), lambda: old.events([9, 1], [name]), lambda: old.range(0, 12, [name])):
        with pytest.raises(DamageError, match=message):
            read()


def test_checksums_on_request(made: Made) -> None:
    store = EventStore(made.root, 1, verify=True)
    first = store.range(0, 32)
    file = next((made.root / "events.zarr").glob("events-02*/hit/raw/c/0/0"))
    flip_first(file)
    assert len(EventStore(made.root, 1).range(0, 32)) == len(first)  # sizes alone are not enough
    store.range(0, 32)  # once is enough
    with pytest.raises(DamageError, match=r"'hit/raw': the checksum does not fit \(events 8 to 11 of version 1\)"):
        EventStore(made.root, 1, verify=True).range(0, 32)


def test_a_lost_newest_version_is_an_error_never_the_one_before(made: Made) -> None:
    (made.root / "snapshots/2.json").unlink()
    with pytest.raises(DamageError, match=r"snapshots/2.json: the snapshot is missing; run 'frz repair"):
        EventStore(made.root)
