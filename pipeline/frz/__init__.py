"""Freeze a backbone once, train heads on its features in seconds.

`frz.open(path)` reads a data set or a feature store; everything else is on the command line (`frz --help`).
"""

from typing import TYPE_CHECKING

from frz.errors import FrzError

if TYPE_CHECKING:
    from frz.view import StoreView

__all__ = ["FrzError", "open"]


def open(path: str, version: int | None = None, verify: bool = False) -> "StoreView":
    """Open an event store for reading: numpy, torch, dask and pandas views in a line each.

    Parameters
    ----------
    path : str
        Folder of a data set or feature store (`artifacts/datasets/<name>`).
    version : int, optional
        Default the newest.
    verify : bool
        Compare the checksum of each array of a part on first use. Sizes are always compared.

    Raises
    ------
    StoreError
        If there is no store or no such version, or it is damaged.
    """
    from frz.view import StoreView  # late: `import frz` stays quick

    return StoreView(path, version, verify)
