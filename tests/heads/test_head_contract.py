"""What every head must do, run over the table of heads and a head named by import path."""

from pathlib import Path
from typing import Any, NamedTuple

import feature_events
import numpy as np
import pytest
import safetensors.torch
import stay_events
import torch

from frz.config import import_class, parse, read_yaml
from frz.heads.contract import HEADS, Head
from frz.loading.batch import to_batch
from frz.store.ragged import concat, take
from frz.store.schema import EventArrays, Schema

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MEMBERS = (7, 0, 1, 12, 5, 9)


class Case(NamedTuple):
    """A head on random features: of hits and tracks with its default settings, or of stays as a config asks."""

    spec: str
    model: dict[str, Any] | None = None

    def schema(self, truth: bool = True) -> Schema:
        module = feature_events.feature_schema if self.model is None else stay_events.stay_schema
        return module(truth=truth)

    def events(self, seed: int = 0, members: tuple[int, ...] = MEMBERS, tracks: Any = None) -> EventArrays:
        """Events of which each holds so many hits or sets."""
        if self.model is not None:
            return stay_events.stay_events(seed, members)
        more = {} if tracks is None else {"tracks": tracks}
        return feature_events.feature_events(seed, members, **more)

    def head(self, truth: bool = True) -> Head:
        torch.manual_seed(0)
        cls = import_class(self.spec, HEADS, "head")
        head: Head = cls(parse(cls.Config, self.model or {}, self.spec), self.schema(truth))
        return head.eval()

    def prepared(self, head: Head, *args: Any, **options: Any) -> EventArrays:
        return head.prepare({k: v for k, v in self.events(*args, **options).items() if wanted(k, head)})

    def without_truth(self) -> EventArrays:
        events = feature_events.without_truth(self.events())
        return {name: values for name, values in events.items() if name != "event/label"}


def cases() -> dict[str, Case]:
    found = {name: Case(name) for name in [*sorted(HEADS), "user_head:MeanHitHead"] if name != "gaussian-mil"}
    for path in sorted((CONFIGS / "icu").glob("head-*.yaml")):
        config = read_yaml(path)
        found[f"icu/{path.stem}"] = Case(config["head"], config["model"])
        both = {**config["model"], "descriptors": [] if "descriptors" in config["model"] else ["event/static"]}
        found[f"icu/{path.stem}, {'without' if not both['descriptors'] else 'with'} descriptors"] = Case(
            config["head"], both
        )
    return found


CASES = cases()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def wanted(name: str, head: Head) -> bool:
    """Whether a reader asked for `needs` gives the array: it is needed, or holds offsets of an axis in use."""
    axes = set(head.schema.select(head.needs).axes)
    return name in head.needs or (name.endswith("/offsets") and name.partition("/")[0] in axes)


def test_prepared_arrays_are_as_declared(case):
    head = case.head()
    prepared = case.prepared(head)
    schema = head.prepared
    ragged = {f"{axis}/offsets" for axis, spec in schema.axes.items() if spec.length is None}
    assert set(prepared) == set(schema.arrays) | ragged
    for name, spec in schema.arrays.items():
        assert prepared[name].dtype == np.dtype(spec.dtype), name
        assert prepared[name].shape[1:] == spec.shape, name


def test_prepare_of_joined_events_is_joined_prepare(case):
    head = case.head()
    parts = [{k: v for k, v in case.events(seed).items() if wanted(k, head)} for seed in range(3)]
    together = head.prepare(concat(parts))
    apart = concat([head.prepare(part) for part in parts])
    assert set(together) == set(apart)
    for name, values in together.items():
        np.testing.assert_array_equal(values, apart[name], err_msg=name)


def test_batch_composition_changes_nothing(case):
    head = case.head()
    prepared = case.prepared(head)
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


def test_loss_is_finite_and_reaches_every_parameter(case):
    head = case.head().train()
    prepared = case.prepared(head)
    head.fit([prepared])
    loss, parts = head.loss(to_batch(prepared, head.prepared))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part).all() and not part.requires_grad for part in parts.values())
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("members", "tracks"), [((0, 0), (0, 0)), ((0,), (1,)), ((5,), (0,)), ((1,), (1,)), ((), ())])
def test_events_without_members_are_finite_and_kept(case, members, tracks):
    head = case.head()
    head.fit([case.prepared(head)])
    prepared = case.prepared(head, members=members, tracks=tracks)
    assert len(prepared["event/id"]) == len(members)
    batch = to_batch(prepared, head.prepared)
    loss, _ = head.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
    predictions = {name: values.numpy() for name, values in head.predict(batch).items()}
    assert all(np.isfinite(values).all() for values in predictions.values())
    assert all(np.isfinite(value) for value in head.metrics(predictions, prepared).values())


def test_second_run_is_bit_equal(case):
    head = case.head()
    prepared = case.prepared(head)
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    first, second = head.predict(batch), head.predict(batch)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_state_survives_a_checkpoint(case, tmp_path):
    head = case.head()
    prepared = case.prepared(head)
    head.fit([prepared])
    safetensors.torch.save_file(head.state_dict(), tmp_path / "head.safetensors")
    again = case.head()
    for parameter in again.parameters():
        torch.nn.init.normal_(parameter)
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "head.safetensors"))
    batch = to_batch(prepared, head.prepared)
    first, second = head.predict(batch), again.predict(batch)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_fit_does_not_depend_on_blocks(case):
    whole, blocks = case.head(), case.head()
    prepared = case.prepared(whole)
    whole.fit([prepared])
    blocks.fit([take(prepared, whole.prepared, np.arange(a, a + 3)) for a in (0, 3)])
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(blocks.state_dict()[name], value)


def test_predicts_without_truth(case):
    head, blind = case.head(), case.head(truth=False)
    prepared = case.prepared(head)
    head.fit([prepared])
    blind.load_state_dict(head.state_dict())
    events = case.without_truth()
    assert all(name in events for name in blind.needs)
    found = blind.predict(to_batch(blind.prepare(events), blind.prepared))
    assert all(torch.isfinite(values).all() for values in found.values())
