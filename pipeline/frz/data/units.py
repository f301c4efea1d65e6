"""From a unit of a source to the arrays of its parts, and the keys that say what they were made from."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from frz.config import digest_of, import_class, parse
from frz.data.source import SOURCES, Source, Unit
from frz.errors import ConfigError, SourceError
from frz.store.cut import PartLimits, cut
from frz.store.keys import KEY_BYTES
from frz.store.schema import ID, KEY, Array, EventArrays, Schema

EVENTS = "events"
"""The group of the arrays that a source fills."""
KEY_ARRAY = Array(dtype="uint8", shape=(KEY_BYTES,), role="meta", description="hash of the id and the inputs")


def open_source(values: Mapping[str, Any], where: str) -> tuple[str, Source]:
    """The source that the section `source` of a recipe describes, and its kind.

    Raises
    ------
    ConfigError
        If there is no such source, or it has no such settings.
    """
    settings = dict(values)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError("key 'source.kind' is missing", where=where, way_out=f"known: {', '.join(SOURCES)}")
    source_class = import_class(kind, SOURCES, "source")
    source: Source = source_class(parse(source_class.Config, settings, f"{where}: source"))
    return kind, source


def stored_schema(source: Source) -> Schema:
    """What is stored of a source: its arrays, and the event keys."""
    return source.schema.model_copy(update={"arrays": {**source.schema.arrays, KEY: KEY_ARRAY}})


def unit_key(kind: str, source: Source, unit: Unit, limits: PartLimits) -> str:
    """What the parts of a unit are made from."""
    return digest_of([kind, source.version, unit.digest, limits.model_dump(), stored_schema(source).digest()])


def part_key(unit: str, number: int) -> str:
    """Key of a part: the key of its unit, and which of the unit's parts it is."""
    return digest_of([unit, number])


def cut_unit(source: Source, unit: Unit, limits: PartLimits) -> Iterator[EventArrays]:
    """The events of a unit, part by part, without their keys.

    Raises
    ------
    SourceError
        If a value is not finite where it must be, or the source cannot be read.
    """
    return cut(_checked(source, unit), source.schema, limits)


def _checked(source: Source, unit: Unit) -> Iterator[EventArrays]:
    """The batches of a unit; a value that is not finite is an error that names event and column."""
    for batch in source.read(unit):
        for name, spec in source.schema.arrays.items():
            values = batch[name]
            if values.dtype.kind != "f":
                continue
            sound = ~np.isinf(values) if name in source.may_miss else np.isfinite(values)
            if sound.all():
                continue
            row = int(np.argmin(sound.reshape(len(values), -1).all(axis=1)))
            column = int(np.argmin(sound[row].reshape(-1)))
            field = f"{name}[{spec.columns[column]}]" if spec.columns else name
            event = _event_of_row(batch, source.schema, name, row)
            raise SourceError(
                f"{field} of event {event} is {values[row].reshape(-1)[column]}",
                where=unit.name,
                way_out="mend the input or cut the event",
            )
        yield batch


def _event_of_row(batch: EventArrays, schema: Schema, name: str, row: int) -> int:
    """Id of the event that holds a row of an array."""
    for axis in reversed(schema.lineage(name.partition("/")[0])):
        length = schema.axes[axis].length
        if length is None:
            row = int(np.searchsorted(batch[f"{axis}/offsets"], row, side="right")) - 1
        else:
            row //= length
    return int(batch[ID][row])
