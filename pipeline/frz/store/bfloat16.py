"""bfloat16 without a dtype of its own: uint16 on disk (the upper half of a float32), float32 in memory.

Nothing here rounds. Who makes values decides how they are rounded (`frz.extract.cast`); writing demands values that
are bfloat16 already, so what is read is what was written, bit by bit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME = "bfloat16"


def on_disk(dtype: str) -> np.dtype[Any]:
    """The dtype that values declared as `dtype` have in a file."""
    return np.dtype(np.uint16 if dtype == NAME else dtype)


def in_memory(dtype: str) -> np.dtype[Any]:
    """The dtype that values declared as `dtype` have in memory."""
    return np.dtype(np.float32 if dtype == NAME else dtype)


def narrow(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of float32 values whose lower halves are 0, same shape."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    assert not (bits & np.uint32(0xFFFF)).any(), "values were not rounded to bfloat16"
    return (bits >> np.uint32(16)).astype(np.uint16)


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 values that bfloat16 bits stand for, same shape; exact."""
    return np.left_shift(bits, np.uint32(16), dtype=np.uint32).view(np.float32)
