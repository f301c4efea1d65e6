"""`frz predict`: backbone and head over a data set, to a file with one row per predicted object."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz import artifacts as names
from frz.config import import_extra
from frz.errors import ConfigError
from frz.extract.opening import open_both
from frz.extract.settings import Settings
from frz.heads.run import load_head
from frz.heads.run import predict as run_head
from frz.joint.on_the_fly import FrozenFeatures
from frz.location import refuse_remote
from frz.progress import progress
from frz.store import atomic, ragged
from frz.store.schema import EVENT, ID, EventArrays, Schema, axis_of
from frz.store.table import EventTable


def predict(head: str, artifacts: Path, data: str, out: Path) -> dict[str, Any]:
    """Apply a head and the backbone it was trained on to a data set.

    Parameters
    ----------
    head : str
        A head: name, run or file.
    artifacts : Path
        Where artifacts lie; the backbone is found there by its fingerprint.
    data : str
        A data set; it need not have truth.
    out : Path
        A local `.parquet` or `.csv` file: `event_id`, what the head keeps of each object (`slot_query`, `slot_valid`)
        and its predictions, one row per object. Written whole or not at all.

    Returns
    -------
    dict
        Path, events and rows written.

    Raises
    ------
    FrzError
        If head, backbone and data set do not fit, or the disk is full.
    """
    pyarrow, parquet, csv = (import_extra(name, "parquet") for name in ("pyarrow", "pyarrow.parquet", "pyarrow.csv"))
    writers = {".parquet": parquet.ParquetWriter, ".csv": csv.CSVWriter}
    refuse_remote(out)
    if out.is_dir():
        raise ConfigError("is a folder", where=str(out), way_out=f"give a file, such as {out / 'predictions.parquet'}")
    if out.suffix not in writers:
        way_out = f"give a name that ends in {' or '.join(writers)}"
        raise ConfigError("cannot tell the format from the name", where=str(out), way_out=way_out)
    out.parent.mkdir(parents=True, exist_ok=True)
    _, about = load_head(head, artifacts)
    weights = names.weights_of(about["features"]["backbone"], about["features"]["fingerprint"], artifacts)
    frozen, source = open_both(weights, artifacts, data)
    settings = Settings.of_store(about["features"]["recipe"], Schema.model_validate(about["event_schema"]))
    features = FrozenFeatures(frozen, source, settings, batching="run")
    trained, _ = load_head(head, artifacts, features.schema)

    atomic.sweep(artifacts / "tmp")
    scratch = atomic.scratch(artifacts / "tmp")
    writer: Any = None
    n_rows = 0
    try:
        with atomic.full_disk(out), progress("predict", total=source.n_events, unit="event") as bar:
            for first, last in zip(source.part_bounds[:-1].tolist(), source.part_bounds[1:].tolist(), strict=True):
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
    return {"path": str(out), "events": source.n_events, "rows": n_rows, "fingerprint": frozen.fingerprint.value}


def _rows(prepared: EventArrays, made: EventArrays, schema: Schema) -> dict[str, NDArray[Any]]:
    """Columns of the file, of the objects that the predictions are about."""
    axis = axis_of(next(iter(made)))
    owner = prepared[ID] if axis == EVENT else np.repeat(prepared[ID], ragged.lengths(prepared, schema, axis))
    columns = {"event_id": owner}
    for name in (f"{axis}/query", f"{axis}/valid"):
        if name in prepared:
            columns[name.replace("/", "_")] = prepared[name]
    return columns | {name.replace("/", "_"): values for name, values in made.items()}
