import numpy as np
import pytest
import torch
from torch.nn import functional

from frz.errors import TrainingError
from frz.heads.classes import Classes

GENERATOR = torch.Generator().manual_seed(0)
VALUES = np.array([[-1.0], [2.0], [2.0], [7.0], [2.0], [-1.0]], np.float32)
TRUE = torch.tensor([0, 1, 1, 2, 1, 0])


def measured(**options) -> Classes:
    classes = Classes("kind", 3, **options)
    classes.measure(VALUES)
    return classes


def test_loss_equals_plain_torch():
    classes, raw = measured(weighting="balanced"), torch.randn(6, 3, generator=GENERATOR)
    counts = torch.tensor([True, True, False, True, True, True])
    plain = functional.cross_entropy(raw, TRUE, torch.tensor([1.0, 2 / 3, 2.0]), reduction="none")
    found = classes.losses(raw, torch.from_numpy(VALUES), counts)
    torch.testing.assert_close(found, plain[counts].mean().unsqueeze(0))


def test_nothing_counts():
    raw = torch.randn(6, 3, requires_grad=True, generator=GENERATOR)
    loss = measured().losses(raw, torch.from_numpy(VALUES), torch.zeros(6, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss.sum(), raw)
    assert loss.tolist() == [0.0]
    assert gradient.abs().max() == 0


def test_predicts_values_of_the_data_with_their_probabilities():
    found = measured().predictions(torch.tensor([[0.0, 5.0, 0.0], [9.0, 0.0, 0.0]]))
    assert found["kind"].tolist() == [2.0, -1.0]
    assert list(found) == ["kind", "kind_probability_-1", "kind_probability_2", "kind_probability_7"]
    two = Classes("q")
    two.measure(np.array([[-1.0], [1.0]], np.float32))
    torch.testing.assert_close(two.predictions(torch.tensor([[0.0, 1.0]]))["q_probability"], torch.tensor([0.7310586]))


def test_mean_outputs_are_the_shares():
    classes = measured()
    found = classes.predictions(classes.mean_outputs(2))
    shares = [float(found[f"kind_probability_{value}"][0]) for value in (-1, 2, 7)]
    assert shares == pytest.approx([2 / 6, 3 / 6, 1 / 6])
    assert found["kind"].tolist() == [2.0, 2.0]


def test_metrics_of_a_certain_and_right_answer():
    classes = measured()
    raw = 50 * functional.one_hot(TRUE, 3).float()
    found = {name: values.numpy() for name, values in classes.predictions(raw).items()}
    metrics = classes.metrics(found, VALUES)
    perfect = {"accuracy": 1.0, "auc": 1.0, "auprc": 1.0, "recall_at_spec95": 1.0}
    perfect |= {"brier": 0.0, "log_loss": 0.0, "ece": 0.0}
    assert metrics == pytest.approx({f"kind/{name}": value for name, value in perfect.items()})


@pytest.mark.parametrize("values", [[[1.0], [1.0]], [[1.0], [2.0], [3.0]], np.zeros((0, 1))])
def test_another_number_of_classes_is_refused(values):
    with pytest.raises(TrainingError, match=r"shows \d values in the training split.*the head has 2 classes"):
        Classes("q").measure(np.array(values, np.float32))
