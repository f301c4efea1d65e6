from typing import Any

import numpy as np
import pytest
import torch
from feature_events import N_FIELD, N_QUERY, D, feature_events, feature_schema, probability
from stay_events import stay_events, stay_schema

from frz.config import parse
from frz.errors import ConfigError, TrainingError
from frz.heads.classifier import ClassifierConfig, ClassifierHead
from frz.heads.lines import N_CURVE
from frz.heads.pooled import PooledConfig, PooledHead
from frz.heads.probe import LinearClassifier, LinearClassifierConfig
from frz.heads.vectors import VectorSettings, pool
from frz.loading.batch import to_batch
from frz.store.schema import Array, EventArrays, Schema


def pooled(schema: Schema | None = None, **config: Any) -> PooledHead:
    torch.manual_seed(0)
    return PooledHead(parse(PooledConfig, config, "test"), schema or feature_schema()).eval()


def labelled() -> tuple[Schema, EventArrays]:
    """Events with a label and a vector of their own."""
    schema, events = feature_schema(), feature_events()
    arrays = schema.arrays | {
        "event/label": Array(dtype="int32", role="target"),
        "event/summary": Array(dtype="float16", shape=(2, 3), role="feature"),
    }
    events["event/label"] = np.array([0, 1, 1, 0, 1, 0], np.int32)
    events["event/summary"] = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float16)
    return Schema(axes=schema.axes, arrays=arrays), events


def test_slot_vector_by_hand():
    head, events = pooled(pooling=["mean", "max"], assignment_threshold=0.3), feature_events()
    prepared = head.prepare(events)
    p = probability(events["hit/assignment_logit"])
    event = np.repeat(np.arange(6), np.diff(prepared["slot/offsets"]))
    for place, (e, q) in enumerate(zip(event, prepared["slot/query"], strict=True)):
        rows = slice(*events["hit/offsets"][e : e + 2])
        inside = p[rows, q] >= 0.3
        weight = p[rows, q][inside]
        expected = [events["query/embedding"][e * N_QUERY + q]]
        for name in ("hit/scaled", "hit/embedding"):
            x = events[name][rows][inside]
            some = len(x) > 0
            expected.append(weight @ x / weight.sum() if some else np.zeros(x.shape[1]))
            expected.append(x.max(0) if some else np.zeros(x.shape[1]))
        np.testing.assert_allclose(prepared["slot/vector"][place], np.concatenate(expected), rtol=1e-5, atol=1e-6)


def test_softmax_pooling_is_the_published_one():
    settings = VectorSettings(pooling=("softmax",), softmax_scaled=False)
    lengths = (4, 0, 1, 7)
    members = [torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in lengths]
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))
    found = pool(torch.cat(members), torch.rand(12), owner, 4, settings)
    for place, h in enumerate(members):
        query = h.mean(0, keepdim=True)
        weights = torch.softmax((h * query).sum(-1), dim=0)
        expected = (h * weights[:, None]).sum(0)
        torch.testing.assert_close(found[place], expected)


def test_barycentre_of_the_sets_is_that_of_gaussians():
    """Mean mu and mean sigma: no other diagonal Gaussian is nearer to the sets in mean squared W2 distance."""
    events = stay_events(sets=(7, 3))
    config = {"rows": "event", "target": "event/label", "field": "label", "inputs": ["set/mu", "set/logvar"]}
    config |= {"log_variances": ["set/logvar"], "pooling": ["mean"]}
    head = ClassifierHead(parse(ClassifierConfig, config, "test"), stay_schema())
    found = torch.from_numpy(head.prepare(events)["event/vector"])
    for stay, (begin, end) in enumerate(((0, 7), (7, 10))):
        mu, sigma = (torch.from_numpy(events[name][begin:end]) for name in ("set/mu", "set/logvar"))
        sigma = (sigma / 2).exp()
        centre = torch.zeros(2 * mu.shape[1], requires_grad=True)
        # W2^2 of diagonal Gaussians = |mu - mu'|^2 + |sigma - sigma'|^2, a parabola: one Newton step finds its least
        distance = ((torch.cat((mu, sigma), 1) - centre).square().sum(1)).mean()
        (gradient,) = torch.autograd.grad(distance, centre)
        torch.testing.assert_close(found[stay], -gradient / 2)


def test_event_vector_pools_any_axis_and_takes_its_own():
    schema, events = labelled()
    config = {"rows": "event", "target": "event/label", "field": "label", "pooling": ["mean"], "norm": "layer"}
    config["inputs"] = ["hit/embedding", "event/summary", "query/embedding"]
    head = ClassifierHead(parse(ClassifierConfig, config, "test"), schema).eval()
    prepared = head.prepare(events)
    assert prepared["event/vector"].shape == (6, 6 + 2 * D)
    np.testing.assert_array_equal(prepared["event/vector"][:, :6], events["event/summary"].reshape(6, 6))
    first = events["hit/embedding"][: events["hit/offsets"][1]].mean(0)
    np.testing.assert_allclose(prepared["event/vector"][0, 6 : 6 + D], first, rtol=1e-5, atol=1e-6)
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    loss, _ = head.loss(batch)
    found = head.predict(batch)
    assert torch.isfinite(loss)
    assert found["event/label"].shape == found["event/label_probability"].shape == (6,)
    metrics = head.metrics({name: values.numpy() for name, values in found.items()}, prepared)
    assert metrics["events"] == 6
    assert 0 <= metrics["label/auc"] <= 1


@pytest.mark.parametrize(("dtype", "missing"), [("int32", -1), ("float32", np.nan)])
def test_events_without_a_label_are_answered_for_and_do_not_count(dtype, missing):
    schema, events = labelled()
    arrays = schema.arrays | {"event/label": Array(dtype=dtype, role="target")}
    events["event/label"] = events["event/label"].astype(dtype)
    events["event/label"][[1, 4]] = missing
    config = {"rows": "event", "target": "event/label", "field": "label", "inputs": ["event/summary"]}
    head = ClassifierHead(parse(ClassifierConfig, config, "test"), Schema(axes=schema.axes, arrays=arrays)).eval()
    prepared = head.prepare(events)
    assert prepared["event/counts"].tolist() == [True, False, True, True, False, True]
    head.fit([prepared])
    assert head.targets.share.tolist() == [0.75, 0.25]
    assert len(head.predict(to_batch(prepared, head.prepared))["event/label"]) == 6


def test_parameters_of_the_published_classifiers():
    schema, _ = labelled()
    wide = Array(dtype="float32", shape=(256,), role="feature")
    schema = Schema(axes=schema.axes, arrays=schema.arrays | {"event/vector256": wide})
    config: dict[str, Any] = {"rows": "event", "target": "event/label", "field": "label", "inputs": ["event/vector256"]}
    older = {"hidden": [256, 128, 64], "norm": "layer", "dropout": [0.2, 0.2, 0.1]}
    for more, expected in (({}, 33_410), (older, 107_970)):
        head = ClassifierHead(parse(ClassifierConfig, config | more, "test"), schema)
        assert sum(parameter.numel() for parameter in head.parameters()) == expected


def test_mapped_features_are_pooled_as_others():
    config = {"rows": "event", "target": "event/label", "field": "label", "inputs": ["set/state", "event/pooled"]}
    head = ClassifierHead(parse(ClassifierConfig, config, "test"), stay_schema())
    events, mapped = stay_events(), stay_events()
    for values in mapped.values():
        values.setflags(write=False)
    np.testing.assert_array_equal(head.prepare(mapped)["event/vector"], head.prepare(events)["event/vector"])


def test_inputs_are_standardised_with_the_training_split():
    head = pooled()
    prepared = head.prepare(feature_events())
    head.fit([prepared])
    seen = head.standard(torch.from_numpy(prepared["slot/vector"]))
    varied = prepared["slot/vector"].std(0) > 1e-3
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(seen[:, varied].std(0, correction=0), 1, rtol=1e-3)


def test_a_lone_slot_can_be_trained_on_with_batch_norm():
    head = ClassifierHead(ClassifierConfig(), feature_schema())
    prepared = head.prepare(feature_events(hits=(5,), tracks=(1,)))
    one = {name: values[:1] if name.startswith("slot/") else values for name, values in prepared.items()}
    one["slot/offsets"] = np.array([0, 1])
    head.train()
    before = {name: value.clone() for name, value in head.net.named_buffers()}
    loss, _ = head.loss(to_batch(one, head.prepared))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.equal(value, before[name]) for name, value in head.net.named_buffers())


def test_curve_joins_the_vector():
    head = pooled(line=["a", "b"])
    assert head.n_input == D + 4 * (N_FIELD + D) + N_CURVE
    prepared = head.prepare(feature_events())
    assert np.isfinite(prepared["slot/vector"]).all()


def test_offsets_to_a_hit_make_a_target_that_the_hit_knows_small():
    events = feature_events(0, hits=(6,) * 50, tracks=(2,) * 50)
    phi = events["track/parameters"][:, 2]
    events["hit/scaled"][:, 0] = np.abs(events["hit/scaled"][:, 0])
    match, event = events["query/match"], np.repeat(np.arange(50), N_QUERY)
    events["hit/assignment_logit"][:] = -9
    for row in np.nonzero(match >= 0)[0]:  # one hit per track, which knows its phi in other units
        hit = event[row] * 6 + row % N_QUERY
        events["hit/assignment_logit"][hit, row % N_QUERY] = 9
        events["hit/scaled"][hit, 3] = phi[event[row] * 2 + match[row]] / 1.8 + 0.3
    head = pooled(offset_fields={"phi": "d"}, offset_hit="a", hidden=[8])
    prepared = head.prepare(events)
    head.fit([prepared])
    np.testing.assert_allclose(head.offsets.slope, [1.8], rtol=1e-4)
    assert float(head.targets.width[1]) in (1.0, pytest.approx(0, abs=1e-3))
    mean = head.metrics(head.predict_mean(prepared), prepared)
    assert mean["phi/rmse"] < 1e-3 < mean["eta/rmse"]
    batch = to_batch(prepared, head.prepared)
    assert torch.isfinite(head.loss(batch)[0])
    assert float(head.predict(batch)["slot/phi"].abs().max()) <= np.pi + 1e-6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"inputs": ["hit/embeding"]}, r"no array 'hit/embeding'; did you mean 'hit/embedding'"),
        ({"inputs": ["track/parameters"]}, r"track/parameters belongs neither to a query nor to its hits"),
        ({"inputs": []}, r"inputs"),
        (
            {"log_variances": ["hit/scale"]},
            r"log_variances name 'hit/scale', which is none of the inputs; did you mean",
        ),
        ({"pooling": ["mean", "mean"]}, r"pooling name something twice"),
        ({"rows": "event"}, r"target track/parameters is an array of axis 'track', the head answers for events"),
        ({"field": "charge"}, r"no column 'charge'"),
        ({"class_weights": [1, 2, 3]}, r"3 numbers for 2 classes"),
        ({"classes": 3, "class_weights": "alpha_ratio"}, r"is for two classes"),
        ({"hidden": [4, 4], "dropout": [0.1]}, r"dropout has 1 numbers for 2 hidden layers"),
        ({"line": ["a", "b"], "rows": "event"}, r"line is about the hits of a slot"),
    ],
)
def test_bad_configs_are_named(config, message):
    with pytest.raises(ConfigError, match=message):
        ClassifierHead(parse(ClassifierConfig, config, "test"), feature_schema())


def test_label_of_events_for_a_head_on_slots_is_refused():
    schema, _ = labelled()
    with pytest.raises(ConfigError, match=r"one value per event, the head answers for slots.*rows: event"):
        LinearClassifier(LinearClassifierConfig(target="event/label", field="label"), schema)


def test_features_without_assignment_need_inputs_without_hits():
    schema = feature_schema()
    schema = schema.select(name for name in schema.arrays if name != "hit/assignment_logit")
    with pytest.raises(ConfigError, match=r"no assignment.*leave the hits out"):
        pooled(schema)
    assert pooled(schema, inputs=["query/embedding"]).needs


def test_target_with_more_values_than_classes_is_named():
    head = LinearClassifier(LinearClassifierConfig(field="pt"), feature_schema())
    with pytest.raises(TrainingError, match=r"target 'pt' shows 8 values"):
        head.fit([head.prepare(feature_events())])


FOCAL = {"class_weights": "balanced", "focal_gamma": 1.5}
SPREAD = {"inverse_fields": ["pt"], "quantile_fields": ["pt", "phi"], "gaussian_fields": ["eta"], "bce_fields": ["q"]}
OFFSET = {"offset_fields": {"phi": "d"}, "offset_hit": "a", "periodic_output": "vector", "log_fields": ["pt"]}


@pytest.mark.parametrize(
    ("head_class", "config"),
    [
        (ClassifierHead, {"norm": "batch", **FOCAL}),
        (ClassifierHead, {"norm": "layer"}),
        (PooledHead, SPREAD),
        (PooledHead, OFFSET),
    ],
)
def test_stacked_heads_train_as_each_alone(head_class, config):
    config = {"dropout": 0.0, "hidden": [16, 8], **config}
    heads = [head_class(parse(head_class.Config, config, "test"), feature_schema()) for _ in range(3)]
    prepared = heads[0].prepare(feature_events())
    for head in heads:
        head.fit([prepared])
        head.train()
    batch = to_batch(prepared, heads[0].prepared)
    parameters, buffers = torch.func.stack_module_state(heads)

    def loss(weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> Any:
        found = torch.func.functional_call(
            _Loss(heads[0]), ({"head." + k: v for k, v in (weights | state).items()},), batch
        )
        return found, state

    gradients, after = torch.func.vmap(torch.func.grad(loss, has_aux=True))(parameters, buffers)
    for number, head in enumerate(heads):
        head.loss(batch)[0].backward()
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad, rtol=1e-4, atol=1e-6)
        for name, value in head.named_buffers():
            if name in after:
                torch.testing.assert_close(after[name][number], value, rtol=1e-4, atol=1e-6)


class _Loss(torch.nn.Module):
    def __init__(self, head: ClassifierHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head.loss(batch)[0]
