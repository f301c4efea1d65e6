"""Made-up stays in intensive care, in the files of PhysioNet 2012."""

from pathlib import Path

import numpy as np
from made_up_velo import write_archive

from frz.data.physionet2012 import PhysioNet2012
from frz.data.physionet2012.records import VARIABLES
from frz.store import ragged

HEADER = "Time,Parameter,Value"
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"


def admission(number, age=54, gender=1, height=175.3, kind=2, weight=-1):
    values = {"RecordID": number, "Age": age, "Gender": gender, "Height": height, "ICUType": kind, "Weight": weight}
    return [f"00:00,{name},{value}" for name, value in values.items()]


def text(rows):
    return "".join(f"{row}\n" for row in (HEADER, *rows))


def stay(number, rng, n_rows=60):
    """A random stay; its rows are in order of time, some variables stand twice in a minute."""
    minutes = np.sort(rng.integers(0, 2881, n_rows))
    names = rng.choice([name for name in VARIABLES if name != "Weight"], n_rows)
    values = rng.integers(1, 2000, n_rows) / 10
    rows = zip(minutes, names, values, strict=True)
    return text(admission(number) + [f"{m // 60:02}:{m % 60:02},{name},{value}" for m, name, value in rows])


def stays(first, n=5, seed=0):
    rng = np.random.default_rng(seed)
    return {number: stay(number, rng) for number in range(first, first + n)}


def write_set(folder: Path, x, files, deaths=()) -> Path:
    """An archive and its outcomes; `files` has the text of each stay."""
    write_archive(folder / f"set-{x}.tar.gz", {f"set-{x}/{number}.txt": body for number, body in files.items()})
    rows = [f"{number},10,5,8,-1,{int(number in deaths)}" for number in files]
    (folder / f"Outcomes-{x}.txt").write_text("\n".join([OUTCOMES, *rows]) + "\n")
    return folder


def write_both(folder: Path) -> Path:
    """Sets a and b; one stay is empty."""
    write_set(folder, "a", stays(1000) | {1005: text(admission(1005))}, deaths=(1001,))
    return write_set(folder, "b", stays(2000, 3, seed=1), deaths=(2002,))


def recipe(folder, **more):
    return {"name": "icu", "source": {"kind": "physionet2012", "path": str(folder)}, **more}


def read(folder, **settings):
    source = PhysioNet2012(PhysioNet2012.Config(path=str(folder), **settings))
    return source, ragged.concat([batch for unit in source.units() for batch in source.read(unit)])
