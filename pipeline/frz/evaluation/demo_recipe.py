"""What a demo of one family of backbones is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from frz.evaluation.settings import DemoSettings

Values: TypeAlias = dict[str, Any]
Tables: TypeAlias = tuple[Values, Mapping[str, Any] | None]


@dataclass(frozen=True)
class Recipe:
    """Data, configs and tables of a demo.

    A package has no `configs/`, so that models stand here again; a test compares them with those that are shipped.
    """

    name: str
    """Data set, backbone, head and the folder of the report are called so."""
    sizes: Mapping[str, int]
    """Defaults of `DemoSettings`."""
    source: Callable[[DemoSettings], Values]
    """`source` of the data set."""
    backbone: Callable[[DemoSettings], Values]
    """Config of Stage 1."""
    head: Callable[[DemoSettings], Values]
    """Config of Stage 2."""
    tables: Callable[[Path, Mapping[str, Any]], Tables]
    """From artifacts and what `evaluate_head` says to what is printed, and to tracking for the report, if any."""
    by: tuple[str, ...] = ()
    """Columns whose parts are measured apart."""
