"""A build beside other processes: another build, and one that cleans up."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas
import pytest

from conftest import Python
from frz.artifacts import versions
from frz.data import add as adding
from frz.data.add import add
from frz.data.build import build
from frz.data.muon_sim.source import MuonSim
from frz.errors import StoreError
from frz.store import snapshot
from frz.store.gc import collect
from frz.store.verify import verify

BUILD = """
import sys
from pathlib import Path
from frz.data.build import build
print(build({"name": "muons", "source": {"kind": "muon_sim", "n_events": 96}}, Path(sys.argv[1]))["hash"])
"""


def recipe(n_events: int = 96) -> dict[str, Any]:
    return {"name": "muons", "source": {"kind": "muon_sim", "n_events": n_events}}


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen once, when a build has committed its first parts."""
    read = MuonSim.read

    def arrange(happen: Callable[[], object]) -> None:
        left = [happen]

        def interrupted(self: MuonSim, unit: Any) -> Iterator[Any]:
            for batch in read(self, unit):
                yield batch
                while left:
                    left.pop()()

        monkeypatch.setattr(MuonSim, "read", interrupted)

    return arrange


def lose_leases(root: Path) -> None:
    """As others do with the leases of one that was stopped for long."""
    for lease in (root / "leases").glob("*.json"):
        lease.unlink()


def test_nothing_goes_from_under_a_build(tmp_path: Path, meanwhile: Any) -> None:
    root, found = tmp_path / "datasets/muons", []
    meanwhile(lambda: found.append((len(list(root.glob("events.zarr/*-*"))), collect(root, grace=0, delete=True))))
    build(recipe(), tmp_path)
    ((n_parts, report),) = found
    assert n_parts > 0
    assert report.garbage == []
    assert report.live != []
    assert verify(root).damages == []


def test_a_build_inside_another_one(tmp_path: Path, meanwhile: Any) -> None:
    root, inner = tmp_path / "datasets/muons", []
    meanwhile(lambda: inner.append(build(recipe(), tmp_path)))
    outer = build(recipe(), tmp_path)
    assert (inner[0]["hash"], inner[0]["version"]) == (outer["hash"], outer["version"])
    assert versions(root) == [1]
    assert verify(root, content=True).damages == []


def test_two_processes_build_at_once(tmp_path: Path, fresh_python: Python) -> None:
    with ThreadPoolExecutor() as threads:
        ran = list(threads.map(lambda _: fresh_python("-c", BUILD, str(tmp_path)), range(2)))
    assert [done.returncode for done in ran] == [0, 0], ran
    (hashed,) = {done.stdout for done in ran}
    root = tmp_path / "datasets/muons"
    made = snapshot.read(root)
    assert made is not None
    assert (hashed.strip(), versions(root)) == (made.hash, [1])
    report = verify(root, content=True)
    assert (report.damages, report.warnings, report.orphans) == ([], [], 0)
    assert list((root / "leases").iterdir()) == []


def test_one_that_was_stopped_for_long_does_not_commit(
    tmp_path: Path, meanwhile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "datasets/muons"
    meanwhile(lambda: lose_leases(root))
    with pytest.raises(StoreError, match="stopped for too long.*run the same command again"):
        build(recipe(), tmp_path)
    assert versions(root) == []
    assert build(recipe(), tmp_path)["version"] == 1

    table, keep = tmp_path / "labels.csv", adding._keep
    pandas.DataFrame({"id": range(96), "y": range(96)}).to_csv(table, index=False)
    with monkeypatch.context() as patch:
        patch.setattr(adding, "_keep", lambda *args: (lose_leases(root), keep(*args))[1])
        with pytest.raises(StoreError, match="stopped for too long"):
            add("muons", table, tmp_path)
    assert versions(root) == [1]
    assert add("muons", table, tmp_path)["version"] == 2
