"""A buffer holds what was put into it last, however much there was before."""

import numpy as np
from ragged_events import SCHEMA, events

from frz.loading.buffer import EventBuffer
from frz.store.ragged import slice_events


def test_pieces_are_joined_again_and_again() -> None:
    buffer = EventBuffer()
    for n, size in ((10, 5), (40, 7), (3, 1), (41, 41)):
        whole = events(n, seed=n)
        cuts = range(0, n, size)
        found = buffer.fill((slice_events(whole, SCHEMA, i, min(n, i + size)) for i in cuts), len(cuts))
        assert found.keys() == whole.keys()
        for name, values in whole.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values)


def test_memory_is_used_again() -> None:
    buffer = EventBuffer()
    first = buffer.fill([events(30)], 1)
    again = buffer.fill([events(20, seed=1)], 1)
    assert all(np.shares_memory(first[name], again[name]) for name in first)
