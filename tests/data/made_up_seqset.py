"""Made-up stays in the layout of SeqSetVAE."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from frz.data.seqset import SeqSet
from frz.store import ragged

NAMES = ("HR", "pH, arterial", "Weight", "FiO2")


def write_stay(path: Path, rows, index=None, **columns) -> Path:
    """A file; rows are (minute, variable, value)."""
    minute, variable, value = zip(*rows, strict=True) if rows else ((), (), ())
    table = {
        "variable": pyarrow.array(variable, pyarrow.string()),
        "value": pyarrow.array(value, pyarrow.float64()),
        "minute": pyarrow.array(minute, pyarrow.float64()),
        **({} if index is None else {"set_index": pyarrow.array(index, pyarrow.int64())}),
        **columns,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


def rows(rng, n=30):
    minute = np.sort(rng.integers(0, 400, n)) / 2
    names = rng.choice(NAMES, n)
    return list(zip(minute.tolist(), names.tolist(), rng.normal(size=n).tolist(), strict=True))


def write_all(folder: Path, seed=0) -> Path:
    """Stays 1 to 6, 11 to 13 and 21 to 23; stay 3 has no observations, stay 12 no label and stay 13 an empty one."""
    rng = np.random.default_rng(seed)
    for part, first, last in (("train", 1, 6), ("valid", 11, 13), ("test", 21, 23)):
        for stay in range(first, last + 1):
            name = f"{stay}.0" if stay % 2 else f"{stay}"
            write_stay(folder / "patient_ehr" / part / f"{name}.parquet", [] if stay == 3 else rows(rng))
    lines = [f'"{name}",{i}.5,{i + 1}' for i, name in enumerate(NAMES)]
    (folder / "stats.csv").write_text("\n".join(["variable,mean,std", *lines]) + "\n")
    labels = [f"{stay}.0,{stay % 2}" for stay in (*range(1, 7), 11, 21, 22, 23)] + ["13.0,"]
    (folder / "oc.csv").write_text("\n".join(["ts_id,in_hospital_mortality", *labels]) + "\n")
    table = [f'"{name}",{i},{-i},0.5' for i, name in enumerate(reversed(NAMES))]
    (folder / "cached.csv").write_text("\n".join(["Key,0,1,2", *table]) + "\n")
    return folder


def read(folder, **settings):
    source = SeqSet(SeqSet.Config(path=str(folder), **settings))
    arrays = ragged.concat([batch for unit in source.units() for batch in source.read(unit)])
    ragged.check(arrays, source.schema)
    return source, arrays
