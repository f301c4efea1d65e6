"""What every head must do, run over the table of heads and a head named by import path."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from feature_events import feature_events, feature_schema, without_truth

from frz.config import import_class
from frz.heads.contract import HEADS, Head
from frz.loading.batch import to_batch
from frz.store.ragged import concat, take
from frz.store.schema import EventArrays

SPECS = [*sorted(HEADS), "user_head:MeanHitHead"]


@pytest.fixture(params=SPECS)
def make(request: pytest.FixtureRequest) -> Callable[..., Head]:
    cls = import_class(request.param, HEADS, "head")

    def build(**schema: Any) -> Head:
        torch.manual_seed(0)
        head: Head = cls(cls.Config(), feature_schema(**schema))
        head.eval()
        return head

    return build


def prepared_example(head: Head, seed: int = 0, **options: Any) -> EventArrays:
    return head.prepare({k: v for k, v in feature_events(seed, **options).items() if wanted(k, head)})


def wanted(name: str, head: Head) -> bool:
    """Whether a reader asked for `needs` gives the array: it is needed, or holds offsets of an axis in use."""
    axes = set(head.schema.select(head.needs).axes)
    return name in head.needs or (name.endswith("/offsets") and name.partition("/")[0] in axes)


def test_prepared_arrays_are_as_declared(make):
    head = make()
    prepared = prepared_example(head)
    schema = head.prepared
    ragged = {f"{axis}/offsets" for axis, spec in schema.axes.items() if spec.length is None}
    assert set(prepared) == set(schema.arrays) | ragged
    for name, spec in schema.arrays.items():
        assert prepared[name].dtype == np.dtype(spec.dtype), name
        assert prepared[name].shape[1:] == spec.shape, name


def test_prepare_of_joined_events_is_joined_prepare(make):
    head = make()
    parts = [{k: v for k, v in feature_events(seed).items() if wanted(k, head)} for seed in range(3)]
    together = head.prepare(concat(parts))
    apart = concat([head.prepare(part) for part in parts])
    assert set(together) == set(apart)
    for name, values in together.items():
        np.testing.assert_array_equal(values, apart[name], err_msg=name)


def test_batch_composition_changes_nothing(make):
    head = make()
    prepared = prepared_example(head)
    head.fit([prepared])
    whole = head.predict(to_batch(prepared, head.prepared))
    order = np.array([3, 0, 5, 1, 2, 4])
    singles = [head.predict(to_batch(take(prepared, head.prepared, np.array([i])), head.prepared)) for i in range(6)]
    shuffled = head.predict(to_batch(take(prepared, head.prepared, order), head.prepared))
    for name, values in whole.items():
        one_by_one = torch.cat([single[name] for single in singles])
        torch.testing.assert_close(one_by_one, values, rtol=1e-5, atol=1e-5)
        mixed = torch.cat([singles[i][name] for i in order])
        torch.testing.assert_close(shuffled[name], mixed, rtol=1e-5, atol=1e-5)


def test_loss_is_finite_and_reaches_every_parameter(make):
    head = make().train()
    prepared = prepared_example(head)
    head.fit([prepared])
    loss, parts = head.loss(to_batch(prepared, head.prepared))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part).all() and not part.requires_grad for part in parts.values())
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("hits", "tracks"), [((0, 0), (0, 0)), ((0,), (1,)), ((5,), (0,)), ((1,), (1,)), ((), ())])
def test_events_without_members_are_finite_and_kept(make, hits, tracks):
    head = make()
    head.fit([prepared_example(head)])
    prepared = prepared_example(head, hits=hits, tracks=tracks)
    assert len(prepared["event/id"]) == len(hits)
    batch = to_batch(prepared, head.prepared)
    loss, _ = head.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
    predictions = {name: values.numpy() for name, values in head.predict(batch).items()}
    assert all(np.isfinite(values).all() for values in predictions.values())
    assert all(np.isfinite(value) for value in head.metrics(predictions, prepared).values())


def test_second_run_is_bit_equal(make):
    head = make()
    prepared = prepared_example(head)
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    first, second = head.predict(batch), head.predict(batch)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_state_survives_a_checkpoint(make, tmp_path):
    head = make()
    prepared = prepared_example(head)
    head.fit([prepared])
    safetensors.torch.save_file(head.state_dict(), tmp_path / "head.safetensors")
    torch.manual_seed(1)
    again = type(head)(type(head).Config(), feature_schema()).eval()
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "head.safetensors"))
    batch = to_batch(prepared, head.prepared)
    first, second = head.predict(batch), again.predict(batch)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fit_does_not_depend_on_blocks(make):
    whole, blocks = make(), make()
    prepared = prepared_example(whole)
    whole.fit([prepared])
    blocks.fit([take(prepared, whole.prepared, np.arange(a, a + 3)) for a in (0, 3)])
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(blocks.state_dict()[name], value)


def test_predicts_without_truth(make):
    head, blind = make(), make(truth=False)
    prepared = prepared_example(head)
    head.fit([prepared])
    blind.load_state_dict(head.state_dict())
    events = without_truth(feature_events())
    assert all(name in events for name in blind.needs)
    found = blind.predict(to_batch(blind.prepare(events), blind.prepared))
    assert all(torch.isfinite(values).all() for values in found.values())
