"""From channels to the nineteen numbers that the read-out gives for a hit.

N = number of hits. The two edges of a hit are the ends of what was hit: a tube, a wire group, a strip, or,
where both strips of an RPC answered, the part of the one that lies under the other. Covariances are in the
local frame of the chamber, x along the tubes (v), y across them (u).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data.draws import Floats
from frz.data.muon_sim.geometry import LAYERS, MDT, RPC, STRIP_PITCH, TGC, TGC_STRIPS
from frz.data.muon_sim.hits import Hits, half_length

COLUMNS: Final = (
    "globEdgeHighX", "globEdgeHighY", "globEdgeHighZ", "globEdgeLowX", "globEdgeLowY", "globEdgeLowZ", "time",
    "driftR", "readOutSide", "covXX", "covXY", "covYX", "covYY", "channel", "layer", "stationPhi", "stationEta",
    "stationIndex", "technology",
)  # fmt: skip

_FULL_TURN: Final = 48
_COS: Final = np.cos(2 * np.pi / _FULL_TURN * np.arange(_FULL_TURN))
_SIN: Final = np.sin(2 * np.pi / _FULL_TURN * np.arange(_FULL_TURN))


def raw_fields(hits: Hits, tube_resolution: float) -> NDArray[np.float32]:
    """The fields of `COLUMNS`.

    Parameters
    ----------
    hits : Hits
        (N,)
    tube_resolution : float
        Standard deviation of the drift radius, mm.

    Returns
    -------
    ndarray of float32, (N, 19)
        mm, mm^2, ns.
    """
    layer, sector, channel = hits.layer, hits.sector, hits.channel
    technology = LAYERS.technology[layer]
    tube, rpc, strip = technology == MDT, technology == RPC, LAYERS.strip[layer]
    sixteen = technology != TGC
    small = np.where(sixteen, sector & 1, 0)
    n = LAYERS.n[layer, small]
    chamber_u = LAYERS.u_min[layer] + hits.chamber * LAYERS.chamber_length[layer]
    u = chamber_u + LAYERS.shift[layer] + (channel + 0.5) * LAYERS.pitch[layer]
    half = np.where(sixteen, half_length(layer, small, u), u * np.tan(np.pi / LAYERS.n_phi[layer]))
    crossed = rpc & (hits.cross >= 0)
    middle = np.where(crossed, (hits.cross + 0.5) * STRIP_PITCH - half, 0.0)
    half = np.where(crossed, STRIP_PITCH / 2, half)
    u_high, u_low, v_high, v_low = u, u, middle + half, middle - half
    xx = half * half / 3
    yy = np.where(tube, tube_resolution**2, STRIP_PITCH**2 / 12)
    xy = np.zeros_like(xx)
    i = np.flatnonzero(strip)
    if len(i):
        ends = _strip_ends(hits, i, chamber_u[i])
        u_high, u_low = u.copy(), u
        u_high[i], u_low[i], v_high[i], v_low[i], xx[i], xy[i], yy[i] = ends

    sign = 1.0 - 2.0 * hits.side
    turn = sector * (_FULL_TURN // LAYERS.n_phi[layer])
    cos, sin = _COS[turn], _SIN[turn]
    end_cap = LAYERS.end_cap[layer]
    raw = np.empty((len(layer), len(COLUMNS)), dtype=np.float32)
    for first, along, across in ((0, u_high, v_high), (3, u_low, v_low)):
        distance = np.where(end_cap, along, n)
        raw[:, first] = distance * cos - across * sin
        raw[:, first + 1] = distance * sin + across * cos
        raw[:, first + 2] = sign * np.where(end_cap, n, along)
    raw[:, 6] = hits.time
    raw[:, 7] = hits.drift
    raw[:, 8] = np.where(tube, 1 - 2 * (hits.chamber & 1), 0)
    raw[:, 9], raw[:, 10], raw[:, 11], raw[:, 12] = xx, xy, xy, yy
    raw[:, 13] = channel + 1
    raw[:, 14] = LAYERS.number[layer]
    raw[:, 15] = np.where(sixteen, sector // 2, sector) + 1
    raw[:, 16] = sign * (hits.chamber + 1)
    raw[:, 17] = LAYERS.code[layer, small]
    raw[:, 18] = technology
    return raw


def _strip_ends(hits: Hits, i: NDArray[np.int64], u_low: Floats) -> tuple[Floats, ...]:
    """Radial strips: u of both ends, v of both ends, covariance xx, xy, yy; all of the hits `i`."""
    layer = hits.layer[i]
    width = 2 * np.pi / LAYERS.n_phi[layer]
    angle = ((hits.channel[i] + 0.5) / TGC_STRIPS - 0.5) * width
    u_high = u_low + LAYERS.n_rows[layer] * STRIP_PITCH
    sin, cos = np.sin(angle), np.cos(angle)
    tan = sin / cos
    along = ((u_high - u_low) / cos) ** 2 / 12
    across = ((u_high + u_low) / 2 / cos * width / TGC_STRIPS) ** 2 / 12
    xx = along * sin * sin + across * cos * cos
    yy = along * cos * cos + across * sin * sin
    return u_high, u_low, u_high * tan, u_low * tan, xx, (along - across) * sin * cos, yy
