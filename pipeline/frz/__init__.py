"""Freeze a backbone once, train heads on its features in seconds.

`frz.open(name)` reads a data set or a feature store; everything else is on the command line (`frz --help`).
"""

from typing import TYPE_CHECKING

from frz.errors import FrzError

if TYPE_CHECKING:
    from pathlib import Path

    from frz.view import StoreView

__all__ = ["FrzError", "open"]


def open(name: "str | Path", version: int | None = None, verify: bool = False) -> "StoreView":
    """Open an event store for reading: numpy, torch, dask and pandas views in a line each.

    Parameters
    ----------
    name : str or Path
        Folder of a data set or feature store (`artifacts/datasets/muon-sim`), or its name as the commands take it
        (`muon-sim`, `muon-sim@2`), looked for in FRZ_ARTIFACTS or `./artifacts`.
    version : int, optional
        Default the newest, or the one named.
    verify : bool
        Compare the checksum of each array of a part on first use. Sizes are always compared.

    Raises
    ------
    FrzError
        If there is no store of that name, naming the nearest, or no such version, or it is damaged.
    """
    from frz import artifacts
    from frz.view import StoreView  # late: `import frz` stays quick

    found = artifacts.find(str(name), artifacts.root(), ("datasets", "features"))
    return StoreView(found.path, found.version if version is None else version, verify)
