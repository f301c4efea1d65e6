"""A head in a stack computes what it computes alone: losses, gradients, masks, constants."""

import copy

import pytest
import torch
from feature_events import feature_events, feature_schema
from stay_events import stay_events, stay_schema
from torch import nn

import frz.sweep.stack as stack_module
from frz.config import import_class
from frz.heads.contract import HEADS, Head
from frz.loading.batch import to_batch
from frz.store.ragged import concat, take
from frz.sweep.stack import BUDGET, PREFIX, Stack, stack_size

CPU = torch.device("cpu")
SPECS = [*sorted(HEADS), "user_head:MeanHitHead"]


def head(spec: str = "regression", seed: int = 0, **settings) -> Head:
    cls = import_class(spec, HEADS, "head")
    torch.manual_seed(seed)
    made: Head = cls(cls.Config(**settings), stay_schema() if spec == "gaussian-mil" else feature_schema())
    made.fit([prepared(made)])
    return made


def prepared(made: Head, first: int = 0, n: int = 6):
    chosen = set(made.schema.select(made.needs).axes)
    events = stay_events if "set" in made.schema.axes else feature_events
    arrays = concat([events(seed) for seed in range(first, first + 4)])
    arrays = {
        name: values
        for name, values in arrays.items()
        if name in made.needs or (name.endswith("/offsets") and name.partition("/")[0] in chosen)
    }
    return take(made.prepare(arrays), made.prepared, range(n))


def batch_of(made: Head, first: int = 0):
    return to_batch(prepared(made, first), made.prepared)


def gradients(made: Head, batch) -> tuple[float, dict[str, torch.Tensor]]:
    made.zero_grad()
    loss, _ = made.loss(batch)
    loss.backward()
    return float(loss.detach()), {name: value.grad for name, value in made.named_parameters()}


WITHOUT_VMAP = [
    ("linear", {"periodic_output": "vector", "bce_fields": ("q",), "focal_gamma": 2.0}),
    ("linear-classifier", {}),
    ("mlp-classifier", {"norm": "layer", "class_weights": "balanced"}),
    ("pooled", {"norm": "layer", "hidden": (24, 24), "offset_fields": {"eta": "a"}, "offset_hit": "b"}),
    ("pooled", {"norm": "none", "quantile_fields": ("pt",), "inverse_fields": ("pt",), "gaussian_fields": ("eta",)}),
    ("pooled", {"norm": "layer", "log_fields": ("pt",), "periodic_fields": ("phi",), "point_loss": "huber"}),
]
"""Heads that are stacked as they are, and their settings."""


@pytest.mark.parametrize(("spec", "settings"), [*((spec, {}) for spec in SPECS), *WITHOUT_VMAP])
def test_losses_gradients_and_moving_constants_are_those_of_heads_alone(spec, settings):
    seeds = (3, 4, 11)
    alone = [head(spec, seed, **settings) for seed in seeds]
    stack = Stack(alone, seeds, CPU)
    stack.train(True)
    assert stack.form == ("outright" if spec.startswith("linear") or settings else "vmap")
    generators = []
    for seed in seeds:  # dropout of a run draws from torch's generator, seeded anew
        torch.manual_seed(seed)
        generators.append(torch.get_rng_state())
    for first in range(3):
        batch = batch_of(alone[0], first)
        for value in stack.parameters.values():
            value.grad = None
        losses, parts = stack.losses(batch)
        losses.sum().backward()
        for row, made in enumerate(alone):
            torch.set_rng_state(generators[row])
            loss, found = gradients(made.train(), batch)
            generators[row] = torch.get_rng_state()
            assert losses[row].item() == pytest.approx(loss, rel=1e-5)
            for name, expected in found.items():
                torch.testing.assert_close(
                    stack.parameters[PREFIX + name].grad[row], expected, rtol=1e-5, atol=1e-5, msg=name
                )
        assert all(part.shape == (3,) and not part.requires_grad for part in parts.values())
    for row, made in enumerate(alone):
        for name, value in made.state_dict().items():
            torch.testing.assert_close(stack.state(row)[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_every_head_has_its_own_dropout_rate_and_its_own_masks():
    rates = (0.0, 0.3, 0.9)
    heads = [head(seed=1, dropout=rate) for rate in rates]
    stack = Stack(heads, (5, 5, 6), CPU)
    stack.train(True)
    batch = batch_of(heads[0])
    for _ in range(2):
        losses, _ = stack.losses(batch)
    torch.manual_seed(6)
    alone = heads[2].train()
    alone.loss(batch)
    expected, _ = alone.loss(batch)
    assert losses[2].item() == pytest.approx(expected.item(), rel=1e-5)
    without, _ = heads[0].eval().loss(batch)
    assert losses[0].item() == pytest.approx(without.item(), rel=1e-5)
    stack.train(False)
    losses, _ = stack.losses(batch)
    torch.testing.assert_close(losses, without.detach().expand(3))  # equal weights, no masks


def test_masks_are_drawn_as_dropout_draws_them():
    stack = Stack([head(dropout=0.3), head(dropout=0.6)], (1, 2), CPU)
    (layer, *_) = (name for name, part in stack.module.named_modules() if isinstance(part, nn.Dropout))
    for shape in ((5, 7), (3, 7)):
        drawn = stack.masks.draw(layer, torch.Size(shape))
        for row, (seed, rate) in enumerate(((1, 0.3), (2, 0.6))):
            torch.manual_seed(seed)
            if shape == (3, 7):
                nn.functional.dropout(torch.ones(5, 7), rate)
            torch.testing.assert_close(drawn[row], nn.functional.dropout(torch.ones(shape), rate))


def test_masks_are_the_same_where_bernoulli_is_not_uniform(monkeypatch):
    one, other = (Stack([head(dropout=0.3), head(dropout=0.0)], (1, 2), CPU) for _ in range(2))
    (layer, *_) = (name for name, part in one.module.named_modules() if isinstance(part, nn.Dropout))
    drawn = one.masks.draw(layer, torch.Size((50, 7)))
    monkeypatch.setattr(stack_module, "draws_doubles", lambda: False)
    torch.testing.assert_close(other.masks.draw(layer, torch.Size((50, 7))), drawn)


@pytest.mark.parametrize(("spec", "settings"), [("regression", {}), ("pooled", {"norm": "layer"})])
def test_heads_that_go_on_go_on_as_they_were(spec, settings):
    heads = [head(spec, seed, **settings) for seed in range(3)]
    whole, left = Stack(heads, (0, 1, 2), CPU), Stack(heads, (0, 1, 2), CPU)
    batch = batch_of(heads[0])
    for stack in (whole, left):
        stack.train(True)
        stack.losses(batch)
    for rows, kept in (([0, 2], [0, 2]), ([1], [2])):
        left.keep(rows)
        losses = whole.losses(batch)[0][kept]
        torch.testing.assert_close(left.losses(batch)[0], losses)
    assert left.n_heads == 1
    torch.testing.assert_close(left.state(0), whole.state(2))


def test_what_is_not_finite_stays_in_its_head():
    heads = [head(seed=seed) for seed in range(3)]
    sick = copy.deepcopy(heads)
    with torch.no_grad():
        next(sick[1].parameters()).fill_(float("nan"))
    found = []
    for members in (heads, sick):
        stack = Stack(members, (0, 1, 2), CPU)
        stack.train(True)
        losses, _ = stack.losses(batch_of(heads[0]))
        losses.sum().backward()
        found.append({name: value.grad for name, value in stack.parameters.items()})
        assert torch.isfinite(losses).tolist() == [True, members is heads, True]
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name][[0, 2]], expected[[0, 2]])
        assert torch.isnan(found[1][name][1]).any(), name


def test_stacks_are_sized_by_what_a_head_keeps(monkeypatch):
    made = head()
    small, large = batch_of(made), to_batch(prepared(made, n=24), made.prepared)
    assert stack_size(made, small) > stack_size(made, large) > 100
    assert stack_size(made, small) * 16 * sum(value.numel() for value in made.parameters()) < BUDGET
    monkeypatch.setattr(stack_module, "BUDGET", BUDGET * 8 // stack_size(made, large))
    assert stack_size(made, large) == 8
    monkeypatch.setattr(stack_module, "BUDGET", stack_module.BUDGET * 7 // 8)
    assert stack_size(made, large) == 1  # not 7
