"""Values by grades: how far each has come through six classes, cut at quantiles of the normal law.

Given a potassium as one number a net must spend units on "too low" and "too high" alike; given grades, a linear map is
already any broken line. No parameters, and centred and scaled as if the value were normal, which normal scores of ranks
are.

Source: piecewise linear encoding, Y. Gorishniy, I. Rubachev, A. Babenko, NeurIPS 2022 (arXiv:2203.05556), eq. 1.
"""

# Axes: E stays, C columns, G grades.

import torch
from torch import Tensor, nn

PROBABILITIES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Where the classes are cut."""
FAR = 3.0
"""Where the first begins and the last ends."""
GRADES = len(PROBABILITIES) + 1
SOFT = 0.1
"""Added to the widths of grades, so that those of the outer classes do not outweigh the rest."""


class Grades(nn.Module):
    """The encoding."""

    edges: Tensor
    centre: Tensor
    width: Tensor

    def __init__(self) -> None:
        super().__init__()
        cuts = torch.special.ndtri(torch.tensor(PROBABILITIES))
        far = torch.tensor([FAR])
        # Not persistent: they follow from the constants above.
        self.register_buffer("edges", torch.cat((-far, cuts, far)), persistent=False)
        normal = torch.special.ndtri((torch.arange(10_000) + 0.5) / 10_000)
        grades = self._passed(normal)
        self.register_buffer("centre", grades.mean(0), persistent=False)
        self.register_buffer("width", grades.std(0) + SOFT, persistent=False)

    def forward(self, values: Tensor, known: Tensor) -> Tensor:
        """(E, G C) of standardised values (E, C); 0, the mean, where they are not known (E, C)."""
        scaled = (self._passed(values) - self.centre) / self.width
        return (scaled * known.to(scaled.dtype)[..., None]).flatten(1)

    def _passed(self, values: Tensor) -> Tensor:
        """Share of each class that lies below the value: (..., G) of (...)."""
        low, high = self.edges[:-1], self.edges[1:]
        return ((values[..., None] - low) / (high - low)).clamp(0.0, 1.0)
