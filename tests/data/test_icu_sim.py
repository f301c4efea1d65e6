"""Simulated stays: pure functions of seed and number, with a risk that is what it says."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from frz.config import import_class
from frz.data.icu_sim.settings import IcuSimConfig
from frz.data.icu_sim.source import NAMES, SCHEMA, IcuSim
from frz.data.icu_sim.stays import START_OF_TYPE, TYPES, simulate
from frz.data.icu_sim.variables import VARIABLES
from frz.data.source import SOURCES
from frz.store import ragged
from frz.store.schema import column


def stays(n=4000, **settings):
    return simulate(IcuSimConfig(**settings), np.arange(n))


@pytest.fixture(scope="module")
def many():
    return stays(12_000, hours=12.0)


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name


def test_a_stay_is_the_same_whatever_is_made_beside_it():
    config = IcuSimConfig()
    together = simulate(config, np.arange(40))
    for number in (0, 17, 39):
        alone = simulate(config, np.array([number]))
        equal(alone, ragged.take(together, SCHEMA, np.array([number])))


def test_another_seed_gives_other_stays():
    assert not np.array_equal(stays(20)["event/risk"], stays(20, seed=1)["event/risk"])


def test_units_do_not_depend_on_how_many_stays_there_are():
    few, more = (IcuSim(IcuSimConfig(n_events=n)).units() for n in (5000, 6144))
    assert few[:2] == more[:2]
    assert few[2] != more[2]
    other = IcuSim(IcuSimConfig(n_events=5000, noise=0.5)).units()
    assert few[0].digest != other[0].digest
    assert import_class("icu_sim", SOURCES, "source") is IcuSim


def test_deaths_happen_with_the_risk_that_is_stored(many):
    risk, died = many["event/risk"].astype(float), many["event/label"]
    for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1)):
        chosen = (risk >= low) & (risk < high)
        spread = np.sqrt((risk * (1 - risk))[chosen].sum())
        assert abs((died - risk)[chosen].sum()) < 4 * spread


def test_no_score_ranks_the_dead_before_the_living_better_than_the_risk(many):
    died, risk = many["event/label"], many["event/risk"]
    best = roc_auc_score(died, risk)
    assert 0.85 < best < 0.95
    there = np.diff(many["set/offsets"]) > 0
    last = many["set/offsets"][1:][there] - 1
    heart = many["element/variable"] == NAMES.index("HR")
    of_set = np.repeat(np.arange(len(many["set/minute"])), np.diff(many["element/offsets"]))
    rate = np.full(len(many["set/minute"]), np.nan)
    rate[of_set[heart]] = many["element/value"][heart]
    score = rate[last]
    measured = ~np.isnan(score)
    assert 0.55 < roc_auc_score(died[there][measured], score[measured]) < best


def test_without_noise_and_scatter_the_risk_can_be_read_off_the_last_heart_rate():
    config = IcuSimConfig(noise=0.0, empty=0.0)
    arrays = simulate(config, np.arange(2000))
    last = arrays["set/offsets"][1:] - 1
    first = arrays["element/offsets"][last]
    heart = arrays["element/variable"][first] == 0
    rate = arrays["element/value"][first][heart].astype(float)
    age = arrays["event/static"][heart, 0].astype(float)
    severity = (rate - VARIABLES[0].base) / VARIABLES[0].gain
    expected = config.intercept + config.weight * severity + 0.5 * (age - 62) / 16
    risk = arrays["event/risk"][heart].astype(float)
    half_a_beat = config.weight * 0.5 / VARIABLES[0].gain
    inside = (rate > VARIABLES[0].least) & (rate < VARIABLES[0].most)
    assert np.abs(np.log(risk / (1 - risk)) - expected)[inside].max() < half_a_beat + 1e-3


def test_sets_stand_at_rising_whole_minutes_and_are_never_empty(many):
    minute, offsets = many["set/minute"], many["set/offsets"]
    assert (minute % 1 == 0).all()
    assert (minute >= 1).all()
    assert minute.max() <= 12 * 60
    inner = np.ones(len(minute), bool)
    inner[offsets[:-1][np.diff(offsets) > 0]] = False
    assert (np.diff(minute)[inner[1:]] > 0).all()
    assert np.diff(many["element/offsets"]).min() >= 1
    of_set = np.repeat(np.arange(len(minute)), np.diff(many["element/offsets"]))
    assert (np.diff(of_set * len(NAMES) + many["element/variable"]) > 0).all()


def test_gaps_have_the_mean_that_is_asked_for():
    arrays = stays(3000, gap=30.0, hours=200.0, empty=0.0)
    n = np.diff(arrays["set/offsets"])
    mean = 200 * 60 / np.median(n)
    assert abs(mean - 30.0) < 2.5  # the median of a log-normal scale is 4 % below its mean, and minutes are rounded up


def test_values_are_charted_in_steps_between_their_limits(many):
    for code, variable in enumerate(VARIABLES):
        value = many["element/value"][many["element/variable"] == code].astype(float)
        assert variable.least <= value.min() * (1 + 1e-6)
        assert value.max() <= variable.most * (1 + 1e-6)
        steps = value / variable.step
        assert np.abs(steps - np.round(steps)).max() < 1e-3
        share = len(value) / len(many["set/minute"])
        assert abs(share / variable.rate - 1) < 0.25


def test_the_sick_are_measured_more_and_worse(many):
    sick = np.repeat(many["event/risk"] > 0.3, np.diff(many["set/offsets"]))
    sick = np.repeat(sick, np.diff(many["element/offsets"]))
    code, value = many["element/variable"], many["element/value"]
    for name in ("HR", "Lactate", "RespRate"):
        assert value[sick & (code == NAMES.index(name))].mean() > value[~sick & (code == NAMES.index(name))].mean()
    lactate = code == NAMES.index("Lactate")
    assert lactate[sick].mean() > 1.2 * lactate[~sick].mean()


def test_empty_stays_are_as_many_as_asked_for_and_have_a_fate():
    arrays = stays(4000, empty=0.1, hours=6.0)
    empty = np.diff(arrays["set/offsets"]) == 0
    assert abs(empty.mean() - 0.1) < 0.02
    assert set(arrays["event/label"][empty]) == {0, 1}
    assert not (np.diff(stays(500, empty=1.0)["set/offsets"])).any()


def test_descriptors_follow_their_shares(many):
    static = many["event/static"]
    kind = static[:, column(SCHEMA, "event/static", "icu_type")]
    shares = [np.mean(kind == i) for i in (1, 2, 3, 4)]
    np.testing.assert_allclose(shares, TYPES, atol=0.02)
    assert len(START_OF_TYPE) == 4
    missing = dict(zip(SCHEMA.arrays["event/static"].columns, np.isnan(static).mean(0), strict=True))
    assert missing["age"] == missing["icu_type"] == 0
    assert abs(missing["height"] - 0.48) < 0.02
    age = static[:, 0]
    assert age.min() >= 16
    assert age.max() <= 90
