"""Types are compared by known rounding, by the bytes that a store has, and by a head that notices what is lost."""

import json
import shutil

import numpy as np
import pytest
import yaml

from conftest import TINY_HEAD
from frz import artifacts as names
from frz import inventory
from frz.errors import ConfigError
from frz.extract.opening import open_both
from frz.extract.run import extract
from frz.extract.settings import Settings
from frz.joint.fidelity import compare, features_of, fidelity, rounded, rounding
from frz.joint.reference import reference
from frz.store import Array, Axis, EventStore, EventTable, Schema

SMALL = {"train_events": 100, "val_events": 30, "seeds": 2}
EXACT = {"dtype": "float32"}


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """A copy of the tiny artifacts and the report on its backbone, of the types that its store has."""
    artifacts = shutil.copytree(tiny, tmp_path_factory.mktemp("measured") / "artifacts")
    head = artifacts / "head.yaml"
    head.write_text(yaml.safe_dump(TINY_HEAD))
    return artifacts, fidelity("tiny", artifacts, settings={**EXACT, "fidelity": {**SMALL, "head": str(head)}})


def numbers(*values):
    return np.array(values, np.float32)


def table_of(embedding, target):
    """Events with one embedding of fixed length and one target each."""
    schema = Schema(
        axes={"query": Axis(length=1)},
        arrays={
            "query/embedding": Array(dtype="float32", shape=(embedding.shape[1],), role="feature"),
            "event/energy": Array(dtype="float32", role="target"),
        },
    )
    return EventTable(schema, {"query/embedding": embedding, "event/energy": target.astype(np.float32)})


def signal_on(height):
    """Events whose target is linear in embeddings that stand on a pedestal."""
    embedding = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    return table_of(embedding + np.float32(height), embedding @ numbers(1, -2, 3, 0.5))


def compared(table, n_train=200):
    judge = reference(None, EventTable(table.schema, table.range(0, n_train)), 3)
    return judge, compare(table, n_train, {"query/embedding": "float16"}, judge, {"query/embedding": 16.0}, 1000)


@pytest.mark.parametrize(
    ("dtype", "found"),
    [
        ("float32", numbers(1 / 3, 1 + 2**-11, 70000, -1e-8)),
        ("float16", numbers(0.333251953125, 1, np.inf, -0.0)),  # 11 bits of mantissa, ties to even, up to 65504
        ("bfloat16", numbers(0.333984375, 1, 70144, -1.0011717677116394e-08)),  # 8 bits, the range of float32
    ],
)
def test_values_are_rounded_to_the_nearest_of_the_type(dtype, found):
    np.testing.assert_array_equal(rounded(numbers(1 / 3, 1 + 2**-11, 70000, -1e-8), dtype), found)


def test_the_error_is_relative_to_the_size_of_the_array_and_leaves_out_what_does_not_fit():
    values = numbers(3, 4 + 2**-9, 1e5)  # the second lies half way between two numbers of float16
    found = rounding(values, "float16")
    assert found["unfit"] == 1
    assert found["largest_error"] == 2**-9
    assert found["error"] == pytest.approx(2**-9 / np.hypot(3, 4 + 2**-9))
    assert rounding(values, "bfloat16")["unfit"] == 0
    assert rounding(values, "float32") == {"error": 0.0, "largest_error": 0.0, "unfit": 0}
    assert rounding(numbers(), "float16") == {"error": 0.0, "largest_error": 0.0, "unfit": 0}


def test_bytes_are_those_of_the_store(measured):
    artifacts, report = measured
    store = EventStore(*names.features("tiny", artifacts))
    floats = [n for n, spec in store.schema.arrays.items() if spec.role == "feature" and spec.dtype == "float32"]
    assert sorted(report["arrays"]) == sorted(floats)
    exact = 0
    for name, types in report["arrays"].items():
        if store.schema.lineage(name.partition("/")[0]) != ("hit", "pair"):  # counted on the sample alone
            assert types["float32"]["bytes"] == store.nbytes(name)
        for narrow in ("float16", "bfloat16"):
            assert types[narrow]["bytes_per_event"] == types["float32"]["bytes_per_event"] / 2
        exact += types["float32"]["bytes_per_event"]
    assert report["together"]["asked"]["bytes_per_event"] == pytest.approx(exact)
    assert report["together"]["bfloat16"]["bytes_per_event"] == pytest.approx(exact / 2)


def test_the_sample_has_the_features_that_a_store_gets(tiny):
    frozen, source = open_both(names.weights("tiny", tiny), tiny)
    store = EventStore(*names.features("tiny", tiny))
    positions = np.array([3, 70, 300])
    made = features_of(frozen, source, positions, store.schema, Settings(**EXACT))
    stored = store.events(positions)
    assert set(made) == set(stored)
    for name, values in stored.items():
        np.testing.assert_allclose(made[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_finer_type_is_nearer_and_what_the_head_does_not_read_changes_nothing(measured):
    _, report = measured
    for name, types in report["arrays"].items():
        assert types["float32"]["error"] == 0 < types["float16"]["error"] < types["bfloat16"]["error"], name
        assert not any(types["float32"]["head"].values())
    # rounding to nearest errs by 2^-12 of a number at most, on the average by about 2^-12 / sqrt(3)
    assert 2**-14 < report["arrays"]["hit/embedding"]["float16"]["error"] < 2**-11
    assert not any(report["arrays"]["query/valid_logit"]["bfloat16"]["head"].values())
    assert any(report["arrays"]["query/embedding"]["bfloat16"]["head"].values())
    assert any(report["together"]["bfloat16"]["head"].values())


def test_the_head_stands_beside_its_spread(measured):
    head = measured[1]["head"]
    assert (head["head"], head["seeds"], head["epochs"]) == ("regression", 2, TINY_HEAD["trainer"]["max_epochs"])
    assert "q/accuracy" in head["main"]
    assert set(head["main"]) < set(head["metrics"]) == set(head["spread"])
    assert head["spread"]["pt/width"] > 0


def test_show_says_what_the_stored_types_cost(measured):
    artifacts, report = measured
    shown = inventory.describe("features/tiny", artifacts)["fidelity"]
    assert shown["arrays"]["hit/embedding"] == {"dtype": "float32", "error": 0.0, "largest_error": 0.0, "unfit": 0}
    assert shown["head"]["q/accuracy"]["exact"] == shown["head"]["q/accuracy"]["stored"]
    assert shown["head"]["pt/width"]["spread"] == report["head"]["spread"]["pt/width"]


def test_a_report_of_other_batches_stands_beside_and_is_not_shown(measured, tmp_path):
    artifacts = shutil.copytree(measured[0], tmp_path / "artifacts")
    root = names.features("tiny", artifacts).path
    (root / inventory.FIDELITY).unlink()
    assert "fidelity" not in inventory.describe("features/tiny", artifacts)
    head = {"head": str(artifacts / "head.yaml")}
    fidelity("tiny", artifacts, settings={**EXACT, "batch_size": 7, "fidelity": {**SMALL, **head}})
    assert "fidelity" not in inventory.describe("features/tiny", artifacts)
    # whatever the types asked for, what is rounded is the same
    fidelity("tiny", artifacts, settings={"fidelity": {**SMALL, **head}})
    assert "fidelity" in inventory.describe("features/tiny", artifacts)
    assert len(json.loads((root / inventory.FIDELITY).read_text())) == 2


def test_measured_before_the_extraction_it_is_shown_after_it(measured, tmp_path):
    artifacts = shutil.copytree(measured[0], tmp_path / "artifacts")
    head, out = str(artifacts / "head.yaml"), tmp_path / "other"
    report = fidelity("tiny", artifacts, settings={"out": str(out), "fidelity": {**SMALL, "head": head}})
    assert report["asked"]["hit/embedding"] == "float16"
    extract("tiny", artifacts, settings={"out": str(out)})
    shown = inventory.describe(str(out), artifacts)["fidelity"]
    assert shown["arrays"]["hit/embedding"]["dtype"] == "float16"
    assert shown["arrays"]["hit/embedding"]["error"] == report["arrays"]["hit/embedding"]["float16"]["error"] > 0
    pt = shown["head"]["pt/width"]
    assert pt["stored"] - pt["exact"] == pytest.approx(report["together"]["asked"]["head"]["pt/width"], abs=1e-9)


def test_a_coarse_type_spoils_the_head():
    judge, report = compared(signal_on(1000))  # steps of 4 to 8 in bfloat16 and 0.5 in float16, for a signal of width 1
    assert judge.about["head"] == "linear probe"
    assert report["head"]["metrics"]["event/energy/r2"] > 0.99
    changes = {
        dtype: report["together"][dtype]["head"]["event/energy/r2"] for dtype in ("float32", "float16", "bfloat16")
    }
    assert changes["float32"] == 0
    assert -0.2 < changes["float16"] < -10 * report["head"]["spread"]["event/energy/r2"]
    assert changes["bfloat16"] < -0.5


def test_values_beyond_a_type_are_counted_and_not_judged():
    _, report = compared(signal_on(1e5))
    types = report["arrays"]["query/embedding"]
    assert types["float16"]["unfit"] == 300 * 4
    assert types["float16"]["head"] is None
    assert report["together"]["asked"]["head"] is None
    assert types["bfloat16"]["unfit"] == 0
    assert types["bfloat16"]["head"]["event/energy/r2"] < 0


def test_without_truth_the_errors_stand_alone():
    table = signal_on(0)
    blind = EventTable(table.schema.select(["query/embedding"]), {"query/embedding": table.array("query/embedding")})
    judge, report = compared(blind)
    assert judge is None
    assert report["head"] is None
    assert report["arrays"]["query/embedding"]["float16"]["error"] > 0


def test_the_probe_is_the_ridge_regression_of_the_textbook():
    table = signal_on(2)
    judge = reference(None, table, 1)
    rows = np.random.default_rng(0).integers(300, size=300)
    x, y = (table.array(name)[rows].astype(np.float64) for name in ("query/embedding", "event/energy"))
    z = (x - x.mean(0)) / x.std(0)
    weights = np.linalg.solve(z.T @ z + np.eye(4), z.T @ (y - y.mean()))
    slope, constant = judge.fits[0]
    np.testing.assert_allclose(x @ slope + constant, z @ weights + y.mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"heads": "a.yaml"}, "unknown key 'fidelity.heads'; did you mean 'head'"),
        ({"seeds": 1}, "fidelity.seeds = 1"),
        (3, "fidelity = 3"),
        ({"head": "none.yaml"}, "none.yaml: no such config file"),
    ],
)
def test_wrong_settings_are_refused_by_name(asked, says, tiny):
    with pytest.raises(ConfigError, match=says):
        fidelity("tiny", tiny, settings={"fidelity": asked})


def test_a_head_that_does_not_fit_is_refused(measured):
    artifacts, _ = measured
    (artifacts / "bad.yaml").write_text(yaml.safe_dump({**TINY_HEAD, "model": {"fields": ["mass"]}}))
    with pytest.raises(ConfigError, match="no column 'mass'"):
        fidelity("tiny", artifacts, settings={"fidelity": {**SMALL, "head": str(artifacts / "bad.yaml")}})
