"""`frz gc` on real stores: it tells first, removes with --yes, and refuses in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import LEFT
from frz import artifacts as names
from frz.store import snapshot
from frz.store.lease import Leases
from frz_cli.main import app

Gc = Callable[..., Any]


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """The whole path, a second version of the features, and a store that was broken off."""
    made = shutil.copytree(tiny, tmp_path / "artifacts")
    store = names.features("tiny", made).path
    first = snapshot.read(store)
    assert first is not None
    fewer = first.model_copy(update={"parts": type(first.parts).of(list(first.parts)[:-1])})
    snapshot.commit(store, lambda latest: fewer)
    begun = made / "datasets" / "begun"
    snapshot.prepare_root(begun)
    left = begun / "events.zarr" / f"events-{0:032x}"
    left.mkdir()
    (left / "file").write_bytes(bytes(2500))
    return made


@pytest.fixture
def gc(folder: Path) -> Gc:
    return lambda *arguments: CliRunner().invoke(app, ["gc", *arguments, "--artifacts", str(folder)])


def test_it_tells_what_could_go_and_removes_it_with_yes(gc: Gc, folder: Path) -> None:
    left = folder / "datasets" / "begun" / "events.zarr" / f"events-{0:032x}"
    told = gc("--grace", "0s")
    assert told.exit_code == 0
    assert "datasets/begun" in told.stdout
    assert "2.5 kB" in told.stdout
    assert told.stderr == "2.5 kB can go; nothing was changed, --yes removes it\n"
    assert left.exists()
    assert gc("--yes").stderr == "0 B removed\n"  # younger than a day
    assert left.exists()
    assert gc("begun", "--grace", "0s", "--yes").stderr == "2.5 kB removed\n"
    assert not left.exists()


def test_what_killed_trainings_left_goes(gc: Gc, folder: Path) -> None:
    left = names.head("tiny", folder).path / f".{LEFT}"
    left.write_bytes(bytes(1500))
    assert "1.5 kB can go" in gc().stderr
    assert [item["bytes"] for item in json.loads(gc("--json").stdout)["left_behind"]] == [1500]
    assert gc("--yes").stderr == "1.5 kB removed\n"
    assert not left.exists()


def test_it_answers_in_json(gc: Gc) -> None:
    found = json.loads(gc("datasets/begun", "--grace", "0s", "--json").stdout)
    (store,) = found["stores"]
    assert (found["removed"], store["live"], store["bytes"]) == (False, [], 2500)
    assert [(item["what"], item["bytes"]) for item in store["garbage"]] == [("part", 2500)]


def test_a_version_that_a_head_was_trained_on_is_dropped_after_the_head(gc: Gc, folder: Path) -> None:
    store = names.features("tiny", folder).path
    refused = gc("--drop", f"{store.name}@1", "--yes")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "heads/tiny@" in refused.stderr
    assert "refer to it; remove these first" in refused.stderr
    shutil.rmtree(folder / "heads")
    done = gc(store.name, "--drop", f"{store.name}@1", "--yes", "--grace", "0s")
    assert done.exit_code == 0, done.output
    assert snapshot.versions(store) == [2]
    assert "the version is dropped" in done.stdout


def test_a_version_that_is_lost_is_given_up(gc: Gc, folder: Path) -> None:
    shutil.rmtree(folder / "heads")
    store = names.features("tiny", folder).path
    for kind in ("snapshots", "copies"):
        (store / kind / "1.json").unlink()
    told = CliRunner().invoke(app, ["repair", store.name, "--artifacts", str(folder)])
    assert told.exit_code == 1
    command = ["--drop", f"{store}@1", "--yes"]
    assert f"version 1 is lost, and no other version needs it: 'frz gc {' '.join(command)}' gives it up" in told.stdout
    done = CliRunner().invoke(app, ["gc", *command, "--artifacts", "elsewhere"])
    assert done.exit_code == 0, done.output
    assert done.stderr == f"version 1 of {store} is dropped\n0 B removed\n"
    assert CliRunner().invoke(app, ["verify", str(store)]).exit_code == 0


def test_a_store_by_its_path_is_asked_what_refers_to_it_where_it_lies(gc: Gc, folder: Path) -> None:
    store = names.features("tiny", folder).path
    refused = CliRunner().invoke(app, ["gc", "--drop", f"{store}@1", "--yes", "--artifacts", "elsewhere"])
    assert "heads/tiny@" in refused.stderr
    assert "refer to it; remove these first" in refused.stderr


def test_beside_a_worker_it_says_why_so_little_goes(gc: Gc, folder: Path) -> None:
    with Leases(folder / "datasets" / "begun").hold():
        result = gc("--grace", "0s", "--yes")
    assert "works on it, so all that is committed stays" in result.stderr
    assert result.stderr.endswith("0 B removed\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beguun"], "no store 'beguun'; did you mean 'begun'?"),
        (["--drop", "begun"], "'begun' names no version; give NAME@N"),
        (["--drop", "begun@1"], "no such version; versions: none"),
        (["--grace", "day"], "'day' is no time; give a number and s, m, h or d"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, gc: Gc) -> None:
    result = gc(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_runs_are_removed_by_name_and_stores_are_left_alone(gc: Gc, folder: Path) -> None:
    run = names.head("tiny", folder).path
    told = gc("--runs", f"heads/tiny@{run.name}", "--grace", "0s")
    assert told.exit_code == 0
    assert f"heads/tiny@{run.name}" in told.stdout
    assert "datasets/begun" not in told.stdout
    assert told.stderr.endswith("can go; nothing was changed, --yes removes it\n")
    assert run.exists()
    found = json.loads(gc("--runs", f"heads/tiny@{run.name}", "--yes", "--json").stdout)
    assert (found["removed"], found["stores"]) == (True, [])
    assert [(one["run"], one["state"]) for one in found["runs"]] == [(f"heads/tiny@{run.name}", "finished")]
    assert not run.exists()
    refused = gc("--runs", "backbones/tiny")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "does not say which run" in refused.stderr
