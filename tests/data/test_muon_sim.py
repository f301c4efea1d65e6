"""Shape, identity and statistics of the simulated events."""

import numpy as np
import pytest

from frz.config import parse
from frz.data.muon_sim.events import simulate
from frz.data.muon_sim.fields import COLUMNS
from frz.data.muon_sim.source import SCHEMA, MuonSim
from frz.data.simulated import BLOCK
from frz.errors import ConfigError
from frz.store.ragged import check, concat, slice_events
from frz.store.schema import EventArrays

N = 2000


def make(ids: "np.ndarray | range" = range(N), **settings: object) -> EventArrays:
    return simulate(MuonSim.Config(**settings), np.asarray(ids, dtype=np.int64))


@pytest.fixture(scope="module")
def events() -> EventArrays:
    return make()


def hits_of_tracks(arrays: EventArrays) -> tuple[np.ndarray, np.ndarray]:
    """Track (in the batch) and hit (in the batch) of every member."""
    event = np.repeat(np.arange(len(arrays["event/id"])), np.diff(arrays["track/offsets"]))
    track = np.repeat(np.arange(len(event)), np.diff(arrays["member/offsets"]))
    return track, arrays["member/hit"] + arrays["hit/offsets"][event[track]]


def test_arrays_are_what_the_schema_says(events):
    check(events, SCHEMA)
    assert all(np.isfinite(values).all() for values in events.values())
    np.testing.assert_array_equal(events["event/id"], np.arange(N))
    np.testing.assert_array_equal(events["event/group"], events["event/id"])


@pytest.mark.parametrize(
    "settings", [{}, {"filtered": False, "cavern_hits": 200.0}, {"min_hits": 20, "close_pairs": 0.9}]
)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_events_do_not_depend_on_the_batch(settings, size):
    whole = make(range(500, 692), **settings)
    n = min(192, 24 * size)
    pieces = concat([make(range(500 + a, 500 + min(a + size, n)), **settings) for a in range(0, n, size)])
    expected = slice_events(whole, SCHEMA, 0, n)
    for name, values in expected.items():
        np.testing.assert_array_equal(pieces[name], values, err_msg=name)


def test_order_of_events_is_free():
    forward, backward = make([3, 4]), make([4, 3])
    for i, j in ((0, 1), (1, 0)):
        for name, values in slice_events(forward, SCHEMA, i, i + 1).items():
            np.testing.assert_array_equal(slice_events(backward, SCHEMA, j, j + 1)[name], values)


def test_seeds_and_settings_give_other_events():
    base = make(range(20))
    for settings in ({"seed": 1}, {"close_pairs": 0.9}, {"efficiency": 0.8}):
        assert base["hit/raw"].tobytes() != make(range(20), **settings)["hit/raw"].tobytes()


def test_units_keep_their_digest_when_the_set_grows():
    small, large = (MuonSim(MuonSim.Config(n_events=n)) for n in (2 * BLOCK + 5, 4 * BLOCK))
    assert (small.n_events, large.n_events) == (2 * BLOCK + 5, 4 * BLOCK)
    assert [unit.name for unit in small.units()] == ["events 0-2047", "events 2048-4095", "events 4096-4100"]
    assert small.units()[:2] == large.units()[:2]
    assert small.units()[2].digest != large.units()[2].digest


def test_digest_tells_settings_apart():
    digests = {
        MuonSim(MuonSim.Config(n_events=10, **settings)).units()[0].digest
        for settings in ({}, {"seed": 1}, {"filtered": False}, {"pt_min": 6.0}, {"tracks_per_event": (1.0,)})
    }
    assert len(digests) == 5


def test_read_gives_the_events_of_the_unit_in_order():
    source = MuonSim(MuonSim.Config(n_events=BLOCK + 30))
    batches = [list(source.read(unit)) for unit in source.units()]
    for arrays in (batch for unit in batches for batch in unit):
        check(arrays, source.schema)
    ids = np.concatenate([batch["event/id"] for unit in batches for batch in unit])
    np.testing.assert_array_equal(ids, np.arange(BLOCK + 30))
    last = batches[1][0]
    np.testing.assert_array_equal(last["hit/raw"], make(range(BLOCK, BLOCK + 30))["hit/raw"])


def test_spectrum(events):
    pt, eta, phi, q = events["track/parameters"].T
    assert pt.min() >= 5
    assert pt.mean() == pytest.approx(36, abs=1.5)
    assert pt.std() == pytest.approx(26, abs=2)
    assert np.abs(eta).max() <= np.float32(2.7)
    assert np.abs(eta).mean() == pytest.approx(1.2, abs=0.05)
    assert np.abs(phi).max() <= np.float32(np.pi)
    assert np.hypot(np.cos(phi).mean(), np.sin(phi).mean()) < 0.05
    assert set(np.unique(q)) == {-1.0, 1.0}
    assert abs(q.mean()) < 0.06


def test_numbers_of_tracks_and_hits(events):
    n_tracks = np.diff(events["track/offsets"])
    assert set(np.unique(n_tracks)) == {1, 2}
    assert n_tracks.mean() == pytest.approx(1.5, abs=0.04)
    per_track = np.diff(events["member/offsets"])
    assert per_track.min() >= 3
    assert per_track.mean() == pytest.approx(27, abs=1.5)
    assert np.percentile(per_track, 5) > 14
    assert np.percentile(per_track, 95) < 42
    assert (events["hit/truthLink"] < 0).mean() == pytest.approx(0.5, abs=0.03)
    two = np.diff(events["hit/offsets"])[n_tracks == 2]
    assert two.mean() == pytest.approx(108, abs=6)


def test_technologies(events):
    technology = events["hit/raw"][:, COLUMNS.index("technology")]
    for code, share in ((0, 0.66), (2, 0.08), (3, 0.26)):
        assert (technology == code).mean() == pytest.approx(share, abs=0.03)


def test_unfiltered_is_nearly_all_noise():
    arrays = make(range(40), filtered=False)
    check(arrays, SCHEMA)
    assert 0.985 < (arrays["hit/truthLink"] < 0).mean() < 0.995


def test_more_tracks_can_be_asked_for():
    n_tracks = np.diff(make(range(200), tracks_per_event=(0.0, 0.0, 0.0, 1.0))["track/offsets"])
    assert n_tracks.max() == 4
    assert n_tracks.mean() > 3.8


def test_links_agree_with_members(events):
    track, hit = hits_of_tracks(events)
    first = np.full(len(events["hit/raw"]), -1)
    local = track - np.repeat(events["track/offsets"][:-1], np.diff(events["track/offsets"]))[track]
    for t, h in zip(local[::-1], hit[::-1], strict=True):  # members stand by track: the first one is written last
        first[h] = t
    np.testing.assert_array_equal(events["hit/truthLink"], first)
    ordered = np.lexsort((hit, track))
    np.testing.assert_array_equal(ordered, np.arange(len(hit)))
    assert len(set(zip(track.tolist(), hit.tolist(), strict=True))) == len(hit)


def test_close_muons_share_hits():
    arrays = make(range(300), close_pairs=1.0, tracks_per_event=(0.0, 1.0))
    hit = hits_of_tracks(arrays)[1]
    owners = np.bincount(hit, minlength=len(arrays["hit/raw"]))
    assert owners.max() == 2
    assert 0.002 < (owners == 2).sum() / (owners > 0).sum() < 0.2


def test_no_channel_is_read_out_twice(events):
    event = np.repeat(np.arange(N), np.diff(events["hit/offsets"]))
    edges = events["hit/raw"][:, :6]
    technology = events["hit/raw"][:, COLUMNS.index("technology")]
    tubes = technology == 0
    distinct = np.unique(np.column_stack([event[tubes], edges[tubes]]), axis=0)
    assert len(distinct) == tubes.sum()


def test_hits_get_lost_with_the_efficiency():
    kept = len(make(range(300), efficiency=0.6)["member/hit"]) / len(make(range(300), efficiency=1.0)["member/hit"])
    assert kept == pytest.approx(0.6, abs=0.02)


def test_tracks_with_few_hits_become_noise():
    loose, strict = make(range(300)), make(range(300), min_hits=28)
    assert np.diff(strict["member/offsets"]).min() >= 28
    assert np.diff(strict["track/offsets"]).min() >= 1
    assert len(strict["track/parameters"]) < len(loose["track/parameters"])
    assert (strict["hit/truthLink"] < 0).mean() > (loose["hit/truthLink"] < 0).mean()


def test_order_of_hits_and_tracks_tells_nothing(events):
    event = np.repeat(np.arange(N), np.diff(events["hit/offsets"]))
    place = np.arange(len(event)) - events["hit/offsets"][event]
    place = place / np.diff(events["hit/offsets"])[event]
    noise = events["hit/truthLink"] < 0
    assert abs(place[noise].mean() - place[~noise].mean()) < 0.02
    first = events["track/offsets"][:-1]
    both = np.diff(events["track/offsets"]) == 2
    pt = events["track/parameters"][:, 0]
    harder = (pt[first[both]] > pt[first[both] + 1]).mean()
    assert harder == pytest.approx(0.5, abs=0.06)


def test_impossible_settings_are_refused_with_a_way_out():
    with pytest.raises(ConfigError, match="lower min_hits"):
        make(range(4), min_hits=500)
    with pytest.raises(ConfigError, match="add up to 1"):
        parse(MuonSim.Config, {"tracks_per_event": [0.5, 0.6]}, "recipe")
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        parse(MuonSim.Config, {"sed": 1}, "recipe")
