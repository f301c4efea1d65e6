"""Prediction: backbone and head over a data set, to one file."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import tiny_recipe
from frz import artifacts as names
from frz import progress
from frz.data.build import build
from frz.errors import ConfigError, IdentityError
from frz.extract.run import extract
from frz.heads.prefix import prepare
from frz.heads.run import load_head
from frz.heads.run import predict as run_head
from frz.joint.predict import predict
from frz.store import EventStore, snapshot

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


def test_rows_are_what_the_head_says_of_the_stored_features(tiny, tmp_path):
    result = predict("tiny", tiny, "tiny", tmp_path / "out.parquet")
    rows = pandas.read_parquet(tmp_path / "out.parquet")
    assert len(rows) == result["rows"]
    head, _ = load_head("tiny", tiny)
    table = prepare(head, EventStore(*names.features("tiny", tiny)))
    made = run_head(head, table, np.arange(table.n_events))
    np.testing.assert_array_equal(rows["slot_query"], table.array("slot/query"))
    np.testing.assert_allclose(rows["slot_pt"], made["slot/pt"], rtol=1e-4)
    np.testing.assert_array_equal(
        np.unique(rows["event_id"]), np.unique(np.repeat(table.array("event/id"), table.lengths("slot")))
    )
    assert rows["slot_q_probability"].between(0, 1).all()


def test_stored_features_give_the_rows_that_the_backbone_gives(tiny, tmp_path, capsys):
    """Read where a version has all of them, made and rounded like those that the head was trained on."""
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    progress.show("lines")
    found, rows = {}, {}
    broken = shutil.copytree(tiny, tmp_path / "broken")
    shutil.rmtree(next((names.features("tiny", broken).path / "events.zarr").glob("features-*")))
    other = shutil.copytree(tiny, tmp_path / "other")
    shutil.rmtree(other / "features")
    extract("tiny", other, settings={"dtype": "float16"})
    shutil.rmtree(artifacts / "backbones")  # not needed where features are read
    for name, place in (("stored", artifacts), ("broken", broken), ("other", other)):
        found[name] = predict("tiny", place, "tiny", tmp_path / f"{name}.parquet")
        rows[name] = pandas.read_parquet(tmp_path / f"{name}.parquet")
    assert found["stored"]["features"] == str(names.features("tiny", artifacts).path)
    assert found["broken"]["features"] is found["other"]["features"] is None
    pandas.testing.assert_frame_equal(rows["stored"], rows["broken"], check_exact=True)
    pandas.testing.assert_frame_equal(rows["stored"], rows["other"], check_exact=True)
    told = [line for line in capsys.readouterr().err.splitlines() if "features of tiny@1" in line]
    assert [line.partition(" ")[0] for line in told] == ["reads", "runs", "runs"]


def test_data_without_truth_can_be_predicted(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    build({**tiny_recipe(128), "name": "recorded"}, artifacts)
    root = artifacts / "datasets/recorded"
    found = snapshot.read(root)
    blind = found.event_schema.select(["event/id", "event/group", "event/key", "hit/raw"])
    snapshot.commit(root, lambda latest: found.model_copy(update={"event_schema": blind}))
    result = predict("tiny", artifacts, "recorded", tmp_path / "out.parquet")
    rows = pandas.read_parquet(tmp_path / "out.parquet")
    assert result["events"] == 128
    assert rows["slot_valid"].all()  # without truth a slot is kept because the backbone calls it a track
    assert np.isfinite(rows["slot_pt"]).all()


def test_a_head_whose_backbone_is_gone_is_refused_by_fingerprint(tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    _, about = load_head("tiny", artifacts)
    shutil.rmtree(artifacts / "backbones")
    shutil.rmtree(artifacts / "features")
    with pytest.raises(IdentityError, match=about["features"]["fingerprint"][:12]):
        predict("tiny", artifacts, "tiny", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_folder_is_refused_before_any_work(tiny, tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        predict("tiny", tiny, "tiny", tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    with pytest.raises(ConfigError, match="cannot be written"):
        predict("tiny", tiny, "tiny", Path("/proc/nowhere/a.csv"))


def test_csv_holds_the_rows_of_parquet(tiny, tmp_path):
    for name in ("out.csv", "out.parquet"):
        predict("tiny", tiny, "tiny", tmp_path / name)
    rows, expected = pandas.read_csv(tmp_path / "out.csv"), pandas.read_parquet(tmp_path / "out.parquet")
    pandas.testing.assert_frame_equal(rows, expected, check_dtype=False, rtol=1e-5)


@pytest.mark.parametrize("name", ["out.txt", "out"])
def test_other_formats_are_refused_before_any_work(tiny, tmp_path, name):
    with pytest.raises(ConfigError, match="ends in .parquet or .csv"):
        predict("tiny", tiny, "tiny", tmp_path / name)
    assert list(tmp_path.iterdir()) == []
