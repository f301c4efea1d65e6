"""The pT resolution and charge accuracy that a classical fit reaches on `muon_sim`.

`python -m benchmarks.muon_resolution --json` gives every muon its own hits (perfect assignment), finds a segment
per station, and fits the bent path through the known field by least squares: position, direction and q/p at the
first station, with the scattering angles of the stations, and of the calorimeter on a line from the vertex,
constrained to their expected widths. A regression head can be judged against the table it prints. It reads the
stored fields only, as a head does.

T = tracks, M = most tube hits of a track, S = stations of the system, P = parameters. mm unless said otherwise.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.data.muon_sim.field import C, field, follow, ripple, slope
from frz.data.muon_sim.fields import COLUMNS
from frz.data.muon_sim.geometry import BARREL_STATIONS, CENTRES, END_CAP_STATIONS, MDT, STATION_CODES
from frz.data.muon_sim.muons import CALORIMETER, CALORIMETER_DEPTH, ENERGY_LOSS, VERTEX_Z, scattering
from frz.data.muon_sim.source import MuonSim
from frz.data.muon_sim.stations import STATION_DEPTH, STEPS
from frz.store.schema import EventArrays

Floats = NDArray[np.float64]

PT_EDGES = (5.0, 10.0, 20.0, 40.0, 60.0, 100.0, 300.0)
ETA_EDGES = (0.0, 0.5, 1.05, 1.3, 1.7, 2.2, 2.7)
OUTLIER = 5.0
"""Hits farther than this many standard deviations from the path count this much at most."""


TRUST = ((0.5, 0.002), (0.5, 0.1), (5.0, 0.1))
"""Errors (mm, 1) that segments are given when the fit starts from them: some are mirror images."""
BLUR = (3.0, 0.7, 0.15, 0.0)
"""Added to the error of the drift radii in the course of the fit, mm."""


@dataclass(frozen=True)
class Tracks:
    """Tube hits of T tracks of one system, in the frame of their sector (n and u as in the simulator)."""

    end_cap: bool
    used: NDArray[np.bool_]
    """(T, M) False where a track has no hit any more."""
    station: NDArray[np.int64]
    """(T, M)"""
    n: Floats
    u: Floats
    """(T, M) Of the wire; in the barrel u is z with its sign."""
    radius: Floats
    sigma: Floats
    """(T, M) Drift radius and its error."""
    side: Floats
    """(T,) Sign of z."""
    phi: Floats
    """(T,) Azimuth, from the strips that measure it, else the middle of the sector."""
    tilt: Floats
    """(T,) phi less the middle of the sector."""
    truth: Floats
    """(T, 4) pt, eta, phi, q."""

    @property
    def names(self) -> tuple[str, ...]:
        """Stations along the path."""
        return END_CAP_STATIONS if self.end_cap else BARREL_STATIONS


@dataclass(frozen=True)
class Segments:
    """Straight line per station, all (T, S)."""

    n: Floats
    u: Floats
    slope: Floats
    found: NDArray[np.bool_]


def collect(arrays: EventArrays, *, end_cap: bool) -> Tracks:
    """Tracks with at least 3 tube hits in each of at least 2 stations of a system."""
    names = END_CAP_STATIONS if end_cap else BARREL_STATIONS
    station_of = np.full(24, -1)
    for s, name in enumerate(names):
        station_of[list(STATION_CODES[name])] = s
    n_tracks = len(arrays["track/parameters"])
    event = np.repeat(np.arange(len(arrays["event/id"])), np.diff(arrays["track/offsets"]))
    track = np.repeat(np.arange(n_tracks), np.diff(arrays["member/offsets"]))
    raw = arrays["hit/raw"][arrays["member/hit"] + arrays["hit/offsets"][event[track]]].astype(np.float64)
    get = {name: raw[:, i] for i, name in enumerate(COLUMNS)}
    x, y, z = ((get[f"globEdgeHigh{a}"] + get[f"globEdgeLow{a}"]) / 2 for a in "XYZ")
    station = station_of[get["stationIndex"].astype(np.int64)]
    tube = (get["technology"] == MDT) & (station >= 0)

    per_station = np.zeros((n_tracks, len(names)), dtype=np.int64)
    np.add.at(per_station, (track[tube], station[tube]), 1)
    kept = np.flatnonzero((per_station >= 3).sum(1) >= 2)
    row_of = np.full(n_tracks, -1)
    row_of[kept] = np.arange(len(kept))

    phi = np.arctan2(y, x)
    middle = np.zeros(n_tracks)
    middle[track[tube]] = phi[tube]
    fine = (get["technology"] != MDT) & (get["covXX"] < 2000.0)  # strips that measure phi to some cm
    from_middle = (phi - middle[track] + np.pi) % (2 * np.pi) - np.pi
    number = np.maximum(np.bincount(track[fine], minlength=n_tracks), 1)
    tilt = np.bincount(track[fine], weights=from_middle[fine], minlength=n_tracks) / number

    tube &= row_of[track] >= 0
    row = row_of[track[tube]]
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(kept)))])
    nth = np.arange(len(row)) - starts[row]
    r = np.hypot(x, y)
    values = (station, np.abs(z) if end_cap else r, r if end_cap else z, get["driftR"], np.sqrt(get["covYY"]))
    used = np.zeros((len(kept), int(nth.max()) + 1), dtype=np.bool_)
    used[row, nth] = True
    dense = np.ones((len(values), *used.shape))
    dense[:, row, nth] = np.stack(values)[:, tube]
    side = np.where(np.bincount(row, weights=z[tube], minlength=len(kept)) < 0, -1.0, 1.0)
    truth = arrays["track/parameters"][kept].astype(np.float64)
    station_, n, u, radius, sigma = dense
    return Tracks(
        end_cap, used, station_.astype(np.int64), n, u, radius, sigma, side, (middle + tilt)[kept], tilt[kept], truth
    )


def find_segments(tracks: Tracks) -> Segments:
    """Of the four common tangents of the first and the last drift circle, the one that the others fit best."""
    shape = (len(tracks.n), len(tracks.names))
    rows = np.arange(shape[0])
    result = Segments(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.bool_))
    for s, name in enumerate(tracks.names):
        weight = (tracks.used & (tracks.station == s)).astype(np.float64)
        total = weight.sum(1)
        result.found[:, s] = total >= 3
        middle = np.where(total > 0, (tracks.n * weight).sum(1) / np.maximum(total, 1), CENTRES[name][0])
        n = tracks.n - middle[:, None]
        ends = np.zeros_like(weight)
        ends[rows, np.where(weight > 0, n, np.inf).argmin(1)] = 1.0
        last = np.where(weight > 0, n, -np.inf).argmax(1)
        ends[rows, last] = 1.0
        best = np.full(shape[0], np.inf)
        for signs in ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)):
            sign = np.full_like(n, signs[0])
            sign[rows, last] = signs[1]
            line = _line(n, tracks.u, sign * tracks.radius, ends)
            for _ in range(3):
                distance = _distance(n, tracks.u, *line)
                near = weight * (np.abs(np.abs(distance) - tracks.radius) < 3.0)
                near = np.where((near.sum(1) >= 3)[:, None], near, weight)
                line = _line(n, tracks.u, np.sign(distance) * tracks.radius, near)
            misses = np.abs(np.abs(_distance(n, tracks.u, *line)) - tracks.radius)
            cost = (weight * np.minimum(misses, 1.0)).sum(1)
            better = cost < best
            best[better] = cost[better]
            result.slope[better, s], result.u[better, s] = line[0][better], line[1][better]
        result.n[:, s] = middle
    return result


def _distance(n: Floats, u: Floats, tangent: Floats, at: Floats) -> Floats:
    return (at[:, None] + tangent[:, None] * n - u) / np.sqrt(1 + tangent**2)[:, None]


def _line(n: Floats, u: Floats, signed: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Slope and u at n = 0 of the line whose signed distances to the wires (n, u) are `signed`."""
    tangent = np.zeros(len(n))
    total = np.maximum(weight.sum(1), 1e-9)
    away = n - ((weight * n).sum(1) / total)[:, None]
    spread = np.maximum((weight * away**2).sum(1), 1e-9)
    at = tangent
    for _ in range(4):
        target = u + signed * np.sqrt(1 + tangent**2)[:, None]
        tangent = np.clip((weight * away * target).sum(1) / spread, -4.0, 4.0)
        at = (weight * (target - tangent[:, None] * n)).sum(1) / total
    return tangent, at


def fit(tracks: Tracks) -> tuple[Floats, Floats]:
    """q/p behind the calorimeter (1/GeV) and cot(theta) of the muons at the vertex, (T,) each."""
    found = find_segments(tracks)
    cos = np.cos(tracks.tilt)
    bend = C * ripple(tracks.phi, end_cap=tracks.end_cap) * (-tracks.side if tracks.end_cap else 1.0)
    n = found.n / 1000 if tracks.end_cap else found.n / cos[:, None] / 1000
    to_path = 1 / cos if tracks.end_cap else np.ones_like(cos)  # u along the flight over u in the frame
    to_slope = to_path if tracks.end_cap else cos

    at = CALORIMETER[1] / 1000 if tracks.end_cap else CALORIMETER[0] / 1000

    def states(p: Floats) -> tuple[Floats, Floats, Floats]:
        """u (mm), slope and curvature (1/mm) along the flight at the stations, (T, S), of parameters (T, P)."""
        u, w = p[:, 0], p[:, 1] / np.sqrt(1 + p[:, 1] ** 2)
        strength = bend * p[:, 2]
        out = []
        for s in range(len(tracks.names)):
            if s:
                w = np.sin(np.arcsin(np.clip(w, -0.99, 0.99)) + p[:, 2 + s])
                u, w = follow(
                    n[:, s - 1], u, w, strength, n[:, s], STEPS[tracks.end_cap][s - 1], end_cap=tracks.end_cap
                )
            tangent = slope(w)
            here = field(u, n[:, s]) if tracks.end_cap else field(n[:, s], np.abs(u))
            out.append((u * 1000, tangent, strength * here * (1 + tangent**2) ** 1.5 / 1000))
        u_, tangent_, curvature_ = (np.stack(parts, axis=1) for parts in zip(*out, strict=True))
        return u_, tangent_, curvature_

    def constraints(p: Floats) -> Floats:
        """Scattering angles, and that of the calorimeter on a line from the vertex, in units of their widths."""
        momentum = 1 / np.clip(np.abs(p[:, 2]), 1e-3, 1.0)
        width = [scattering(momentum, np.full(len(p), depth)) for depth in STATION_DEPTH[: p.shape[1] - 3]]
        reached = p[:, 0] + p[:, 1] * (at - n[:, 0])  # no field between the calorimeter and the first station
        angle = np.arctan2(reached, at)
        slant = 1 / np.cos(angle)
        spread = VERTEX_Z / 1000 * np.sin(angle if tracks.end_cap else np.pi / 2 - angle) / (at * slant)
        before = momentum + np.minimum(ENERGY_LOSS[0] * slant, ENERGY_LOSS[1])
        depth = np.minimum(CALORIMETER_DEPTH[0] * slant, CALORIMETER_DEPTH[1])
        total = np.hypot(scattering(np.sqrt(momentum * before), depth), spread)
        return np.column_stack([p[:, 3:] / np.stack(width, axis=1), (np.arctan(p[:, 1]) - angle) / total])

    def of_segments(p: Floats, sigma_u: float, sigma_slope: float) -> Floats:
        u, tangent, _ = states(p)
        d_u = (u / to_path[:, None] - found.u) * found.found
        d_slope = (tangent / to_slope[:, None] - found.slope) * found.found
        return np.concatenate([d_u / sigma_u, d_slope / sigma_slope, constraints(p)], axis=1)

    rows = np.arange(len(cos))[:, None]
    away = tracks.n - found.n[rows, tracks.station]
    away = away if tracks.end_cap else away / cos[:, None]

    def of_hits(p: Floats, blur: float) -> Floats:
        u, tangent, curvature = (values[rows, tracks.station] for values in states(p))
        u = (u + away * (tangent + 0.5 * curvature * away)) / to_path[:, None]
        tangent = (tangent + curvature * away) / to_slope[:, None]
        distance = (u - tracks.u) / np.sqrt(1 + tangent**2)
        pull = (distance - np.sign(distance) * tracks.radius) / np.hypot(tracks.sigma, blur)
        return np.concatenate([OUTLIER * np.tanh(pull / OUTLIER) * tracks.used, constraints(p)], axis=1)

    first = found.found.argmax(1)
    each = np.arange(len(first))
    line = np.zeros((len(first), 2 + len(tracks.names)))
    line[:, 1] = found.slope[each, first] * to_slope
    line[:, 0] = found.u[each, first] * to_path / 1000 - line[:, 1] * (n[each, first] - n[:, 0])
    best, lowest = line, np.full(len(first), np.inf)
    for sigma_u, sigma_slope in TRUST:
        p = _descend(partial(of_segments, sigma_u=sigma_u, sigma_slope=sigma_slope), line, 8)
        for blur in BLUR:
            p = _descend(partial(of_hits, blur=blur), p, 3)
        cost = (of_hits(p, blur=0.0) ** 2).sum(1)
        best = np.where((cost < lowest)[:, None], p, best)
        lowest = np.minimum(cost, lowest)
    reached = best[:, 0] + best[:, 1] * (at - n[:, 0])
    return best[:, 2], tracks.side * at / np.maximum(reached, 0.05) if tracks.end_cap else reached / at


def _descend(residuals: Callable[[Floats], Floats], p: Floats, steps: int) -> Floats:
    """Gauss-Newton steps for every track, derivatives by finite differences."""
    shifts = 1e-6 * np.eye(p.shape[1])
    for _ in range(steps):
        now = residuals(p)
        jacobian = np.stack([(residuals(p + shift) - now) / 1e-6 for shift in shifts], axis=2)
        normal = np.einsum("tri,trj->tij", jacobian, jacobian)
        normal += np.eye(p.shape[1]) * 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None]
        step = np.linalg.solve(normal, np.einsum("tri,tr->ti", jacobian, now)[:, :, None])[:, :, 0]
        p = p - np.clip(step, -0.3, 0.3)
        p[:, 2] = np.clip(p[:, 2], -1.2, 1.2)
    return p


def at_vertex(q_over_p: Floats, cot: Floats) -> tuple[Floats, Floats]:
    """pT (GeV) and eta at the vertex, the mean energy loss added."""
    slant = np.sqrt(1 + cot**2)
    path = np.where(np.abs(cot) < 1.25, slant, slant / np.maximum(np.abs(cot), 1.0))
    momentum = 1 / np.maximum(np.abs(q_over_p), 1e-4) + np.minimum(ENERGY_LOSS[0] * path, ENERGY_LOSS[1])
    return momentum / slant, np.arcsinh(cot)


def summary(pt: Floats, charge: Floats, truth: Floats) -> dict[str, float]:
    """Half the central 68 % of pT(fit) / pT - 1, its median, the fraction beyond 0.2, and that of right charges."""
    miss = pt / truth[:, 0] - 1
    low, median, high = np.percentile(miss, [15.87, 50.0, 84.13])
    return {
        "tracks": len(pt),
        "pt_resolution": round(float(high - low) / 2, 4),
        "pt_bias": round(float(median), 4),
        "beyond_20_percent": round(float(np.mean(np.abs(miss) > 0.2)), 4),
        "charge_accuracy": round(float(np.mean(charge == truth[:, 3])), 5),
    }


def run(n_events: int, seed: int) -> dict[str, Any]:
    """Simulate, fit, and tabulate by pT and |eta|."""
    source = MuonSim(MuonSim.Config(n_events=n_events, seed=seed))
    results: list[tuple[Floats, ...]] = []
    n_tracks = 0
    begin = time.perf_counter()
    for unit in source.units():
        for batch in source.read(unit):
            n_tracks += len(batch["track/parameters"])
            for end_cap in (False, True):
                tracks = collect(batch, end_cap=end_cap)
                q_over_p, cot = fit(tracks)
                pt, eta = at_vertex(q_over_p, cot)
                results.append((pt, eta, np.sign(q_over_p), *tracks.truth.T))
    pt, eta, charge, *truth_columns = (np.concatenate(parts) for parts in zip(*results, strict=True))
    truth = np.stack(truth_columns, axis=1)
    width = np.subtract(*np.percentile(eta - truth[:, 1], [84.13, 15.87])) / 2
    table = {"all": summary(pt, charge, truth) | {"eta_resolution": round(float(width), 5)}}
    for name, values, edges in (("pt", truth[:, 0], PT_EDGES), ("eta", np.abs(truth[:, 1]), ETA_EDGES)):
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            mine = (values >= low) & (values < high)
            table[f"{name} {low:g}-{high:g}"] = summary(pt[mine], charge[mine], truth[mine])
    return {
        "events": n_events, "seed": seed, "tracks": n_tracks, "fitted": round(len(pt) / n_tracks, 4),
        "seconds": round(time.perf_counter() - begin, 1), "table": table,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="classical muon fit with perfect assignment")
    parser.add_argument("--events", type=int, default=16384)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    result = run(options.events, options.seed)
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['tracks']} tracks of {result['events']} events, {result['fitted']:.1%} fitted")
    for name, row in result["table"].items():
        print(f"{name:12s} " + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
