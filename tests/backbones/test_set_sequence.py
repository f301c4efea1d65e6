"""What the set-sequence family promises beyond the contract of every backbone."""

import icu_events
import numpy as np
import pytest
import torch
from icu_events import CONSTANTS, SCHEMA, batch_of, make_events

from frz.backbones import padding
from frz.backbones.set_sequence import pooling
from frz.backbones.set_sequence.model import SetSequence
from frz.backbones.set_sequence.settings import SetSequenceConfig
from frz.backbones.set_sequence.tasks import Forecast
from frz.backbones.set_sequence.times import TimeFeatures
from frz.config import parse
from frz.errors import ConfigError

FULL = {"dim": 16, "levels": True, "static": True, "supervised": {"labels": {"event/label": 1.0}, "every_set": 1.0}}


def build(schema=SCHEMA, seed=0, fitted=True, **config):
    torch.manual_seed(seed)
    model = SetSequence(SetSequenceConfig(**config), schema)
    if fitted:
        model.fit([make_events([20, 30, 25], seed=9) | CONSTANTS])
    return model.eval()


def features(model, events):
    with torch.no_grad():
        return model(batch_of(events))


def test_states_have_not_seen_later_sets():
    model = build(**FULL)
    events = make_events([40, 25])
    straight = features(model, events)
    changed = {name: values.copy() for name, values in events.items()}
    at = 17  # set of the first stay
    bounds = events["element/offsets"]
    changed["element/value"][bounds[at] : bounds[at + 1]] += 50
    changed["element/variable"][bounds[at]] = (changed["element/variable"][bounds[at]] + 1) % 5
    other = features(model, changed)
    for name in ("set/state", "set/mu", "set/kl"):
        assert torch.equal(straight[name][:at], other[name][:at]), name
        assert torch.equal(straight[name][40:], other[name][40:]), name
    assert not torch.equal(straight["set/state"][at], other["set/state"][at])
    assert not torch.equal(straight["set/state"][at + 1], other["set/state"][at + 1])


def test_states_are_strict_in_training_too():
    model = build(**{**FULL, "dropout": 0.0, "sample": False}).train()
    events = make_events([30])
    changed = {**events, "element/value": events["element/value"].copy()}
    changed["element/value"][events["element/offsets"][20] :] += 9
    found = [model._encode(batch_of(e), model._elements(batch_of(e))).state for e in (events, changed)]
    assert torch.equal(found[0][:20], found[1][:20])
    assert not torch.equal(found[0][20:], found[1][20:])


def test_moving_a_minute_moves_no_earlier_state():
    model = build(**FULL)
    events = make_events([30])
    changed = {**events, "set/minute": events["set/minute"].copy()}
    changed["set/minute"][-1] += 300
    straight, other = features(model, events), features(model, changed)
    assert torch.equal(straight["set/state"][:-1], other["set/state"][:-1])
    assert not torch.equal(straight["set/state"][-1], other["set/state"][-1])


def test_a_stay_without_sets_has_features_zero():
    model = build(**FULL)
    result = features(model, make_events([0, 5, 0]))
    for name in ("event/pooled", "event/pooled_fast"):
        assert not result[name][[0, 2]].any()
        assert result[name][1].any()


@pytest.mark.parametrize(("token", "told_apart"), [("shifted", True), ("product", False)])
def test_an_element_at_its_mean_says_which_variable_it_is(token, told_apart):
    model = build(token=token, dim=16)
    events = make_events([1])
    one = {name: values[:1] for name, values in events.items() if name.startswith("element/") and "off" not in name}
    one |= {"element/offsets": np.array([0, 1])}
    found = []
    for variable in (0, 1):
        value = model.tokens.mean[variable].numpy()[None]
        element = {"element/variable": np.array([variable], np.int16), "element/value": value}
        found.append(features(model, {**events, **one, **element})["set/mu"])
    assert torch.equal(*found) is not told_apart


def test_values_are_standardised_and_kept_within_the_clip():
    model = build(dim=16, clip=3.0)
    mean, width = model.tokens.mean, model.tokens.width
    raw = torch.tensor([float(mean[0]), float(mean[0] + 2 * width[0]), 1e9])
    scaled = model.tokens.scale(torch.zeros(3, dtype=torch.int64), raw)
    torch.testing.assert_close(scaled, torch.tensor([0.0, 2.0, 3.0]), rtol=1e-5, atol=1e-5)


def test_values_by_rank_are_normal_scores_of_the_training_values():
    model = build(dim=16, scaling="quantile", fitted=False)
    rng = np.random.default_rng(0)
    skewed = np.exp(rng.normal(size=5000) * 2).astype(np.float32)
    grades = rng.integers(0, 3, 3000).astype(np.float32)
    arrays = make_events([20], seed=9)
    arrays["element/variable"] = np.repeat(np.array([0, 1], np.int16), [5000, 3000])
    arrays["element/value"] = np.concatenate((skewed, grades))
    model.fit([arrays])
    zero = torch.zeros(5, dtype=torch.int64)
    at = torch.tensor([-1.0, 0.0, 1.5, -9.0, 9.0])  # logarithms over 2, so normal scores
    expected = torch.tensor([-1.0, 0.0, 1.5, -2.576, 2.576])
    torch.testing.assert_close(model.tokens.scale(zero, (2 * at).exp()), expected, rtol=0, atol=0.08)
    scores = model.tokens.scale(zero[:3] + 1, torch.tensor([0.0, 1.0, 2.0]))
    thirds = torch.special.ndtri(torch.tensor(1 / 3))
    torch.testing.assert_close(scores, torch.tensor([1.0, 0.0, -1.0]) * (-2.576 + thirds) / 2, rtol=0, atol=0.08)


def test_a_given_table_is_kept_in_the_weights_and_used():
    model = build(embedding="table", dim=16)
    assert torch.equal(model.state_dict()["tokens.table"], torch.from_numpy(CONSTANTS["variable/embedding"]))
    events = make_events([5])
    before = features(model, events)["set/mu"]
    model.tokens.table.copy_(model.tokens.table.flip(0))
    assert not torch.equal(before, features(model, events)["set/mu"])


def test_the_divergence_warms_up_by_training_batches():
    model = build(dim=16, kl={"weight": 0.5, "warmup": 4}).train()
    batch = batch_of(make_events([4]))
    weights = []
    for _ in range(6):
        weights.append(model._kl_weight())
    assert weights == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    model.eval()
    model.loss(batch)
    assert int(model.batches_seen) == 6


def test_hidden_elements_are_still_to_be_decoded():
    model = build(dim=16, element_dropout=0.999).train()
    elements = model._elements(batch_of(make_events([10, 10])))
    seen = model._hide(elements, torch.arange(2).repeat_interleave(10))
    assert len(seen.variable) < 0.2 * len(elements.variable)
    assert seen.offsets.diff().sum() == len(seen.variable)
    assert torch.equal(seen.owner, torch.repeat_interleave(torch.arange(20), seen.offsets.diff()))


def test_variable_dropout_hides_a_variable_from_all_sets_of_a_stay():
    model = build(dim=16, variable_dropout=0.5).train()
    elements = model._elements(batch_of(make_events([40] * 10)))
    stay = torch.arange(10).repeat_interleave(40)
    seen = model._hide(elements, stay)
    before, after = (
        torch.zeros(10, 5, dtype=torch.int64).index_put(
            (stay[e.owner], e.variable), torch.ones(len(e.variable), dtype=torch.int64), accumulate=True
        )
        for e in (elements, seen)
    )
    assert ((after == 0) | (after == before)).all()
    assert 10 < int((after == 0).sum()) < 40


def test_set_dropout_hides_whole_sets():
    model = build(dim=16, set_dropout=0.5).train()
    elements = model._elements(batch_of(make_events([60])))
    stay = torch.zeros(60, dtype=torch.int64)
    left, all_of = model._hide(elements, stay).offsets.diff(), elements.offsets.diff()
    assert ((left == 0) | (left == all_of)).all()
    assert 10 < int((left == 0).sum()) < 50


def test_a_stay_without_label_has_no_part_in_the_supervised_loss():
    model = build(**FULL)
    events = make_events([6, 9, 4])
    some = {**events, "event/label": np.array([1, -1, 0], np.int16)}
    parts = model.loss(batch_of(some))[1]
    pooled = features(model, events)["event/pooled"]
    state = features(model, events)["set/state"]
    logits = model.supervised.pooled(model.supervised.norm(pooled))[[0, 2], 0]
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    target = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(parts["label"], bce(logits, target).detach())
    each = model.supervised.state(state)[:, 0]
    by_stay = [bce(each[a:b], target[i].expand(b - a)) for i, (a, b) in enumerate(((0, 6), (15, 19)))]
    torch.testing.assert_close(parts["label/every_set"], torch.stack(by_stay).mean().detach())
    none = {**events, "event/label": np.full(3, -1, np.int16)}
    assert model.loss(batch_of(none))[1]["label"] == 0


def test_scores_are_compared_on_a_standardised_logarithm():
    model = build(dim=16, supervised={"scores": {"event/saps": 2.0}})
    events = make_events([6, 9, 4])
    events["event/saps"] = np.array([3, -1, 20], np.int16)
    logs = np.log1p(make_events([20, 30, 25], seed=9)["event/saps"])
    np.testing.assert_allclose(model.supervised.mean.numpy(), logs.mean(), rtol=1e-5)
    answers = model.supervised.pooled(model.supervised.norm(features(model, events)["event/pooled"]))[[0, 2], 0]
    scaled = torch.tensor((np.log1p([3, 20]) - logs.mean()) / logs.std(), dtype=torch.float32)
    expected = 2 * torch.nn.functional.smooth_l1_loss(answers, scaled)
    torch.testing.assert_close(model.loss(batch_of(events))[1]["saps"], expected.detach())


def test_forecast_asks_the_state_of_an_earlier_set_of_the_same_stay():
    model = build(dim=16, forecast={"weight": 1.0, "ahead": [2]})
    task = model.forecast
    assert isinstance(task, Forecast)
    batch = batch_of(make_events([3, 1, 4]))
    elements = model._elements(batch)
    state = features(model, make_events([3, 1, 4]))["set/state"]
    predicted = task.maps[0](state)
    pairs = {2: 0, 6: 4, 7: 5}  # set -> the set two before it
    each = [
        torch.nn.functional.smooth_l1_loss(predicted[pairs[s], v], x)
        for s, v, x in zip(elements.owner.tolist(), elements.variable, elements.scaled, strict=True)
        if s in pairs
    ]
    torch.testing.assert_close(model.loss(batch)[1]["forecast"], torch.stack(each).mean().detach())


def test_the_set_before_is_no_set_of_another_stay():
    model = build(dim=16, reconstruction={"source": "previous"})
    batch = batch_of(make_events([3, 2]))
    found = model._encode(batch, model._elements(batch))
    source = model._source(batch, found)
    assert not source[[0, 3]].any()
    assert torch.equal(source[[1, 2, 4]], found.state[[0, 1, 3]])


def test_pooled_statistics_are_those_of_each_stay():
    model = build(dim=16, pooling_scaled=False)
    events = make_events([5, 1, 30])
    result = features(model, events)
    for i, (a, b) in enumerate(((0, 5), (5, 6), (6, 36))):
        blocks = []
        for name in ("set/state", "set/mu"):
            x = result[name][a:b]
            blocks += [x.mean(0), x.amax(0), x[-1], x.std(0, correction=0)]
        torch.testing.assert_close(result["event/pooled"][i], torch.cat(blocks), rtol=1e-4, atol=1e-3)
        x = result["set/state"][a:b]
        fast = (x @ x.mean(0)).softmax(0) @ x
        torch.testing.assert_close(result["event/pooled_fast"][i], fast, rtol=1e-4, atol=1e-5)


def test_pooling_has_finite_gradients_where_nothing_varies():
    bucket = padding.cut(torch.tensor([0, 1, 1]))[0]
    x = torch.ones(len(bucket.events), bucket.width, 4, requires_grad=True)
    pooling.statistics(bucket, x).sum().backward()
    assert x.grad.isfinite().all()


def test_gaps_are_told_apart_and_begin_anew_with_each_stay():
    times = TimeFeatures(8, 64)
    minute = torch.tensor([0.0, 10.0, 500.0, 500.0])
    first = torch.tensor([True, False, False, True])
    assert torch.equal(times.edges, times.edges.sort().values)
    gaps = torch.tensor([0.0, 10.0, 490.0, 0.0])
    clock = times.clock(minute.log1p()[:, None], minute[:, None][:, :0])
    size = times.size(torch.tensor(2.0).log1p().view(1, 1))
    classes = torch.bucketize(gaps.log1p(), times.edges)
    assert len(classes.unique()) == 3
    found = times(minute, torch.full((4,), 2), first)
    torch.testing.assert_close(found, clock + times.gap(classes) + size)


def test_the_latent_is_drawn_in_training_only():
    model = build(dim=16)
    batch = batch_of(make_events([5]))
    still = model._encode(batch, model._elements(batch))
    assert torch.equal(still.latent, still.mu)
    drawn = model.train()._encode(batch, model._elements(batch))
    assert not torch.equal(drawn.latent, drawn.mu)


def test_measures_of_collapse_are_reported_and_weigh_nothing():
    model = build(dim=16, reconstruction={"weight": 0.0})
    total, parts = model.loss(batch_of(make_events([9, 9])))
    assert 0 < parts["active_units"] <= 1
    assert parts["nats"] > 0
    torch.testing.assert_close(total.detach(), parts["kl"] + parts["forecast"])


@pytest.mark.parametrize(
    ("less", "config", "says"),
    [
        ("set/minute", {}, "no array 'set/minute'"),
        ("event/static", {"static": True}, "no array 'event/static'; set model.static to false"),
        ("variable/code", {}, "no static array 'variable/code'"),
        ("variable/embedding", {"embedding": "table"}, "no static array 'variable/embedding'; set model.embedding"),
    ],
)
def test_a_data_set_that_lacks_something_is_refused_in_one_line(less, config, says):
    schema = SCHEMA.model_copy(
        update={
            "arrays": {name: spec for name, spec in SCHEMA.arrays.items() if name != less},
            "static": {name: spec for name, spec in SCHEMA.static.items() if name != less},
        }
    )
    with pytest.raises(ConfigError) as error:
        build(schema, fitted=False, **config)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_features_need_no_targets_but_training_does():
    arrays = {name: spec for name, spec in SCHEMA.arrays.items() if name != "event/label"}
    model = build(SCHEMA.model_copy(update={"arrays": arrays}), fitted=False, **FULL)
    events = make_events([5])
    assert features(model, events)["set/mu"].isfinite().all()
    with pytest.raises(ConfigError, match="no event/label to learn from"):
        model.loss(batch_of(events))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"dim": 10, "sequence_heads": 4}, "dim = 10 is not a multiple of sequence_heads = 4"),
        ({"forecast": {"weight": 0}}, "no loss trains the states"),
        (
            {"supervised": {"labels": {"event/x": 1}, "scores": {"event/x": 1}}},
            "event/x stands among labels and scores",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(config, says):
    with pytest.raises(ConfigError, match=says):
        parse(SetSequenceConfig, config, "model")


def test_the_simulated_events_of_this_file_are_what_the_schema_says():
    events = make_events([3, 0, 2])
    assert set(events) - {"set/offsets", "element/offsets"} == set(icu_events.SCHEMA.arrays)


def test_targets_that_are_not_there_are_all_named_with_what_to_type():
    schema = SCHEMA.model_copy(update={"arrays": {k: v for k, v in SCHEMA.arrays.items() if k != "event/label"}})
    supervised = {"labels": {"event/label": 1}, "scores": {"event/x": 1, "event/y": 1}}
    model = build(schema, fitted=False, **FULL | {"supervised": supervised})
    says = (
        "model.supervised: the data set has no event/label, event/x, event/y to learn from; "
        "leave out what is not there: --set 'model.supervised.labels={}' --set 'model.supervised.scores={}'"
    )
    with pytest.raises(ConfigError) as error:
        model.loss(batch_of(make_events([5])))
    assert str(error.value) == says
