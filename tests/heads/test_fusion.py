from typing import Any

import numpy as np
import pytest
import torch
from stay_events import D, stay_events, stay_schema
from torch import Tensor, nn

from frz.config import parse
from frz.errors import ConfigError
from frz.heads.fusion import FusionClassifier, FusionClassifierConfig, MeanAttention
from frz.loading.batch import to_batch

EVENTS = {"rows": "event", "target": "event/label", "field": "label", "inputs": ["set/state"]}


def build(width: int = D, **config: Any) -> FusionClassifier:
    torch.manual_seed(0)
    config = {**EVENTS, "attention_heads": 4, "norm": "layer", **config}
    return FusionClassifier(parse(FusionClassifierConfig, config, "test"), stay_schema(width=width)).eval()


def as_torch(attention: MeanAttention) -> nn.MultiheadAttention:
    """The same weights in torch's own module."""
    width = attention.query.in_features
    theirs = nn.MultiheadAttention(width, attention.n_head, batch_first=True)
    ours = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in ours]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in ours]))
        theirs.out_proj.load_state_dict(attention.out.state_dict())
    return theirs


def test_parameters_of_the_published_head():
    head = build(256, hidden=[256, 128, 64], dropout=[0.2, 0.2, 0.1])
    sizes = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in (("attention", head.attention), ("fuse", head.fuse), ("net", head.net))
    }
    assert sizes == {"attention": 263_168, "fuse": 197_376, "net": 107_970}
    assert sizes["attention"] + sizes["fuse"] == 460_544


def test_attention_and_its_gradients_are_those_of_torch():
    counts = torch.tensor([3, 1, 12, 5])
    generator = torch.Generator().manual_seed(0)
    ours = MeanAttention(D, 4)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(generator=generator)
    theirs = as_torch(ours)
    members = torch.randn(int(counts.sum()), D, generator=generator)
    pieces = members.split(counts.tolist())
    mean = torch.stack([piece.mean(0) for piece in pieces])
    found = ours(members, mean, torch.ones(len(members)), torch.repeat_interleave(torch.arange(4), counts))
    padded = nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
    mask = torch.arange(padded.shape[1]) >= counts[:, None]
    expected, _ = theirs(mean.unsqueeze(1), padded, padded, key_padding_mask=mask)
    torch.testing.assert_close(found, expected.squeeze(1), rtol=1e-5, atol=1e-5)
    pull = torch.randn(found.shape, generator=generator)
    (found * pull).sum().backward()
    (expected.squeeze(1) * pull).sum().backward()
    grads = torch.cat([layer.weight.grad for layer in (ours.query, ours.key, ours.value)])
    torch.testing.assert_close(grads, theirs.in_proj_weight.grad, rtol=1e-4, atol=1e-4)
    biases = torch.cat([layer.bias.grad for layer in (ours.query, ours.key, ours.value)])
    torch.testing.assert_close(biases, theirs.in_proj_bias.grad, rtol=1e-4, atol=1e-4)


def by_hand(head: FusionClassifier, sets: Tensor) -> Tensor:
    """Logits (2,) of one event from its sets (T, D), with torch's attention."""
    x = head.standard(sets)
    mean = x.mean(0)
    seen, _ = as_torch(head.attention)(mean[None, None], x[None], x[None])
    return head.net(head.fuse(torch.cat((mean, x.max(0).values, seen[0, 0])).unsqueeze(0)))[0]


def test_logits_of_each_event_by_hand():
    head, events = build(), stay_events()
    prepared = head.prepare(events)
    head.fit([prepared])
    found = head(to_batch(prepared, head.prepared))
    for stay in (0, 2, 3, 4, 5):
        sets = torch.from_numpy(events["set/state"][slice(*events["set/offsets"][stay : stay + 2])])
        torch.testing.assert_close(found[stay], by_hand(head, sets), rtol=1e-5, atol=1e-5)


def test_what_is_joined_to_the_pools_reaches_the_net():
    events = stay_events()
    head = build(own="event/pooled_fast", descriptors=["event/static"], fused_width=6)
    assert head.net[0].in_features == 6 + D + 2 * 3
    prepared = head.prepare(events)
    head.fit([prepared])
    before = head(to_batch(prepared, head.prepared))
    for name in ("event/own", "event/descriptors"):
        other = {**prepared, name: np.nan_to_num(prepared[name]) + 1}
        assert not torch.allclose(head(to_batch(other, head.prepared)), before)


def test_heads_that_do_not_share_the_columns_are_refused():
    with pytest.raises(ConfigError, match=r"attention_heads: 8 columns cannot be shared by 3 heads; take a divisor"):
        build(attention_heads=3)
