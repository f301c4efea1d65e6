import math
from typing import Any

import numpy as np
import pytest
import torch
from feature_events import N_FIELD, D, feature_events, feature_schema
from torch import Tensor

from frz.config import parse
from frz.errors import ConfigError
from frz.heads.attention import AttentionClassifier, AttentionClassifierConfig, AttentionConfig, AttentionHead
from frz.heads.pooling import segment_softmax
from frz.loading.batch import to_batch
from frz.store.schema import Array, Schema

COUNTS = torch.tensor([3, 0, 1, 20, 7])


def build(**config: Any) -> AttentionHead:
    torch.manual_seed(0)
    return AttentionHead(parse(AttentionConfig, {"norm": "layer", **config}, "test"), feature_schema()).eval()


def padded_outputs(head: AttentionHead, batch: dict[str, Tensor]) -> Tensor:
    """The same on padded tensors (N, L, D) with a mask."""
    counts = batch["member/offsets"].diff()
    mask = torch.arange(int(counts.max())) < counts[:, None]  # (N, L)
    x = torch.zeros(*mask.shape, N_FIELD + D)
    x[mask] = head.standard(torch.cat((batch["member/scaled"], batch["member/embedding"]), 1))
    p = torch.ones(mask.shape)
    p[mask] = batch["member/weight"]
    heads, width = head.query.shape
    keys = (x @ head.keys.weight.T).unflatten(2, (heads, width))
    values = (x @ head.values.weight.T + head.values.bias).unflatten(2, (heads, width))
    scores = torch.einsum("nlha,ha->nlh", keys, head.query) / math.sqrt(width) + p.log()[..., None]
    scores = scores.masked_fill(~mask[..., None], -torch.inf)
    some = (counts > 0)[:, None, None]
    share = torch.where(some, torch.where(some, scores, 0.0).softmax(1), 0.0)
    found = torch.einsum("nlh,nlha->nha", share, values).flatten(1)
    if head.standard_own is not None:
        found = torch.cat((found, head.standard_own(batch["slot/own"])), 1)
    return head.net(found)


@pytest.mark.parametrize("own", [None, "query/embedding"])
def test_outputs_and_gradients_equal_the_padded_form(own):
    head = build(own=own, assignment_threshold=0.4)
    prepared = head.prepare(feature_events())
    assert (np.diff(prepared["member/offsets"]) == 0).any()
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    ours, theirs = head(batch), padded_outputs(head, batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    pull, parameters = torch.randn(ours.shape), list(head.parameters())
    gradients = (torch.autograd.grad(outputs, parameters, pull) for outputs in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_ragged_softmax_equals_the_masked_one():
    scores = 30 * torch.randn(int(COUNTS.sum()), 2, generator=torch.Generator().manual_seed(0))
    slot = torch.repeat_interleave(torch.arange(len(COUNTS)), COUNTS)
    found = segment_softmax(scores, slot, len(COUNTS))
    pieces = [one.softmax(0) for one in scores.split(COUNTS.tolist())]
    torch.testing.assert_close(found, torch.cat(pieces))


def test_stacked_heads_train_as_each_alone():
    head = build(own="query/embedding")
    prepared = head.prepare(feature_events())
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    names = [name for name, _ in head.named_parameters()]
    generator = torch.Generator().manual_seed(1)
    stacked = {name: torch.randn(3, *p.shape, generator=generator) / 3 for name, p in head.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        outputs = torch.func.functional_call(head, parameters, (batch,))
        return head.targets.losses(outputs, batch["slot/goal"], batch["slot/counts"]).sum()

    gradients = torch.func.vmap(torch.func.grad(loss))(stacked)
    for number in range(3):
        alone = torch.func.grad(loss)({name: stacked[name][number] for name in names})
        for name in names:
            torch.testing.assert_close(gradients[name][number], alone[name], rtol=1e-4, atol=1e-5)


def test_events_look_at_members_of_any_axis():
    schema, events = feature_schema(), feature_events()
    label = Array(dtype="int32", role="target")
    schema = Schema(axes=schema.axes, arrays=schema.arrays | {"event/label": label})
    events["event/label"] = np.array([0, 1, 1, 0, 1, 0], np.int32)
    config = {"rows": "event", "target": "event/label", "field": "label", "inputs": ["hit/embedding"]}
    head = AttentionClassifier(parse(AttentionClassifierConfig, config, "test"), schema).eval()
    prepared = head.prepare(events)
    np.testing.assert_array_equal(prepared["member/offsets"], events["hit/offsets"])
    head.fit([prepared])
    found = head.predict(to_batch(prepared, head.prepared))
    assert found["event/label_probability"].shape == (6,)
    metrics = head.metrics({name: values.numpy() for name, values in found.items()}, prepared)
    assert metrics["events_empty"] == 1


def test_half_precision_members_stay_half_until_the_batch():
    head = AttentionHead(AttentionConfig(), feature_schema(dtype="float16"))
    prepared = head.prepare(feature_events(dtype="float16"))
    assert (prepared["member/embedding"].dtype, prepared["member/scaled"].dtype) == (np.float16, np.float32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"inputs": ["hit/scaled", "query/embedding"]}, r"different arrays of one axis"),
        ({"inputs": ["query/embedding"]}, r"query/embedding is not of hits"),
        ({"own": "hit/scaled"}, r"own is hit/scaled, not of axis 'query'"),
    ],
)
def test_bad_configs_are_named(config, message):
    with pytest.raises(ConfigError, match=message):
        build(**config)
