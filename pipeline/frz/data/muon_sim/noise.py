"""Hits that no muon made: beside muon hits, short segments of other particles, and the cavern background.

The first two stand where the muons are, which is what a hit filter leaves over; the third is everywhere.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data import draws
from frz.data.draws import Floats, Keys
from frz.data.muon_sim.crossings import HitDraw, tube_hits
from frz.data.muon_sim.geometry import (
    BARREL_STATIONS,
    CENTRES,
    END_CAP_STATIONS,
    LAYERS,
    MDT,
    N_LAYERS,
    RPC,
    STRIP_PITCH,
    TGC,
    TGC_STRIPS,
    TUBE_RADIUS,
)
from frz.data.muon_sim.hits import ALIVE, Hits, Ints, drift_time, half_length, numbered
from frz.data.muon_sim.muons import Draw
from frz.data.muon_sim.settings import MuonSimConfig
from frz.data.muon_sim.stations import Paths

REACH: Final = 6.0
"""Mean distance, in channels, of a hit beside a muon hit, less one."""
STRIP_CLUSTERS: Final = 1.6
"""How much more often strips and wire groups have such a hit than tubes: induced charge covers several."""
SEGMENT_SPREAD: Final = 600.0
"""Standard deviation of the distance along u of a segment from the muon, mm."""
SEGMENT_TILT: Final = 0.35
"""Standard deviation of the difference of their slopes."""
SEGMENT_EFFICIENCY: Final = 0.85
OUT_OF_TIME: Final = 25.0
"""Strips see background uniformly within this many ns of the muons."""
DISPERSION: Final = 3.0
"""Shape of the gamma distribution of the activity of an event: its relative spread is 0.58."""
CAVERN_SHARES: Final = {MDT: 0.45, RPC: 0.10, TGC: 0.45}
"""Of the technologies in the cavern background."""


def _station_layers(stations: tuple[str, ...]) -> Ints:
    """(S, 8) tube layers of each station, filled up with -1."""
    table = np.full((len(stations), 8), -1)
    for s, station in enumerate(stations):
        layers = np.flatnonzero((LAYERS.station == station) & (LAYERS.technology == MDT))
        table[s, : len(layers)] = layers
    return table


_TUBE_LAYERS: Final = {False: _station_layers(BARREL_STATIONS), True: _station_layers(END_CAP_STATIONS)}
_CENTRES: Final = {
    False: np.array([CENTRES[name] for name in BARREL_STATIONS]),
    True: np.array([CENTRES[name] for name in END_CAP_STATIONS]),
}


def counts(u: Floats, mean: float, shape: float = math.inf) -> Ints:
    """Numbers drawn from a Poisson distribution whose mean is gamma distributed (negative binomial).

    Parameters
    ----------
    u : ndarray of float64
        Uniform draws, one per number.
    mean : float
        Mean of the numbers.
    shape : float
        Of the gamma distribution; infinite: plain Poisson.

    Returns
    -------
    ndarray of int64
        The quantiles of `u`.
    """
    if mean == 0:
        return np.zeros(len(u), dtype=np.int64)
    sigma = math.sqrt(mean + mean * mean / shape)
    k = np.arange(int(mean + 12 * sigma + 20))
    if math.isinf(shape):
        ratios = mean / np.maximum(k, 1)
        log_first = -mean
    else:
        ratios = (k - 1 + shape) / np.maximum(k, 1) * (mean / (mean + shape))
        log_first = shape * math.log(shape / (mean + shape))
    ratios[0] = 1.0
    cumulative = np.cumsum(np.exp(log_first + np.cumsum(np.log(ratios))))
    return np.searchsorted(cumulative[:-1], u)


def beside(config: MuonSimConfig, hits: Hits) -> Hits:
    """Noise on channels beside the given hits, in the same layer and chamber."""
    rate = config.near_noise * np.where(LAYERS.technology[hits.layer] == MDT, 1.0, STRIP_CLUSTERS)
    hits = hits[draws.uniform(hits.key, HitDraw.NEAR) < rate]
    key = draws.subkeys(hits.key, HitDraw.NEAR + 1)
    distance = 1 + np.floor(-REACH * np.log(draws.uniform(key, 0)))
    channel = hits.channel + np.where(draws.uniform(key, 1) < 0.5, -distance, distance).astype(np.int64)
    keep = (channel >= 0) & (channel < _channels(hits.layer))
    hits, key, channel = hits[keep], key[keep], channel[keep]
    drift, time = _background(hits.layer, key)
    return Hits(
        hits.event, np.full(len(channel), -1), key, hits.layer, hits.side, hits.sector, hits.chamber, channel,
        hits.cross, drift, time,
    )  # fmt: skip


def segments(config: MuonSimConfig, paths: Paths, event: Ints) -> Hits:
    """Straight segments through one station each, in the muons' sectors or beside them."""
    number = counts(draws.uniform(paths.key, Draw.SEGMENTS), config.noise_segments, DISPERSION)
    which, nth = numbered(number)
    key = draws.subkeys(paths.key[which], Draw.SEGMENT + nth)
    n_stations = paths.n.shape[1]
    station = (draws.uniform(key, 0) * n_stations).astype(np.int64)
    place = draws.uniform(key, 1)
    sector = (paths.sector[which] + (place > 0.85).astype(np.int64) - (place < 0.15)) % 16
    d_u, d_slope = draws.normals(key, 2)
    tangent = paths.slope[which, station] + SEGMENT_TILT * d_slope
    layers = _TUBE_LAYERS[paths.end_cap][station]
    small = sector & 1
    away = LAYERS.n[layers, small[:, None]] - _CENTRES[paths.end_cap][station, small][:, None]
    u = (paths.u[which, station] + SEGMENT_SPREAD * d_u)[:, None] + tangent[:, None] * away
    lines = Paths(
        np.full(len(which), -1), key, paths.end_cap, paths.side[which], sector, *(paths.tilt[:0],) * 2,
        *(paths.n[:0],) * 4,
    )  # fmt: skip
    slope = np.broadcast_to(tangent[:, None], u.shape)
    return tube_hits(config, lines, layers, u, np.zeros_like(u), slope, event[which], 16, SEGMENT_EFFICIENCY)


def cavern(config: MuonSimConfig, event_key: Keys) -> Hits:
    """Single hits anywhere in the detector; more of them near the beam in the end-caps."""
    number = counts(draws.uniform(event_key, 0), config.mean_cavern, DISPERSION)
    event, nth = numbered(number)
    key = draws.subkeys(event_key[event], 1 + nth)
    layer = np.searchsorted(_LAYER_SHARES[:-1], draws.uniform(key, 0))
    place = draws.uniform(key, 1)
    sector = (draws.uniform(key, 2) * 2 * LAYERS.n_phi[layer]).astype(np.int64)
    side, sector = sector & 1, sector >> 1
    along = np.where(LAYERS.end_cap[layer], place**1.5, place) * LAYERS.n_chambers[layer]
    chamber = along.astype(np.int64)
    channel = ((along - chamber) * _channels(layer)).astype(np.int64)
    rpc = LAYERS.technology[layer] == RPC
    strips = np.floor(2 * half_length(layer, sector & 1, LAYERS.u_min[layer]) / STRIP_PITCH)
    cross = np.where(rpc, (draws.uniform(key, 3) * strips).astype(np.int64), -1)
    drift, time = _background(layer, draws.subkeys(key, 4))
    none = np.full(len(event), -1)
    hits = Hits(event, none, key, layer, side, sector, chamber, channel, cross, drift, time)
    return hits[ALIVE[layer, sector, side, chamber]]


def _background(layer: Ints, key: Keys) -> tuple[Floats, Floats]:
    """Drift radius and time of hits that came at any time."""
    tube = LAYERS.technology[layer] == MDT
    radius = np.where(tube, TUBE_RADIUS * draws.uniform(key, 2), 0.0)
    time = np.where(tube, drift_time(radius), OUT_OF_TIME * (2 * draws.uniform(key, 3) - 1))
    return radius, time


def _channels(layer: Ints) -> Ints:
    return np.where(LAYERS.strip[layer], TGC_STRIPS, LAYERS.n_rows[layer])


def _layer_shares() -> NDArray[np.float64]:
    """Cumulative probability of each layer in the cavern background."""
    shares = np.zeros(N_LAYERS)
    for technology, share in CAVERN_SHARES.items():
        of_it = LAYERS.technology == technology
        shares[of_it] = share / of_it.sum()
    return np.cumsum(shares)


_LAYER_SHARES: Final = _layer_shares()
