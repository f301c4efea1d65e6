import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from frz.errors import TrainingError
from frz.heads.forms import Options
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


LEVELS = (0.1, 0.5, 0.7)


@pytest.mark.parametrize("kind", ["identity", "inverse", "log", "periodic"])
def test_quantiles_come_back_in_physical_units_and_in_order(kind):
    targets = Targets((kind,), 1.0, False, Options(forms=("quantiles",), levels=LEVELS), ("x",))
    physical = RNG.uniform(0.5, 2.5, (4000, 1)).astype(np.float32)
    targets.measure(physical)
    raw = torch.zeros(1, 3, requires_grad=True)
    goals, counts = torch.from_numpy(to_goals(physical, (kind,))), torch.ones(4000, dtype=torch.bool)
    optimiser = torch.optim.Adam([raw], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        targets.losses(raw.expand(4000, -1), goals, counts).sum().backward()
        optimiser.step()
    found = targets.predictions(raw.detach())
    assert list(found) == ["x", "x_q10", "x_q50", "x_q70"]
    assert torch.equal(found["x"], found["x_q50"])
    quantiles = [float(found[f"x_q{100 * level:g}"]) for level in LEVELS]
    np.testing.assert_allclose(quantiles, np.quantile(physical, LEVELS), atol=0.05)


@pytest.mark.parametrize("kind", ["identity", "inverse", "log", "periodic"])
def test_gaussian_field_finds_mean_and_sigma(kind):
    targets = Targets((kind,), 1.0, False, Options(forms=("gaussian",)), ("x",))
    physical = (1.5 + 0.1 * RNG.normal(size=(4000, 1))).astype(np.float32)
    targets.measure(physical)
    goals, counts = torch.from_numpy(to_goals(physical, (kind,))), torch.ones(4000, dtype=torch.bool)
    raw = torch.zeros(1, 2, requires_grad=True)
    optimiser = torch.optim.Adam([raw], 0.05)
    for _ in range(120):
        optimiser.zero_grad()
        targets.losses(raw.expand(4000, -1), goals, counts).sum().backward()
        optimiser.step()
    found = targets.predictions(raw.detach())
    assert float(found["x"]) == pytest.approx(1.5, abs=0.02)
    assert float(found["x_sigma"]) == pytest.approx(0.1, rel=0.06)
    many = {name: values.expand(4000).numpy() for name, values in found.items()}
    assert targets.metrics(many, physical)["x/pull_width"] == pytest.approx(1, rel=0.08)


def test_spread_losses_equal_plain_torch_beside_other_fields():
    kinds = ("identity", "periodic", "log", "class")
    forms = ("gaussian", "point", "quantiles", "point")
    targets = Targets(kinds, 1.0, False, Options(forms=forms, levels=LEVELS, nll_beta=0.0))
    physical = values(50)[:, [0, 3, 2, 4]]
    targets.measure(physical)
    assert targets.n_output == 4 + 1 + 2
    raw = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    goals = torch.from_numpy(to_goals(physical, kinds))
    found = targets.losses(raw, goals, torch.ones(50, dtype=torch.bool))
    normal = (goals - targets.mean) / targets.width
    variance = (10 * torch.tanh(raw[:, 4] / 10)).exp()
    torch.testing.assert_close(found[0], functional.gaussian_nll_loss(raw[:, 0], normal[:, 0], variance))
    steps = functional.softplus(raw[:, 5:])
    quantiles = torch.stack((raw[:, 2] - steps[:, 0], raw[:, 2], raw[:, 2] + steps[:, 1]), 1)
    error = normal[:, 2:3] - quantiles
    level = torch.tensor(LEVELS)
    torch.testing.assert_close(found[2], torch.maximum(level * error, (level - 1) * error).mean())
    torch.testing.assert_close(found[3], functional.binary_cross_entropy_with_logits(raw[:, 3], goals[:, 3]))


def test_classes_can_be_weighted_and_focal():
    targets = Targets(("class",), 1.0, False, Options(weighting="balanced", gamma=2.0))
    physical = np.array([[1.0], [-1.0], [-1.0], [-1.0]], np.float32)
    targets.measure(physical)
    raw, goals = torch.tensor([[0.3], [-1.0], [0.0], [2.0]]), torch.from_numpy(to_goals(physical, ("class",)))
    weight = torch.tensor([[2.0], [2 / 3], [2 / 3], [2 / 3]])
    p_true = torch.where(goals > 0, raw.sigmoid(), 1 - raw.sigmoid())
    expected = (-weight * (1 - p_true) ** 2 * p_true.log()).mean()
    torch.testing.assert_close(targets.losses(raw, goals, torch.ones(4, dtype=torch.bool))[0], expected)
    assert "class_weight" in targets.state_dict()


def test_a_shift_moves_numbers_and_angles():
    targets, physical = Targets(("identity", "periodic"), 1.0, False), values()[:, [0, 3]]
    targets.measure(physical)
    raw = exact_outputs(targets, physical)
    shift = torch.full((len(raw), 2), 3.0)
    found = targets.decode(raw, shift)
    np.testing.assert_allclose(found[:, 0], physical[:, 0] + 3, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], wrap(torch.from_numpy(physical[:, 1] + 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("loss", "plain"), [("huber", functional.huber_loss), ("mse", functional.mse_loss)])
def test_other_point_losses(loss, plain):
    targets, physical = Targets(("identity",), 1.0, False, Options(loss=loss)), values(50)[:, :1]
    targets.measure(physical)
    raw = 3 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    goals = torch.from_numpy(physical)
    found = targets.losses(raw, goals, torch.ones(50, dtype=torch.bool))
    torch.testing.assert_close(found[0], plain(raw, (goals - targets.mean) / targets.width))
