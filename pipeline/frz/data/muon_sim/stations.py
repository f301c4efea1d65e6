"""The way of muons through the stations: one parabola per station.

T = number of muons, S = stations of their system (3 in the barrel, 4 in an end-cap). Between stations a muon is
followed by Runge-Kutta steps; within the half metre of a station its curvature is taken as constant. Each
station scatters it once, in the bending plane, at its middle. Lengths in mm, unless a name ends in `_m`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data import draws
from frz.data.draws import Floats, Keys
from frz.data.muon_sim.field import C, field, follow, ripple, slope
from frz.data.muon_sim.geometry import BARREL_STATIONS, CENTRES, END_CAP_STATIONS, HALF_ANGLE
from frz.data.muon_sim.muons import Draw, Flight, scattering
from frz.data.muon_sim.settings import MuonSimConfig

STEPS: Final = {False: (8, 5), True: (8, 8, 1)}
"""Runge-Kutta steps between neighbouring stations, in the barrel and in an end-cap. They follow the field map to
0.3 mm at 10 GeV, where the sagitta is 0.1 m, and better at higher momentum."""
FIELD_BEGINS: Final = 4.2
"""t before which a barrel muon flies straight, m."""
STATION_DEPTH: Final = (0.25, 0.35, 0.35, 0.0)
"""Radiation lengths at normal incidence of a station and of what stands before the next one."""


@dataclass(frozen=True)
class Paths:
    """Muons in one system. `n` and `u` as in the layer table; t is n (barrel) or u (end-cap) along the flight."""

    muon: NDArray[np.int64]
    """(T,) Position of the muon in the batch."""
    key: Keys
    """(T,)"""
    end_cap: bool
    side: NDArray[np.int64]
    """(T,) End-cap: 0 for z > 0, 1 for z < 0; barrel: 0, and z is signed."""
    sector: NDArray[np.int64]
    """(T,) Of 16; even = large."""
    tilt: Floats
    """(T,) Angle of the flight to the middle of the sector."""
    offset: Floats
    """(T,) Distance of the line of flight from the beam axis."""
    n: Floats
    """(T, S) Middle of the stations: t in the barrel, |z| in an end-cap."""
    u: Floats
    """(T, S) z in the barrel, t in an end-cap, there."""
    slope: Floats
    """(T, S) du/dn there."""
    curvature: Floats
    """(T, S) d2u/dn2 there, 1/mm."""


def sector_of(phi: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Sector (of 16) at azimuth phi and the angle from its middle."""
    large = np.rint(phi / (np.pi / 4))
    from_large = phi - large * (np.pi / 4)
    sector = 2 * large + np.where(np.abs(from_large) > HALF_ANGLE[0], np.sign(from_large), 0.0)
    return sector.astype(np.int64) % 16, phi - sector * (np.pi / 8)


def barrel_paths(config: MuonSimConfig, flight: Flight, muon: NDArray[np.int64]) -> Paths:
    """Follow the chosen muons through the barrel."""
    phi, offset = flight.phi[muon], flight.offset[muon]
    sector, _ = sector_of(phi + offset / 7500.0)
    tilt = _around(phi - sector * (np.pi / 8))
    centres = np.array([CENTRES[name] for name in BARREL_STATIONS]).T[sector & 1]
    n = (centres + (offset * np.sin(tilt))[:, None]) / np.cos(tilt)[:, None]
    strength = config.field_scale * C * flight.charge[muon] / flight.momentum[muon] * ripple(phi, end_cap=False)
    cot = flight.cot[muon]
    start_m = np.full(len(muon), FIELD_BEGINS)
    u_m = (flight.z[muon] / 1000) + cot * start_m
    w = cot / np.sqrt(1 + cot * cot)
    u_m, w = follow(start_m, u_m, w, strength, n[:, 0] / 1000, 2, end_cap=False)
    states = _through(config, flight, muon, n / 1000, u_m, w, strength, end_cap=False)
    return Paths(muon, flight.key[muon], False, np.zeros_like(sector), sector, tilt, offset, n, *states)


def end_cap_paths(config: MuonSimConfig, flight: Flight, muon: NDArray[np.int64]) -> Paths:
    """Follow the chosen muons through the end-cap that they fly to."""
    cot = flight.cot[muon]
    sign = np.where(cot < 0, -1.0, 1.0)
    phi, offset = flight.phi[muon], flight.offset[muon]
    sector, _ = sector_of(phi + offset / 7500.0)
    tilt = _around(phi - sector * (np.pi / 8))
    n = np.array([CENTRES[name] for name in END_CAP_STATIONS]).T[sector & 1]
    strength = config.field_scale * C * flight.charge[muon] / flight.momentum[muon] * ripple(phi, end_cap=True)
    tan = 1 / np.maximum(np.abs(cot), 0.1)
    u_m = (n[:, 0] - sign * flight.z[muon]) / 1000 * tan
    w = tan / np.sqrt(1 + tan * tan)
    states = _through(config, flight, muon, n / 1000, u_m, w, -sign * strength, end_cap=True)
    side = (sign < 0).astype(np.int64)
    return Paths(muon, flight.key[muon], True, side, sector, tilt, offset, n, *states)


def _through(
    config: MuonSimConfig, flight: Flight, muon: NDArray[np.int64], n_m: Floats, u_m: Floats, w: Floats,
    strength: Floats, *, end_cap: bool,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """From the middle of the first station to that of the last: u, slope and curvature at each, (T, S)."""
    count = n_m.shape[1]
    u, slopes, curvature = np.empty_like(n_m), np.empty_like(n_m), np.empty_like(n_m)
    kicks = [*draws.normals(flight.key[muon], Draw.STATIONS), draws.normal(flight.key[muon], Draw.STATIONS + 1)]
    for s in range(count):
        if s:
            u_m, w = follow(n_m[:, s - 1], u_m, w, strength, n_m[:, s], STEPS[end_cap][s - 1], end_cap=end_cap)
        tangent = slope(w)
        here = field(u_m, n_m[:, s]) if end_cap else field(n_m[:, s], np.abs(u_m))
        u[:, s] = u_m * 1000
        slopes[:, s] = tangent
        curvature[:, s] = strength * here * (1 + tangent * tangent) ** 1.5 / 1000
        if config.calorimeter and s + 1 < count:
            depth = STATION_DEPTH[s] * np.sqrt(1 + tangent * tangent)
            angle = np.arcsin(np.clip(w, -0.99, 0.99)) + scattering(flight.momentum[muon], depth) * kicks[s]
            w = np.sin(angle)
    return u, slopes, curvature


def _around(angle: Floats) -> Floats:
    """The same angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
