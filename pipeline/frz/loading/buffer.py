"""Memory that is filled with events again and again.

Fresh memory is slow: the system hands it over page by page, which costs several times what copying into it does.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from frz.store.schema import EventArrays

SPARE = 1.25
"""Room that is asked for, in units of what is expected."""


class EventBuffer:
    """Room for the arrays of some events; it grows to the most that it ever held."""

    def __init__(self) -> None:
        self._rooms: EventArrays = {}

    def fill(self, pieces: Iterable[EventArrays], n_pieces: int) -> EventArrays:
        """Join `n_pieces` pieces, about equally long, of the same arrays; valid until the buffer is filled again."""
        n_rows: dict[str, int] = {}
        for piece in pieces:
            for name, values in piece.items():
                begin = n_rows.get(name, 0)
                if name.endswith("/offsets") and begin:
                    values = values[1:] + self._rooms[name][begin - 1]
                n_rows[name] = end = begin + len(values)
                self._room(name, values, begin, end, n_pieces)[begin:end] = values
        return {name: self._rooms[name][:n] for name, n in n_rows.items()}

    def _room(self, name: str, piece: NDArray[np.generic], used: int, needed: int, n: int) -> NDArray[np.generic]:
        """Memory of an array with room for `needed` rows, of which the first `used` are kept."""
        room = self._rooms.get(name)
        if room is None or len(room) < needed:
            # pages that are not touched take no memory, so generosity costs nothing
            n_rows = int(SPARE * max(needed, n * len(piece)))
            larger = np.empty((n_rows, *piece.shape[1:]), piece.dtype)
            if room is not None:
                larger[:used] = room[:used]
            self._rooms[name] = room = larger
        return room
