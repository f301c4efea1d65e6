"""What the backbone gives, in the type it is stored in: rounded to nearest even, and refused where it does not fit.

The check is one pass for the extremes, which any value that is not finite spoils; nothing is written before it.
"""

from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frz.errors import ConfigError
from frz.store.bfloat16 import NAME as BFLOAT16
from frz.store.schema import Array

FLOATS = ("float16", BFLOAT16, "float32", "float64")
"""Types that floats can be stored in."""


def cast(name: str, values: Tensor | NDArray[Any], spec: Array) -> NDArray[Any]:
    """Values in the type that they are stored in, in memory as the store reads them (bfloat16: float32).

    Parameters
    ----------
    name : str
        The array, for the error.
    values : Tensor, on any device, or array
        What the backbone gave.
    spec : Array
        Its `dtype` decides.

    Raises
    ------
    ConfigError
        If values are not finite, or beyond what the type holds, with the types that do.
    """
    given = values if isinstance(values, Tensor) else torch.from_numpy(np.require(values, requirements=["C", "W"]))
    if spec.dtype not in FLOATS:
        return _whole(name, given.cpu().numpy(), spec)
    if given.numel():
        low, high = (float(extreme) for extreme in torch.aminmax(given))
        _refuse(name, max(-low, high), spec)
    made = given.to(getattr(torch, spec.dtype))
    return (made.float() if spec.dtype == BFLOAT16 else made).cpu().numpy()


def _refuse(name: str, largest: float, spec: Array) -> None:
    """Refuse values up to `largest` in size (NaN if one of them is) that a float type cannot hold."""
    if not isfinite(largest):
        raise ConfigError("the backbone gave values that are not finite", where=name, way_out="check its training")
    if not _holds(spec.dtype, largest):
        wider = [f"--set dtype.{name}={dtype}" for dtype in FLOATS if _holds(dtype, largest)]
        what = f"values up to {largest:.6g} do not fit {spec.dtype} (up to {_limit(spec.dtype):.6g})"
        raise ConfigError(what, where=name, way_out=" or ".join(wider[:2]))


def _holds(dtype: str, largest: float) -> bool:
    """Whether a number does not round to infinity."""
    return bool(torch.tensor(largest, dtype=torch.float64).to(getattr(torch, dtype)).isfinite())


def _limit(dtype: str) -> float:
    """The largest number of a float type."""
    return float(torch.finfo(getattr(torch, dtype)).max)


def _whole(name: str, values: NDArray[Any], spec: Array) -> NDArray[Any]:
    """Whole numbers and flags, which must come out equal."""
    with np.errstate(invalid="ignore"):
        made = values.astype(spec.dtype, copy=False)
    if made.dtype != values.dtype and not np.array_equal(made, values):
        worst = values[made != values].flat[0]
        raise ConfigError(f"the value {worst} does not fit {spec.dtype}", where=name, way_out="mend the backbone")
    return made
