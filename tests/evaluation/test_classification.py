"""Classes of a head: the plain numbers, the same intervals again, parts that add up, a temperature from elsewhere."""

import json

import made_up_labels
import numpy as np
import pytest

from frz import artifacts as names
from frz.errors import ConfigError, TrainingError
from frz.evaluation import temperature
from frz.evaluation.bootstrap import weights
from frz.evaluation.classes import ClassField
from frz.evaluation.classification import Drawn, _calibration, judge
from frz.evaluation.parts import parts_of
from frz.evaluation.run import evaluate
from frz.evaluation.settings import EvaluateSettings
from frz.heads.prefix import prepare
from frz.heads.run import load_head, predict, train
from frz.heads.scores import class_metrics
from frz.store import EventStore
from frz.store.split import Split

FEW = {"resamples": 50}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_up_labels.trained(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def found(made):
    return evaluate("heads/death", made, FEW | {"by": "event/static.unit"})["classes"]["label"]


def said(made, name, split):
    """Probabilities and labels of the events of a split whose label is known."""
    head, about = load_head(name, made)
    store = EventStore(about["features"]["store"])
    positions = store.split(split)
    upper = predict(head, prepare(head, store, positions), np.arange(len(positions)))["event/label_probability"]
    label = store.events(positions)["event/label"]
    return np.stack([1 - upper, upper], 1).astype(np.float64)[label >= 0], label[label >= 0].astype(np.int64)


def test_numbers_are_those_of_the_known_labels_and_the_others_are_counted(made, found):
    p, label = said(made, "death", "test")
    values = {name: number["value"] for name, number in found["metrics"].items()}
    assert values == pytest.approx(class_metrics(p, label))
    store = EventStore(*names.features("stays", made))
    assert found["counted"] + found["left_out"] == len(store.split("test"))
    assert found["left_out"] == (store.events(store.split("test"))["event/label"] < 0).sum() > 0
    assert found["classes"] == {"0": int((label == 0).sum()), "1": int(label.sum())}
    json.dumps(found, allow_nan=False)


def test_intervals_hold_their_number_and_are_the_same_again(made, found):
    for number in found["metrics"].values():
        assert number["low"] < number["high"]
    for name in set(found["metrics"]) - {"ece"}:
        number = found["metrics"][name]
        assert number["low"] <= number["value"] <= number["high"]
    again = evaluate("heads/death", made, FEW | {"by": "event/static.unit"})["classes"]["label"]
    assert again == found
    narrow = evaluate("heads/death", made, FEW | {"level": 0.2})["classes"]["label"]["metrics"]["auc"]
    assert narrow["high"] - narrow["low"] < found["metrics"]["auc"]["high"] - found["metrics"]["auc"]["low"]
    without = evaluate("heads/death", made, {"resamples": 0})["classes"]["label"]["metrics"]["auc"]
    assert without == found["metrics"]["auc"] | {"low": None, "high": None}


def test_the_yardstick_knows_the_shares_of_the_training_split(made, found):
    _, label = said(made, "death", "test")
    _, trained = said(made, "death", "train")
    share = np.full(len(label), trained.mean())
    expected = class_metrics(np.stack([1 - share, share], 1), label)
    yardstick = {name: number["yardstick"] for name, number in found["metrics"].items()}
    assert yardstick == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert yardstick["auc"] == 0.5
    assert yardstick["auprc"] == pytest.approx(label.mean())


def test_parts_sum_to_the_whole_and_are_measured_apart(made, found):
    rows = {row["part"]: row for row in found["by"]["event/static.unit"]}
    assert list(rows) == ["1", "2", "3", "unknown"]
    assert sum(row["members"] for row in rows.values()) == found["counted"]
    assert sum(row["positives"] for row in rows.values()) == found["classes"]["1"]
    store = EventStore(*names.features("stays", made))
    events = store.events(store.split("test"))
    known = events["event/label"] >= 0
    p, label = said(made, "death", "test")
    of_two = events["event/static"][known, 1] == 2
    assert rows["2"]["auc"]["value"] == pytest.approx(class_metrics(p[of_two], label[of_two])["auc"])
    assert rows["2"]["auc"]["low"] < rows["2"]["auc"]["value"] < rows["2"]["auc"]["high"]


def test_the_temperature_is_that_of_the_validation_split(made, found):
    p, label = said(made, "death", "val")
    told = found["calibration"]
    assert told["temperature"] == pytest.approx(temperature.fit(p, label), rel=1e-6)
    assert (told["fitted_on"], told["members"]) == ("val", len(label))
    p, label = said(made, "death", "test")
    after = class_metrics(temperature.scaled(p, told["temperature"]), label)
    for name in ("log_loss", "ece", "brier"):
        assert told[name]["before"] == pytest.approx(found["metrics"][name]["value"])
        assert told[name]["after"] == pytest.approx(after[name])


@pytest.mark.parametrize("split", ["val", "all"])
def test_a_temperature_is_not_fitted_on_what_it_is_judged_on(made, split):
    told = evaluate("heads/death", made, FEW | {"split": split})["classes"]["label"]["calibration"]
    assert told["temperature"] is None
    assert "would be fitted on" in told["reason"]


def test_the_reliability_has_every_member_once(found):
    bins = found["reliability"]
    assert sum(b["came"]["total"] for b in bins) == found["counted"]
    assert sum(b["came"]["successes"] for b in bins) == found["classes"]["1"]
    assert all(b["low"] <= b["claimed"] <= b["high"] for b in bins)
    error = sum(abs(b["claimed"] - b["came"]["value"]) * b["came"]["total"] for b in bins) / found["counted"]
    assert found["metrics"]["ece"]["value"] == pytest.approx(error)


def test_more_than_two_classes(made):
    found = evaluate("heads/kind", made, FEW | {"by": ["event/static.unit"]})["classes"]["kind"]
    assert set(found["classes"]) == {"0", "1", "2"}
    assert 0.7 < found["metrics"]["auc"]["low"] < found["metrics"]["auc"]["value"] < 1
    assert found["calibration"]["temperature"] > 0
    assert "positives" not in found["by"]["event/static.unit"][0]


def test_a_split_of_one_class_has_numbers_that_need_no_other(tmp_path):
    events = made_up_labels.stays()
    root = made_up_labels.write(tmp_path, events)
    train(made_up_labels.head("death"), root)
    store = EventStore(*names.features("stays", root))
    for split, value in (("test", 0), ("val", 1)):
        chosen = store.split(split)
        events["event/label"][chosen[events["event/label"][chosen] >= 0]] = value
    other = made_up_labels.write(tmp_path / "other", events)
    head, _ = load_head("death", root)
    store = EventStore(*names.features("stays", other))
    positions = store.split("test")
    table = prepare(head, store, positions)
    by = {"event/kind": parts_of("event/kind", store, positions, other)}
    made = predict(head, table, np.arange(len(positions)))
    (judged,) = judge(head, store, table, made, EvaluateSettings(resamples=20), by)
    found = judged.told
    metrics = found["metrics"]
    for name in ("auc", "auprc", "recall_at_spec95"):
        assert metrics[name]["value"] is None
        assert metrics[name]["reason"] == "all members are of one class"
    assert metrics["brier"]["low"] < metrics["brier"]["high"]
    assert found["calibration"]["reason"] == "the validation split shows one class only"
    assert found["by"]["event/kind"][0]["auc"]["value"] is None


def test_without_a_validation_split_there_is_no_temperature(tmp_path):
    root = made_up_labels.write(tmp_path, split=Split(fractions={"train": 0.5, "test": 0.5}))
    train(made_up_labels.head("death"), root)
    told = evaluate("heads/death", root, FEW)["classes"]["label"]["calibration"]
    assert told == {"temperature": None, "reason": "there is no validation split to fit the temperature on"}


def test_the_report_has_the_curves_and_the_tables(made, tmp_path):
    report = tmp_path / "r.html"
    evaluate("heads/death", made, FEW | {"report": str(report), "by": ["event/static.unit"]})
    html = report.read_text()
    for what in ("ROC curve of label", "precision-recall curve of label", "reliability of label"):
        assert html.count(f'alt="{what}"') == 1
    assert "recall at 95 % specificity" in html
    assert "label by event/static.unit" in html
    assert "fitted by the log-loss on" in html
    assert "Not binned by" not in html


def test_the_error_of_probabilities_that_are_true_may_be_zero():
    """A drawn sample of true probabilities is always off by something; its interval must not say so of the events."""
    rng = np.random.default_rng(0)
    upper = rng.random(400)
    true = (rng.random(400) < upper).astype(np.int64)
    everyone = np.arange(400)
    field = ClassField("event", "label", np.arange(2.0), np.stack([1 - upper, upper], 1), true, None, everyone, 0, 0)
    drawn = Drawn(field, everyone, {}, 0.95)
    for rows in weights(everyone, 200):
        drawn.add(rows)
    error = drawn.metrics()["ece"]
    assert error["low"] == 0.0
    assert error["low"] < error["value"]


def test_a_temperature_at_its_bound_is_told_as_such():
    upper, everyone = np.array([0.1, 0.4, 0.7, 0.8]), np.arange(4)
    p = np.stack([1 - upper, upper], 1)
    right, wrong = (
        ClassField("event", "label", np.arange(2.0), p, true.astype(np.int64), None, everyone, 0, 0)
        for true in (upper > 0.5, upper < 0.5)
    )
    told = _calibration(right, wrong, "")[0]
    assert told["temperature"] == pytest.approx(100)
    assert told["note"].startswith("100 is the bound")


def test_a_column_that_is_not_there_is_told_before_any_work(made, monkeypatch):
    monkeypatch.setattr("frz.evaluation.run.prepare", None)
    with pytest.raises(ConfigError, match=r"by = event/static.unitt: .* did you mean 'unit'"):
        evaluate("heads/death", made, FEW | {"by": "event/static.unitt"})


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_inputs_that_are_not_known_are_told_before_any_training(tmp_path, split, monkeypatch):
    events = made_up_labels.stays()
    whole = made_up_labels.write(tmp_path / "whole", events)
    rows = EventStore(*names.features("stays", whole)).split(split)
    events["event/pooled"][rows[:3], 1] = np.nan
    root = made_up_labels.write(tmp_path / "with-nan", events)
    monkeypatch.setattr("frz.heads.run.fit", None)
    with pytest.raises(TrainingError, match=f"event/pooled hold NaN in 3 of {len(rows)} events of '{split}'; take"):
        train(made_up_labels.head("death"), root)
