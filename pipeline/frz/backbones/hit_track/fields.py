"""From stored hit columns to model fields. Particular: derived fields exist only here, never on disk.

Derived from a reference point (x, y, z): r = sqrt(x^2 + y^2), s = sqrt(r^2 + z^2), theta = atan2(r, z),
phi = atan2(y, x), eta = -ln tan(theta / 2), with theta kept THETA_MIN off 0 and pi so that eta is finite.

Axes: N hits (flat), C stored columns, F model fields.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from frz.errors import ConfigError, nearest
from frz.store.schema import EventArrays, Schema

DERIVED = ("r", "s", "theta", "phi", "eta")
THETA_MIN = 1e-4


class HitFields(nn.Module):
    """Picks, derives and standardises hit fields; means and widths are buffers measured by `fit`.

    Parameters
    ----------
    schema : Schema
        Of the data set.
    array : str
        Stored array `hit/...` with named columns.
    fields : tuple of str
        Model fields; empty = every column.
    extra : tuple of str
        Further fields that are computed and measured, after `fields`.
    position : tuple of str, optional
        Columns x, y, z for derived fields.

    Raises
    ------
    ConfigError
        If the array or a column is missing, or derived fields are asked for without a position.
    """

    mean: Tensor
    width: Tensor
    picked: Tensor
    position: Tensor
    order: Tensor

    def __init__(
        self,
        schema: Schema,
        array: str,
        fields: tuple[str, ...],
        extra: tuple[str, ...],
        position: tuple[str, str, str] | None,
    ) -> None:
        super().__init__()
        if array not in schema.arrays:
            raise _missing(array, sorted(schema.arrays), "array", "model.array")
        self.array = array
        self.columns = schema.arrays[array].columns
        self.names = fields or self.columns
        self.all_names = (*self.names, *(name for name in extra if name not in self.names))
        point = [self._column(name, "model.position") for name in position or ()]
        known = (*self.columns, *DERIVED) if position else self.columns
        for name in self.all_names:
            if name in DERIVED and name not in self.columns and not position:
                raise ConfigError(
                    f"field {name!r} is derived from a point",
                    where="model.fields",
                    way_out="name its columns in model.position: [x, y, z]",
                )
            if name not in known:
                raise _missing(name, known, f"column of {array}", "model.fields")
        # One gather picks every stored field, derived ones are appended, one more gather brings all in order.
        stored = [name for name in self.all_names if name in self.columns]
        self.derived = [name for name in self.all_names if name not in self.columns]
        placed = [*stored, *self.derived]
        order = [placed.index(name) for name in self.all_names]
        self.in_order = order == sorted(order)
        picked = [self.columns.index(name) for name in stored]
        for name, positions in (("picked", picked), ("position", point), ("order", order)):
            self.register_buffer(name, torch.tensor(positions, dtype=torch.int64), persistent=False)
        self.register_buffer("mean", torch.zeros(len(self.all_names)))
        self.register_buffer("width", torch.ones(len(self.all_names)))

    def raw(self, hits: Tensor) -> Tensor:
        """Model fields (N, F_all), float32, unscaled, from stored columns (N, C)."""
        hits = hits.float()
        values = hits.index_select(1, self.picked)
        if self.derived:
            point = derive(*hits.index_select(1, self.position).unbind(-1))
            values = torch.cat((values, torch.stack([point[name] for name in self.derived], -1)), -1)
        return values if self.in_order else values.index_select(1, self.order)

    def scale(self, raw: Tensor) -> Tensor:
        """(raw - mean) / width, (N, F_all)."""
        return (raw - self.mean) / self.width

    def index(self, name: str) -> int:
        """Position of a field in `raw`."""
        return self.all_names.index(name)

    def fit(self, events: Iterable[EventArrays]) -> None:
        """Measure mean and width (standard deviation) of every field in one pass, in float64.

        Partial moments of each batch are joined by the formula of Chan, Golub and LeVeque (1979). A field
        that does not vary gets width 1.
        """
        count, mean, square = 0, np.zeros(len(self.all_names)), np.zeros(len(self.all_names))
        for arrays in events:
            values = self.raw(torch.from_numpy(arrays[self.array]).to(self.mean.device)).double().cpu().numpy()
            if not len(values):
                continue
            batch_mean = values.mean(0)
            shift, total = batch_mean - mean, count + len(values)
            square += ((values - batch_mean) ** 2).sum(0) + shift**2 * (count * len(values) / total)
            mean += shift * (len(values) / total)
            count = total
        width = np.sqrt(square / max(count, 1))
        # Below the resolution of float32 a spread is rounding, not information.
        width[width <= 1e-6 * np.abs(mean)] = 1.0
        self.mean.copy_(torch.from_numpy(mean))
        self.width.copy_(torch.from_numpy(width))

    def _column(self, name: str, where: str) -> int:
        if name not in self.columns:
            raise _missing(name, self.columns, f"column of {self.array}", where)
        return self.columns.index(name)


def derive(x: Tensor, y: Tensor, z: Tensor) -> dict[str, Tensor]:
    """Cylinder and sphere coordinates of points, lengths in the unit given, angles in radians."""
    r = torch.hypot(x, y)
    theta = torch.atan2(r, z)
    return {
        "r": r,
        "s": torch.hypot(r, z),
        "theta": theta,
        "phi": torch.atan2(y, x),
        "eta": -(theta.clamp(THETA_MIN, torch.pi - THETA_MIN) / 2).tan().log(),
    }


def _missing(name: str, known: Iterable[str], kind: str, where: str) -> ConfigError:
    return ConfigError(f"no {kind} is called {name!r}", where=where, way_out=nearest(name, known))
