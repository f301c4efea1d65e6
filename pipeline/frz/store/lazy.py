"""Arrays that cannot be mapped as they lie on disk: rows are decoded when they are asked for, and never kept.

Both classes stand in for a numpy array where rows are sliced or taken; `np.asarray` decodes all.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from frz.errors import DamageError
from frz.store import bfloat16, codecs, objects


class _Rows:
    """Rows of an array of known shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Rows of a slice, or at positions (n,)."""
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            return self.read(first, max(first, last)) if step == 1 else self.take(np.arange(first, last, step))
        return self.take(rows)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self.read(0, len(self)).astype(dtype or self.dtype, copy=False)

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Rows [first, last)."""
        raise NotImplementedError

    def take(self, index: NDArray[np.int64], axis: int = 0) -> NDArray[Any]:
        """Rows at `index` (n,), in that order."""
        raise NotImplementedError


class Encoded(_Rows):
    """An array that a codec has packed; the inner chunks that hold the rows are decoded by zarr.

    Parameters
    ----------
    folder : Path
        The Zarr array.
    content : mapping, optional
        Its files by path below the folder, if they are in memory; the folder is then a name for errors.
    check : callable
        Raises unless the array's files are there: Zarr takes a missing one for zeros.
    way_out : str
        What to do when it cannot be decoded.
    """

    def __init__(
        self, folder: Path, check: Callable[[], None], way_out: str, content: Mapping[str, bytes] | None = None
    ) -> None:
        import zarr  # slow to import, and needed for packed arrays only

        self._folder, self._check, self._way_out = folder, check, way_out
        place = folder if content is None else objects.zarr_store(content)
        self._array = self._decoded(lambda: zarr.open_array(place, mode="r"))
        self.shape, self.dtype = self._array.shape, self._array.dtype
        self._inner = int(self._array.chunks[0])

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Rows [first, last)."""
        self._check()
        values: NDArray[Any] = self._decoded(lambda: np.asarray(self._array[first:last]))
        return values

    def take(self, index: NDArray[np.int64], axis: int = 0) -> NDArray[Any]:
        """Rows at `index` (n,), in that order; chunks that follow each other are read together."""
        assert axis == 0, "rows are taken along the first axis"
        chunks, which = np.unique(index // self._inner, return_inverse=True)
        runs = np.split(chunks, np.flatnonzero(np.diff(chunks) > 1) + 1) if len(chunks) else []
        found = [self.read(int(run[0]) * self._inner, (int(run[-1]) + 1) * self._inner) for run in runs]
        values = np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *found])
        return values.take(which * self._inner + index % self._inner, axis=0)

    def _decoded(self, work: Callable[[], Any]) -> Any:
        try:
            with codecs.quiet():
                return work()
        except Exception as error:  # whatever a codec raises on damaged bytes
            raise DamageError(f"cannot be decoded: {error}", where=str(self._folder), way_out=self._way_out) from None


class Widened(_Rows):
    """bfloat16 as float32.

    Parameters
    ----------
    bits : uint16 array (n, …) or Encoded
        As stored.
    """

    def __init__(self, bits: NDArray[np.uint16] | Encoded) -> None:
        self._bits = bits
        self.shape, self.dtype = bits.shape, np.dtype(np.float32)

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Rows [first, last)."""
        return bfloat16.widen(self._bits[first:last])

    def take(self, index: NDArray[np.int64], axis: int = 0) -> NDArray[Any]:
        """Rows at `index` (n,), in that order."""
        return bfloat16.widen(self._bits.take(index, axis=axis))
