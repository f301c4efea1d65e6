"""The detector as a table of measuring layers.

Lengths in mm, angles in rad. Every layer is a plane with a normal coordinate `n` and a measured coordinate
`u`: in the barrel n is the distance of the plane from the beam line along the centre of its phi sector and
u = |z|; in an end-cap n = |z| and u is that distance. The third coordinate `v` runs along the tubes, in the
direction of phi. MDT and RPC stand in 16 sectors, large ones (even) and small ones (odd) at different n; TGC
stand in 24 or 48 equal sectors.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MDT: Final = 0
RPC: Final = 2
TGC: Final = 3

TUBE_PITCH: Final = 30.035
TUBE_RADIUS: Final = 14.6
"""Inner radius of a tube: the largest drift radius."""
TUBE_LAYER: Final = 26.011
"""Distance of neighbouring tube layers: close packing, sqrt(3)/2 of the pitch."""
STRIP_PITCH: Final = 30.0
"""Of RPC strips (both directions) and of TGC wire groups."""
TGC_STRIPS: Final = 32
"""Radial strips of one TGC chamber, which share its angle evenly."""
HALF_ANGLE: Final = np.array([np.deg2rad(13.5), np.deg2rad(9.0)])
"""Half the phi width of a large and of a small sector; together they fill 45 degrees."""
CHAMBER_GAP: Final = 40.0
"""Dead length between neighbouring chambers along u."""

BARREL_STATIONS: Final = ("BI", "BM", "BO")
END_CAP_STATIONS: Final = ("EI", "EE", "EM", "EO")
STATION_CODES: Final = {
    "BI": (0, 1), "BM": (2, 3), "BO": (4, 5), "EI": (10, 11), "EE": (12, 13), "EM": (14, 15), "EO": (16, 17),
    "T1": (20, 20), "T2": (21, 21), "T3": (22, 22), "TI": (23, 23),
}  # fmt: skip
"""`stationIndex` of the large and the small chambers of a station."""

CENTRES: Final = {
    "BI": (4950.0, 4550.0), "BM": (7140.0, 8090.0), "BO": (9500.0, 10570.0),
    "EI": (7680.0, 7270.0), "EE": (11300.0, 10300.0), "EM": (14120.0, 13680.0), "EO": (21420.0, 21840.0),
    "TI": (7000.0, 7000.0), "T1": (13400.0, 13400.0), "T2": (14700.0, 14700.0), "T3": (15100.0, 15100.0),
}  # fmt: skip
"""n of the middle of a station, in large and in small sectors."""

# station: layers per multilayer, distance between the two multilayers, first u, chamber length, chambers
_MDT_STATIONS: Final = {
    "BI": (4, 170.0, 120.0, 960.0, 7), "BM": (3, 317.0, 140.0, 1580.0, 6), "BO": (3, 317.0, 160.0, 2150.0, 6),
    "EI": (4, 121.0, 980.0, 1360.0, 4), "EE": (3, 121.0, 5800.0, 1650.0, 2), "EM": (3, 170.0, 1780.0, 2000.0, 5),
    "EO": (3, 170.0, 2750.0, 1660.0, 6),
}  # fmt: skip
# station (of the same chambers): distances of the gas gaps from the middle of the station
_RPC_STATIONS: Final = {"BM": (-360.0, -330.0, 330.0, 360.0), "BO": (330.0, 360.0)}
# station: gaps with wires, gaps with strips, first u, chamber length, chambers, phi sectors
_TGC_STATIONS: Final = {
    "TI": ((-30.0, 30.0), (-30.0, 30.0), 2100.0, 2000.0, 2, 24),
    "T1": ((-50.0, 0.0, 50.0), (-50.0, 50.0), 1800.0, 1850.0, 5, 48),
    "T2": ((-30.0, 30.0), (-30.0, 30.0), 1980.0, 1950.0, 5, 48),
    "T3": ((-30.0, 30.0), (-30.0, 30.0), 2030.0, 2010.0, 5, 48),
}


@dataclass(frozen=True)
class Layers:
    """Columns of the layer table; L = number of layers, the axis of 2 is (large, small)."""

    station: NDArray[np.str_]
    """(L,) Name of the station."""
    technology: NDArray[np.int64]
    """(L,) MDT, RPC or TGC."""
    strip: NDArray[np.bool_]
    """(L,) True where phi is measured instead of u (TGC strips)."""
    number: NDArray[np.int64]
    """(L,) Layer in the chamber, from 1."""
    code: NDArray[np.int64]
    """(L, 2) `stationIndex`."""
    n: NDArray[np.float64]
    """(L, 2) Position of the plane, mm."""
    u_min: NDArray[np.float64]
    """(L,) Where the first chamber begins, mm."""
    shift: NDArray[np.float64]
    """(L,) Where the first channel of a chamber begins: tube layers are staggered by half a tube, mm."""
    chamber_length: NDArray[np.float64]
    """(L,) Along u, dead gap included, mm."""
    n_chambers: NDArray[np.int64]
    """(L,) Chambers along u on one side of the detector."""
    pitch: NDArray[np.float64]
    """(L,) Channel pitch along u, mm (the phi pitch of strips follows from their number)."""
    n_rows: NDArray[np.int64]
    """(L,) Pitches along u in one chamber: its channels, unless they are strips."""
    n_phi: NDArray[np.int64]
    """(L,) Phi sectors: 16 for MDT and RPC, else equal ones."""
    end_cap: NDArray[np.bool_]
    """(L,) True in an end-cap."""


def _table() -> Layers:
    rows: list[tuple[object, ...]] = []

    def add(
        station: str, technology: int, strip: bool, number: int, offset: float, u_min: float, length: float,
        chambers: int, shift: float, n_phi: int,
    ) -> None:  # fmt: skip
        pitch = TUBE_PITCH if technology == MDT else STRIP_PITCH
        # every layer of a chamber has as many tubes as the staggered ones have room for
        room = length - CHAMBER_GAP - (TUBE_PITCH / 2 if technology == MDT else 0.0)
        n_rows = int(room / pitch)
        n = tuple(centre + offset for centre in CENTRES[station])
        end_cap = station not in BARREL_STATIONS
        code = STATION_CODES[station]
        rows.append(
            (station, technology, strip, number, code, n, u_min, shift, length, chambers, pitch, n_rows, n_phi, end_cap)
        )

    for station, (count, gap, u_min, length, chambers) in _MDT_STATIONS.items():
        inner = [(gap + TUBE_PITCH) / 2 + i * TUBE_LAYER for i in range(count)]
        for i, offset in enumerate([-x for x in reversed(inner)] + inner):
            add(station, MDT, False, i + 1, offset, u_min, length, chambers, (i % 2) * TUBE_PITCH / 2, 16)
    for station, gaps in _RPC_STATIONS.items():
        u_min, length, chambers = _MDT_STATIONS[station][2:]
        for i, offset in enumerate(gaps):
            add(station, RPC, False, i + 1, offset, u_min, length, chambers, 0.0, 16)
    for station, (wires, strips, u_min, length, chambers, n_phi) in _TGC_STATIONS.items():
        for i, offset in enumerate(wires):
            add(station, TGC, False, i + 1, offset, u_min, length, chambers, 0.0, n_phi)
        for i, offset in enumerate(strips):
            add(station, TGC, True, i + 1, offset, u_min, length, chambers, 0.0, n_phi)
    columns = zip(*rows, strict=True)
    return Layers(*(np.array(column) for column in columns))


LAYERS: Final = _table()
N_LAYERS: Final = len(LAYERS.station)
