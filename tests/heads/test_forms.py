import pytest
import torch
from torch.nn import functional

from frz.heads.forms import ordered_quantiles

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_quantiles_are_in_order_around_the_middle(place):
    middle, steps = normal(30), 5 * normal(30, 3)
    found = ordered_quantiles(middle, steps, place)
    torch.testing.assert_close(found[:, place], middle)
    torch.testing.assert_close(found.diff(dim=1), functional.softplus(steps), rtol=1e-4, atol=1e-5)
