"""The VELO source on the real archive: counts that are known, and the promises of the shipped recipe."""

import os
from pathlib import Path

import numpy as np
import pytest

from frz.config import read_yaml
from frz.data.velo import Velo
from frz.evaluation.hitsets import true_tracks
from frz.evaluation.matching import match
from frz.evaluation.merging import merge, parent_truth
from frz.evaluation.tracking import score
from frz.store import ragged
from frz.store.schema import column

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("FRZ_REAL_DATA", ROOT.parent / "shared/data")) / "lhcb_velo"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no VELO archive: {FOLDER} is absent")


def read(**settings):
    source = Velo(Velo.Config(path=str(FOLDER), **settings))
    arrays = ragged.concat([batch for unit in source.units() for batch in source.read(unit)])
    ragged.check(arrays, source.schema)
    return source, arrays


@pytest.fixture(scope="module")
def whole():
    return read(wedges=1, min_hits=1)


@pytest.fixture(scope="module")
def recipe():
    settings = read_yaml(ROOT / "data/velo.yaml")["source"]
    return read(**{key: value for key, value in settings.items() if key not in ("kind", "path")})


def test_whole_events(whole):
    source, arrays = whole
    assert arrays["event/group"].tolist() == list(range(800))
    assert len(arrays["track/pid"]) == 265_530
    n_tracks = np.zeros(len(arrays["hit/raw"]), np.int64)
    event_of_track = np.repeat(np.arange(800), np.diff(arrays["track/offsets"]))
    first_hit = arrays["hit/offsets"][np.repeat(event_of_track, np.diff(arrays["member/offsets"]))]
    np.add.at(n_tracks, arrays["member/hit"] + first_hit, 1)
    assert np.mean(n_tracks == 0) == pytest.approx(0.114, abs=0.001)
    assert np.mean(n_tracks > 1) == pytest.approx(0.010, abs=0.001)
    charge = arrays["track/parameters"][:, column(source.schema, "track/parameters", "charge")]
    assert set(charge.tolist()) == {-1.0, 1.0, 2.0}


def test_hits_lie_in_planes_across_the_beam(whole):
    _, arrays = whole
    raw = arrays["hit/raw"]
    assert np.hypot(raw[:, 0], raw[:, 1]).min() > 5.0  # mm
    for module in range(52):
        z = raw[raw[:, 3] == module, 2]
        assert np.ptp(z) < 5.0  # mm: sensors on both faces of one module


def test_recipe_gives_events_of_the_promised_size(recipe):
    _, arrays = recipe
    n_tracks, n_hits = np.diff(arrays["track/offsets"]), np.diff(arrays["hit/offsets"])
    assert n_tracks.max() <= 64
    assert 150 <= n_hits.mean() <= 250


def test_recipe_loses_no_particle_from_the_books(whole, recipe):
    n_hits = np.diff(whole[1]["member/offsets"])
    group = np.repeat(np.arange(800), np.diff(whole[1]["track/offsets"]))
    expected = set(zip(group[n_hits >= 3], whole[1]["track/parent_particle"][n_hits >= 3], strict=True))
    arrays = recipe[1]
    group = np.repeat(arrays["event/group"], np.diff(arrays["particle/offsets"]))
    owned = list(zip(group, arrays["particle/parent_particle"], strict=True))
    assert len(owned) == len(set(owned))
    assert set(owned) == expected
    assert 1 - len(arrays["track/pid"]) / len(owned) == pytest.approx(0.026, abs=0.001)


def test_tracks_point_where_their_truth_says(recipe):
    """Far from the beam the direction of a track's hits is its phi: frames of hits and truth agree."""
    _, arrays = recipe
    lengths = np.diff(arrays["member/offsets"])
    track = np.repeat(np.arange(len(lengths)), lengths)
    event_of_track = np.repeat(np.arange(len(arrays["event/id"])), np.diff(arrays["track/offsets"]))
    hit = arrays["hit/raw"][arrays["member/hit"] + arrays["hit/offsets"][event_of_track[track]], :2].astype(float)
    outermost = np.zeros(len(lengths), np.int64)
    order = np.argsort(np.hypot(*hit.T), kind="stable")
    outermost[track[order]] = order  # the last one written is the farthest
    phi = np.arctan2(hit[outermost, 1], hit[outermost, 0])
    difference = (phi - arrays["track/parameters"][:, 1] + np.pi) % (2 * np.pi) - np.pi
    assert np.median(np.abs(difference)) < 0.02  # rad


def test_best_efficiency_after_merging(recipe):
    """What data/README.md says a perfect model reaches; the particles that no wedge sees well count as missed."""
    source, arrays = recipe
    matching = match(merge(true_tracks(arrays), arrays), parent_truth(arrays))
    is_long = arrays["particle/parameters"][:, column(source.schema, "particle/parameters", "isLong")] == 1
    assert score(matching).efficiency_strict.value == pytest.approx(0.968, abs=0.001)
    assert score(matching, is_long).efficiency_strict.value == pytest.approx(0.990, abs=0.001)
