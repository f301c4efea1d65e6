"""From a head back to the source of its events, and what differs between two artifacts."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import TINY_HEAD, tiny_recipe
from frz import artifacts as names
from frz.ancestry import compare, why
from frz.data.build import build
from frz.errors import ConfigError
from frz.extract.run import extract
from frz.heads.run import train
from frz.store import EventStore
from frz_cli.main import app


@pytest.fixture
def mine(tiny, tmp_path):
    """A copy of the tiny artifacts that a test may change."""
    return shutil.copytree(tiny, tmp_path / "artifacts")


def test_a_head_leads_back_to_the_source(tiny):
    steps = why("heads/tiny", tiny)
    assert [step["kind"] for step in steps] == ["heads", "features", "backbones", "datasets"]
    assert all(step["in_place"] for step in steps)
    features = EventStore(*names.features("tiny", tiny))
    assert steps[1]["identity"] == features.snapshot.hash
    assert steps[2]["identity"] == features.snapshot.about["fingerprint"]["value"]
    assert steps[3]["identity"] == features.snapshot.about["data"]["hash"]
    assert steps[3]["source"]["kind"] == "muon_sim"


@pytest.mark.parametrize("lost", ["features", "backbones", "datasets"])
def test_what_is_no_longer_there_is_named_and_the_rest_still_found(mine, lost):
    card = names.head("tiny", mine).path / "card.json"
    found = json.loads(card.read_text())
    place = mine / "features" / Path(found["features"]["store"]).name
    card.write_text(json.dumps(found | {"features": found["features"] | {"store": str(place)}}))
    shutil.rmtree(mine / lost)
    steps = why("heads/tiny", mine)
    assert [step["kind"] for step in steps if not step["in_place"]] == [lost]
    assert steps[-1]["kind"] == "datasets"


def test_a_version_that_was_rebuilt_otherwise_is_not_taken_for_the_old_one(mine):
    shutil.rmtree(mine / "datasets")
    build(tiny_recipe(321), mine)
    assert [step["kind"] for step in why("heads/tiny", mine) if not step["in_place"]] == ["datasets"]


def test_data_that_the_backbone_was_trained_on_and_data_of_the_features_are_told_apart(mine):
    trained = names.card(names.backbone("tiny", mine).path)["data"]["hash"]
    shutil.rmtree(mine / "datasets")
    build(tiny_recipe(336), mine)
    extract("tiny", mine, settings={"dtype": "float32"})
    *_, lost, found = why("features/tiny", mine)
    run = names.backbone("tiny", mine).path.name
    assert (lost["identity"], lost["in_place"], lost["read_by"]) == (trained, False, f"backbone tiny@{run}")
    assert (found["name"], found["in_place"], found["read_by"]) == ("tiny@1", True, "these features")
    result = CliRunner().invoke(app, ["why", "features/tiny", "--artifacts", str(mine)])
    assert result.exit_code == 1
    titles = [line for line in result.stdout.splitlines() if line.startswith("datasets")]
    assert titles[:2] == [f"datasets read by backbone tiny@{run}", "datasets read by these features"]
    assert result.stderr == f"no longer in place: datasets read by backbone tiny@{run} tiny@1 ({trained})\n"


def diff_lines(artifacts, *pair):
    result = CliRunner().invoke(app, ["diff", *pair, "--artifacts", str(artifacts)], catch_exceptions=False)
    assert result.exit_code == 0
    return [line.split() for line in result.stdout.splitlines()]


def test_people_are_shown_what_differs_and_whose_it_is(mine):
    first = f"heads/tiny@{names.head('tiny', mine).path.name}"
    assert diff_lines(mine, first, first) == [["the", "same:", first, "and", first, "do", "not", "differ"]]
    train({**TINY_HEAD, "trainer": {**TINY_HEAD["trainer"], "max_epochs": 1}}, mine)
    other = f"heads/tiny@{names.head('tiny', mine).path.name}"
    lines = diff_lines(mine, first, other)
    assert lines[:4] == [["config"], [first, other], ["trainer.max_epochs", "2", "1"], ["metrics"]]
    assert lines[4] == [first, other, "difference"]
    assert all(one != two for _, one, two, _ in lines[5:])
    assert not any(line[0] == "metrics.val.head.slots" for line in lines)
    assert compare(first, first, mine)["same"]
    assert not compare(first, other, mine)["same"]


def test_versions_that_do_not_differ_are_the_same(mine):
    one = "datasets/tiny@1"
    assert diff_lines(mine, one, one)[0][:2] == ["the", "same:"]
    build(tiny_recipe(336), mine)
    text = [" ".join(line) for line in diff_lines(mine, one, "datasets/tiny@2")]
    assert [line.split()[:2] for line in text[2:5]] == [["a", "320"], ["b", "336"], ["added", "16"]]
    assert "source.n_events 320 336" in text
    assert not any("{}" in line for line in text)


def test_two_heads_differ_in_settings_and_metrics(mine):
    first = names.head("tiny", mine).path.name
    train({**TINY_HEAD, "trainer": {**TINY_HEAD["trainer"], "seed": 1}}, mine)
    other = names.head("tiny", mine).path.name
    found = compare(f"heads/tiny@{first}", f"heads/tiny@{other}", mine)
    assert found["config"]["trainer.seed"] == [0, 1]
    assert found["made_from"] == {}
    one, two, difference = found["metrics"]["score"]
    assert (one != two, difference) == (True, two - one)


def test_two_versions_of_a_data_set_differ_in_events_and_origin(mine):
    build(tiny_recipe(336), mine)
    found = compare("datasets/tiny@1", "datasets/tiny@2", mine)
    assert found["events"]["added"] == 16
    assert found["about"] == {"source.n_events": [320, 336]}


def test_artifacts_of_two_kinds_are_not_compared(tiny):
    with pytest.raises(ConfigError, match="heads/tiny is one of heads, datasets/tiny of datasets"):
        compare("heads/tiny", "datasets/tiny", tiny)
