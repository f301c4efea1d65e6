"""Muons from the vertex to the first station.

T = number of muons of a batch. Lengths in mm, momenta in GeV, angles in rad. A muon's draws come from its
own key (event, slot, attempt), so they do not depend on what is simulated beside it.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data import draws
from frz.data.draws import Floats, Keys
from frz.data.muon_sim.field import C
from frz.data.muon_sim.settings import MuonSimConfig

SHAPE: Final = 1.2
"""Of the Weibull spectrum of pT - pt_min: standard deviation / mean = 0.84."""
CENTRALITY: Final = 0.34
"""The density of |eta| falls linearly from 1 + this at 0 to 1 - this at eta_max."""
VERTEX_Z: Final = 45.0
"""Standard deviation of the vertex along the beam."""
CLOSE: Final = 0.03
"""Standard deviation in eta and in phi of a close pair."""
SOLENOID_R: Final = 1150.0
SOLENOID_B: Final = 2.0
"""T."""
CALORIMETER: Final = (2800.0, 5000.0)
"""t in the barrel and |z| in an end-cap at which the scattering of the whole calorimeter acts."""
CALORIMETER_DEPTH: Final = (100.0, 150.0)
"""Radiation lengths at normal incidence, and the most along a slanted path."""
ENERGY_LOSS: Final = (3.1, 4.3)
"""Mean loss, likewise."""
LOSS_SPREAD: Final = 0.35
BARREL_REACH: Final = 9400.0
"""A muon belongs to the barrel if it is heading for |z| below this at t = 7.5 m."""


class Draw(IntEnum):
    """Index of each draw of a muon's key."""

    PT = 0
    ETA = 1
    SIDE = 2
    PHI = 3
    CHARGE = 4
    CLOSE = 5
    CLOSE_BY = 6
    VERTEX = 7
    CALORIMETER = 8
    STATIONS = 9
    """And the next."""
    SEGMENTS = 11
    HITS = 16
    """First of the keys of its hits: up to 400 of them."""
    SEGMENT = 1024
    """First of the keys of the segments near it."""


@dataclass
class Muons:
    """Muons at the vertex, all (T,)."""

    event: NDArray[np.int64]
    """Position of the event in the batch."""
    key: Keys
    pt: Floats
    eta: Floats
    phi: Floats
    """In [-pi, pi)."""
    charge: Floats


@dataclass(frozen=True)
class Flight:
    """Straight lines behind the calorimeter, all (T,): position t (cos phi, sin phi) + offset (-sin phi, cos phi)."""

    key: Keys
    charge: Floats
    momentum: Floats
    """Behind the calorimeter."""
    phi: Floats
    offset: Floats
    """Distance of the line from the beam axis, positive to the left of the flight."""
    z: Floats
    """At t = 0."""
    cot: Floats
    """dz/dt."""
    barrel: NDArray[np.bool_]


def draw_muons(config: MuonSimConfig, event: NDArray[np.int64], first: Keys, key: Keys) -> Muons:
    """Draw muons at the vertex.

    Parameters
    ----------
    config : MuonSimConfig
        Spectrum and acceptance.
    event : ndarray of int64, (T,)
        Position of the event in the batch.
    first : ndarray of uint64, (T,)
        Key of the first muon of the event, which a close one accompanies.
    key : ndarray of uint64, (T,)
        Keys of the muons.

    Returns
    -------
    Muons
    """
    pt = config.pt_min + config.pt_scale * (-np.log(draws.uniform(key, Draw.PT))) ** (1 / SHAPE)
    eta, phi = _direction(config, key)
    eta_first, phi_first = _direction(config, first)
    d_eta, d_phi = draws.normals(key, Draw.CLOSE_BY)
    close = (draws.uniform(key, Draw.CLOSE) < config.close_pairs) & (key != first)
    eta = np.where(close, np.clip(eta_first + CLOSE * d_eta, -config.eta_max, config.eta_max), eta)
    phi = np.where(close, phi_first + CLOSE * d_phi, phi)
    charge = np.where(draws.uniform(key, Draw.CHARGE) < 0.5, -1.0, 1.0)
    return Muons(event, key, pt, eta, _wrapped(phi), charge)


def _direction(config: MuonSimConfig, key: Keys) -> tuple[Floats, Floats]:
    """eta and phi of a muon on its own, (T,) each."""
    u = draws.uniform(key, Draw.ETA)
    x = (1 + CENTRALITY - np.sqrt((1 + CENTRALITY) ** 2 - 4 * CENTRALITY * u)) / (2 * CENTRALITY)
    side = np.where(draws.uniform(key, Draw.SIDE) < 0.5, -1.0, 1.0)
    return side * x * config.eta_max, np.pi * (2 * draws.uniform(key, Draw.PHI) - 1)


def _wrapped(phi: Floats) -> Floats:
    return (phi + np.pi) % (2 * np.pi) - np.pi


def scattering(momentum: Floats, depth: Floats | float) -> Floats:
    """Width of the scattering angle projected on a plane behind `depth` radiation lengths (Highland), rad."""
    return 0.0136 / momentum * np.sqrt(depth) * (1 + 0.038 * np.log(depth))


def leave_calorimeter(config: MuonSimConfig, muons: Muons) -> Flight:
    """Bend in the solenoid, lose energy and scatter in the calorimeter.

    The solenoid bends in the transverse plane only. The calorimeter scatters once, at about 60 % of its
    depth, with the geometric mean of the momenta before and behind it.
    """
    key = muons.key
    alpha = muons.charge * np.arcsin(C * SOLENOID_B * SOLENOID_R / 1000 / (2 * muons.pt))
    phi = muons.phi - 2 * alpha
    offset = SOLENOID_R * np.sin(alpha)
    z, loss = draws.normals(key, Draw.VERTEX)
    z *= VERTEX_Z
    cot = np.sinh(muons.eta)
    slant = np.sqrt(1 + cot * cot)
    momentum = muons.pt * slant
    barrel_like = np.abs(cot) < 1.25
    at = np.where(barrel_like, CALORIMETER[0], CALORIMETER[1] / np.maximum(np.abs(cot), 1.0))
    if config.calorimeter:
        slant = np.where(barrel_like, slant, slant / np.maximum(np.abs(cot), 1.0))
        before = momentum
        lost = np.minimum(ENERGY_LOSS[0] * slant, ENERGY_LOSS[1]) + LOSS_SPREAD * loss
        momentum = np.maximum(before - np.maximum(lost, 1.5), 1.0)
        depth = np.minimum(CALORIMETER_DEPTH[0] * slant, CALORIMETER_DEPTH[1])
        width = scattering(np.sqrt(before * momentum), depth)
        kick_theta, kick_phi = draws.normals(key, Draw.CALORIMETER)
        kick_phi *= width * np.sqrt(1 + cot * cot)  # the same angle is larger seen along the beam
        phi = phi + kick_phi
        offset = offset - at * kick_phi
        theta = np.arctan2(1.0, cot) + width * kick_theta
        scattered = 1 / np.tan(np.clip(theta, 0.05, np.pi - 0.05))
        z = z + at * (cot - scattered)
        cot = scattered
    barrel = np.abs(z + 7500.0 * cot) < BARREL_REACH
    return Flight(key, muons.charge, momentum, phi, offset, z, cot, barrel)
