"""What every backbone must do, run over the table of families and a plain torch model named by import path."""

from types import ModuleType
from typing import Any, NamedTuple

import icu_events
import muon_events
import numpy as np
import pytest
import safetensors.torch
import torch

from frz.backbones.contract import BACKBONES, Backbone, Batch
from frz.config import import_class
from frz.store.ragged import rows, take
from frz.store.schema import Axis, EventArrays, axis_of, count_events

POINT = {"position": ["globEdgeLowX", "globEdgeLowY", "globEdgeLowZ"], "pos_fields": ["r", "theta", "phi"]}
SMALL = {"fields": ["driftR", "layer", "r", "s", "theta", "phi", "eta"], "dim": 16, **POINT}

CLINICAL = {
    "static": True,
    "levels": True,
    "embedding": "table",
    "scaling": "quantile",
    "reconstruction": {"source": "state", "matching": "sinkhorn", "sinkhorn_steps": 5, "share": 0.5, "levels": 2},
    "forecast": {"weight": 0.5},
    "supervised": {"labels": {"event/label": 1.0}, "scores": {"event/saps": 0.1}, "every_set": 0.5},
    "summary": {"members": 2, "hidden": 8, "width": 4},
    "graded": {"members": 2, "hidden": 8, "width": 4},
    "element_dropout": 0.2,
    "set_dropout": 0.2,
    "variable_dropout": 0.1,
}
ORIGINAL = {
    "token": "product",
    "residual": False,
    "pooling_scaled": False,
    "reconstruction": {"source": "previous"},
    "forecast": {"weight": 0.0},
    "kl": {"free": "sum", "logvar_bonus": 0.1, "warmup": 0},
}


class Case(NamedTuple):
    """A family, its config, and the kind of events it reads."""

    family: str
    config: dict[str, Any]
    world: ModuleType


DEFAULTS = {"hit_track": muon_events, "set_sequence": icu_events}

# Every family at its defaults, and what else is worth the whole suite.
CASES = {name: Case(name, {}, DEFAULTS[name]) for name in sorted(BACKBONES)}
CASES |= {
    "hit_track-derived": Case("hit_track", SMALL, muon_events),
    "hit_track-pairs": Case("hit_track", {**SMALL, "num_queries": 20, "heads": 4, "norm": "rms"}, muon_events),
    "hit_track-plain-decoder": Case(
        "hit_track",
        {**SMALL, "mask_attention": False, "bidirectional": False, "intermediate_losses": False, "num_queries": 5},
        muon_events,
    ),
    "hit_track-seeds": Case("hit_track", {**SMALL, "num_queries": 20, "queries": "seeds"}, muon_events),
    "set_sequence-all": Case("set_sequence", {**CLINICAL, "dim": 16}, icu_events),
    "set_sequence-original": Case("set_sequence", {**ORIGINAL, "dim": 16}, icu_events),
    "user": Case("plain_backbone:DeepSet", {}, muon_events),
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


@pytest.fixture
def world(case: str) -> ModuleType:
    return CASES[case].world


def build(case: str, seed: int = 0) -> Backbone:
    family, config, world = CASES[case]
    cls = import_class(family, BACKBONES, "backbone")
    torch.manual_seed(seed)
    built: Backbone = cls(cls.Config(**config), world.SCHEMA)
    built.fit([world.make_events(LENGTHS, seed=5) | world.CONSTANTS])
    return built.eval()


def run(model: Backbone, world: ModuleType, events: EventArrays) -> Batch:
    with torch.inference_mode():
        batch = world.batch_of(events)
        features = model(batch)
        return {**features, **model.annotate(batch, features)}


def axes_of(model: Backbone, world: ModuleType) -> dict[str, Axis]:
    return {**world.SCHEMA.axes, **model.axes}


def offsets_of(model: Backbone, world: ModuleType, axis: str, events: EventArrays, result: Batch) -> torch.Tensor:
    """Where the members of each parent begin and end on an axis right below `event` or another."""
    if axis == "event":
        return torch.arange(count_events(events, world.SCHEMA) + 1)
    if axis in world.SCHEMA.axes:
        return torch.from_numpy(events[f"{axis}/offsets"])
    spec = model.axes[axis]
    if spec.length is None:
        return result[f"{axis}/offsets"]
    return torch.arange(count_events(events, world.SCHEMA) + 1) * spec.length


def of_event(model: Backbone, world: ModuleType, name: str, i: int, events: EventArrays, result: Batch) -> torch.Tensor:
    """Members of one event of an output."""
    axes = axes_of(model, world)
    chain, axis = [], axis_of(name)
    while axis != "event":
        chain.append(axis)
        axis = axes[axis].parent
    first, last = i, i + 1
    for step in reversed(chain):
        offsets = offsets_of(model, world, step, events, result)
        first, last = int(offsets[first]), int(offsets[last])
    return result[name][first:last]


def test_outputs_are_as_declared(model, world):
    events = world.make_events([*LENGTHS, 0])
    result = run(model, world, events)
    declared = {**model.outputs, **model.annotations}
    ragged = {f"{axis}/offsets" for axis, spec in model.axes.items() if spec.length is None}
    assert set(result) == set(declared) | ragged
    for name, spec in declared.items():
        values = result[name].numpy()
        assert values.dtype == np.dtype(spec.dtype), name
        assert values.shape[1:] == spec.shape, name
        assert len(values) == int(offsets_of(model, world, axis_of(name), events, result)[-1]), name
        assert spec.role in ("feature", "target"), name
    assert {spec.group for spec in model.outputs.values()} == {"features"}
    assert {spec.group for spec in model.annotations.values()} <= {"annotation"}


def test_it_reads_what_it_says(model, world):
    events = world.make_events(LENGTHS)
    names = set(world.SCHEMA.select([*model.inputs, *model.targets]).axes)
    wanted = {*model.inputs, *model.targets, *(f"{axis}/offsets" for axis in names)}
    less = {name: values for name, values in events.items() if name in wanted}
    full, bare = run(model, world, events), run(model, world, less)
    assert all(torch.equal(full[name], bare[name]) for name in full)
    assert model.loss(world.batch_of(less))[0].isfinite()


def test_padding_and_batch_composition_change_nothing(model, world):
    events = world.make_events([*LENGTHS * 8, 300])  # several lengths, one far longer
    together = run(model, world, events)
    for i in (0, 1, 3, 4, 17, 64):
        alone = run(model, world, take(events, world.SCHEMA, np.array([i])))
        for name in (*model.outputs, *model.annotations):
            torch.testing.assert_close(of_event(model, world, name, i, events, together), alone[name], **CLOSE)


def test_order_of_events_changes_nothing(model, world):
    events = world.make_events(LENGTHS * 8)
    order = np.random.default_rng(0).permutation(len(LENGTHS) * 8)
    mixed = take(events, world.SCHEMA, order)
    straight, result = run(model, world, events), run(model, world, mixed)
    for i, source in enumerate(order):
        for name in (*model.outputs, *model.annotations):
            expected = of_event(model, world, name, int(source), events, straight)
            torch.testing.assert_close(of_event(model, world, name, i, mixed, result), expected, **CLOSE)


def test_two_runs_are_bit_equal(model, world):
    events = world.make_events(LENGTHS * 8)
    first, second = run(model, world, events), run(model, world, events)
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [model.loss(world.batch_of(events))[0] for _ in range(2)]
    assert torch.equal(*losses)


def test_state_round_trip(case, world):
    events = world.make_events(LENGTHS)
    first, second = build(case), build(case, seed=1)
    blank = {name: torch.zeros_like(value) for name, value in second.state_dict().items()}
    second.load_state_dict(blank)
    second.load_state_dict(safetensors.torch.load(safetensors.torch.save(first.state_dict())), strict=True)
    expected, found = run(first, world, events), run(second, world, events)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_order_in_sets_changes_nothing(model, world):
    events = world.make_events(LENGTHS)
    mixed, orders = world.shuffled(events, np.random.default_rng(1))
    assert set(orders) == set(model.sets)
    straight, result = run(model, world, events), run(model, world, mixed)
    axes = axes_of(model, world)
    for name in (*model.outputs, *model.annotations):
        expected, axis = straight[name], axis_of(name)
        if axis in orders:
            expected = expected[orders[axis]]
        elif axis != "event" and axes[axis].parent in orders:
            positions, offsets = rows(straight[f"{axis}/offsets"].numpy(), orders[axes[axis].parent])
            expected = expected[positions]
            assert np.array_equal(result[f"{axis}/offsets"].numpy(), offsets)
        torch.testing.assert_close(result[name], expected, **CLOSE)


@pytest.mark.parametrize("lengths", [[0, 20, 0, 5], [0], [0, 0, 0]])
def test_events_without_members_are_finite(model, world, lengths):
    events = world.make_events(lengths)
    result = run(model, world, events)
    assert all(values.isfinite().all() for values in result.values())
    if any(lengths):
        model.zero_grad()
        loss, parts = model.loss(world.batch_of(events))
        loss.backward()
        assert loss.isfinite()
        assert all(part.isfinite() for part in parts.values())
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_gradients_reach_every_parameter(model, world):
    model.train()
    loss, parts = model.loss(world.batch_of(world.make_events(LENGTHS)))
    loss.backward()
    assert loss.shape == ()
    assert parts
    assert not any(part.requires_grad for part in parts.values())
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert [n for n, p in model.named_parameters() if not p.grad.any()] == []


def test_frozen_weights_and_buffers_stay(model, world):
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    events = world.make_events(LENGTHS)
    batch = world.batch_of(events)
    features = model(batch)
    assert not any(value.requires_grad for value in features.values())
    model.annotate(batch, features)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_few_steps_lower_the_loss(model, world):
    model.train()
    batch = world.batch_of(world.easy_events())
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss, _ = model.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
