"""What a data set has lost is read from its source again; where the source is gone or changed, that is said."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

from frz.config import StrictModel, digest_of
from frz.data.add import add
from frz.data.build import build
from frz.data.restore import repair
from frz.data.source import Source, Unit
from frz.errors import SourceError
from frz.store import Array, EventStore, Schema, snapshot
from frz.store.cut import PartLimits
from frz.store.mend import Outcome
from frz.store.part import part_name
from frz.store.schema import EventArrays
from frz.store.verify import verify
from frz_cli.main import app


class Files(Source):
    """Ids from text files, one unit per file."""

    class Config(StrictModel):
        folder: str

    version = "1"
    licence = "none"

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def schema(self) -> Schema:
        ids = {name: Array(dtype="int64", role="meta") for name in ("event/id", "event/group")}
        static = {"wall": Array(dtype="float32", shape=(3,))}
        return Schema(arrays=ids | {"event/raw": Array(dtype="float32")}, static=static)

    def units(self) -> list[Unit]:
        files = sorted(Path(self.config.folder).glob("*.txt"))
        if not files:
            raise SourceError("no files", where=self.config.folder)
        return [Unit(name=str(file), digest=digest_of(file.read_text())) for file in files]

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        reads.append(Path(unit.name).name)
        ids = np.array(Path(unit.name).read_text().split(), np.int64)
        yield {"event/id": ids, "event/group": ids, "event/raw": (ids / 2).astype(np.float32)}

    def static(self) -> EventArrays:
        return {"wall": np.arange(3, dtype=np.float32)}


reads: list[str] = []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of ids."""
    made = tmp_path / "files"
    made.mkdir()
    (made / "a.txt").write_text(" ".join(map(str, range(100))))
    (made / "b.txt").write_text(" ".join(map(str, range(100, 140))))
    return made


@pytest.fixture
def root(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(PartLimits, "for_source", classmethod(lambda cls, *_: cls(events=16)))
    build({"name": "d", "source": {"kind": f"{__name__}:Files", "folder": str(folder)}}, tmp_path)
    reads.clear()
    return tmp_path / "datasets/d"


def lose(root: Path, *indices: int, group: str = "events") -> None:
    found = snapshot.read(root)
    assert found is not None
    for index in indices:
        shutil.rmtree(root / "events.zarr" / part_name(group, found.parts[index].groups[group][0].key))


def mend(root: Path) -> list[Outcome]:
    outcomes, added = repair(root, verify(root))
    assert added is None
    return outcomes


def whole(root: Path) -> bool:
    report = verify(root, content=True)
    return report.damages == report.warnings == []


def labels(folder: Path, ids: range) -> Path:
    path = folder / "labels.csv"
    pandas.DataFrame({"id": list(ids), "y": [i / 4 for i in ids]}).to_csv(path, index=False)
    return path


def test_parts_of_a_unit_are_read_in_one_go(root: Path) -> None:
    lose(root, 1, 2, 5, 8)
    assert [(outcome.repaired, outcome.same) for outcome in mend(root)] == [(True, True)] * 4
    assert reads == ["a.txt", "b.txt"]
    assert whole(root)


def test_it_needs_no_journal(root: Path) -> None:
    lose(root, 3)
    shutil.rmtree(root / "journal")
    assert mend(root)[0].same
    assert whole(root)


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def changed(folder: Path) -> None:
    (folder / "a.txt").write_text("1 2 3")


def removed(folder: Path) -> None:
    (folder / "a.txt").unlink()


def newer(folder: Path) -> None:
    Files.version = "2"


def other_arrays(folder: Path) -> None:
    schema = Schema(arrays={"event/id": Array(dtype="int64", role="meta"), "event/raw": Array(dtype="float64")})
    Files.schema = schema  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (gone, "files: no files"),
        (changed, "a.txt: is not what it was when it was read"),
        (removed, "a.txt: is no longer in the source"),
        (newer, "it was read by version 1 of the source"),
        (other_arrays, "gives other arrays now (event/raw)"),
    ],
)
def test_why_the_source_does_not_give_it_any_more(
    root: Path, folder: Path, what: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Files, "version", "1")  # both are put back afterwards
    monkeypatch.setattr(Files, "schema", Files.schema)
    lose(root, 0)
    what(folder)
    result = CliRunner().invoke(app, ["repair", str(root)])
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("not repaired")]
    assert reason in line
    assert result.stdout.splitlines()[-1].startswith("1 damaged: ")
    assert len(verify(root).damages) == 1


def test_an_older_version_s_source_is_asked_too(root: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "c.txt").write_text("500 501")
    build({"name": "d", "source": {"kind": f"{__name__}:Files", "folder": str(folder)}}, tmp_path)
    lose(root, 0, 9, 10)
    assert all(outcome.same for outcome in mend(root))
    assert whole(root)


def test_added_columns_are_filled_in_again(root: Path, folder: Path, tmp_path: Path) -> None:
    add("d", labels(folder, range(0, 300, 3)), tmp_path)
    before = EventStore(root).array("event/y")
    lose(root, 0, group="added-y")
    lose(root, 2)
    assert all(outcome.same for outcome in mend(root))
    np.testing.assert_array_equal(EventStore(root).array("event/y"), before)
    assert whole(root)


@pytest.mark.parametrize("name", ["wall", "added.y.id", "added.y.value"])
def test_static_arrays_come_from_the_source_or_from_what_the_events_have(
    root: Path, folder: Path, tmp_path: Path, name: str
) -> None:
    add("d", labels(folder, range(20, 120)), tmp_path)
    (place,) = (root / "static.zarr").glob(f"{name}-*")
    shutil.rmtree(place)
    assert mend(root)[0].how == "made again"
    assert whole(root)


def truncate(root: Path, name: str) -> None:
    (place,) = (root / "static.zarr").glob(f"{name}-*")
    next(path for path in place.rglob("0") if path.is_file()).write_bytes(b"")


def test_a_static_array_waits_for_the_parts_that_it_is_made_of(root: Path, folder: Path, tmp_path: Path) -> None:
    add("d", labels(folder, range(20, 120)), tmp_path)
    truncate(root, "added.y.id")  # ids are in the part of events that is lost too
    lose(root, 2)
    assert [(outcome.repaired, outcome.how) for outcome in mend(root)] == [(True, "made again")] * 2
    assert whole(root)


def test_a_column_that_is_gone_twice_is_told_by_its_table_alone(root: Path, folder: Path, tmp_path: Path) -> None:
    table = labels(folder, range(20, 120))
    add("d", table, tmp_path)
    truncate(root, "added.y.value")
    lose(root, 0, group="added-y")
    way_out = f"run 'frz data add {root} TABLE' with the table that the column came from, then 'frz repair {root}'"
    outcomes = mend(root)
    assert [outcome.repaired for outcome in outcomes] == [False, False]
    assert all(outcome.how.endswith(way_out) for outcome in outcomes)
    add(str(root), table, tmp_path)
    assert all(outcome.same for outcome in mend(root))
    assert whole(root)


def test_a_table_with_more_events_is_added_again(root: Path, folder: Path, tmp_path: Path) -> None:
    table = labels(folder, range(300))
    added = add("d", table, tmp_path)
    truncate(root, "added.y.value")
    (outcome,) = mend(root)
    assert not outcome.repaired
    assert f"had other events too; run 'frz data add {root} TABLE' with the table" in outcome.how
    assert add("d", table, tmp_path)["version"] == added["version"]
    assert whole(root)


def test_other_events_from_the_same_file_get_a_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a simulation does on another machine: values differ, and with them the events' keys."""
    read = Files.read

    def elsewhere(self: Files, unit: Unit) -> Iterator[EventArrays]:
        for batch in read(self, unit):
            yield batch | {"event/raw": batch["event/raw"] + 1}

    monkeypatch.setattr(Files, "read", elsewhere)
    lose(root, 1)
    outcomes, added = repair(root, verify(root))
    assert [(outcome.repaired, outcome.same) for outcome in outcomes] == [(True, False)]
    assert added is not None
    found, first = EventStore(root), snapshot.read(root, 1)
    assert first is not None
    np.testing.assert_array_equal(found.range(16, 32)["event/raw"], np.arange(16, 32) / 2 + 1)
    differ = [i for i, (a, b) in enumerate(zip(first.parts.events, added.parts.events, strict=True)) if a != b]
    assert differ == [1]
    assert verify(root).damages == []
