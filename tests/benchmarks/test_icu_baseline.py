"""The statistics of stays as plain loops find them, and models that see nothing of the test split."""

import json
import sys

import numpy as np
import pytest

from benchmarks import icu_baseline
from benchmarks.icu_baseline import descriptors, filled, statistics
from frz.data.build import build
from frz.store.schema import Array, Axis, Schema

SCHEMA = Schema(
    axes={"set": Axis(), "element": Axis(parent="set")},
    arrays={
        "event/id": Array(dtype="int64"),
        "event/static": Array(dtype="float32", shape=(3,), columns=("age", "icu_type", "weight")),
        "element/variable": Array(dtype="int16"),
        "element/value": Array(dtype="float32"),
    },
)


def test_statistics_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    n_set = np.array([3, 0, 5, 1])
    n_element = rng.integers(1, 5, n_set.sum())
    events = {
        "event/id": np.arange(4),
        "set/offsets": np.append(0, n_set.cumsum()),
        "element/offsets": np.append(0, n_element.cumsum()),
        "element/variable": rng.integers(0, 3, n_element.sum()).astype(np.int16),
        "element/value": rng.normal(size=n_element.sum()).astype(np.float32),
    }
    found = statistics(events, SCHEMA, 4).reshape(4, 4, 6)
    for stay in range(4):
        first, last = (events["element/offsets"][events["set/offsets"][place]] for place in (stay, stay + 1))
        for variable in range(4):
            inside = events["element/variable"][first:last] == variable
            value = events["element/value"][first:last][inside].astype(np.float64)
            expected = [np.nan] * 5 + [0]
            if len(value):
                expected = [value[0], value[-1], value.mean(), value.min(), value.max(), len(value)]
            np.testing.assert_allclose(found[stay, variable], expected)


def test_the_kind_of_unit_is_a_column_per_kind():
    events = {"event/id": np.arange(3), "event/static": np.array([[60, 1, 80], [70, 4, np.nan], [50, np.nan, 70]])}
    np.testing.assert_array_equal(
        descriptors(events, SCHEMA), [[60, 80, 1, 0], [70, np.nan, 0, 1], [50, 70, 0, 0]], strict=True
    )


def test_gaps_and_outliers_go_by_the_training_stays():
    known = np.array([[0.0, 1], [2, np.nan], [4, 3]])
    found = filled(np.array([[np.nan, 99], [-50, 2]]), known, spreads=2.0)
    width = np.array([np.std([0, 2, 4]), 1.0])
    np.testing.assert_allclose(found, [[2, 2 + 2 * width[1]], [2 - 2 * width[0], 2]])
    np.testing.assert_array_equal(filled(np.array([[9.0, np.nan]]), known), [[9, 2]])


def test_simulated_stays_are_told_apart_and_scores_written(tmp_path, monkeypatch, capsys):
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="scores are written with pyarrow: pip install 'frz[parquet]'"
    )
    build({"name": "stays", "source": {"kind": "icu_sim", "n_events": 1200}}, tmp_path)
    arguments = ["--json", "--data", "stays", "--components", "16", "--resamples", "40"]
    places = ["--artifacts", str(tmp_path), "--out", str(tmp_path / "yardsticks")]
    monkeypatch.setattr(sys, "argv", ["icu_baseline", *arguments, *places])
    icu_baseline.main()
    told = json.loads(capsys.readouterr().out)
    for name in ("pca_logistic", "pca_logistic_more", "boosting"):
        area = told[name]["auc"]
        assert 0.7 < area["value"] < 0.95
        assert area["low"] < area["value"] < area["high"]
        table = parquet.read_table(told[name]["scores"])
        assert table.column_names == ["event_id", "event_label", "event_label_probability"]
        assert len(table) == told["test"]
