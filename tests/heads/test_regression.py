import math
from typing import Any

import numpy as np
import pytest
import torch
from feature_events import FIELDS, N_FIELD, N_QUERY, D, as_pairs, feature_events, feature_schema, probability
from torch import Tensor, nn

from frz.config import parse, read_yaml
from frz.errors import ConfigError, TrainingError
from frz.heads.lines import line_coordinates
from frz.heads.regression import RegressionHead
from frz.heads.run import HeadConfig
from frz.heads.settings import RegressionConfig
from frz.loading.batch import to_batch
from frz.store.ragged import concat
from frz.store.schema import EventArrays, Schema

SCHEMA = feature_schema()


def build(schema: Schema = SCHEMA, **config: Any) -> RegressionHead:
    torch.manual_seed(0)
    return RegressionHead(parse(RegressionConfig, config, "test"), schema).eval()


def fitted(**config: Any) -> tuple[RegressionHead, EventArrays]:
    head = build(**config)
    prepared = head.prepare(feature_events())
    head.fit([prepared])
    return head, prepared


def padded_outputs(head: RegressionHead, events: EventArrays, net: nn.Module | None = None) -> Tensor:
    """Raw outputs (n_event Q, O) computed event by event on the dense matrix (Q, M)."""
    result = []
    weight, embedding, scaled = (
        torch.from_numpy(np.asarray(events[name], np.float32))
        for name in ("hit/assignment_logit", "hit/embedding", "hit/scaled")
    )
    query = torch.from_numpy(events["query/embedding"].astype(np.float32)).view(-1, N_QUERY, D)
    offsets = events["hit/offsets"]
    for event in range(len(offsets) - 1):
        rows = slice(int(offsets[event]), int(offsets[event + 1]))
        p = weight[rows].T.sigmoid()  # (Q, M)
        mask = p >= head.config.assignment_threshold
        w = p * mask
        parts = [query[event]]
        for x in (head.raw_hit_net(scaled[rows][:, head.columns]), head.encoded_hit_net(embedding[rows])):
            spread, some = x[None], mask.any(1, keepdim=True)
            parts += [(w / w.sum(1, keepdim=True).clamp(min=1e-8)) @ x, w @ x]
            if len(x):
                parts.append(torch.where(mask[..., None], spread, -torch.inf).amax(1).where(some, 0.0))
                parts.append(torch.where(mask[..., None], spread, torch.inf).amin(1).where(some, 0.0))
            else:
                parts += [torch.zeros_like(parts[0])] * 2
        result.append((net or head.net)(torch.cat(parts, 1)))
    return torch.cat(result)


@pytest.mark.parametrize("threshold", [0.1, 0.5])
@pytest.mark.parametrize("sparse", [False, True])
def test_outputs_and_gradients_equal_the_padded_form(threshold, sparse):
    events = feature_events()
    head = build(feature_schema(sparse=sparse), assignment_threshold=threshold)
    prepared = head.prepare(as_pairs(events) if sparse else events)
    batch = to_batch(prepared, head.prepared)
    event = np.repeat(np.arange(6), np.diff(prepared["slot/offsets"]))
    rows = torch.from_numpy(event * N_QUERY + prepared["slot/query"])
    ours, theirs = head(batch), padded_outputs(head, events)[rows]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    pull = torch.randn(ours.shape)
    parameters = list(head.parameters())
    for a, b in zip(
        torch.autograd.grad(ours, parameters, pull), torch.autograd.grad(theirs, parameters, pull), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_loss_is_the_weighted_mean_of_its_parts():
    head, prepared = fitted(loss_weight=2.0, field_weights={"pt": 3.0}, bce_fields=["q"])
    loss, parts = head.loss(to_batch(prepared, head.prepared))
    expected = 2 * (parts["eta"] + parts["phi"] + 3 * parts["pt"] + parts["q"]) / 6
    torch.testing.assert_close(loss.detach(), expected)


def test_layers_as_documented():
    assert [type(layer).__name__ for layer in build(regression_num_layers=1).net] == ["Linear"]
    net = build(regression_num_layers=3, regression_hidden_dim=20, dropout=0.25).net
    assert [type(layer).__name__ for layer in net] == ["Linear", "ReLU", "LayerNorm", "Dropout"] * 2 + ["Linear"]
    assert [m.out_features for m in net if isinstance(m, nn.Linear)] == [20, 20, 4]
    assert [m.p for m in net if isinstance(m, nn.Dropout)] == [0.25, 0.25]
    first = build().net[0]
    assert isinstance(first, nn.Linear)
    assert (first.in_features, first.out_features) == (9 * D, 9 * D // 2)


@pytest.mark.parametrize(("nets", "width"), [((), D), (("raw",), 5 * D), (("encoded",), 5 * D)])
def test_hit_nets_can_be_left_out(nets, width):
    head = build(hit_nets=list(nets))
    assert head.net[0].in_features == width
    assert "hit/scaled" in head.needs or "raw" not in nets
    prepared = head.prepare(feature_events())
    assert torch.isfinite(head(to_batch(prepared, head.prepared))).all()
    assert ("pair/hit" in prepared) == bool(nets)


def test_line_feeds_the_raw_net_per_pair():
    head, prepared = fitted(line=["a", "b"])
    first = head.raw_hit_net[0]
    assert isinstance(first, nn.Linear)
    assert first.in_features == N_FIELD + 3
    assert prepared["pair/line"].shape == (len(prepared["pair/hit"]), 2)
    np.testing.assert_allclose(head.line_scale, np.median(np.abs(prepared["pair/line"]), axis=0))
    batch = to_batch(prepared, head.prepared)
    before = head(batch)
    batch["pair/line"] = batch["pair/line"] + 1
    assert not torch.allclose(head(batch), before)


def test_line_of_joined_events():
    head = build(line=["a", "b"])
    events = [feature_events(seed) for seed in range(2)]
    together, apart = head.prepare(concat(events)), concat([head.prepare(one) for one in events])
    np.testing.assert_allclose(together["pair/line"], apart["pair/line"], rtol=1e-5, atol=1e-6)


def test_line_is_that_of_the_hits_of_the_slot():
    events, head = feature_events(), build(line=["a", "b"])
    prepared = head.prepare(events)
    p = probability(events["hit/assignment_logit"])
    event = np.repeat(np.arange(6), np.diff(prepared["slot/offsets"]))
    place = int(np.argmax(np.diff(prepared["pair/offsets"])))
    begin, end = prepared["pair/offsets"][place : place + 2]
    hits = slice(*events["hit/offsets"][event[place] : event[place] + 2])
    weight = p[hits, prepared["slot/query"][place]]
    inside = weight >= 0.1
    x, y = events["hit/scaled"][hits][inside, :2].astype(np.float64).T
    alone = line_coordinates(x, y, weight[inside], np.zeros(inside.sum(), np.int64), 1)
    np.testing.assert_allclose(prepared["pair/line"][begin:end], alone, rtol=1e-5, atol=1e-6)


def test_hit_fields_in_the_order_given():
    head = build(hit_fields=["d", "a"])
    prepared, events = head.prepare(feature_events()), feature_events()
    everything = build().prepare(events)["hit/scaled"]
    assert head.prepared.arrays["hit/scaled"].columns == ("d", "a")
    np.testing.assert_array_equal(prepared["hit/scaled"], everything[:, [3, 0]])


def test_float16_features_stay_float16_until_the_batch():
    head = build(feature_schema(dtype="float16"))
    prepared = head.prepare(feature_events(dtype="float16"))
    assert prepared["hit/embedding"].dtype == prepared["slot/embedding"].dtype == np.float16
    assert head(to_batch(prepared, head.prepared)).dtype == torch.float32


def test_bf16_autocast_is_close_and_trains():
    head, prepared = fitted(bce_fields=["q"], inverse_fields=["pt"])
    batch = to_batch(prepared, head.prepared)
    exact, _ = head.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = head.loss(batch)
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.05)
    assert loss.item() != loss.bfloat16().item()  # the loss itself is not rounded: it decides which epoch is best
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_slots_kept_are_those_that_count_or_are_valid():
    for slots in ("all_true", "valid", "double_matched"):
        events, head = feature_events(), build(slots=slots)
        prepared = head.prepare(events)
        counts = prepared["slot/counts"]
        assert (counts | prepared["slot/valid"]).all()
        valid = int((events["query/valid_logit"] >= 0).sum())
        assert int(prepared["slot/valid"].sum()) == valid
        assert np.abs(prepared["slot/target"][~counts]).max() == 0
        true = int((events["query/match"] >= 0).sum())
        assert counts.sum() == true if slots == "all_true" else 0 < counts.sum() < true


def test_prediction_of_a_broken_output_stays_in_the_training_range():
    head, prepared = fitted(inverse_fields=["pt"], regression_num_layers=1)
    with torch.no_grad():
        head.net[0].bias[2] = -1e4
    found = head.predict(to_batch(prepared, head.prepared))["slot/pt"]
    largest = prepared["slot/target"][prepared["slot/counts"], 2].max()
    np.testing.assert_allclose(found, largest, rtol=1e-5)


def test_classes_predict_values_of_the_data_and_a_probability():
    head, prepared = fitted(bce_fields=["q"])
    found = head.predict(to_batch(prepared, head.prepared))
    probability = found["slot/q_probability"]
    expected = torch.where(probability >= 0.5, 1.0, -1.0)
    assert torch.equal(found["slot/q"], expected)


def test_ratio_of_columns_is_a_target():
    head, prepared = fitted(fields=["q/pt", "eta"])
    p = feature_events()["track/parameters"]
    counts = prepared["slot/counts"]
    assert set(np.round(prepared["slot/target"][counts, 0], 5)) == set(np.round(p[:, 3] / p[:, 0], 5))
    assert "slot/q_over_pt" in head.predict(to_batch(prepared, head.prepared))


def perfect(head: RegressionHead, prepared: EventArrays) -> EventArrays:
    return {f"slot/{label}": prepared["slot/target"][:, i].copy() for i, label in enumerate(head.labels)}


def test_metrics_of_a_perfect_and_of_a_shifted_prediction():
    head, prepared = fitted(inverse_fields=["pt"], bce_fields=["q"])
    predictions = perfect(head, prepared)
    counts = prepared["slot/counts"]
    found = head.metrics(predictions, prepared)
    assert found["slots"] == counts.sum() == 8
    assert found["q/accuracy"] == 1
    assert max(abs(found[f"{name}/{what}"]) for name in ("eta", "phi", "pt") for what in ("bias", "rmse")) == 0
    predictions["slot/eta"] += 0.5
    predictions["slot/phi"] += 2 * math.pi - 0.25
    predictions["slot/pt"] *= 1.1
    predictions["slot/q"][np.nonzero(counts)[0][:2]] *= -1
    predictions["slot/q_probability"] = (prepared["slot/target"][:, 3] + 1) / 2
    found = head.metrics(predictions, prepared)
    assert found["eta/bias"] == pytest.approx(0.5)
    assert found["phi/bias"] == pytest.approx(-0.25, abs=1e-5)
    assert found["pt/relative_bias"] == pytest.approx(0.1, rel=1e-4)
    assert found["q/accuracy"] == pytest.approx(0.75)
    assert found["q/auc"] == 1


def test_regressed_charge_has_an_accuracy_too():
    head, prepared = fitted()
    assert head.metrics(perfect(head, prepared), prepared)["q/accuracy"] == 1


def test_slots_without_hits_are_counted():
    events = feature_events()
    events["hit/assignment_logit"][:] = -20
    head = build()
    prepared = head.prepare(events)
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    loss, _ = head.loss(batch)
    loss.backward()
    assert len(prepared["hit/scaled"]) == 0
    assert torch.isfinite(loss)
    found = head.metrics({n: v.numpy() for n, v in head.predict(batch).items()}, prepared)
    assert found["slots_empty"] == found["slots"] == 8


def test_predict_mean_is_the_yardstick():
    head, prepared = fitted(inverse_fields=["pt"], bce_fields=["q"])
    found = head.predict_mean(prepared)
    eta = prepared["slot/target"][prepared["slot/counts"], 0]
    np.testing.assert_allclose(found["slot/eta"], head.targets.mean[0])
    metrics = head.metrics(found, prepared)
    assert metrics["eta/rmse"] == pytest.approx(float(np.sqrt(np.mean((eta - found["slot/eta"][0]) ** 2))))
    assert metrics["q/accuracy"] == 0.5


@pytest.mark.parametrize("periodic", ["angle", "vector"])
def test_head_learns_what_the_query_knows(periodic):
    events = feature_events(0, hits=(4,) * 60, tracks=(2,) * 60)
    embedding = np.zeros_like(events["query/embedding"])
    matched = events["query/match"] >= 0
    rows = np.repeat(np.arange(60), N_QUERY)[matched] * 2 + events["query/match"][matched]
    pt, eta, phi, q = events["track/parameters"][rows].T
    embedding[matched, :5] = np.stack([10 / pt, eta, np.cos(phi), np.sin(phi), q], 1)
    events["query/embedding"] = embedding
    kinds = {"inverse_fields": ["pt"], "bce_fields": ["q"], "periodic_output": periodic}
    head = build(**kinds, dropout=0.0, hit_nets=[], regression_hidden_dim=64)
    prepared = head.prepare(events)
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        head.loss(batch)[0].backward()
        optimiser.step()
    found = head.metrics({n: v.numpy() for n, v in head.predict(batch).items()}, prepared)
    mean = head.metrics(head.predict_mean(prepared), prepared)
    assert found["q/accuracy"] == 1
    for name in ("eta/rmse", "phi/rmse", "pt/relative_rmse"):
        assert found[name] < 0.25 * mean[name], name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dim": 64}, r"dim is 64 but query/embedding is 8 wide; set dim: 8"),
        ({"fields": ["eta", "phj"]}, r"no column 'phj'; did you mean 'phi'"),
        ({"fields": ["q/ptt"]}, r"no column 'ptt'; did you mean 'pt'"),
        ({"fields": ["eta", "eta"]}, r"twice"),
        ({"hit_fields": ["a", "zz"]}, r"no column 'zz'"),
        ({"inverse_fields": ["p"]}, r"inverse_fields name 'p', which is none of the fields; did you mean 'pt'"),
        ({"fields": ["eta", "foo"], "bce_fields": ["q"]}, r"bce_fields name 'q', which is none of .*; have: eta, foo$"),
        ({"fields": ["eta", "ptt"], "inverse_fields": ["pt"]}, r"inverse_fields name 'pt', .* did you mean 'ptt'"),
        ({"inverse_fields": ["pt"], "log_fields": ["pt"]}, r"pt is treated in two ways"),
        ({"regression_num_layers": 0}, r"regression_num_layers = 0"),
        ({"assignment_threshold": 1.0}, r"assignment_threshold = 1.0"),
        ({"field_weights": {"eta": 0, "phi": 0, "pt": 0, "q": 0}}, r"no field with a weight"),
        ({"target": "track/parameter"}, r"no array 'track/parameter'; did you mean 'track/parameters'"),
        ({"line": ["a", "b"], "hit_nets": ["encoded"]}, r"line feeds the raw hit net"),
        ({"line": ["a", "bb"]}, r"no column 'bb'"),
        ({"hit_nets": ["raw", "raw"]}, r"hit_nets name something twice"),
        ({"inverse_field": ["pt"]}, r"unknown key 'inverse_field'; did you mean 'inverse_fields'"),
    ],
)
def test_bad_configs_are_named(config, message):
    with pytest.raises(ConfigError, match=message):
        build(**config)


def test_threshold_below_the_stored_floor_is_refused_at_once():
    with pytest.raises(ConfigError, match="the smallest assignment stored"):
        build(feature_schema(sparse=True), assignment_threshold=0.001)


def test_features_without_assignment_need_a_head_without_hit_nets():
    schema = feature_schema()
    schema = schema.select(name for name in schema.arrays if name != "hit/assignment_logit")
    with pytest.raises(ConfigError, match=r"no assignment.*leave the hit nets out \(hit_nets: \[\]\)"):
        build(schema)
    assert build(schema, hit_nets=[]).needs


def test_fit_without_truth_is_refused():
    head = build(feature_schema(truth=False))
    with pytest.raises(TrainingError, match="no targets"):
        head.fit([])


def test_phi_is_periodic_by_default_where_it_is_a_field():
    assert RegressionConfig().kinds == ("identity", "periodic", "identity", "identity")
    assert RegressionConfig(fields=("eta", "pt")).kinds == ("identity", "identity")
    assert RegressionConfig(periodic_fields=()).kinds[1] == "identity"


@pytest.mark.parametrize("name", ["muon", "velo"])
def test_shipped_configs_are_valid(project, name):
    values = read_yaml(project / "configs" / name / "head-regression.yaml")
    config = parse(HeadConfig, values, name)
    model = parse(RegressionConfig, config.model, name)
    assert config.head == "regression"
    assert "phi" in model.fields


def test_shapes_of_the_fixture():
    assert len(FIELDS) == N_FIELD
    assert probability(feature_events()["hit/assignment_logit"]).shape[1] == N_QUERY


def test_importing_the_head_loads_no_backbone(fresh_python):
    code = "import sys, frz.heads.regression; sys.exit(any(m.startswith('frz.backbones') for m in sys.modules))"
    done = fresh_python("-c", code)
    assert done.returncode == 0, done.stderr
