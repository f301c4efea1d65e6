"""PhysioNet 2012 on the real archives: the numbers that data/README.md states, and those that others published."""

import os
from pathlib import Path

import numpy as np
import pytest

from frz.config import read_yaml
from frz.data.physionet2012 import PhysioNet2012
from frz.store import ragged

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("FRZ_REAL_DATA", ROOT.parent / "shared/data")) / "physionet2012"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no PhysioNet archives: {FOLDER} is absent")

EMPTY = {"a": [140501, 140936, 141264], "b": [142731, 142998, 143656, 145611, 147514, 150309, 150649]}


@pytest.fixture(scope="module", params=["a", "b"])
def one(request):
    source = PhysioNet2012(PhysioNet2012.Config(path=str(FOLDER), sets=[request.param]))
    (unit,) = source.units()
    batches = list(source.read(unit))
    arrays = ragged.concat(batches)
    ragged.check(arrays, source.schema)
    return request.param, arrays, source.counted()


def test_stays_deaths_and_empties(one):
    x, arrays, counted = one
    assert len(arrays["event/id"]) == 4000
    assert (arrays["event/label"] == 1).sum() == {"a": 554, "b": 568}[x]
    assert arrays["event/id"][np.diff(arrays["set/offsets"]) == 0].tolist() == EMPTY[x]
    assert counted["stays without observations"] == len(EMPTY[x])
    assert counted["stays of unknown outcome"] == counted["rows without a parameter, left out"] == 0


def test_minutes_with_descriptors_make_the_published_number_of_sets(one):
    """Published counts take descriptors for measurements: each stay then has a set at minute 0."""
    x, arrays, _ = one
    at_0 = arrays["set/minute"] == 0
    stay = np.repeat(np.arange(4000), np.diff(arrays["set/offsets"]))
    without = 4000 - len(np.unique(stay[at_0]))
    n_sets = len(arrays["set/minute"])
    assert n_sets == {"a": 295_352, "b": 295_164}[x]
    assert n_sets + without == {"a": 299_262, "b": 299_065}[x]


def test_elements(one):
    x, arrays, counted = one
    n = np.diff(arrays["element/offsets"])
    assert len(arrays["element/value"]) == {"a": 1_730_218, "b": 1_734_561}[x]
    assert n.max() == {"a": 28, "b": 27}[x]
    assert counted["negative values, left out"] == {"a": 24, "b": 17}[x]
    assert counted["values of one variable in one minute, merged into another"] == {"a": 3738, "b": 3957}[x]
    assert arrays["set/minute"].max() == 2880
    assert len(np.unique(arrays["element/variable"])) == 37


def test_descriptors(one):
    _, arrays, _ = one
    age, gender, height, kind, weight = arrays["event/static"].T
    assert 15 <= age.min() <= age.max() <= 90
    assert set(gender[~np.isnan(gender)]) == {0, 1}
    assert set(kind) == {1, 2, 3, 4}
    assert 0.45 < np.isnan(height).mean() < 0.5
    assert np.isnan(weight).mean() < 0.1


def test_the_shipped_recipe_is_split_as_published():
    settings = read_yaml(ROOT / "data/physionet2012.yaml")
    source = PhysioNet2012(PhysioNet2012.Config(path=str(FOLDER), sets=settings["source"]["sets"]))
    assert settings["split"] == {"seed": 0, **source.split.model_dump(include={"fractions", "published"})}
    parts = source.parts()
    split = source.split.with_groups(parts, "here")
    assert split.runs == {"set-b": ((142675, 152864),)}
    assert len(split.members("test", parts["set-a"])) == 0
    assert len(split.members("test", parts["set-b"])) == 4000
