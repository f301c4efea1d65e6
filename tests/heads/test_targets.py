import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from frz.errors import TrainingError
from frz.heads.targets import Targets, to_goals, wrap

RNG = np.random.default_rng(0)
KINDS = ("identity", "inverse", "log", "periodic", "class")


def values(n: int = 400) -> np.ndarray:
    return np.stack(
        [
            RNG.normal(3, 2, n),
            RNG.uniform(5, 100, n),
            RNG.uniform(5, 100, n),
            RNG.uniform(-math.pi, math.pi, n),
            np.where(RNG.random(n) < 0.7, 1.0, -1.0),
        ],
        1,
    ).astype(np.float32)


def exact_outputs(targets: Targets, physical: np.ndarray) -> torch.Tensor:
    """Raw outputs that say exactly the physical values."""
    goals = torch.from_numpy(to_goals(physical, targets.kinds))
    raw = (goals - targets.mean) / targets.width
    raw[:, targets.is_class] = 40 * (goals[:, targets.is_class] - 0.5)
    if targets.vector:
        angle = goals[:, targets.periodic]
        raw[:, targets.periodic] = 3 * angle.cos()
        raw = torch.cat((raw, 3 * angle.sin()), 1)
    return raw


def test_wrap_and_its_gradient():
    angle = torch.tensor([0.0, 3.0, math.pi + 0.1, -math.pi - 0.1, 7 * math.pi - 0.2], requires_grad=True)
    found = wrap(angle)
    expected = [0.0, 3.0, -math.pi + 0.1, math.pi - 0.1, math.pi - 0.2]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), angle)
    assert gradient.tolist() == [1.0] * 5


def test_goals_by_closed_form():
    physical = values()
    goals = to_goals(physical, KINDS)
    np.testing.assert_array_equal(goals[:, 0], physical[:, 0])
    np.testing.assert_allclose(goals[:, 1], 1 / physical[:, 1], rtol=1e-6)
    np.testing.assert_allclose(goals[:, 2], np.log(physical[:, 2]), rtol=1e-6)
    np.testing.assert_array_equal(goals[:, 3], physical[:, 3])
    np.testing.assert_array_equal(goals[:, 4], physical[:, 4] > 0)


def test_goals_of_zero_momentum_are_finite():
    zero = np.zeros((2, 2), np.float32)
    np.testing.assert_allclose(to_goals(zero, ("inverse", "log")), [[1e6, math.log(1e-6)]] * 2, rtol=1e-6)


@pytest.mark.parametrize("vector", [False, True])
def test_decode_inverts_goals(vector):
    targets, physical = Targets(KINDS, 1.0, vector), values()
    targets.measure(physical)
    found = targets.decode(exact_outputs(targets, physical)).numpy()
    np.testing.assert_allclose(found, physical, rtol=1e-4, atol=1e-5)


def test_wrong_sign_of_an_inverse_output_gives_the_largest_known_value():
    targets, physical = Targets(("inverse", "log"), 1.0, False), values()[:, 1:3]
    targets.measure(physical)
    found = targets.decode(torch.tensor([[-1e4, 1e4], [1e4, -1e4]]))
    expected = [[physical[:, 0].max(), physical[:, 1].max()], [physical[:, 0].min(), physical[:, 1].min()]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_one_absurd_target_does_not_set_the_scale():
    targets, physical = Targets(("inverse",), 1.0, False), values(1000)[:, 1:2]
    targets.measure(physical)
    width = float(targets.width)
    physical[17] = 0
    targets.measure(physical)
    assert float(targets.width) == pytest.approx(width, rel=0.05)
    assert float(targets.mean) < 0.2


def test_periodic_mean_is_circular():
    targets = Targets(("periodic",), 1.0, False)
    angle = math.pi + 0.1 * RNG.normal(size=(1000, 1))
    targets.measure(((angle + math.pi) % (2 * math.pi) - math.pi).astype(np.float32))
    assert abs(abs(float(targets.mean)) - math.pi) < 0.02
    assert float(targets.width) == pytest.approx(0.1, rel=0.1)


def test_constant_field_has_width_one():
    targets = Targets(("identity",), 1.0, False)
    targets.measure(np.full((9, 1), 4.0, np.float32))
    assert (float(targets.mean), float(targets.width)) == (4.0, 1.0)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_class_field_with_one_class_is_refused(constant):
    with pytest.raises(TrainingError, match="not of two classes"):
        Targets(("class",), 1.0, False).measure(np.full((9, 1), constant, np.float32))


def test_many_valued_class_field_is_refused():
    with pytest.raises(TrainingError, match="3 values <= 0"):
        Targets(("class",), 1.0, False).measure(np.array([[-2], [-1], [0], [1]], np.float32))


def test_nothing_to_measure_is_refused():
    with pytest.raises(TrainingError, match="no slot"):
        Targets(("identity",), 1.0, False).measure(np.zeros((0, 1), np.float32))


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_losses_equal_plain_torch(beta):
    targets, physical = Targets(KINDS, beta, False), values(50)
    targets.measure(physical)
    raw = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    goals = torch.from_numpy(to_goals(physical, KINDS))
    counts = torch.arange(50) % 3 > 0
    found = targets.losses(raw, goals, counts)
    normal = (goals - targets.mean) / targets.width
    for field in range(3):
        expected = functional.smooth_l1_loss(raw[counts, field], normal[counts, field], beta=beta)
        torch.testing.assert_close(found[field], expected)
    turns = torch.stack([raw[:, 3] - normal[:, 3] + k * 2 * math.pi / targets.width[3] for k in range(-3, 4)])
    nearest = turns.abs().amin(0)[counts]
    torch.testing.assert_close(found[3], functional.smooth_l1_loss(nearest, torch.zeros_like(nearest), beta=beta))
    bce = functional.binary_cross_entropy_with_logits(raw[counts, 4], goals[counts, 4])
    torch.testing.assert_close(found[4], bce)


@pytest.mark.parametrize("vector", [False, True])
def test_exact_outputs_have_no_loss_and_a_full_turn_changes_nothing(vector):
    targets, physical = Targets(("periodic",), 1.0, vector), values()[:, 3:4]
    targets.measure(physical)
    raw = exact_outputs(targets, physical)
    raw = raw / 3 if vector else raw + 2 * math.pi / targets.width
    goals, counts = torch.from_numpy(physical), torch.ones(len(raw), dtype=torch.bool)
    assert float(targets.losses(raw, goals, counts)) == pytest.approx(0, abs=1e-9)
    assert float(targets.losses(raw + 0.3, goals, counts)) > 1e-3


@pytest.mark.parametrize("vector", [False, True])
def test_nothing_counts(vector):
    targets = Targets(KINDS, 1.0, vector)
    raw = torch.randn(4, targets.n_output, requires_grad=True)
    losses = targets.losses(raw, torch.zeros(4, 5), torch.zeros(4, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(losses.sum(), raw)
    assert losses.tolist() == [0.0] * 5
    assert gradient.abs().max() == 0


@pytest.mark.parametrize("vector", [False, True])
def test_mean_outputs_decode_to_the_training_mean(vector):
    targets, physical = Targets(KINDS, 1.0, vector), values()
    targets.measure(physical)
    found = targets.decode(targets.mean_outputs(3)).numpy()
    np.testing.assert_allclose(found[:, 0], targets.mean[0])
    np.testing.assert_allclose(found[:, 1], 1 / targets.mean[1], rtol=1e-6)
    np.testing.assert_allclose(found[:, 3], targets.mean[3], rtol=1e-5)
    assert found[:, 4].tolist() == [1.0] * 3


def test_probability_is_of_the_upper_class():
    targets = Targets(("class", "identity", "class"), 1.0, False)
    found = targets.probability(torch.tensor([[0.0, 5.0, 2.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5, 1 / (1 + math.exp(-2))]]))
