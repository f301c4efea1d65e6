"""Results on stdout: one JSON document for machines, tables for people.

Particular: JSON has no NaN, so a number that is not finite becomes null; people see `nan`.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

MOST_COLUMNS = 8
"""Wider tables are turned where that makes them narrower."""

LONG = 1e7
"""Numbers from here on are told by four digits and a power of ten, unless they count something."""

PIPED_WIDTH = 200
"""Columns for tables that do not go to a terminal; rich would cut them at 80."""


def emit(result: Mapping[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """Print the result of a command on stdout."""
    if as_json:
        typer.echo(json.dumps(_finite(_plain(result)), indent=1, allow_nan=False))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False)
    for table in _tables("", _plain(result)):
        # A title of rich is wrapped to the width of its table.
        if title := table.title:
            table.title = None
            console.print(title, style="italic")
        console.print(table)


def fail(message: str) -> None:
    """Print the one line of an error on stderr, red on a terminal."""
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)


def _plain(value: Any) -> Any:
    """The value in terms of JSON: paths as text, numpy numbers and arrays as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path) or hasattr(value, "joinpath"):  # the second: of an object store
        return str(value)
    # numpy and torch values know how to become Python's; this module need not import either.
    return value.tolist() if hasattr(value, "tolist") else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tables(title: str, value: Any) -> "Iterable[Table]":
    """Rows for a list of mappings; else key and value, then what is nested: alike mappings as rows of one table."""
    if isinstance(value, list):
        yield _rows(title, value)
        return
    flat = {key: item for key, item in value.items() if not _is_nested(item)}
    if flat:
        yield _pairs(title, flat)
    alike = {key: item for key, item in value.items() if isinstance(item, dict) and item and _is_flat(item)}
    if len(alike) > 1 and set.intersection(*(set(item) for item in alike.values())):
        yield _rows("" if flat else title, _as_rows(alike))
    else:
        alike = {}
    for key, item in value.items():
        if _is_nested(item) and key not in alike:
            yield from _tables(f"{title}.{key}" if title else key, item)


def _as_rows(alike: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per mapping; where that is wider than long, one row per key."""
    keys = list(dict.fromkeys(key for item in alike.values() for key in item))
    if len(keys) > 2 * len(alike) and len(keys) > MOST_COLUMNS:
        return [{"": key, **{name: item.get(key) for name, item in alike.items()}} for key in keys]
    return [{"": name, **item} for name, item in alike.items()]


def _is_nested(value: Any) -> bool:
    return bool(value) and (isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict)))


def _is_flat(value: dict[str, Any]) -> bool:
    return not any(_is_nested(item) for item in value.values())


def _pairs(title: str, values: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        table.add_row(key, _cell(value))
    return table


def _rows(title: str, rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title or None, title_justify="left", box=None, header_style="bold")
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < LONG else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value) or "-"
    return json.dumps(value) if isinstance(value, dict) else str(value)
