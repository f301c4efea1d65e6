"""Hits as channels of the detector, before they become measurements; what all makers of hits share."""

from dataclasses import dataclass, fields
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from frz.data import draws
from frz.data.draws import Floats, Keys
from frz.data.muon_sim.geometry import HALF_ANGLE, LAYERS, MDT, N_LAYERS, RPC, TGC

Ints: TypeAlias = NDArray[np.int64]

MAX_DRIFT_TIME: Final = 700.0
"""ns, at the tube wall."""
DEAD: Final = {MDT: 0.04, RPC: 0.10, TGC: 0.03}
"""Fraction of the chambers (RPC: doublets) that stand in the way of supports or do not work."""


@dataclass
class Hits:
    """N hits of a batch, all (N,)."""

    event: Ints
    """Position of the event in the batch."""
    track: Ints
    """Position of the muon in the batch, -1 for noise."""
    key: Keys
    """For further draws about this hit."""
    layer: Ints
    """Row of the layer table."""
    side: Ints
    """0: z > 0, 1: z < 0."""
    sector: Ints
    chamber: Ints
    """From 0, outwards from the middle of the detector (barrel) or from the beam (end-cap)."""
    channel: Ints
    """From 0."""
    cross: Ints
    """RPC: the strip that measures phi, -1 if it was not seen; else -1."""
    drift: Floats
    """MDT: measured drift radius, mm; else 0."""
    time: Floats
    """ns. MDT: drift time; else: arrival relative to a particle of the speed of light from the vertex."""

    def __getitem__(self, chosen: NDArray[np.bool_] | Ints) -> "Hits":
        return Hits(*(getattr(self, field.name)[chosen] for field in fields(self)))


def joined(parts: list[Hits]) -> Hits:
    """One after the other."""
    return Hits(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Hits)))


def numbered(number: Ints) -> tuple[Ints, Ints]:
    """Owner and running number of each of `number[i]` members of every i."""
    owner = np.repeat(np.arange(len(number)), number)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)


def drift_time(radius: Floats) -> Floats:
    """Time that charges need from `radius` (mm) to the wire, ns: 700 ns (r / 14.6 mm)^1.6."""
    return MAX_DRIFT_TIME * (radius * (1 / 14.6)) ** 1.6


def channel_of(layer: Ints, u: Floats) -> tuple[Ints, Ints, Floats, NDArray[np.bool_]]:
    """Chamber and channel at position u of a layer; the arguments broadcast.

    Returns
    -------
    chamber, channel : ndarray of int64
        Meaningful where `inside`.
    fraction : ndarray of float64
        Position within the channel, in pitches from its lower border.
    inside : ndarray of bool
        False in a gap or beyond the last chamber.
    """
    length = LAYERS.chamber_length[layer]
    along = u - LAYERS.u_min[layer]
    chamber = np.floor(along / length)
    position = (along - chamber * length - LAYERS.shift[layer]) / LAYERS.pitch[layer]
    channel = np.floor(position)
    inside = (chamber >= 0) & (chamber < LAYERS.n_chambers[layer])
    inside &= (channel >= 0) & (channel < LAYERS.n_rows[layer])
    return chamber.astype(np.int64), channel.astype(np.int64), position - channel, inside


_TAN_HALF_ANGLE: Final = np.tan(HALF_ANGLE)


def half_length(layer: Ints, small: Ints, u: Floats) -> Floats:
    """Half the length along v of the chambers of 16 sectors at u; the arguments broadcast."""
    half: Floats = _TAN_HALF_ANGLE[small] * np.where(LAYERS.end_cap[layer], u, LAYERS.n[layer, small])
    return half


def _alive() -> NDArray[np.bool_]:
    """(layer, sector, side, chamber): which chambers work. The same in every simulation."""
    stations = {name: i for i, name in enumerate(dict.fromkeys(LAYERS.station))}
    alive = np.ones((N_LAYERS, 48, 2, 8), dtype=np.bool_)
    sector, side, chamber = np.ogrid[:48, :2, :8]
    for layer in range(N_LAYERS):
        technology = int(LAYERS.technology[layer])
        unit = (int(LAYERS.number[layer]) - 1) // 2 if technology == RPC else 0
        key = draws.keys(2024, stations[LAYERS.station[layer]], technology, unit, sector, side, chamber)
        alive[layer] = draws.uniform(key, 0) > DEAD[technology]
    return alive


ALIVE: Final = _alive()
