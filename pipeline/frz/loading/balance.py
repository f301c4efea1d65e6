"""Epochs in which rare classes are as frequent as asked: events drawn with replacement, as many as there are.

Positions alone, before anything is cut into batches: a pure function of labels, mode, seed and epoch. An event of a
class with n events has weight 1 / n (`inverse`: all classes equally frequent) or 1 / sqrt(n) (`sqrt`: half-way, on a
logarithmic scale); one that has no target has weight 0. Validation, test and whatever a head measures before training
see the events as they are.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from frz.errors import ConfigError, nearest
from frz.store import ragged
from frz.store.schema import EVENT, axis_of, labelled
from frz.store.table import Reader
from frz.training.config import BalanceConfig

Index = NDArray[np.int64]
Draw = Callable[[int], Index]
"""From the number of an epoch to the events that make it, positions in a split; sorted, with repeats."""


def balanced(config: BalanceConfig | None, reader: Reader, positions: Index, seed: int) -> Draw | None:
    """Prepare the draws for the events of a split; None without a config.

    Raises
    ------
    ConfigError
        As `classes_of`, and if all events that have a class are of one.
    """
    if config is None:
        return None
    classes, mode = classes_of(reader, config.by, config.column, positions), config.mode
    if len(positions) and classes.max() <= 0:
        n_known = int((classes >= 0).sum())
        known = "" if n_known == len(positions) else " that have a target"
        raise ConfigError(
            f"all {n_known} training events{known} are of one class of {config.by}: nothing to balance",
            where="trainer.balance",
            way_out="leave balance out, or name other labels",
        )
    return lambda epoch: draw_epoch(classes, mode, seed=seed, epoch=epoch)


def draw_epoch(classes: Index, mode: str, *, seed: int, epoch: int) -> Index:
    """Events of one epoch.

    Parameters
    ----------
    classes : int64 array (n_events,)
        Class of each event, from 0, none of them without events; -1 for an event that is never drawn.
    mode : str
        `inverse` or `sqrt`.
    seed, epoch : int
        The draws are a function of both; they are others than those of the order (`frz.loading.plan`).

    Returns
    -------
    int64 array (n_events,)
        Positions 0 ... n_events - 1, sorted, with repeats.
    """
    n, known = len(classes), np.flatnonzero(classes >= 0)
    if n == 0:
        return np.zeros(0, np.int64)
    classes = classes[known]
    sizes = np.bincount(classes)
    assert sizes.all(), "classes without events"
    shares = np.ones(len(sizes)) if mode == "inverse" else np.sqrt(sizes)  # size times weight
    ends = np.cumsum(shares)
    # far from the counters of the order, which begin at 0
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=np.array([0, 0, 0, 1], np.uint64))
    first, second = _uniform(generator, n), _uniform(generator, n)
    chosen = np.minimum(np.searchsorted(ends, first * ends[-1], side="right"), len(sizes) - 1)
    within = np.minimum((second * sizes[chosen]).astype(np.int64), sizes[chosen] - 1)
    by_class = known[np.argsort(classes, kind="stable")]
    return np.sort(by_class[ragged.offsets_of(sizes)[chosen] + within])


def classes_of(reader: Reader, by: str, column: str | None, positions: Index) -> Index:
    """Class of each event, numbered from 0; -1 for an event without a target.

    An event that has several labels (of its tracks, say) is of the class of its rarest one, counted in events
    that hold it: what is rare is drawn often, whatever stands beside it (as in repeat factor sampling, Gupta et
    al. 2019, arXiv:1908.03195). Of two equally rare ones the smaller label counts. Events without members are a
    class of their own. Labels on events may be missing (`frz.store.schema.labelled`), as heads read them too.

    Parameters
    ----------
    reader : Reader
        Where the labels lie.
    by : str
        Array of labels, whole numbers of any dtype.
    column : str, optional
        Column of it, where it has several.
    positions : int64 array (n_events,)
        The events.

    Raises
    ------
    ConfigError
        If there is no such array or column, or its values are no labels.
    """
    labels, owners = _labels(reader, by, column, positions)
    values, of_member = np.unique(labels, return_inverse=True)
    held = np.unique(owners * len(values) + of_member)  # every label of an event once
    frequency = np.bincount(held % max(len(values), 1), minlength=len(values))
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(values))
    rarest = np.full(len(positions), len(values))
    np.minimum.at(rarest, owners, rank[of_member])
    classes: Index = np.unique(rarest, return_inverse=True)[1].astype(np.int64)
    if axis_of(by) == EVENT:
        classes[rarest == len(values)] = -1
    return classes


def _labels(reader: Reader, by: str, column: str | None, positions: Index) -> tuple[Index, Index]:
    """Labels of all members that have one, and the number of the event of each."""
    where = "trainer.balance"
    if by not in reader.schema.arrays:
        raise ConfigError(f"there is no array {by!r}", where=where, way_out=nearest(by, reader.schema.arrays))
    spec = reader.schema.arrays[by]
    if (column is None) != (spec.shape == ()) or (column is not None and column not in spec.columns):
        known = f"name one of its columns: {', '.join(spec.columns)}" if spec.columns else "name an array of labels"
        what = f"{by} has no column {column!r}" if column else f"{by} holds {spec.shape} values, not one label"
        raise ConfigError(what, where=where, way_out=known if spec.shape else "leave column out")
    events = reader.events(positions, [by])
    values = events[by] if column is None else events[by][:, spec.columns.index(column)]
    owners = np.repeat(np.arange(len(positions)), ragged.lengths(events, reader.schema, axis_of(by)))
    if axis_of(by) == EVENT:
        held = labelled(values)
        values, owners = values[held], owners[held]
    whole = np.isfinite(values) & (values == np.round(values))
    if not whole.all():
        what = f"{by} holds {values[~whole][0]}, which is no label"
        raise ConfigError(what, where=where, way_out="name an array or a column of whole numbers")
    return values.astype(np.int64), owners


def _uniform(generator: np.random.Philox, n: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) from raw bits alone: these never change between versions of numpy."""
    bits = np.asarray(generator.random_raw(n), np.uint64) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
