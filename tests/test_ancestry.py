"""From a head back to the source of its events, and what differs between two artifacts."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import TINY_HEAD, tiny_recipe
from frz import artifacts as names
from frz.ancestry import compare, why
from frz.data.build import build
from frz.errors import ConfigError
from frz.heads.run import train
from frz.store import EventStore


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
