"""The layout of SeqSetVAE: what is read, what is counted, and what is refused."""

import re

import numpy as np
import pyarrow
import pytest
from made_up_seqset import NAMES, read, write_all, write_stay

from frz.data.build import build
from frz.data.seqset import SeqSet
from frz.errors import ConfigError, FrzError, SourceError
from frz.store import EventStore, ragged
from frz.store.schema import ID


@pytest.fixture
def folder(tmp_path):
    return write_all(tmp_path / "data")


def recipe(folder, **more):
    return {"name": "seqset", "source": {"kind": "seqset", "path": str(folder), **more}}


def one(tmp_path, stay_rows, **more):
    """A data set whose training part is this stay."""
    folder = write_all(tmp_path / "one")
    for path in (folder / "patient_ehr/train").iterdir():
        path.unlink()
    write_stay(folder / "patient_ehr/train/7.parquet", stay_rows, **more)
    return folder


def test_rows_become_sets_of_one_minute(tmp_path):
    given = [(30, "HR", 90), (2.5, "Weight", 70), (30, "FiO2", 0.5), (2.5, "HR", 88), (30, "HR", 100)]
    source, arrays = read(one(tmp_path, given))
    at = int(np.flatnonzero(arrays[ID] == 7)[0])
    got = ragged.take(arrays, source.schema, np.array([at]))
    assert got["set/minute"].tolist() == [2.5, 30]
    assert got["element/offsets"].tolist() == [0, 2, 4]
    names = source.schema.static["variable/code"].columns
    assert names == NAMES
    assert [names[code] for code in got["element/variable"]] == ["HR", "Weight", "HR", "FiO2"]
    assert got["element/value"].tolist() == [88, 70, 95, 0.5]


def test_labels_and_parts_are_as_published_and_a_missing_label_is_not_0(folder, tmp_path):
    made = build(recipe(folder), tmp_path)
    store = EventStore(tmp_path / "datasets/seqset")
    label = dict(zip(store.array(ID).tolist(), store.array("event/label").tolist(), strict=True))
    assert label == {**{i: i % 2 for i in (1, 2, 3, 4, 5, 6, 11, 21, 22, 23)}, 12: -1, 13: -1}
    members = {name: sorted(store.array(ID)[store.split(name)].tolist()) for name in ("train", "val", "test")}
    assert members == {"train": [1, 2, 3, 4, 5, 6], "val": [11, 12, 13], "test": [21, 22, 23]}
    assert made["counted"]["stays of unknown outcome"] == 2
    assert made["counted"]["stays without observations"] == 1
    assert made["counted"]["stays"] == made["events"] == 12


def test_static_arrays_have_the_tables_in_the_order_of_the_codes(folder):
    source = SeqSet(SeqSet.Config(path=str(folder), embedding="cached.csv"))
    static = source.static()
    assert static["variable/stats"].tolist() == [[i + 0.5, i + 1] for i in range(4)]
    assert static["variable/embedding"].tolist() == [[3 - i, i - 3, 0.5] for i in range(4)]
    assert "variable/embedding" not in SeqSet(SeqSet.Config(path=str(folder))).static()


@pytest.mark.parametrize("std", ["", "0", "nan", "-1"])
def test_a_scale_that_is_none_is_1_and_a_mean_that_is_lacking_0(folder, std):
    (folder / "stats.csv").write_text(f"variable,mean,std\nHR,,{std}\n")
    assert SeqSet(SeqSet.Config(path=str(folder))).static()["variable/stats"].tolist() == [[0, 1]]


def test_an_unknown_variable_is_named_or_left_out_and_counted(tmp_path):
    folder = one(tmp_path, [(1, "HR", 80), (2, "Hr", 80), (2, "FiO2", 1), (3, "Hr", 1)])
    where = re.escape(str(folder / "patient_ehr/train/7.parquet"))
    with pytest.raises(SourceError, match=rf"{where}: row 2: unknown variable 'Hr'; have: .*source.unknown=drop"):
        read(folder)
    source, arrays = read(folder, unknown="drop")
    got = ragged.take(arrays, source.schema, np.flatnonzero(arrays[ID] == 7))
    assert got["set/minute"].tolist() == [1, 2]
    made = build(recipe(folder, unknown="drop"), tmp_path)
    assert made["counted"]["rows of an unknown variable, left out"] == 2


def test_rows_without_a_value_are_left_out_and_counted(tmp_path):
    folder = one(tmp_path, [(1, "HR", None), (2, "HR", float("nan")), (3, "HR", 80)])
    made = build(recipe(folder), tmp_path)
    assert made["counted"]["rows without a value, left out"] == 2
    store = EventStore(tmp_path / "datasets/seqset")
    assert store.events(np.flatnonzero(store.array(ID) == 7), ["set/minute"])["set/minute"].tolist() == [3]


@pytest.mark.parametrize(
    ("stay_rows", "index", "message"),
    [
        ([(1, "HR", 1), (-1, "HR", 1)], None, "row 2: minute is missing, negative or infinite"),
        ([(None, "HR", 1)], None, "row 1: minute is missing"),
        ([(float("inf"), "HR", 1)], None, "row 1: minute is missing, negative or infinite"),
        ([(1, "HR", 1), (1, "FiO2", 1e39)], None, "row 2: value is infinite or beyond float32"),
        ([(1, None, 1)], None, "row 1: unknown variable None"),
        ([(1, "HR", 1), (2, "HR", 1), (3, "HR", 1)], [0, 1, 1], "set_index 1 has rows of minute 2 and 3"),
    ],
)
def test_unsound_rows_are_refused_by_file_and_row(tmp_path, stay_rows, index, message):
    with pytest.raises(SourceError, match=rf"7\.parquet: {message}"):
        read(one(tmp_path, stay_rows, index=index))


def test_a_set_index_that_agrees_with_the_minutes_changes_nothing(tmp_path):
    given = [(1, "HR", 1), (1, "FiO2", 2), (4, "HR", 3)]
    plain, indexed = (read(one(tmp_path / str(i), given, index=i))[1] for i in (None, [7, 7, 9]))
    for name, values in plain.items():
        np.testing.assert_array_equal(values, indexed[name])


def test_damaged_files_and_wrong_columns_are_refused_by_name(folder):
    path = folder / "patient_ehr/train/2.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"train/2\.parquet: cannot be read"):
        read(folder)
    pyarrow.parquet.write_table(pyarrow.table({"variable": ["HR"], "val": [1.0], "minute": [1.0]}), path)
    with pytest.raises(SourceError, match=r"train/2\.parquet: has no column 'value'.*'val'"):
        read(folder)
    pyarrow.parquet.write_table(pyarrow.table({"variable": ["HR"], "value": ["high"], "minute": [1.0]}), path)
    with pytest.raises(SourceError, match=r"train/2\.parquet: cannot be read"):
        read(folder)
    path.rename(path.with_name("patient.parquet"))
    with pytest.raises(SourceError, match=r"patient\.parquet: is not called after the number of a stay"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stats.csv", "variable,mean\nHR,1\n", "has no column 'std'"),
        ("stats.csv", "variable,mean,std\nHR,1,1\nHR,1,1\n", "column 'variable' names 'HR' twice"),
        ("stats.csv", "variable,mean,std\n", "column 'variable' is empty"),
        ("stats.csv", "variable,mean,std\nHR,1,one\n", "cannot be read"),
        ("stats.csv", "variable,mean,std\nHR,1,1e39\n", "variable 'HR' is missing or beyond float32"),
        ("cached.csv", "Key,0\nHR,1\nWeight,1\nFiO2,1\n", "has no row for variable 'pH, arterial'"),
        ("cached.csv", 'Key,0\nHR,1\nWeight,1\nFiO2,1\n"pH, arterial",\n', "variable 'pH, arterial' is missing"),
        ("cached.csv", 'Key,0\nHR,a\nWeight,1\nFiO2,1\n"pH, arterial",1\n', "is no table of numbers"),
        ("oc.csv", "ts_id,in_hospital_mortality\n1.5,0\n", "ts_id of row 1 is no whole number"),
        ("oc.csv", "ts_id,in_hospital_mortality\n4,2\n", "stay 4: in_hospital_mortality is 2, neither 0 nor 1"),
        ("oc.csv", "ts_id,in_hospital_mortality\n4,0\n4.0,1\n", "stay 4 stands twice"),
        ("oc.csv", "id,in_hospital_mortality\n4,0\n", "has no column 'ts_id'"),
    ],
)
def test_tables_that_are_not_sound_are_refused(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(SourceError, match=rf"{re.escape(name)}: .*{re.escape(message)}"):
        read(folder, embedding="cached.csv")


@pytest.mark.parametrize("name", ["stats.csv", "oc.csv", "cached.csv"])
def test_a_missing_table_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(SourceError, match=rf"{re.escape(name)}: no such file"):
        read(folder, embedding="cached.csv")


def test_a_stay_in_two_parts_is_refused(folder, tmp_path):
    (folder / "patient_ehr/valid/2.parquet").write_bytes((folder / "patient_ehr/train/2.parquet").read_bytes())
    with pytest.raises(SourceError, match="group 2 is published in train and valid"):
        build(recipe(folder), tmp_path)


def test_a_part_that_is_lacking_is_named(folder, tmp_path):
    for path in (folder / "patient_ehr/test").iterdir():
        path.unlink()
    (folder / "patient_ehr/test").rmdir()
    with pytest.raises(ConfigError, match="no part 'test'; parts: train, valid"):
        build(recipe(folder), tmp_path)
    made = build(recipe(folder) | {"split": {"published": {"valid": "test"}}}, tmp_path)
    assert made["splits"] == {"train": 6, "val": 0, "test": 3}
    with pytest.raises(FrzError, match="no folder of stays"):
        build(recipe(folder, stays="elsewhere"), tmp_path)


def test_units_follow_files_and_labels_alone(folder):
    def digests():
        return {unit.name: unit.digest for unit in SeqSet(SeqSet.Config(path=str(folder))).units()}

    before = digests()
    assert set(before) == {"test 1 of 1", "train 1 of 1", "valid 1 of 1"}
    labels = folder / "oc.csv"
    labels.write_text(labels.read_text().replace("11.0,1", "11.0,0") + "999,1\n")
    after = digests()
    assert [name for name in before if before[name] != after[name]] == ["valid 1 of 1"]
    write_stay(folder / "patient_ehr/test/22.parquet", [(1, "HR", 1)])
    last = digests()
    assert [name for name in after if after[name] != last[name]] == ["test 1 of 1"]


def test_many_stays_are_dealt_to_units_that_another_stay_hardly_changes(folder, monkeypatch):
    monkeypatch.setattr("frz.data.seqset.source.UNIT", 2)

    def digests():
        return {unit.name: unit.digest for unit in SeqSet(SeqSet.Config(path=str(folder))).units()}

    before = digests()
    assert sum(name.startswith("train") for name in before) > 1
    write_stay(folder / "patient_ehr/train/8.parquet", [(1, "HR", 1)])
    after = digests()
    assert len({*before.items()} ^ {*after.items()}) <= 2
    assert sorted(read(folder)[1][ID].tolist()) == [1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 21, 22, 23]
