"""Which events stand together in a batch, and in which order batches come: numbers only.

Plans are pure functions of their arguments. Random orders come from counter-based generators keyed by seed
and epoch, and from nothing that memory, thread count or a library's version decides.
"""

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def plan_epoch(lengths: Index, batch_size: int, *, seed: int, epoch: int, window: int = 1) -> list[Index]:
    """Shuffled batches of one epoch, with events of similar length together.

    All events are shuffled; each run of `window` batches is sorted by length and cut; the batches are
    shuffled. Every event stands in exactly one batch.

    Parameters
    ----------
    lengths : int array (n_events,)
        What padding depends on.
    batch_size : int
        Events per batch; one batch is smaller where it does not divide the number of events.
    seed, epoch : int
        The order is a function of both, of `lengths`, `batch_size` and `window`.
    window : int
        Batches sorted together; 1 keeps the composition of batches random.

    Returns
    -------
    list of int64 arrays
        Positions 0 ... n_events - 1.
    """
    lengths = np.asarray(lengths, np.int64)
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    order = _shuffled(generator, len(lengths))
    batches: list[Index] = []
    for begin in range(0, len(order), window * batch_size):
        inside = order[begin : begin + window * batch_size]
        if window > 1:
            inside = inside[np.argsort(lengths[inside], kind="stable")]
        batches += _cut(inside, batch_size)
    return [batches[i] for i in _shuffled(generator, len(batches))]


def plan_blocks(
    n_events: int, batch_size: int, *, seed: int, epoch: int, block: int, shuffle_blocks: int
) -> list[Index]:
    """Shuffled batches of one epoch that can be read block by block.

    Blocks of consecutive events are shuffled; the events of each run of `shuffle_blocks` blocks are shuffled
    together; what comes of it is cut into batches. Up to `block * shuffle_blocks` events that is a full shuffle.

    Parameters
    ----------
    n_events : int
        Events of the epoch.
    batch_size : int
        Events per batch; the last one is smaller where it does not divide the number of events.
    seed, epoch : int
        The order is a function of these, of `n_events`, `block` and `shuffle_blocks`.
    block : int
        Events that are read together.
    shuffle_blocks : int
        Blocks that are in memory together.

    Returns
    -------
    list of int64 arrays
        Positions 0 ... n_events - 1, each once.
    """
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    within = np.asarray(generator.random_raw(n_events), np.uint64)
    n_blocks = -(-n_events // block)
    if n_blocks <= shuffle_blocks:
        return _cut(np.argsort(within, kind="stable"), batch_size)
    window = np.empty(n_blocks, np.int64)
    window[_shuffled(generator, n_blocks)] = np.arange(n_blocks) // shuffle_blocks
    return _cut(np.lexsort((within, window[np.arange(n_events) // block])), batch_size)


def plan_part(lengths: Index, batch_size: int, max_members: int | None = None) -> list[Index]:
    """Batches of all events by length, the longest first: for passes whose order does not matter.

    The longest come first, so that memory that does not suffice is found at once.

    Parameters
    ----------
    lengths : int array (n_events,)
        What padding depends on.
    batch_size : int
        Most events in a batch.
    max_members : int, optional
        Most members in a padded batch (events times the longest); an event that alone has more makes a
        batch of its own.

    Returns
    -------
    list of int64 arrays
        Positions 0 ... n_events - 1, each once.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    if max_members is None:
        return _cut(order, batch_size)
    batches: list[Index] = []
    begin = 0
    while begin < len(order):
        longest = max(int(lengths[order[begin]]), 1)
        size = min(batch_size, max(max_members // longest, 1))
        batches.append(order[begin : begin + size])
        begin += size
    return batches


def _cut(order: Index, size: int) -> list[Index]:
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def _shuffled(generator: np.random.Philox, n: int) -> Index:
    """A random order of n positions, from raw bits alone: these never change between versions of numpy."""
    return np.argsort(np.asarray(generator.random_raw(n), np.uint64), kind="stable")
