"""Scores of another model are matched by event, measured as a head's are, and refused with what is wrong."""

import made_up_labels
import numpy as np
import pytest

from frz import artifacts as names
from frz.errors import ConfigError
from frz.evaluation.compare import compare
from frz.evaluation.outside import read_scores, scores_for
from frz.heads.prefix import prepare
from frz.heads.run import load_head, predict, train
from frz.heads.scores import class_metrics
from frz.store import EventStore

pyarrow = pytest.importorskip("pyarrow", reason="files of scores are read with pyarrow: pip install 'frz[parquet]'")
from pyarrow import csv, parquet  # noqa: E402

IDS = np.array([12, 10, 11])
LIKE = {"event/label": np.zeros(3, np.float32), "event/label_probability": np.zeros(3, np.float32)}
COLUMNS = {"event_id": [10, 11, 12, 99], "event_label": [0, 1, 0, 1], "event_label_probability": [0.1, 0.7, 0.2, 0.9]}


def write(path, columns):
    writer = csv.write_csv if path.suffix == ".csv" else parquet.write_table
    writer(pyarrow.table(columns), str(path))
    return path


def read(path, like=LIKE):
    return scores_for(read_scores(path), path, IDS, like)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_come_in_the_order_asked_for(tmp_path, suffix):
    found = read(write(tmp_path / f"scores{suffix}", COLUMNS))
    np.testing.assert_allclose(found["event/label_probability"], [0.2, 0.1, 0.7])
    np.testing.assert_array_equal(found["event/label"], [0, 0, 1])
    assert found["event/label"].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_id": [10, 11, 11, 99]}, "holds events twice"),
        ({"event_id": [10, 11, 13, 99]}, "has no scores of 1 of 3 events, among them 12"),
        ({"event_label": None}, "has no column event_label; columns as 'frz predict' writes them: event_id, event_lab"),
        ({"event_label_probability": [0.1, 0.7, float("nan"), 0.9]}, "event_label_probability holds what is not a num"),
        ({"event_label_probability": [10, 70, 20, 90]}, "event_label_probability holds 90; write probabilities"),
        ({"event_label_probability": [-2.5, 0.7, 0.2, 0.9]}, "event_label_probability holds -2.5; write probabilit"),
        ({"event_label": ["a", "b", "c", "d"]}, "event_label holds what is not a number"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    columns = {name: values for name, values in (COLUMNS | change).items() if values is not None}
    with pytest.raises(ConfigError, match=message):
        read(write(tmp_path / "scores.parquet", columns))


def test_files_that_are_none(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR")
    for name, message in (
        ("gone.csv", "no such file"),
        ("a.json", "ends in .parquet or .csv"),
        ("broken.parquet", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_scores(tmp_path / name)
    with pytest.raises(ConfigError, match="beside a head on slots"):
        read(write(tmp_path / "scores.csv", COLUMNS), {"slot/q": np.zeros(3)})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = made_up_labels.write(tmp_path_factory.mktemp("artifacts"))
    train(made_up_labels.head("death"), root)
    return root


def test_a_head_is_compared_with_scores_on_the_same_events(made, tmp_path):
    head, about = load_head("death", made)
    store = EventStore(about["features"]["store"])
    positions = store.split("test")
    events = store.events(positions)
    own = predict(head, prepare(head, store, positions), np.arange(len(positions)))["event/label_probability"]
    rng, known = np.random.default_rng(0), events["event/label"] >= 0
    columns = {"event_id": events["event/id"], "event_label": np.zeros(len(own), np.float32)}
    toss = rng.random(len(own))
    worse = write(tmp_path / "toss.parquet", columns | {"event_label_probability": toss})
    same = write(tmp_path / "same.csv", columns | {"event_label_probability": own.astype(np.float64)})
    found = compare(["death"], made, n=200, scores=[worse, same])["metrics"]["label/auc"]
    (run,) = (label for label in found["heads"] if label.startswith("death@"))
    label = events["event/label"][known].astype(np.int64)
    for who, p in ((run, own), (str(worse), toss)):
        exact = p[known].astype(np.float64)
        expected = class_metrics(np.stack([1 - exact, exact], 1), label)["auc"]
        assert found["heads"][who]["value"] == pytest.approx(expected)
    difference = found["heads"][str(worse)]["difference"]
    assert difference["low"] < difference["value"] < difference["high"] < 0
    assert difference["p"] == pytest.approx(2 / 201)
    assert found["best"] is None  # the same scores are as good
    assert compare(["death"], made, n=50, scores=[worse])["metrics"]["label/auprc"]["best"] == run


def test_one_head_alone_needs_a_file(made):
    run = names.head("death", made).path.name
    with pytest.raises(ConfigError, match=f"only death@{run} to compare"):
        compare(["death"], made)


def test_a_file_that_cannot_be_read_is_told_before_any_work(made, tmp_path, monkeypatch):
    monkeypatch.setattr("frz.evaluation.compare.prepare", None)
    with pytest.raises(ConfigError, match="no such file"):
        compare(["death"], made, scores=[tmp_path / "gone.parquet"])
