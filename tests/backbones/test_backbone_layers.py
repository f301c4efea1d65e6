"""Layers against formulas written out."""

import math

import pytest
import torch
import torch.nn.functional as F

from frz.backbones.layers import CrossAttention, PositionalEncoding, SelfAttention, logit_of


def test_positional_encoding_is_the_formula():
    dim, alpha, base = 32, 50.0, 100.0
    encoding = PositionalEncoding(dim, n_plain=2, n_periodic=1, alpha=alpha, base=base)
    plain = torch.tensor([[0.3, -1.2], [2.0, 0.05]])
    periodic = torch.tensor([[0.7], [-3.1]])
    found = encoding(plain, periodic)
    width = 10  # the largest even number <= 32 / 3
    # e_k evenly spaced from 0 to 2 / width - 1
    w = [alpha * base ** ((2 / width - 1) * k / (width // 2 - 1)) for k in range(width // 2)]
    for row in range(2):
        expected = []
        for x in plain[row].tolist():
            expected += [math.sin(f * x) for f in w] + [math.cos(f * x) for f in w]
        angle = periodic[row].item()
        expected += [math.sin(f * math.sin(angle)) for f in w] + [math.sin(f * math.cos(angle)) for f in w]
        torch.testing.assert_close(found[row], torch.tensor([*expected, 0.0, 0.0]), rtol=0, atol=2e-5)


def test_positional_encoding_of_an_angle_has_its_period():
    encoding = PositionalEncoding(8, n_plain=0, n_periodic=1, alpha=10.0, base=100.0)
    none, angle = torch.zeros(5, 0), torch.linspace(-3, 3, 5)[:, None]
    torch.testing.assert_close(encoding(none, angle + 2 * torch.pi), encoding(none, angle), rtol=0, atol=1e-4)


def test_one_frequency_is_enough_for_a_narrow_encoding():
    found = PositionalEncoding(2, n_plain=1, n_periodic=0, alpha=3.0, base=7.0)(
        torch.tensor([[0.5]]), torch.zeros(1, 0)
    )
    torch.testing.assert_close(found, torch.tensor([[math.sin(1.5), math.cos(1.5)]]))


def plain_attention(q, k, v, mask, heads):
    """Attention written out, head by head."""
    outs = []
    for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        scores = qh @ kh.transpose(-1, -2) / math.sqrt(qh.shape[-1])
        scores = scores.masked_fill(~mask[:, 0], -torch.inf)
        outs.append(torch.softmax(scores, -1) @ vh)
    return torch.cat(outs, -1)


def test_self_attention_is_the_formula():
    torch.manual_seed(0)
    layer, x = SelfAttention(16, 4), torch.randn(3, 7, 16)
    mask = torch.rand(3, 1, 1, 7) < 0.6
    mask[..., 0] = True
    q, k, v = layer.qkv(x).chunk(3, -1)
    expected = layer.out(plain_attention(q, k, v, mask.expand(-1, -1, 7, -1), 4))
    torch.testing.assert_close(layer(x, mask), expected)


# One size of each way through the layer: SDPA, few members in the source, few in x.
@pytest.mark.parametrize(("length", "members"), [(9, 10), (9, 3), (3, 9), (1, 1)])
@pytest.mark.parametrize("masked", [True, False])
def test_cross_attention_is_the_formula_whatever_is_small(length, members, masked):
    torch.manual_seed(0)
    layer = CrossAttention(16, 4)
    x, source = torch.randn(2, length, 16, requires_grad=True), torch.randn(2, members, 16, requires_grad=True)
    mask = torch.rand(2, 1, length, members) < 0.6
    mask[..., 0] = True
    q, (k, v) = layer.q(x), layer.kv(source).chunk(2, -1)
    every = torch.ones_like(mask)
    expected = layer.out(plain_attention(q, k, v, mask if masked else every, 4))
    found = layer(x, source, mask if masked else None)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    inputs = [x, source, *layer.parameters()]
    grads = torch.autograd.grad((found * weight).sum(), inputs)
    for mine, theirs in zip(grads, torch.autograd.grad((expected * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(9, 10), (9, 3), (3, 9)])
def test_attention_drops_out_while_training_alone(sizes):
    torch.manual_seed(0)
    layer = CrossAttention(16, 4, dropout=0.5)
    x, source = torch.randn(1, sizes[0], 16), torch.randn(1, sizes[1], 16)
    assert not torch.equal(layer(x, source, None), layer(x, source, None))
    layer.eval()
    assert torch.equal(layer(x, source, None), layer(x, source, None))


def test_logit_of_inverts_the_sigmoid():
    assert F.sigmoid(torch.tensor(logit_of(0.1), dtype=torch.float64)).item() == pytest.approx(0.1, abs=1e-15)
