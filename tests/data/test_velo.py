"""The VELO source on small archives of made-up events."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from made_up_velo import NAMES, event, events, read, straight, write_archive

from frz.data.build import build
from frz.data.velo import Velo
from frz.data.velo.archive import parse_event
from frz.data.velo.wedges import PARAMETERS, Wedges
from frz.store import ragged


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "a.tar.gz", events())


@pytest.mark.parametrize(("wedges", "overlap"), [(1, 0.0), (5, 0.0), (6, 0.3), (4, 3.2)])
def test_batches_fit_the_schema(archive, wedges, overlap):
    source, arrays = read(archive, wedges=wedges, overlap=overlap)
    ragged.check(arrays, source.schema)
    assert arrays["event/id"].tolist() == [1000 * e + w for e in range(3) for w in range(wedges)]
    assert arrays["event/group"].tolist() == [e for e in range(3) for w in range(wedges)]


def test_one_wedge_is_the_whole_event_unrotated(archive):
    _, arrays = read(archive, wedges=1)
    truth = json.loads(events()["velo_events/velo_event_0.json"])
    n_hits = arrays["hit/offsets"][1]
    assert n_hits == 60
    raw = arrays["hit/raw"][:n_hits]
    np.testing.assert_array_equal(raw[:, :3], np.float32([truth["x"], truth["y"], truth["z"]]).T)
    for i, module in enumerate(raw[:, 3].astype(int)):
        assert truth["module_prefix_sum"][module] <= i < truth["module_prefix_sum"][module + 1]
    kept = [row for row in truth["montecarlo"]["particles"] if len(row[-1]) >= 3]
    assert arrays["track/offsets"][1] == len(kept)
    for i, row in enumerate(kept):
        begin, end = arrays["member/offsets"][i : i + 2]
        assert arrays["member/hit"][begin:end].tolist() == sorted(row[-1])
        for name in PARAMETERS:
            value = np.float32(row[NAMES.index(name)])
            expected = np.rint(value) if name == "charge" else value
            assert arrays["track/parameters"][i, PARAMETERS.index(name)] == pytest.approx(expected, abs=1e-6), name


def by_hand(truth, wedges):
    """What `Wedges.cut` promises, one wedge, particle and hit at a time."""
    phi = np.arctan2(truth["y"], truth["x"])
    distance = lambda a, b: abs((a - b + np.pi) % (2 * np.pi) - np.pi)  # noqa: E731
    centres = [2 * np.pi * w / wedges.count for w in range(wedges.count)]
    reach = np.pi / wedges.count + wedges.overlap
    hits = [[i for i in range(len(phi)) if distance(phi[i], centre) < reach] for centre in centres]
    found = defaultdict(lambda: {"tracks": {}, "lost": {}})
    for p, row in enumerate(truth["montecarlo"]["particles"]):
        listed = sorted(set(row[-1]))
        if len(listed) < wedges.min_hits:
            continue
        mean = np.angle(sum(np.exp(1j * phi[h]) for h in listed))
        owner = max(
            range(wedges.count),
            key=lambda w: (len(set(listed) & set(hits[w])), -distance(mean, centres[w])),
        )
        seen = [hits[owner].index(h) for h in listed if h in hits[owner]]
        found[owner]["tracks" if len(seen) >= wedges.min_hits else "lost"][p] = (seen, listed)
    return hits, found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "overlap"), [(1, 0.0), (3, 0.0), (6, 0.25), (12, 0.4), (24, 0.1)])
def test_wedges_against_a_plain_loop(seed, count, overlap):
    truth = event(np.random.default_rng(seed))
    wedges = Wedges(count, overlap, 3)
    arrays = wedges.cut(parse_event(json.dumps(truth).encode(), "", "event_7.json"))
    hits, found = by_hand(truth, wedges)
    table = {axis: arrays[f"{axis}/offsets"] for axis in ("hit", "track", "member", "particle", "particle_hit")}
    for w in range(count):
        rows = slice(*table["hit"][w : w + 2])
        assert arrays["hit/parent_hit"][rows].tolist() == hits[w]
        tracks = range(*table["track"][w : w + 2])
        got = {
            int(arrays["track/parent_particle"][t]): arrays["member/hit"][slice(*table["member"][t : t + 2])].tolist()
            for t in tracks
        }
        assert got == {p: seen for p, (seen, _) in found[w]["tracks"].items()}
        owned = range(*table["particle"][w : w + 2])
        listed = {
            int(arrays["particle/parent_particle"][p]): arrays["particle_hit/parent_hit"][
                slice(*table["particle_hit"][p : p + 2])
            ].tolist()
            for p in owned
        }
        assert listed == {p: full for p, (_, full) in (found[w]["tracks"] | found[w]["lost"]).items()}
        # Track i of a wedge is its particle i.
        first = [int(arrays["particle/parent_particle"][p]) for p in owned][: len(tracks)]
        assert first == [int(arrays["track/parent_particle"][t]) for t in tracks]


def test_every_particle_has_one_owner_and_every_hit_a_wedge():
    parsed = parse_event(json.dumps(event(np.random.default_rng(3), 400, 60)).encode(), "", "event_7.json")
    arrays = Wedges(16, 0.0, 3).cut(parsed)
    n_hits = np.bincount(parsed.particle_of, minlength=60)
    assert sorted(arrays["particle/parent_particle"]) == np.flatnonzero(n_hits >= 3).tolist()
    assert sorted(arrays["hit/parent_hit"]) == list(range(400))  # without overlap each hit once


@pytest.mark.parametrize("count", [1, 3, 4, 24, 32])
def test_hits_on_an_edge_are_in_a_wedge(count):
    edges = np.pi * (2 * np.arange(-count, count) + 1) / count
    phi = np.arctan2(np.sin(edges), np.cos(edges))
    everywhere = np.concatenate([phi, np.nextafter(phi, 9), np.nextafter(phi, -9), [np.pi, -np.pi, 0.0, -0.0]])
    assert Wedges(count, 0.0, 3).inside(everywhere).any(axis=1).all()


def test_wedge_frame_is_the_detector_turned_back():
    parsed = parse_event(json.dumps(event(np.random.default_rng(4))).encode(), "", "event_7.json")
    arrays = Wedges(6, 0.2, 3).cut(parsed)
    wedge = np.repeat(np.arange(6), np.diff(arrays["hit/offsets"]))
    angle = arrays["event/wedge_phi"][wedge].astype(float)
    x, y = arrays["hit/raw"][:, 0].astype(float), arrays["hit/raw"][:, 1].astype(float)
    back = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=1)
    np.testing.assert_allclose(back, parsed.xyz[arrays["hit/parent_hit"], :2], atol=1e-4)
    assert np.abs(np.arctan2(y, x)).max() < np.pi / 6 + 0.2 + 1e-6
    track_wedge = np.repeat(np.arange(6), np.diff(arrays["track/offsets"]))
    phi = arrays["track/parameters"][:, 1] + arrays["event/wedge_phi"][track_wedge]
    true = parsed.particles[arrays["track/parent_particle"], 4]
    np.testing.assert_allclose(np.cos(phi - true), 1, atol=1e-6)
    # What a collision's metrics are binned in stays in the detector's frame.
    true = parsed.particles[arrays["particle/parent_particle"], 4]
    np.testing.assert_allclose(arrays["particle/parameters"][:, 1], true, atol=1e-6)


@pytest.mark.parametrize(
    ("phi", "owner"),
    [
        ([0.70, 0.71, 0.72], 0),  # seen whole by wedges 0 (centre 0) and 1 (centre pi / 2): 0 is nearer
        ([0.85, 0.86, 0.87], 1),  # likewise, 1 is nearer
        ([0.60, 0.70, 1.20, 1.21], 1),  # 0 is blind beyond 1.09
        ([-0.1, -0.1, 0.1], 0),
        ([3.1, -3.1, 3.14], 2),  # across the cut at pi
    ],
)
def test_ties_go_to_the_nearest_centre(phi, owner):
    truth = straight(phi, [list(range(len(phi)))])
    arrays = Wedges(4, 0.3, 3).cut(parse_event(json.dumps(truth).encode(), "", "event_0.json"))
    assert np.diff(arrays["particle/offsets"]).tolist() == [int(w == owner) for w in range(4)]


def test_a_particle_that_no_wedge_sees_well_stays_on_the_books():
    truth = straight([0.0, 0.1, 1.5, 1.6, 3.1], [[0, 2, 4], [0, 1], [1, 1, 1, 0]])
    arrays = Wedges(4, 0.0, 3).cut(parse_event(json.dumps(truth).encode(), "", "event_0.json"))
    assert len(arrays["track/parent_particle"]) == 0
    assert arrays["particle/parent_particle"].tolist() == [0]  # the others have two hits, however often listed
    assert arrays["particle_hit/parent_hit"].tolist() == [0, 2, 4]


def test_event_without_hits_or_particles(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", {"event_5.json": json.dumps(straight([], []))})
    source, arrays = read(path, wedges=3)
    ragged.check(arrays, source.schema)
    assert arrays["event/id"].tolist() == [5000, 5001, 5002]
    assert len(arrays["hit/raw"]) == len(arrays["track/parameters"]) == 0


def test_folder_list_and_first_events(tmp_path):
    made = events(4)
    names = list(made)
    write_archive(tmp_path / "b.tar.gz", {n: made[n] for n in names[2:]} | {"README.txt": "not an event"})
    write_archive(tmp_path / "a.tar.gz", {n: made[n] for n in names[:2]})
    _, whole = read(tmp_path, wedges=1)
    assert whole["event/group"].tolist() == [0, 1, 2, 3]
    _, first = read(tmp_path, wedges=1, max_events=1)
    assert first["event/group"].tolist() == [0, 2]
    source = Velo(Velo.Config(path=[str(tmp_path / "b.tar.gz"), str(tmp_path / "a.tar.gz")]))
    assert [Path(unit.name).name for unit in source.units()] == ["b.tar.gz", "a.tar.gz"]


def test_collisions_are_not_cut_between_batches(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", events(5))
    source = Velo(Velo.Config(path=str(path), wedges=100))
    sizes = [len(batch["event/id"]) for batch in source.read(source.units()[0])]
    assert sizes == [300, 200]


def test_unit_digest_follows_bytes_and_settings(archive):
    digest = lambda **settings: Velo(Velo.Config(path=str(archive), **settings)).units()[0].digest  # noqa: E731
    before = digest()
    assert before == digest()
    assert len({before, digest(wedges=8), digest(overlap=0.2), digest(min_hits=4), digest(max_events=1)}) == 5
    write_archive(archive, events(seed=1))
    assert digest() != before


def test_a_replaced_archive_keeps_the_parts_of_collisions_that_are_as_before(tmp_path, monkeypatch):
    monkeypatch.setattr(Velo, "n_events", 72)  # parts of 16 wedges
    made = events(5)
    last = list(made)[-1]
    path = tmp_path / "a.tar.gz"

    def built(members, **settings):
        write_archive(path, members)
        result = build({"name": "v", "source": {"kind": "velo", "path": str(path), "wedges": 16, **settings}}, tmp_path)
        return [result[n] for n in ("version", "units_read", "parts_written", "parts_found")]

    assert built({n: made[n] for n in made if n != last}) == [1, 1, 4, 0]
    assert built(made) == [2, 1, 1, 4]
    assert built(made | {last: next(iter(events(1, seed=7).values()))}) == [3, 1, 1, 4]
    assert built(dict(list(made.items())[1:])) == [4, 1, 1, 3]
    assert built(made) == [5, 0, 0, 0]
    assert built(made, min_hits=4) == [6, 1, 4, 1]  # one collision has the same tracks under this cut
    path.rename(tmp_path / "b.tar.gz")
    path = tmp_path / "b.tar.gz"
    assert built(made) == [7, 0, 0, 0]
