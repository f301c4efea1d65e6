"""Paths and measurements against what the truth says, with everything random but one thing switched off."""

import numpy as np
import pytest
from scipy import stats

from frz.data.draws import keys
from frz.data.muon_sim import muons as muons_module
from frz.data.muon_sim.events import simulate
from frz.data.muon_sim.field import BARREL_STRENGTH, BARREL_T, C, ripple
from frz.data.muon_sim.fields import COLUMNS
from frz.data.muon_sim.geometry import LAYERS, MDT, RPC, TGC
from frz.data.muon_sim.hits import drift_time
from frz.data.muon_sim.muons import CALORIMETER, SOLENOID_B, SOLENOID_R, draw_muons, leave_calorimeter, scattering
from frz.data.muon_sim.noise import counts
from frz.data.muon_sim.source import MuonSim

QUIET = {"near_noise": 0.0, "noise_segments": 0.0, "cavern_hits": 0.0, "tracks_per_event": (1.0,)}


def columns(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: arrays["hit/raw"][:, i].astype(np.float64) for i, name in enumerate(COLUMNS)}


def tube_residuals(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Signed distance of each tube's wire from the straight line of the truth, one muon per event, vertex at 0.

    Along u: z in the barrel, the distance from the beam in an end-cap.
    """
    hit = columns(arrays)
    event = np.repeat(np.arange(len(arrays["event/id"])), np.diff(arrays["hit/offsets"]))
    tube = hit["technology"] == MDT
    hit, event = {name: values[tube] for name, values in hit.items()}, event[tube]
    pt, eta, phi, q = arrays["track/parameters"].astype(np.float64)[event].T
    alpha = q * np.arcsin(C * SOLENOID_B * SOLENOID_R / 1000 / (2 * pt))
    x, y, z = ((hit[f"globEdgeHigh{a}"] + hit[f"globEdgeLow{a}"]) / 2 for a in "XYZ")
    tilt = phi - 2 * alpha - np.arctan2(y, x)
    offset, r, cot = SOLENOID_R * np.sin(alpha), np.hypot(x, y), np.sinh(eta)
    end_cap = hit["stationIndex"] >= 10
    t = np.where(end_cap, np.abs(z / cot), (r + offset * np.sin(tilt)) / np.cos(tilt))
    path = np.where(end_cap, t * np.cos(tilt) - offset * np.sin(tilt), t * cot)
    slope = np.where(end_cap, np.cos(tilt) / np.abs(cot), cot / np.cos(tilt))
    away = path - np.where(end_cap, r, z)
    return {
        "event": event, "end_cap": end_cap, "away": away, "distance": away / np.sqrt(1 + slope**2), "q": q,
        "side": np.sign(z), "radius": hit["driftR"], "station": hit["stationIndex"], "p": pt * np.cosh(eta),
        "t": t, "cot": cot, "phi": phi - 2 * alpha,
    }  # fmt: skip


def shoot(monkeypatch: pytest.MonkeyPatch, n: int = 150, **settings: object) -> dict[str, np.ndarray]:
    monkeypatch.setattr(muons_module, "VERTEX_Z", 0.0)
    config = MuonSim.Config(calorimeter=False, **{**QUIET, **settings})
    return tube_residuals(simulate(config, np.arange(n)))


def test_without_field_tubes_lie_on_a_straight_line_to_their_resolution(monkeypatch):
    found = shoot(monkeypatch, field_scale=0.0)
    miss = np.abs(found["distance"]) - found["radius"]
    inner = (np.abs(found["distance"]) > 0.4) & (np.abs(found["distance"]) < 14.2)  # free of |.| and of the wall
    assert inner.sum() > 2000
    assert np.abs(miss[inner]).max() < 0.5
    assert miss[inner].std() == pytest.approx(0.08, abs=0.004)
    assert found["end_cap"].any()
    assert not found["end_cap"].all()


def test_the_resolution_is_what_was_asked_for(monkeypatch):
    found = shoot(monkeypatch, field_scale=0.0, tube_resolution=0.3)
    inner = (np.abs(found["distance"]) > 1.5) & (np.abs(found["distance"]) < 13)
    assert (np.abs(found["distance"]) - found["radius"])[inner].std() == pytest.approx(0.3, abs=0.015)


def test_bending_follows_charge_and_side(monkeypatch):
    found = shoot(monkeypatch)
    outer = np.isin(found["station"], (4, 5, 16, 17))
    barrel = outer & ~found["end_cap"]
    end_cap = outer & found["end_cap"]
    # positive charge bends to +z in the barrel; in an end-cap to the beam at z > 0, from it at z < 0
    assert ((found["away"] * found["q"])[barrel] < 0).all()
    assert ((found["away"] * found["q"] * found["side"])[end_cap] > 0).all()


def test_bending_in_the_barrel_is_the_double_field_integral(monkeypatch):
    found = shoot(monkeypatch, n=1500, pt_min=20.0)
    chosen = (found["station"] == 4) & (np.abs(found["cot"]) < 0.5)
    t, slant = found["t"][chosen] / 1000, np.sqrt(1 + found["cot"][chosen] ** 2)
    integral = t * np.log(t / BARREL_T[0]) - (t - BARREL_T[0])
    strength = C * BARREL_STRENGTH * ripple(found["phi"][chosen], end_cap=False) / found["p"][chosen]
    expected = -found["q"][chosen] * strength * integral * slant**3 * 1000
    assert chosen.sum() > 500
    # a wire is up to 14.6 mm off the path, on either side: that averages out
    ratio = (found["away"][chosen] * expected).sum() / (expected**2).sum()
    assert ratio == pytest.approx(1, abs=0.03)


def test_a_stronger_field_bends_more(monkeypatch):
    one, two = (shoot(monkeypatch, pt_min=30.0, field_scale=scale) for scale in (0.5, 1.0))
    ratio = np.median(np.abs(two["away"])[two["station"] == 4]) / np.median(np.abs(one["away"])[one["station"] == 4])
    assert ratio == pytest.approx(2, abs=0.15)


def test_calorimeter_takes_energy_and_scatters_as_highland_says(monkeypatch):
    monkeypatch.setattr(muons_module, "VERTEX_Z", 0.0)
    config = MuonSim.Config(pt_min=20.0, pt_scale=1e-6, eta_max=0.2)
    key = keys(0, np.arange(20000))
    muons = draw_muons(config, np.arange(20000), key, key)
    flight = leave_calorimeter(config, muons)
    before = muons.pt * np.cosh(muons.eta)
    assert (before - flight.momentum).mean() == pytest.approx(3.1, abs=0.05)
    assert (before - flight.momentum).std() == pytest.approx(0.35, abs=0.01)
    width = scattering(np.sqrt(before * flight.momentum), 100.0)[0]
    alpha = muons.charge * np.arcsin(C * SOLENOID_B * SOLENOID_R / 1000 / (2 * muons.pt))
    assert (flight.phi - (muons.phi - 2 * alpha)).std() == pytest.approx(width, rel=0.03)
    pointing = (flight.z + CALORIMETER[0] * flight.cot) / CALORIMETER[0]  # the line still starts at the vertex
    np.testing.assert_allclose(pointing, np.sinh(muons.eta), atol=1e-9)
    assert (flight.cot - pointing).std() == pytest.approx(width, rel=0.05)


def test_close_muons_are_close_and_others_are_not():
    config = MuonSim.Config(close_pairs=0.5)
    first, second = keys(0, 1, np.arange(4000)), keys(0, 2, np.arange(4000))
    one = draw_muons(config, np.arange(4000), first, first)
    two = draw_muons(config, np.arange(4000), first, second)
    near = np.abs(two.eta - one.eta) < 0.12
    assert near.mean() == pytest.approx(0.5 + 0.5 * 0.05, abs=0.04)


@pytest.fixture(scope="module")
def fields() -> dict[str, np.ndarray]:
    return columns(simulate(MuonSim.Config(), np.arange(400)))


def test_edges_and_covariance_describe_the_channel(fields):
    delta = np.stack([fields[f"globEdgeHigh{a}"] - fields[f"globEdgeLow{a}"] for a in "XYZ"], axis=1)
    middle = np.stack([fields[f"globEdgeHigh{a}"] + fields[f"globEdgeLow{a}"] for a in "XYZ"], axis=1) / 2
    length = np.linalg.norm(delta, axis=1)
    technology = fields["technology"]
    np.testing.assert_array_equal(fields["covXY"], fields["covYX"])
    along_phi = np.abs((delta[:, :2] * middle[:, :2]).sum(1)) / (length * np.linalg.norm(middle[:, :2], axis=1))
    tube = technology == MDT
    assert along_phi[tube].max() < 1e-3
    np.testing.assert_allclose(fields["covXX"][tube], length[tube] ** 2 / 12, rtol=1e-4)
    np.testing.assert_allclose(fields["covYY"][tube], 0.08**2, rtol=1e-5)
    rpc = technology == RPC
    crossed = rpc & (length < 40)
    assert 0.9 < crossed.sum() / rpc.sum() < 0.97
    np.testing.assert_allclose(length[crossed], 30, rtol=1e-4)
    np.testing.assert_allclose(fields["covXX"][crossed], 75, rtol=1e-5)
    strip = (technology == TGC) & (fields["covXX"] < fields["covYY"])
    wire = (technology == TGC) & ~strip
    assert along_phi[wire].max() < 1e-3
    assert along_phi[strip].min() > 0.999
    np.testing.assert_allclose(fields["covYY"][wire], 75, rtol=1e-5)
    # trace and determinant do not depend on the turn of the strip
    trace = fields["covXX"] + fields["covYY"]
    determinant = fields["covXX"] * fields["covYY"] - fields["covXY"] ** 2
    large = length[strip] ** 2 / 12
    np.testing.assert_allclose(determinant[strip], large * (trace[strip] - large), rtol=0.02)


def test_drift_and_time_belong_together(fields):
    tube = fields["technology"] == MDT
    assert fields["driftR"][tube].max() <= np.float32(14.6)
    assert fields["driftR"][tube].min() >= 0
    np.testing.assert_allclose(fields["time"][tube], drift_time(fields["driftR"][tube]), rtol=1e-4, atol=1e-3)
    assert (fields["driftR"][~tube] == 0).all()
    assert np.abs(fields["time"][~tube]).max() < 30


def test_identifiers_are_small_whole_numbers(fields):
    limits = {
        "channel": (1, 72), "layer": (1, 8), "stationPhi": (1, 48), "stationEta": (-7, 7), "stationIndex": (0, 23),
        "readOutSide": (-1, 1),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        np.testing.assert_array_equal(fields[name], np.rint(fields[name]))
        assert low <= fields[name].min() <= fields[name].max() <= high
    assert (np.sign(fields["globEdgeHighZ"]) == np.sign(fields["stationEta"])).all()


def test_layer_table():
    layers = {name: int((LAYERS.station == name).sum()) for name in dict.fromkeys(LAYERS.station.tolist())}
    assert layers == {
        "BI": 8, "BM": 10, "BO": 8, "EI": 8, "EE": 6, "EM": 6, "EO": 6, "TI": 4, "T1": 5, "T2": 4, "T3": 4
    }  # fmt: skip
    used = LAYERS.n_rows * LAYERS.pitch + LAYERS.shift
    assert (used < LAYERS.chamber_length - 39).all()


def test_counts_are_quantiles_of_the_distributions():
    u = np.random.default_rng(0).random(2000)
    np.testing.assert_array_equal(counts(u, 7.5), stats.poisson.ppf(u, 7.5))
    np.testing.assert_array_equal(counts(u, 7.5, 3.0), stats.nbinom.ppf(u, 3.0, 3.0 / 10.5))
    assert counts(u, 5600.0, 3.0).mean() == pytest.approx(5600, rel=0.05)
    assert (counts(u, 0.0) == 0).all()
