"""What is known at the end of a stay, read by several small nets that learn apart: an ensemble inside the backbone.

Particular: the members share nothing but their input. Each starts elsewhere, has units and inputs dropped of its own,
and answers for the targets with a linear map of its own, so that what they have in common is what the stays say and not
what one net made of a few thousand of them.

Axes: E stays, V variables, S static columns, C columns of the input, K members, W units kept, L targets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frz.backbones.set_sequence.grades import GRADES, Grades
from frz.backbones.set_sequence.levels import PARTS, TRENDS
from frz.backbones.set_sequence.settings import SummarySettings

_VALUES, _COUNT = [0, 1, 2, 3, PARTS], 4
"""Places among levels and trends: last, mean, least, greatest, first value; logarithm of the number of sets."""


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
    n_variable, n_static : int
        Numbers V, S.
    n_target : int
        Number L of targets.
    """

    def __init__(self, settings: SummarySettings, n_variable: int, n_static: int, n_target: int) -> None:
        super().__init__()
        self.settings, self.n_variable, self.n_static = settings, n_variable, n_static
        self.inner = Apart(settings.members, self.n_column, settings.hidden)
        self.outer = Apart(settings.members, settings.hidden, settings.width)
        self.answers = Apart(settings.members, settings.width, n_target)

    @property
    def n_column(self) -> int:
        """Width C of the input."""
        return (PARTS + TRENDS) * self.n_variable + 2 * self.n_static

    def read(self, end: Tensor, static: Tensor) -> Tensor:
        """The input (E, C)."""
        return torch.cat((end, static), 1)

    def forward(self, end: Tensor, static: Tensor) -> Tensor:
        """Units (K, E, W).

        Parameters
        ----------
        end : Tensor
            (E, 9 V) what `levels.levels` gives for the last set, then what `levels.trends` gives.
        static : Tensor
            (E, 2 S) static columns, standardised, and which of them are unknown.
        """
        x = self.read(end, static).expand(self.settings.members, -1, -1)
        x = F.silu(self.inner(F.dropout(x, self.settings.input_dropout, self.training)))
        return F.silu(self.outer(F.dropout(x, self.settings.dropout, self.training)))

    def answer(self, units: Tensor) -> Tensor:
        """Answers (K, E, L) of units (K, E, W)."""
        result: Tensor = self.answers(F.dropout(units, self.settings.dropout, self.training))
        return result


class GradedSummary(Summary):
    """Members that read last, mean, least, greatest, first value and the static columns by grades."""

    def __init__(self, settings: SummarySettings, n_variable: int, n_static: int, n_target: int) -> None:
        super().__init__(settings, n_variable, n_static, n_target)
        self.grades = Grades()

    @property
    def n_column(self) -> int:
        """Width C of the input: grades, which variables were measured and how often, and the static columns."""
        graded = len(_VALUES) * self.n_variable + self.n_static
        return GRADES * graded + 2 * self.n_variable + 2 * self.n_static

    def read(self, end: Tensor, static: Tensor) -> Tensor:
        """The input (E, C)."""
        parts = end.view(len(end), PARTS + TRENDS, self.n_variable)
        often = parts[:, _COUNT]
        measured = often > 0
        values = parts[:, _VALUES].flatten(1)
        of_values = self.grades(values, measured.repeat(1, len(_VALUES)))
        of_static = self.grades(static[:, : self.n_static], static[:, self.n_static :] == 0)
        return torch.cat((of_values, of_static, measured.to(often.dtype), often, static), 1)
