"""A batch of stays: patients, the course of their illness, what is measured of it, and how it ends.

The severity of an illness at time t is `start + trend * t / hours + wander(t)`: a standing level, a line, and an
Ornstein-Uhlenbeck process (standard deviation 0.5, correlation time 12 h). The risk of death is a logistic function of
the severity at the last set and of age, and known: no classifier has a larger area under the ROC curve than it.
"""

# Axes: E stays, K sets at most of a stay, V variables.

from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data import draws
from frz.data.draws import Floats, Keys
from frz.data.icu_sim.settings import IcuSimConfig
from frz.data.icu_sim.variables import VARIABLES, column
from frz.data.stays import LABEL, STATIC
from frz.store.ragged import offsets_of
from frz.store.schema import GROUP, ID, EventArrays

WANDER, HOURS_OF_WANDER = 0.5, 12.0
TYPES: Final = np.array([0.14, 0.21, 0.38, 0.27])
"""Shares of the kinds of intensive care units, 1 to 4."""
START_OF_TYPE: Final = np.array([0.0, -0.5, 0.25, 0.05])
"""Mean severity on admission by kind."""

_PATIENT, _COURSE, _TIMES, _WANDER, _SOUGHT, _OWN, _NOISE, _END = range(8)


def simulate(config: IcuSimConfig, ids: NDArray[np.int64]) -> EventArrays:
    """Simulate the stays numbered `ids` (E,); see `IcuSim.schema` for what is returned."""
    static = _patients(draws.keys(config.seed, _PATIENT, ids))
    minute, there = _times(config, draws.keys(config.seed, _TIMES, ids))  # (E, K)
    course = draws.keys(config.seed, _COURSE, ids)
    start = 0.7 * draws.normal(course, 0) + START_OF_TYPE[static[:, 3].astype(np.int64) - 1]
    trend = 0.7 * draws.normal(course, 1)
    severity = start[:, None] + trend[:, None] * minute / (60 * config.hours)
    severity += _wander(minute, draws.keys(config.seed, _WANDER, ids))
    last = np.maximum(there.sum(1) - 1, 0)
    end = severity[np.arange(len(ids)), last]
    risk = 1 / (1 + np.exp(-(config.intercept + config.weight * end + 0.5 * (static[:, 0] - 62) / 16)))
    fate = draws.keys(config.seed, _END, ids)
    there &= (draws.uniform(fate, 1) >= config.empty)[:, None]

    stay, step = np.nonzero(there)  # the sets, in order
    value, measured = _measure(config, ids[stay], step, severity[there])  # (T, V)
    of_set, variable = np.nonzero(measured)
    unknown = draws.uniform(draws.keys(config.seed, _PATIENT, ids, 1), np.arange(static.shape[1])[:, None]).T
    static[unknown < np.array([0, 0.001, 0.48, 0, 0.08])] = np.nan
    return {
        ID: ids.astype(np.int64),
        GROUP: ids.astype(np.int64),
        STATIC: static.astype(np.float32),
        LABEL: (draws.uniform(fate, 0) < risk).astype(np.int8),
        "event/risk": risk.astype(np.float32),
        "set/offsets": offsets_of(there.sum(1)),
        "set/minute": minute[there].astype(np.float32),
        "element/offsets": offsets_of(np.bincount(of_set, minlength=len(stay))),
        "element/variable": variable.astype(np.int16),
        "element/value": value[measured].astype(np.float32),
    }


def _patients(key: Keys) -> Floats:
    """What is known on admission (E, 5), in the order of the columns of `event/static`."""
    age = np.clip(np.round(62 + 16 * draws.normal(key, 0)), 16, 90)
    male = (draws.uniform(key, 1) < 0.56).astype(np.float64)
    height = np.round(162 + 13 * male + 7 * draws.normal(key, 2), 1)
    kind = 1 + np.searchsorted(np.cumsum(TYPES)[:-1], draws.uniform(key, 3), side="right")
    weight = np.round(0.0028 * height**2 * np.exp(0.2 * draws.normal(key, 4)), 1)
    return np.stack([age, male, height, kind, weight], axis=1)


def _times(config: IcuSimConfig, key: Keys) -> tuple[Floats, NDArray[np.bool_]]:
    """Minutes of the sets (E, K), rising and whole, and which of them lie within the time that is observed."""
    minutes = 60 * config.hours
    most = int(2.5 * minutes / config.gap) + 20
    own = config.gap * np.exp(0.3 * draws.normal(key, 0) - 0.045)  # the mean of the factor is 1
    gaps = np.ceil(-own[:, None] * np.log(draws.uniform(key[:, None], 1 + np.arange(most))))
    minute = np.cumsum(gaps, axis=1)
    there = minute <= minutes
    return minute, there


def _wander(minute: Floats, key: Keys) -> Floats:
    """The Ornstein-Uhlenbeck process at the minutes (E, K), exact for any gap: Gillespie, Phys. Rev. E 54, 2084."""
    kept = np.exp(-np.diff(minute, prepend=0, axis=1) / (60 * HOURS_OF_WANDER))
    steps = draws.normal(key[:, None], np.arange(minute.shape[1])) * WANDER
    steps[:, 1:] *= np.sqrt(1 - kept[:, 1:] ** 2)  # the first is of the stationary distribution
    for k in range(1, minute.shape[1]):
        steps[:, k] += kept[:, k] * steps[:, k - 1]
    return steps


def _measure(
    config: IcuSimConfig, ids: NDArray[np.int64], step: NDArray[np.int64], severity: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Values (T, V) of all variables in all sets, and which of them are measured: at least one of each set."""
    places = np.arange(len(VARIABLES))
    rate = column("rate")
    rate = 1 / (1 + (1 - rate) / rate * np.exp(-column("sought") * severity[:, None]))
    sought = draws.uniform(draws.keys(config.seed, _SOUGHT, ids, step)[:, None], places)
    measured = sought < rate
    measured[~measured.any(1), 0] = True
    own = draws.normal(draws.keys(config.seed, _OWN, ids)[:, None], places)
    noise = draws.normal(draws.keys(config.seed, _NOISE, ids, step)[:, None], places)
    value = column("base") + column("gain") * severity[:, None]
    value += config.noise * (column("stay") * own + column("noise") * noise)
    log = column("log").astype(np.bool_)
    value[:, log] = np.exp(value[:, log])
    value = np.clip(np.round(value / column("step")) * column("step"), column("least"), column("most"))
    return value, measured
