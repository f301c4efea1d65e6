"""PhysioNet 2012: rows as they are published, with all their quirks, and what is refused."""

import gzip
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_stays import admission, read, recipe, stays, text, write_both, write_set

from frz.data.build import build
from frz.data.physionet2012 import PhysioNet2012
from frz.data.physionet2012.records import UNITS, VARIABLES, parse
from frz.errors import FrzError, SourceError
from frz.store import EventStore
from frz.store.schema import ID


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return write_both(tmp_path / "files")


def counted(*texts):
    counts: Counter[str] = Counter()
    arrays = parse([str(i) for i in range(len(texts))], [body.encode() for body in texts], counts)
    return arrays, counts


def elements(arrays):
    """(minute, variable, value) of every element."""
    minute = np.repeat(arrays["set/minute"], np.diff(arrays["element/offsets"]))
    names = [VARIABLES[code] for code in arrays["element/variable"]]
    return list(zip(minute.tolist(), names, arrays["element/value"].tolist(), strict=True))


def test_there_are_37_variables_with_a_unit_each():
    assert len(VARIABLES) == len(set(VARIABLES)) == len(UNITS.split(", ")) == 37


def test_descriptors_stand_anywhere_in_minute_0_and_are_no_measurements():
    rows = [
        "00:00,RecordID,0", "00:00,Age,54", "00:00,ICUType,4", "00:00,GCS,15", "00:00,Gender,0", "00:00,Height,-1",
        "00:00,HR,73", "00:00,Weight,70.8", "00:00,Weight,70.4", "01:30,Weight,71",
    ]  # fmt: skip
    arrays, _ = counted(text(rows))
    np.testing.assert_array_equal(arrays["event/static"], np.array([[54, 0, np.nan, 4, 70.8]], np.float32))
    assert elements(arrays) == [
        (0, "GCS", 15), (0, "HR", 73), (0, "Weight", np.float32(70.4)), (90, "Weight", 71)
    ]  # fmt: skip


def test_a_gender_that_is_not_known_and_a_weight_below_0_are_nan():
    arrays, _ = counted(text(admission(0, gender=-1, weight=-1, height=-1)))
    assert np.isnan(arrays["event/static"]).tolist() == [[False, True, True, False, True]]


def test_negative_values_rows_without_a_parameter_and_repeats_are_counted():
    rows = ["00:07,HR,73", "00:07,Temp,-17.8", "00:08,,5", "00:09,,", "48:00,Urine,100", "48:00,Urine,300"]
    arrays, counts = counted(text(admission(0) + rows), text(admission(1)))
    assert elements(arrays) == [(7, "HR", 73), (2880, "Urine", 200)]
    assert arrays["set/offsets"].tolist() == [0, 2, 2]
    assert counts == {
        "stays": 2,
        "stays without observations": 1,
        "rows without a parameter, left out": 2,
        "negative values, left out": 1,
        "values of one variable in one minute, merged into another": 1,
    }


def test_a_minute_of_missing_values_is_no_set():
    arrays, _ = counted(text([*admission(0), "00:05,Temp,-1", "00:06,HR,1"]))
    assert arrays["set/minute"].tolist() == [6]


def test_ends_of_lines_do_not_matter():
    body = text([*admission(0), "00:05,HR,1e-02", "00:06,pH,7.45"])
    plain, _ = counted(body)
    for other in (body.replace("\n", "\r\n"), body.rstrip("\n")):
        assert all(np.array_equal(plain[name], counted(other)[0][name], equal_nan=True) for name in plain)


VALUES = st.floats(0, 1e6).map(lambda value: f"{value:.6g}")
SOME_ROWS = st.lists(st.tuples(st.integers(0, 2880), st.sampled_from(VARIABLES), VALUES), max_size=40)


@given(st.lists(SOME_ROWS, min_size=1, max_size=4))
def test_rows_are_what_a_loop_reads(of_stays):
    files = []
    for number, rows in enumerate(of_stays):
        files.append(text(admission(number) + [f"{m // 60:02}:{m % 60:02},{name},{value}" for m, name, value in rows]))
    arrays, _ = counted(*files)
    expected = []
    for rows in of_stays:
        held: dict = {}
        for minute, name, value in rows:
            held.setdefault((minute, VARIABLES.index(name)), []).append(float(value))
        expected += [(m, VARIABLES[code], np.float32(np.mean(held[m, code]))) for m, code in sorted(held)]
    assert elements(arrays) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("00:07,HR", "cannot be read, expected HH:MM,parameter,value"),
        ("00:07,HR,73,1", "cannot be read"),
        ("0:07,HR,73", "cannot be read"),
        ("00:61,HR,73", "cannot be read"),
        ("00-07,HR,73", "cannot be read"),
        ("00:07,HR,", "cannot be read"),
        ("", "cannot be read"),
        ("00:07,HR," + "1" * 40, "cannot be read"),
        ("00:07,Hr,73", "unknown parameter 'Hr'"),
        ("00:07,TroponinTroponinT,73", "unknown parameter 'TroponinTroponinT'"),
        ("00:07,HR,high", "the value is not a number"),
        ("00:07,HR,7 3", "the value is not a number"),
        ("00:07,HR,nan", "the value is not a finite number"),
        ("00:07,HR,1e39", "the value is not a finite number"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row, message):
    body = text([*admission(1), "00:05,HR,1", row, "00:08,HR,1"])
    with pytest.raises(SourceError, match=rf"stay 1: line 9 \('{re.escape(row[:60])}'\): {message}"):
        counted(text(admission(0)), body)


def test_files_of_other_stays_or_without_a_header_are_refused():
    with pytest.raises(SourceError, match="stay 0: RecordID says 9"):
        counted(text(admission(9)))
    with pytest.raises(SourceError, match="stay 1: RecordID is missing"):
        counted(text(admission(0)), text(["00:07,HR,73"]))
    with pytest.raises(SourceError, match="stay 0: the first line is not Time,Parameter,Value"):
        counted(text(admission(0)).replace("Time", "time"))


def test_sets_are_split_as_published(folder, tmp_path):
    made = build(recipe(folder), tmp_path)
    store = EventStore(tmp_path / "datasets/icu")
    assert store.array(ID)[store.split("test")].tolist() == [2000, 2001, 2002]
    dealt = [store.array(ID)[store.split(name)] for name in ("train", "val")]
    assert sorted(np.concatenate(dealt).tolist()) == list(range(1000, 1006))
    label = store.array("event/label")
    assert store.array(ID)[label == 1].tolist() == [1001, 2002]
    assert store.array("event/saps").tolist() == [10] * 9
    assert store.array("event/survival").tolist() == [-1] * 9
    assert made["counted"]["stays without observations"] == 1


def test_errors_name_archive_stay_and_line(folder):
    write_set(folder, "b", {**stays(2000, 2), 2002: text([*admission(2002), "00:07,Hr,73"])})
    where = re.escape(str(folder / "set-b.tar.gz"))
    with pytest.raises(SourceError, match=rf"{where}: stay 2002: line 8 .*unknown parameter 'Hr'"):
        read(folder)


@pytest.mark.parametrize("name", ["set-b.tar.gz", "Outcomes-b.txt"])
def test_a_missing_file_is_named_before_anything_is_built(folder, tmp_path, name):
    (folder / name).unlink()
    with pytest.raises(SourceError, match=rf"{re.escape(name)}: cannot be opened"):
        build(recipe(folder), tmp_path)
    assert not list(tmp_path.glob("datasets/icu/snapshots/*.json"))


def test_a_damaged_archive_is_refused(folder):
    archive = folder / "set-b.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) - 9])
    with pytest.raises(SourceError, match=r"set-b.tar.gz: cannot be read after .*fresh copy"):
        read(folder)
    archive.write_bytes(gzip.compress(gzip.decompress(whole)[:1536]))
    with pytest.raises(SourceError, match=r"set-b.tar.gz"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:-1], lines[-1].replace(",0", ",2")], "stay 2002: In-hospital_death = 2 is not between"),
        (lambda lines: [*lines, "2002,1,1,1,1,0"], "stay 2002 stands twice"),
        (lambda lines: [lines[0], "2000,1,1,1,1,dead", *lines[2:]], "stay 2000: In-hospital_death = 'dead' is not a"),
        (lambda lines: [lines[0], "2000,1,1", *lines[2:]], "stay 2000: Length_of_stay = '' is not a whole number"),
        (lambda lines: [lines[0], "2000,1,1,99999,1,0", *lines[2:]], "stay 2000: Length_of_stay = 99999 is not betw"),
        (lambda lines: [lines[0].replace("SOFA", "Sofa"), *lines[1:]], "has no column 'SOFA'"),
        (lambda lines: lines[:1], "names no stay"),
        (lambda lines: [], "has no column 'RecordID'"),
    ],
)
def test_outcomes_that_cannot_be_read_are_refused_by_stay_and_column(folder, change, message):
    path = folder / "Outcomes-b.txt"
    write_set(folder, "b", stays(2000, 3))
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(SourceError, match=re.escape(f"{path}: {message}")):
        read(folder)


def test_archive_and_outcomes_must_name_the_same_stays(folder):
    path = folder / "Outcomes-b.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(SourceError, match=r"set-b.tar.gz: stay 2002 is not in Outcomes-b.txt"):
        read(folder)
    path.write_text("\n".join([*lines, "2003,1,1,1,1,0", "2004,1,1,1,1,0"]) + "\n")
    with pytest.raises(SourceError, match=r"holds no stay 2003, which Outcomes-b.txt names \(2 such stays\)"):
        read(folder)


def test_digests_follow_archive_and_outcomes_of_their_set(folder):
    def digests():
        return [unit.digest for unit in PhysioNet2012(PhysioNet2012.Config(path=str(folder))).units()]

    before = digests()
    path = folder / "Outcomes-b.txt"
    path.write_text(path.read_text().replace("2002,10", "2002,11"))
    after = digests()
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_sets_that_are_asked_for_are_read_and_no_others(folder, tmp_path):
    (folder / "set-b.tar.gz").unlink()
    only_a = {"kind": "physionet2012", "path": str(folder), "sets": ["a"]}
    made = build({"name": "icu", "source": only_a, "split": {"published": {}}}, tmp_path)
    assert made["events"] == 6
    with pytest.raises(FrzError, match="names one twice"):
        PhysioNet2012(PhysioNet2012.Config(path=str(folder), sets=["a", "a"]))
