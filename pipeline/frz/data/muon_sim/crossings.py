"""From paths to hits: where a muon crosses each layer, and which channels see it.

T = number of paths, K = layers looked at. Lengths in mm. A tube is hit where the path comes nearer to the wire
than the inner radius of the tube, so a slanted path hits two tubes of a layer.
"""

from typing import Final

import numpy as np

from frz.data import draws
from frz.data.draws import Floats
from frz.data.muon_sim.geometry import (
    BARREL_STATIONS,
    END_CAP_STATIONS,
    LAYERS,
    MDT,
    RPC,
    STRIP_PITCH,
    TGC,
    TGC_STRIPS,
    TUBE_PITCH,
    TUBE_RADIUS,
)
from frz.data.muon_sim.hits import ALIVE, Hits, Ints, channel_of, drift_time, half_length
from frz.data.muon_sim.muons import Draw
from frz.data.muon_sim.settings import MuonSimConfig
from frz.data.muon_sim.stations import Paths

STRIP_SMEAR: Final = 5.0
"""Standard deviation of the position along u or v that strips and wire groups see, before they quantise it."""
CROSS_EFFICIENCY: Final = 0.94
"""Of the RPC strips that measure phi, given a hit on the others."""
ARRIVAL: Final = {RPC: 1.5, TGC: 4.0}
"""Resolution of the time of strips, ns."""


class HitDraw:
    """Index of each draw of a hit's key."""

    EFFICIENCY, SMEAR, TIME, CROSS = 0, 1, 2, 3
    NEAR = 8
    """First of those that make a noise hit beside it."""


def _layers_of(technology: int, stations: tuple[str, ...]) -> tuple[Ints, Ints]:
    """Layers of a technology, and for each the station (position in `stations`) whose parabola leads there."""
    leads = {"TI": "EI", "T1": "EM", "T2": "EM", "T3": "EM"}
    pairs = [
        (layer, stations.index(leads.get(name, name)))
        for layer, name in enumerate(LAYERS.station.tolist())
        if LAYERS.technology[layer] == technology and leads.get(name, name) in stations
    ]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


_BARREL_TUBES: Final = _layers_of(MDT, BARREL_STATIONS)
_BARREL_STRIPS: Final = _layers_of(RPC, BARREL_STATIONS)
_END_CAP_TUBES: Final = _layers_of(MDT, END_CAP_STATIONS)
_END_CAP_STRIPS: Final = _layers_of(TGC, END_CAP_STATIONS)


def muon_hits(config: MuonSimConfig, paths: Paths, event: Ints) -> list[Hits]:
    """Every hit of the muons on the paths.

    Parameters
    ----------
    config : MuonSimConfig
        Resolution and efficiency.
    paths : Paths
        (T,)
    event : ndarray of int64, (T,)
        Position of each muon's event in the batch.

    Returns
    -------
    list of Hits
    """
    tubes = _END_CAP_TUBES if paths.end_cap else _BARREL_TUBES
    u, v, tangent = positions(paths, *tubes)
    found = tube_hits(config, paths, tubes[0][None, :], u, v, tangent, event, int(Draw.HITS), config.efficiency)
    strips = _end_cap_strips if paths.end_cap else _barrel_strips
    return [found, strips(config, paths, event)]


def positions(paths: Paths, layers: Ints, station: Ints) -> tuple[Floats, Floats, Floats]:
    """Where the paths cross layers: u, v and du/dn in the frame of their sector, (T, K) each.

    In the barrel u is z with its sign.
    """
    sin, cos = np.sin(paths.tilt)[:, None], np.cos(paths.tilt)[:, None]
    offset = paths.offset[:, None]
    plane = LAYERS.n[layers].T[paths.sector & 1]
    n, u, tangent, curvature = (values[:, station] for values in (paths.n, paths.u, paths.slope, paths.curvature))
    if paths.end_cap:
        step = plane - n
        t = u + step * (tangent + 0.5 * curvature * step)
        return t * cos - offset * sin, t * sin + offset * cos, (tangent + curvature * step) * cos
    t = (plane + offset * sin) / cos
    step = t - n
    return u + step * (tangent + 0.5 * curvature * step), t * sin + offset * cos, (tangent + curvature * step) / cos


def tube_hits(
    config: MuonSimConfig, paths: Paths, layers: Ints, u: Floats, v: Floats, tangent: Floats, event: Ints,
    stream: int, efficiency: float,
) -> Hits:  # fmt: skip
    """Tubes that paths hit.

    Parameters
    ----------
    config : MuonSimConfig
        Resolution.
    paths : Paths
        (T,); of them key, muon, side and sector are used.
    layers : ndarray of int64, broadcasts to (T, K)
        Layers crossed; -1 for none.
    u, v, tangent : ndarray of float64, (T, K)
        Where and how steeply.
    event : ndarray of int64, (T,)
        Position of the event in the batch.
    stream : int
        First of the sub-keys for the hits.
    efficiency : float
        Probability that a tube sees the path.
    """
    n_paths, n_layers = u.shape
    if paths.end_cap:
        along, slant, side = u, tangent, paths.side[:, None]
    else:
        along, slant, side = np.abs(u), tangent, (u < 0).astype(np.int64)
    side = np.broadcast_to(side, u.shape)
    chamber, nearest, fraction, inside = channel_of(layers, along)
    inside &= (layers >= 0) & (np.abs(v) < half_length(layers, paths.sector[:, None] & 1, along))
    scale = TUBE_PITCH / np.sqrt(1 + slant * slant)
    first = (fraction - 0.5) * scale
    other = np.where(fraction < 0.5, -1, 1)
    second = first - other * scale
    room = (nearest + other >= 0) & (nearest + other < LAYERS.n_rows[layers])
    hit = np.stack([inside & (np.abs(first) < TUBE_RADIUS), inside & room & (np.abs(second) < TUBE_RADIUS)], axis=-1)
    path, k, which = np.nonzero(hit)
    key = draws.subkeys(paths.key[path], stream + 2 * k + which)
    seen = draws.uniform(key, HitDraw.EFFICIENCY) < efficiency
    layer = np.broadcast_to(layers, u.shape)[path, k]
    sector, side, chamber = paths.sector[path], side[path, k], chamber[path, k]
    seen &= ALIVE[layer, sector, side, chamber]
    channel = nearest[path, k] + which * other[path, k]
    distance = np.where(which == 0, first[path, k], second[path, k])
    radius = np.abs(distance + config.tube_resolution * draws.normal(key, HitDraw.SMEAR))
    np.minimum(radius, TUBE_RADIUS, out=radius)
    none = np.full(len(path), -1)
    hits = Hits(
        event[path], paths.muon[path], key, layer, side, sector, chamber, channel, none, radius, drift_time(radius)
    )
    return hits[seen]


def _barrel_strips(config: MuonSimConfig, paths: Paths, event: Ints) -> Hits:
    layers, station = _BARREL_STRIPS
    u, v, _ = positions(paths, layers, station)
    key = draws.subkeys(paths.key[:, None], int(Draw.HITS) + 256 + layers)
    d_u, d_v = draws.normals(key, HitDraw.SMEAR)
    side = (u < 0).astype(np.int64)
    layer = np.broadcast_to(layers, u.shape)
    sector = np.broadcast_to(paths.sector[:, None], u.shape)
    chamber, channel, _, inside = channel_of(layer, np.abs(u) + STRIP_SMEAR * d_u)
    half = half_length(layer, sector & 1, u)
    cross = np.floor((v + half + STRIP_SMEAR * d_v) / STRIP_PITCH).astype(np.int64)
    inside &= (np.abs(v) < half) & (cross >= 0) & (cross < np.floor(2 * half / STRIP_PITCH))
    inside &= draws.uniform(key, HitDraw.EFFICIENCY) < config.efficiency
    cross = np.where(draws.uniform(key, HitDraw.CROSS) < CROSS_EFFICIENCY, cross, -1)
    path, k = np.nonzero(inside)
    chosen = (path, k)
    time = ARRIVAL[RPC] * draws.normal(key[chosen], HitDraw.TIME)
    hits = Hits(
        event[path], paths.muon[path], key[chosen], layer[chosen], side[chosen], sector[chosen], chamber[chosen],
        channel[chosen], cross[chosen], np.zeros(len(path)), time,
    )  # fmt: skip
    return hits[ALIVE[hits.layer, hits.sector, hits.side, hits.chamber]]


def _end_cap_strips(config: MuonSimConfig, paths: Paths, event: Ints) -> Hits:
    layers, station = _END_CAP_STRIPS
    x, y, _ = positions(paths, layers, station)
    phi = paths.sector[:, None] * (np.pi / 8) + np.arctan2(y, x)
    r = np.sqrt(x * x + y * y)
    width = 2 * np.pi / LAYERS.n_phi[layers]
    turn = np.rint(phi / width)
    tilt = phi - turn * width
    sector = turn.astype(np.int64) % LAYERS.n_phi[layers]
    key = draws.subkeys(paths.key[:, None], int(Draw.HITS) + 256 + layers)
    d_u, d_v = draws.normals(key, HitDraw.SMEAR)
    layer = np.broadcast_to(layers, x.shape)
    chamber, row, _, inside = channel_of(layer, r * np.cos(tilt) + STRIP_SMEAR * d_u)
    strip = np.floor((tilt + STRIP_SMEAR * d_v / r) / width * TGC_STRIPS).astype(np.int64) + TGC_STRIPS // 2
    channel = np.where(LAYERS.strip[layers], np.clip(strip, 0, TGC_STRIPS - 1), row)
    inside &= draws.uniform(key, HitDraw.EFFICIENCY) < config.efficiency
    path, k = np.nonzero(inside)
    chosen = (path, k)
    time = ARRIVAL[TGC] * draws.normal(key[chosen], HitDraw.TIME)
    hits = Hits(
        event[path], paths.muon[path], key[chosen], layer[chosen], paths.side[path], sector[chosen], chamber[chosen],
        channel[chosen], np.full(len(path), -1), np.zeros(len(path)), time,
    )  # fmt: skip
    return hits[ALIVE[hits.layer, hits.sector, hits.side, hits.chamber]]
