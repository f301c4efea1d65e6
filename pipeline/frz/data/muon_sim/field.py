"""The toroidal field and the way of a muon through it.

The field is azimuthal, so a muon stays in its plane of phi and bends there. With t the distance from the
beam line along the muon's flight in that plane, both systems obey one pair of equations,

    du/dn = w / sqrt(1 - w^2),    dw/dn = K B(n, u),

in the barrel for (n, u) = (t, z), w = cos(theta), K = +c q/p, in an end-cap for (n, u) = (|z|, t),
w = sin(theta), K = -sign(z) c q/p, with c = 0.299792458 GeV/(T m). Lengths in m here, fields in T.
"""

from typing import Final

import numpy as np

from frz.data.draws import Floats

C: Final = 0.299792458
BARREL_STRENGTH: Final = 3.94
"""T m: B = strength / t is the field of an ideal toroid with 8 coils of 120 turns at 20.5 kA."""
BARREL_T: Final = (4.7, 10.05)
BARREL_Z: Final = 12.65
END_CAP_FIELD: Final = 1.1
"""T, uniform, which gives about the bending power of the real end-cap toroids."""
END_CAP_T: Final = (0.83, 5.35)
END_CAP_Z: Final = (7.9, 12.9)
EDGE: Final = 0.8
"""Width over which the field rises from 0 to its value at each border, centred on it: 3 x^2 - 2 x^3."""
RIPPLE: Final = 0.15
"""Relative change of the field with phi, cos(8 phi): stronger in the small sectors, where the barrel coils are."""


def ripple(phi: Floats, *, end_cap: bool) -> Floats:
    """Factor on the field at azimuth phi; the end-cap coils stand in the large sectors."""
    return 1.0 + (RIPPLE if end_cap else -RIPPLE) * np.cos(8.0 * phi)


def field(t: Floats, z: Floats) -> Floats:
    """Azimuthal field at distance t from the beam line and |z| = z, without ripple.

    Parameters
    ----------
    t, z : ndarray of float64
        m.

    Returns
    -------
    ndarray of float64
        T.
    """
    barrel = BARREL_STRENGTH / np.maximum(t, 1.0) * _inside(t, BARREL_T) * _ramp(BARREL_Z - z)
    return barrel + END_CAP_FIELD * _inside(t, END_CAP_T) * _inside(z, END_CAP_Z)


def _inside(x: Floats, borders: tuple[float, float]) -> Floats:
    return _ramp(x - borders[0]) * _ramp(borders[1] - x)


def _ramp(depth: Floats) -> Floats:
    """From 0 outside to 1 inside."""
    x = np.minimum(np.maximum(depth / EDGE + 0.5, 0.0), 1.0)  # np.clip takes three times as long on short arrays
    return x * x * (3.0 - 2.0 * x)


def follow(
    n: Floats, u: Floats, w: Floats, strength: Floats, n_end: Floats, steps: int, *, end_cap: bool
) -> tuple[Floats, Floats]:
    """Follow muons from the planes `n` to the planes `n_end` by `steps` Runge-Kutta steps of fourth order.

    Parameters
    ----------
    n, u, w : ndarray of float64, (T,)
        Plane, position and direction at the start; see the equations on top. m, m, 1.
    strength : ndarray of float64, (T,)
        K with the ripple factor, 1/(T m).
    n_end : ndarray of float64, (T,)
        Planes to reach, m.
    steps : int
        Number of steps.
    end_cap : bool
        Which of the two systems.

    Returns
    -------
    u, w : ndarray of float64, (T,)
        At `n_end`.
    """
    h = (n_end - n) / steps
    for _ in range(steps):
        k1, b1 = slope(w), strength * _field(n, u, end_cap)
        middle = n + h / 2
        k2, b2 = slope(w + h / 2 * b1), strength * _field(middle, u + h / 2 * k1, end_cap)
        k3, b3 = slope(w + h / 2 * b2), strength * _field(middle, u + h / 2 * k2, end_cap)
        n = n + h
        k4, b4 = slope(w + h * b3), strength * _field(n, u + h * k3, end_cap)
        u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        w = w + h / 6 * (b1 + 2 * b2 + 2 * b3 + b4)
    return u, w


def slope(w: Floats) -> Floats:
    """du/dn = w / sqrt(1 - w^2); a muon that turns round is held at |w| = 0.995."""
    w = np.minimum(np.maximum(w, -0.995), 0.995)
    return w / np.sqrt(1.0 - w * w)


def _field(n: Floats, u: Floats, end_cap: bool) -> Floats:
    return field(u, n) if end_cap else field(n, np.abs(u))
