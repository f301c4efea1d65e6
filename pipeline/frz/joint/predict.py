"""`frz predict`: backbone and head over a data set, to a file with one row per predicted object.

Where the features of that version are stored, made as the head's were, they are read and no backbone runs.
"""

import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz import artifacts as names
from frz.config import import_extra
from frz.errors import ConfigError
from frz.extract.opening import open_both
from frz.extract.settings import Settings
from frz.heads.features import stored_features
from frz.heads.run import load_head
from frz.heads.run import predict as run_head
from frz.joint.on_the_fly import FrozenFeatures
from frz.location import make_place
from frz.progress import note, progress
from frz.store import atomic, ragged
from frz.store.reader import EventStore
from frz.store.schema import EVENT, ID, EventArrays, Schema, axis_of
from frz.store.table import EventTable, Reader


def predict(head: str, artifacts: Path, data: str, out: Path) -> dict[str, Any]:
    """Apply a head and the backbone it was trained on to a data set.

    Parameters
    ----------
    head : str
        A head: name, run or file.
    artifacts : Path
        Where artifacts lie; features and backbone are found there by the fingerprint of the weights.
    data : str
        A data set; it need not have truth.
    out : Path
        A local `.parquet` or `.csv` file: `event_id`, what the head keeps of each object (`slot_query`, `slot_valid`)
        and its predictions, one row per object. Written whole or not at all.

    Returns
    -------
    dict
        Path, events and rows written, and where the features were read (None: the backbone ran).

    Raises
    ------
    FrzError
        If head, backbone and data set do not fit, or the disk is full.
    """
    pyarrow, parquet, csv = (import_extra(name, "parquet") for name in ("pyarrow", "pyarrow.parquet", "pyarrow.csv"))
    writers = {".parquet": parquet.ParquetWriter, ".csv": csv.CSVWriter}
    if out.suffix not in writers:
        way_out = f"give a name that ends in {' or '.join(writers)}"
        raise ConfigError("cannot tell the format from the name", where=str(out), way_out=way_out)
    make_place(out)
    _, about = load_head(head, artifacts)
    features, bounds = _features(about, data, artifacts)
    trained, _ = load_head(head, artifacts, features.schema)

    atomic.sweep(artifacts / "tmp")
    scratch = atomic.scratch(artifacts / "tmp")
    writer: Any = None
    n_rows = 0
    try:
        with atomic.full_disk(out), progress("predict", total=features.n_events, unit="event") as bar:
            for first, last in pairwise(bounds):
                prepared = trained.prepare(features.range(first, last, trained.needs))
                table = EventTable(trained.prepared, prepared)
                made = run_head(trained, table, np.arange(last - first))
                rows = pyarrow.table(_rows(prepared, made, trained.prepared))
                writer = writer or writers[out.suffix](scratch, rows.schema)
                writer.write_table(rows)
                n_rows += rows.num_rows
                bar.advance(last - first)
            writer.close()
            shutil.move(scratch, out)
    finally:
        scratch.unlink(missing_ok=True)
    return {
        "path": str(out),
        "events": features.n_events,
        "rows": n_rows,
        "fingerprint": about["features"]["fingerprint"],
        "features": str(features.root) if isinstance(features, EventStore) else None,
    }


def _features(head: Mapping[str, Any], data: str, artifacts: Path) -> tuple[Reader, list[int]]:
    """Features of a data set as the head wants them, stored or made when they are read, and where their parts begin."""
    source = EventStore(*names.dataset(data, artifacts))
    which = f"{source.snapshot.name}@{source.snapshot.version}"
    stored = stored_features(head, source, artifacts)
    if stored is not None:
        note(f"reads the features of {which} that are stored ({stored.root}, version {stored.snapshot.version})")
        return stored, stored.part_bounds.tolist()
    note(f"runs backbone {head['features']['backbone']}: no complete features of {which} are stored")
    weights = names.weights_of(head["features"]["backbone"], head["features"]["fingerprint"], artifacts)
    frozen, source = open_both(weights, artifacts, data)
    settings = Settings.of_store(head["features"]["recipe"], Schema.model_validate(head["event_schema"]))
    return FrozenFeatures(frozen, source, settings, batching="run"), source.part_bounds.tolist()


def _rows(prepared: EventArrays, made: EventArrays, schema: Schema) -> dict[str, NDArray[Any]]:
    """Columns of the file, of the objects that the predictions are about."""
    axis = axis_of(next(iter(made)))
    owner = prepared[ID] if axis == EVENT else np.repeat(prepared[ID], ragged.lengths(prepared, schema, axis))
    columns = {"event_id": owner}
    for name in (f"{axis}/query", f"{axis}/valid"):
        if name in prepared:
            columns[name.replace("/", "_")] = prepared[name]
    return columns | {name.replace("/", "_"): values for name, values in made.items()}
