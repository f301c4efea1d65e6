"""What every backbone must do, run over the table of families and a plain torch model named by import path."""

from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from muon_events import SCHEMA, batch_of, make_events

from frz.backbones.contract import BACKBONES, Backbone, Batch
from frz.config import import_class
from frz.store.ragged import rows, take
from frz.store.schema import EventArrays, axis_of, count_events

POINT = {"position": ["globEdgeLowX", "globEdgeLowY", "globEdgeLowZ"], "pos_fields": ["r", "theta", "phi"]}
SMALL = {"fields": ["driftR", "layer", "r", "s", "theta", "phi", "eta"], "dim": 16, **POINT}

# Every family at its defaults, and what else is worth the whole suite.
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in sorted(BACKBONES)}
CASES |= {
    "hit_track-derived": ("hit_track", SMALL),
    "hit_track-pairs": ("hit_track", {**SMALL, "num_queries": 20, "heads": 4, "norm": "rms"}),
    "hit_track-plain-decoder": (
        "hit_track",
        {**SMALL, "mask_attention": False, "bidirectional": False, "intermediate_losses": False, "num_queries": 5},
    ),
    "hit_track-seeds": ("hit_track", {**SMALL, "num_queries": 20, "queries": "seeds"}),
    "user": ("plain_backbone:DeepSet", {}),
}

# Rounding of float32 sums in another order, at embeddings and logits of order 1 to 10.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}

LENGTHS = [12, 40, 7, 90, 1, 33, 12, 25]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(case: str) -> Backbone:
    return build(case)


def build(case: str, seed: int = 0) -> Backbone:
    family, config = CASES[case]
    cls = import_class(family, BACKBONES, "backbone")
    torch.manual_seed(seed)
    built: Backbone = cls(cls.Config(**config), SCHEMA)
    built.fit([make_events(LENGTHS, seed=5)])
    return built.eval()


def run(model: Backbone, events: EventArrays) -> Batch:
    with torch.inference_mode():
        batch = batch_of(events)
        features = model(batch)
        return {**features, **model.annotate(batch, features)}


def offsets_of(model: Backbone, axis: str, events: EventArrays, result: Batch) -> torch.Tensor:
    """Where the members of each parent begin and end on an axis right below `event` or another."""
    if axis in SCHEMA.axes:
        return torch.from_numpy(events[f"{axis}/offsets"])
    spec = model.axes[axis]
    if spec.length is None:
        return result[f"{axis}/offsets"]
    return torch.arange(count_events(events, SCHEMA) + 1) * spec.length


def of_event(model: Backbone, name: str, i: int, events: EventArrays, result: Batch) -> torch.Tensor:
    """Members of one event of an output."""
    axes = {**SCHEMA.axes, **model.axes}
    chain, axis = [], axis_of(name)
    while axis != "event":
        chain.append(axis)
        axis = axes[axis].parent
    first, last = i, i + 1
    for step in reversed(chain):
        offsets = offsets_of(model, step, events, result)
        first, last = int(offsets[first]), int(offsets[last])
    return result[name][first:last]


def test_outputs_are_as_declared(model):
    events = make_events([*LENGTHS, 0])
    result = run(model, events)
    declared = {**model.outputs, **model.annotations}
    ragged = {f"{axis}/offsets" for axis, spec in model.axes.items() if spec.length is None}
    assert set(result) == set(declared) | ragged
    for name, spec in declared.items():
        values = result[name].numpy()
        assert values.dtype == np.dtype(spec.dtype), name
        assert values.shape[1:] == spec.shape, name
        assert len(values) == int(offsets_of(model, axis_of(name), events, result)[-1]), name
        assert spec.role in ("feature", "target"), name
    assert {spec.group for spec in model.outputs.values()} == {"features"}
    assert {spec.group for spec in model.annotations.values()} <= {"annotation"}


def test_it_reads_what_it_says(model):
    events = make_events(LENGTHS)
    names = set(SCHEMA.select([*model.inputs, *model.targets]).axes)
    wanted = {*model.inputs, *model.targets, *(f"{axis}/offsets" for axis in names)}
    less = {name: values for name, values in events.items() if name in wanted}
    full, bare = run(model, events), run(model, less)
    assert all(torch.equal(full[name], bare[name]) for name in full)
    assert model.loss(batch_of(less))[0].isfinite()


def test_padding_and_batch_composition_change_nothing(model):
    events = make_events([*LENGTHS * 8, 300])  # several lengths, one far longer
    together = run(model, events)
    for i in (0, 1, 3, 4, 17, 64):
        alone = run(model, take(events, SCHEMA, np.array([i])))
        for name in (*model.outputs, *model.annotations):
            torch.testing.assert_close(of_event(model, name, i, events, together), alone[name], **CLOSE)


def test_order_of_events_changes_nothing(model):
    events = make_events(LENGTHS * 8)
    order = np.random.default_rng(0).permutation(len(LENGTHS) * 8)
    mixed = take(events, SCHEMA, order)
    straight, result = run(model, events), run(model, mixed)
    for i, source in enumerate(order):
        for name in (*model.outputs, *model.annotations):
            expected = of_event(model, name, int(source), events, straight)
            torch.testing.assert_close(of_event(model, name, i, mixed, result), expected, **CLOSE)


def test_two_runs_are_bit_equal(model):
    events = make_events(LENGTHS * 8)
    first, second = run(model, events), run(model, events)
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [model.loss(batch_of(events))[0] for _ in range(2)]
    assert torch.equal(*losses)


def test_state_round_trip(case):
    events = make_events(LENGTHS)
    first, second = build(case), build(case, seed=1)
    blank = {name: torch.zeros_like(value) for name, value in second.state_dict().items()}
    second.load_state_dict(blank)
    second.load_state_dict(safetensors.torch.load(safetensors.torch.save(first.state_dict())), strict=True)
    expected, found = run(first, events), run(second, events)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_order_in_sets_changes_nothing(model):
    assert "hit" in model.sets
    events = make_events(LENGTHS)
    bounds = events["hit/offsets"]
    rng = np.random.default_rng(1)
    order = np.concatenate([a + rng.permutation(b - a) for a, b in zip(bounds, bounds[1:], strict=False)])
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    shift = np.repeat(bounds[:-1], np.diff(events["member/offsets"][events["track/offsets"]]))
    member = (back[events["member/hit"] + shift] - shift).astype(np.int32)
    mixed = {**events, "hit/raw": events["hit/raw"][order], "member/hit": member}
    straight, result = run(model, events), run(model, mixed)
    axes = {**SCHEMA.axes, **model.axes}
    for name in (*model.outputs, *model.annotations):
        expected = straight[name]
        if axis_of(name) == "hit":
            expected = expected[order]
        elif axes[axis_of(name)].parent == "hit":
            positions, offsets = rows(straight[f"{axis_of(name)}/offsets"].numpy(), order)
            expected = expected[positions]
            assert np.array_equal(result[f"{axis_of(name)}/offsets"].numpy(), offsets)
        torch.testing.assert_close(result[name], expected, **CLOSE)


@pytest.mark.parametrize("lengths", [[0, 20, 0, 5], [0], [0, 0, 0]])
def test_events_without_members_are_finite(model, lengths):
    events = make_events(lengths)
    result = run(model, events)
    assert all(values.isfinite().all() for values in result.values())
    if any(lengths):
        model.zero_grad()
        loss, parts = model.loss(batch_of(events))
        loss.backward()
        assert loss.isfinite()
        assert all(part.isfinite() for part in parts.values())
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_gradients_reach_every_parameter(model):
    model.train()
    loss, parts = model.loss(batch_of(make_events(LENGTHS)))
    loss.backward()
    assert loss.shape == ()
    assert parts
    assert not any(part.requires_grad for part in parts.values())
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert [n for n, p in model.named_parameters() if not p.grad.any()] == []


def test_frozen_weights_and_buffers_stay(model):
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    events = make_events(LENGTHS)
    batch = batch_of(events)
    features = model(batch)
    assert not any(value.requires_grad for value in features.values())
    model.annotate(batch, features)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_few_steps_lower_the_loss(model):
    model.train()
    batch = batch_of(make_events([30] * 8, n_tracks=[1] * 8))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss, _ = model.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
