"""Canaries: what changes results is refused and named, what does not goes through."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from conftest import TINY_HEAD, tiny_recipe
from frz import artifacts as names
from frz import progress
from frz.data.build import build
from frz.errors import IdentityError
from frz.extract import canary
from frz.extract.run import check, extract
from frz.heads.run import train as train_head
from frz.pretrain import train
from frz.store import EventStore, snapshot
from frz.store.part import part_name
from frz.store.schema import Array, Axis, Schema
from frz_cli.main import app

NET = Path(__file__).with_name("pair_net.py").read_text()
BACKBONE = {
    "name": "net",
    "family": "pair_net:PairNet",
    "data": "tiny",
    "trainer": {"max_epochs": 1, "batch_size": 50, "device": "cpu"},
}


def write(folder, text=NET):
    """Save the code of the backbone; the next command imports it."""
    (folder / "pair_net.py").write_text(text)
    sys.modules.pop("pair_net", None)
    importlib.invalidate_caches()
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)  # two versions within a second look the same to it


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set and the features of a user's own backbone; then the data set grows."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        write(folder)
        build(tiny_recipe(96), folder / "a")
        train(BACKBONE, folder / "a")
        extract("net", folder / "a")
        build(tiny_recipe(128), folder / "a")
    return folder


@pytest.fixture
def mine(made, tmp_path, monkeypatch):
    """A copy of them that a test may change."""
    shutil.copytree(made / "a", tmp_path / "a")
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path)
    yield tmp_path
    sys.modules.pop("pair_net", None)


def features(mine, version=None):
    return EventStore(names.features("net", mine / "a").path, version)


def test_an_extraction_measures_what_batch_composition_changes(tiny):
    store = EventStore(*names.features("tiny", tiny))
    measured = store.snapshot.about["canaries"]
    lengths = dict(zip(store.array("event/id").tolist(), store.lengths("hit").tolist(), strict=True))
    chosen = [lengths[event] for event in measured["events"]]
    assert len(set(measured["events"])) == 16
    assert (max(chosen), min(chosen)) == (max(lengths.values()), min(lengths.values()))
    assert set(measured["units"]) == set(measured["absolute"]) >= {"hit/embedding", "query/embedding"}
    assert all(0 <= units < 1000 for units in measured["units"].values())


def test_canaries_do_not_depend_on_the_order_of_events():
    rng = np.random.default_rng(0)
    lengths, keys = rng.integers(0, 9, 100), rng.integers(0, 2**63, 100).astype(np.uint64)
    order = rng.permutation(100)
    one, other = canary.choose(lengths, keys), canary.choose(lengths[order], keys[order])
    np.testing.assert_array_equal(keys[one], keys[order][other])
    assert len(canary.choose(lengths[:3], keys[:3])) == 3


def test_the_same_code_is_not_checked_and_agrees(mine):
    found = check("net", mine / "a")
    assert found["differs"] == []
    assert found["within"]
    assert len(found["events"]) == 16
    assert found["members_differ"] == {"pair": 0}
    assert set(found["arrays"]) == {"hit/embedding", "query/embedding", "pair/logit"}


def test_another_activation_of_equal_weights_is_refused_and_nothing_is_written(mine):
    write(mine, NET.replace("functional.silu", "functional.gelu"))
    with pytest.raises(IdentityError) as caught:
        extract("net", mine / "a")
    message = str(caught.value)
    for part in ("hit/embedding", "units (at most", "code of pair_net", "To redo: 96 events", "--set out=DIR"):
        assert part in message
    assert features(mine).snapshot.version == 1
    result = CliRunner().invoke(app, ["extract", "--ckpt", "net", "--artifacts", str(mine / "a"), "--check", "--json"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["within"], report["differs"]) == (1, False, ["code of pair_net"])
    assert report["arrays"]["hit/embedding"]["units"] > report["arrays"]["hit/embedding"]["tolerance"]
    write(mine)
    assert extract("net", mine / "a")["version"] == 2


def test_comments_and_blank_lines_are_no_change(mine, capsys):
    write(mine, NET.replace("# the activation", "# it is smooth\n"))
    progress.show("lines")
    assert extract("net", mine / "a")["events_run"] > 0
    assert "canaries" not in capsys.readouterr().err
    one, two = (features(mine, version).snapshot.about["made_with"]["code"] for version in (1, 2))
    assert one == two
    assert {"pair_net", "frz.backbones.contract", "frz.extract.engine"} <= set(one)
    assert "torch" not in one


def test_code_threads_and_versions_that_change_nothing_go_through(mine, capsys, monkeypatch):
    write(mine, NET.replace("kept = logit", "unused = 0\n        kept = logit"))
    monkeypatch.setattr(canary, "versions", lambda: {"torch": "9.9"})
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    progress.show("lines")
    try:
        result = extract("net", mine / "a")
    finally:
        torch.set_num_threads(threads)
    assert result["version"] == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "16 canaries agree" in line]
    for part in ("code of pair_net", "here)", "torch (", f"threads ({threads} there, {threads + 1} here)"):
        assert part in line


def test_where_nothing_is_to_run_nothing_is_checked(mine):
    extract("net", mine / "a")
    write(mine, NET.replace("functional.silu", "functional.gelu"))
    assert extract("net", mine / "a")["events_run"] == 0


def test_a_run_that_was_broken_off_is_not_continued_by_other_code(mine):
    store = features(mine)
    snapshots = [*(store.root / "snapshots").iterdir(), *(store.root / "copies").iterdir()]
    lost = store.snapshot.parts.groups["features"].key[2]
    for path in [*snapshots, *(store.root / "events.zarr" / part_name("features", lost)).rglob("*.json")]:
        path.unlink()
    write(mine, NET.replace("functional.silu", "functional.gelu"))
    with pytest.raises(IdentityError, match="code of pair_net"):
        extract("net", mine / "a", "tiny@1")
    assert snapshot.versions(store.root) == []


def test_a_head_run_warns_in_one_line_of_features_of_other_code(mine, capsys):
    extract("net", mine / "a")
    head = {**TINY_HEAD, "name": "h", "features": {"backbone": "net", "data": "tiny"}}
    head["model"] = {"fields": ["eta"], "hit_nets": []}
    head["trainer"] = {**TINY_HEAD["trainer"], "max_epochs": 1}
    progress.show("lines")
    write(mine, NET.replace("# the activation", "# as it was"))
    train_head(head, mine / "a")
    assert "warning" not in capsys.readouterr().err
    write(mine, NET.replace("functional.silu", "functional.gelu"))
    train_head(head, mine / "a")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert "code of pair_net" in line
    assert "--check" in line
    assert "pair_net" not in sys.modules


SCHEMA = Schema(
    axes={"hit": Axis(), "pair": Axis(parent="hit")},
    arrays={
        "hit/embedding": Array(dtype="float16", shape=(2,)),
        "pair/query": Array(dtype="int8"),
        "pair/logit": Array(dtype="float32"),
        "event/scales": Array(dtype="float32", shape=(2,), columns=("small", "large")),
    },
)


def ragged_events():
    """Four events of two hits with one pair each."""
    return {
        "hit/offsets": np.arange(0, 9, 2),
        "hit/embedding": np.full((8, 2), 4, np.float16),
        "pair/offsets": np.arange(9),
        "pair/query": np.zeros(8, np.int8),
        "pair/logit": np.full(8, 2, np.float32),
        "event/scales": np.tile(np.array([1, 1024], np.float32), (4, 1)),
    }


def test_differences_count_in_the_last_place_of_the_stored_type():
    stored, again = ragged_events(), ragged_events()
    again["hit/embedding"] = again["hit/embedding"].copy()
    again["hit/embedding"][5, 1] += 2 * 4 * 2**-10
    again["event/scales"] = again["event/scales"] + np.array([2**-23, 0], np.float32)
    rows, apart = canary.compare(stored, again, SCHEMA)
    assert rows["hit/embedding"] == {"units": 2, "absolute": 8 * 2**-10}
    assert rows["event/scales"]["units"] == 1  # of its own column
    assert rows["pair/logit"]["units"] == 0
    assert apart == {"pair": 0}


def test_events_with_other_members_are_counted_and_not_compared():
    stored, again = ragged_events(), ragged_events()
    again["pair/offsets"] = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7])
    again |= {"pair/query": np.array([0, 0, 0, 1, 0, 0, 0], np.int8), "pair/logit": np.full(7, 2, np.float32)}
    again["pair/logit"][3] = again["pair/logit"][6] = 9
    rows, apart = canary.compare(stored, again, SCHEMA)
    assert rows["pair/logit"]["units"] == 0
    assert apart == {"pair": 2}


def test_values_that_are_all_zero_have_a_unit():
    stored = ragged_events() | {"hit/embedding": np.zeros((8, 2), np.float16)}
    rows, _ = canary.compare(stored, stored, SCHEMA)
    assert rows["hit/embedding"]["units"] == 0
