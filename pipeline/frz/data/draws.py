"""Random numbers without a state: each is a pure function of (seed, counters, index).

A key is made by mixing one counter after the other into the seed (event number, purpose, muon ...); the draws
of a key are the SplitMix64 sequence (Steele, Lea and Flood, OOPSLA 2014) that starts at it. An event is thus the
same whatever events are made beside it, in whatever order.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Keys: TypeAlias = NDArray[np.uint64]
Floats: TypeAlias = NDArray[np.float64]

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def keys(seed: int, *counters: ArrayLike) -> Keys:
    """Keys of the streams numbered by `counters`.

    Parameters
    ----------
    seed : int
        Taken modulo 2**64.
    *counters : array-like of int
        Mixed in from left to right; they broadcast against each other.

    Returns
    -------
    ndarray of uint64
        One key per element of the broadcast counters, at least 1-d.
    """
    return subkeys(_mixed(np.array([seed % 2**64], dtype=np.uint64)), *counters)


def subkeys(parents: Keys, *counters: ArrayLike) -> Keys:
    """Keys of the streams numbered by `counters` below the given keys, broadcast."""
    for counter in counters:
        parents = _bits(parents, counter)
    return parents


def uniform(stream: Keys, index: ArrayLike) -> Floats:
    """Draw number `index` of each key, uniform in the open interval (0, 1), 52 bits; broadcast."""
    bits = _bits(stream, index)
    bits >>= np.uint64(12)
    values = bits.astype(np.float64)
    values += 0.5
    values *= 2.0**-52
    return values


def normal(stream: Keys, index: ArrayLike) -> Floats:
    """Draw number `index` of each key, standard normal (Box-Muller of two 32-bit halves); broadcast."""
    radius, angle = _box_muller(stream, index)
    return radius * np.cos(angle)


def normals(stream: Keys, index: ArrayLike) -> tuple[Floats, Floats]:
    """Two independent standard normals from draw number `index` of each key; broadcast."""
    radius, angle = _box_muller(stream, index)
    return radius * np.cos(angle), radius * np.sin(angle)


def _box_muller(stream: Keys, index: ArrayLike) -> tuple[Floats, Floats]:
    bits = _bits(stream, index)
    high = ((bits >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    low = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi * 2.0**-32)
    return np.sqrt(-2.0 * np.log(high)), low


def _bits(stream: Keys, index: ArrayLike) -> Keys:
    """64 bits: the SplitMix64 output `index` steps after the key."""
    steps = np.atleast_1d(index).astype(np.uint64)  # wraps negative numbers, which is fine for a counter
    return _mixed(stream + (steps + np.uint64(1)) * _WEYL)


def _mixed(bits: Keys) -> Keys:
    """The finaliser of SplitMix64, in place."""
    bits ^= bits >> np.uint64(30)
    bits *= _MIX_1
    bits ^= bits >> np.uint64(27)
    bits *= _MIX_2
    bits ^= bits >> np.uint64(31)
    return bits
