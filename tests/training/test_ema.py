"""The moving average against its formula, and against torch's for a constant decay."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from frz.training.ema import Ema, ema_decay


def steps(n: int = 25) -> tuple[nn.Module, list[dict[str, torch.Tensor]]]:
    """A module and its states after each of some steps; the first is the initial one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    states = [{name: value.clone() for name, value in net.state_dict().items()}]
    for _ in range(n):
        optimiser.zero_grad()
        net(torch.randn(8, 3)).square().mean().backward()
        optimiser.step()
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    return net, states


def averaged(net: nn.Module, states: list[dict[str, torch.Tensor]], decay: float, warmup: bool) -> Ema:
    net.load_state_dict(states[0])
    ema = Ema(net, decay, warmup)
    for step, state in enumerate(states[1:]):
        net.load_state_dict(state)
        ema.update(net, step)
    return ema


def test_the_decay_rises_to_its_value() -> None:
    assert [ema_decay(0.5, True, step) for step in (0, 1, 2, 8, 9, 1000)] == [0.1, 2 / 11, 0.25, 0.5, 0.5, 0.5]
    assert ema_decay(0.5, False, 0) == 0.5


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_is_the_weighted_sum_of_all_states(warmup: bool) -> None:
    """Closed form: state s has weight (1 - d_s) d_{s+1} ... d_T, the initial one d_0 ... d_T."""
    net, states = steps()
    ema = averaged(net, states, 0.7, warmup)
    decays = [ema_decay(0.7, warmup, step) for step in range(len(states) - 1)]
    shares = [1.0, *(1.0 - d for d in decays)]
    for index in range(len(states)):
        for decay in decays[index:]:
            shares[index] *= decay
    assert sum(shares) == pytest.approx(1.0)
    for name in ("0.weight", "1.bias", "1.running_mean"):
        expected = sum(share * state[name].double() for share, state in zip(shares, states, strict=True))
        assert torch.allclose(ema.tensors[name].double(), torch.as_tensor(expected), rtol=1e-6, atol=1e-7), name
    assert ema.tensors["1.num_batches_tracked"] == states[-1]["1.num_batches_tracked"]


def test_a_constant_decay_is_torch_s() -> None:
    net, states = steps()
    ema = averaged(net, states, 0.7, False)
    net.load_state_dict(states[0])
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
    theirs.update_parameters(net)  # their first update copies
    for state in states[1:]:
        net.load_state_dict(state)
        theirs.update_parameters(net)
    for name, value in theirs.module.named_parameters():  # integers are averaged there too
        assert torch.allclose(ema.tensors[name], value, rtol=1e-6, atol=1e-8), name


def test_constants_stay_as_they_are() -> None:
    net = nn.Linear(3, 3)
    net.register_buffer("mean", torch.tensor([0.1, 1 / 3, 1e-30, -torch.inf, torch.inf]))
    ema = Ema(net, 0.999, True)
    for step in range(20):
        ema.update(net, step)
    assert torch.equal(ema.tensors["mean"], net.mean)


def test_weights_come_back_bit_for_bit() -> None:
    net, states = steps()
    ema = averaged(net, states, 0.7, True)
    with ema.instead(net):
        assert all(torch.equal(value, ema.tensors[name]) for name, value in net.state_dict().items())
        net[1].num_batches_tracked += 1
    assert all(torch.equal(value, states[-1][name]) for name, value in net.state_dict().items())
