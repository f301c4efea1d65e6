"""What is known at the end of a stay, read by several small nets that learn apart: an ensemble inside the backbone.

Particular: the members share nothing but their input. Each starts elsewhere, has hidden units and inputs dropped of its
own, and answers for the targets with a linear map of its own, so that what they have in common is what the stays say and
not what one net made of a few thousand of them.

Axes: E stays, C columns of the input, K members, H hidden units, W units kept, L targets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frz.backbones.set_sequence.settings import SummarySettings


class Apart(nn.Module):
    """A linear map of each member: (K, E, I) to (K, E, O)."""

    def __init__(self, members: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = n_in**-0.5  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(members, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map x by member."""
        return torch.baddbmm(self.bias, x, self.weight)


class Summary(nn.Module):
    """Members' units, and their answers.

    Parameters
    ----------
    settings : SummarySettings
    n_column : int
        Width C of the input.
    n_target : int
        Number L of targets.
    """

    def __init__(self, settings: SummarySettings, n_column: int, n_target: int) -> None:
        super().__init__()
        self.settings = settings
        self.inner = Apart(settings.members, n_column, settings.hidden)
        self.outer = Apart(settings.members, settings.hidden, settings.width)
        self.answers = Apart(settings.members, settings.width, n_target)

    def forward(self, known: Tensor) -> Tensor:
        """Units (K, E, W) of what is known (E, C)."""
        x = known.expand(self.settings.members, -1, -1)
        x = F.silu(self.inner(F.dropout(x, self.settings.input_dropout, self.training)))
        return F.silu(self.outer(F.dropout(x, self.settings.dropout, self.training)))

    def answer(self, units: Tensor) -> Tensor:
        """Answers (K, E, L) of units (K, E, W)."""
        result: Tensor = self.answers(F.dropout(units, self.settings.dropout, self.training))
        return result
