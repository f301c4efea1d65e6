import numpy as np
import pytest
import torch
from torch import nn

from frz.heads import nets
from frz.heads.nets import BatchNorm, Standard, mlp
from frz.heads.settings import NetSettings


def test_standard_is_mean_and_width_of_all_blocks(monkeypatch):
    monkeypatch.setattr(nets, "LOOK_ROWS", 7)
    values = np.random.default_rng(0).normal(3, 2, (50, 3)).astype(np.float32)
    values[:, 1] = 5
    flags = np.arange(50) % 2 == 0
    standard = Standard(4)
    for begin in (0, 20):
        rows = slice(begin, 20 if begin == 0 else None)
        standard.look(values[rows], flags[rows])
    standard.settle()
    np.testing.assert_allclose(standard.centre, [*values.mean(0), 0.5], rtol=1e-5)
    np.testing.assert_allclose(standard.scale, [values[:, 0].std(), 1, values[:, 2].std(), 0.5], rtol=1e-5)
    far = standard(torch.tensor([[1e6, 5.0, -1e6, 1.0]]))
    assert far.tolist() == [[10.0, 0.0, -10.0, 1.0]]


def test_nothing_to_look_at_changes_nothing():
    standard = Standard(2)
    standard.look(np.zeros((0, 2), np.float16))
    standard.settle()
    assert standard(torch.tensor([[1.0, 2.0]])).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("norm", "layers"),
    [
        ("batch", ["Linear", "BatchNorm", "ReLU", "Dropout"]),
        ("layer", ["Linear", "LayerNorm", "ReLU", "Dropout"]),
        ("none", ["Linear", "ReLU", "Dropout"]),
    ],
)
def test_layers_as_documented(norm, layers):
    net = mlp(6, 2, NetSettings(hidden=(5, 4), norm=norm, dropout=(0.2, 0.1)))
    assert [type(layer).__name__ for layer in net] == [*layers, *layers, "Linear"]
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.2, 0.1]
    assert [type(layer).__name__ for layer in mlp(6, 2, NetSettings(hidden=()))] == ["Linear"]


def test_xavier_bounds_and_zero_biases():
    linear = mlp(300, 100, NetSettings(hidden=()))[0]
    assert isinstance(linear, nn.Linear)
    bound = (6 / 400) ** 0.5
    assert 0.98 * bound < float(linear.weight.detach().abs().max()) <= bound
    assert not linear.bias.any()


def test_batch_norm_of_many_is_plain_and_of_one_is_that_of_evaluation():
    torch.manual_seed(0)
    ours, plain, x = BatchNorm(3), nn.BatchNorm1d(3), torch.randn(8, 3)
    torch.testing.assert_close(ours(x), plain(x))
    one = torch.randn(1, 3)
    torch.testing.assert_close(ours(one), plain.eval()(one))
