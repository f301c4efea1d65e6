"""What the states are asked for beside the sets themselves: values to come, and targets of the stay.

Axes: N elements, S sets (flat), E stays, V variables, D features, P width of the pooled vector, L targets.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frz.backbones.set_sequence.settings import ForecastSettings, SupervisedSettings


class Forecast(nn.Module):
    """Standardised values of the sets `ahead`, from the state."""

    def __init__(self, settings: ForecastSettings, dim: int, n_variable: int) -> None:
        super().__init__()
        self.ahead, self.n_variable = settings.ahead, n_variable
        self.maps = nn.ModuleList(nn.Linear(dim, n_variable) for _ in settings.ahead)

    def forward(self, state: Tensor, first: Tensor, owner: Tensor, variable: Tensor, scaled: Tensor) -> Tensor:
        """Smooth L1, averaged over the elements that have such an earlier set, and over the distances.

        Parameters
        ----------
        state : Tensor
            (S, D).
        first : Tensor
            (S,) first set of the stay of each set.
        owner, variable, scaled : Tensor
            (N,) set, code and standardised value of each element.
        """
        losses = []
        for ahead, of in zip(self.ahead, self.maps, strict=True):
            known = owner - ahead >= first.index_select(0, owner)
            rows = (owner - ahead)[known] * self.n_variable + variable[known]
            predicted = of(state).flatten().index_select(0, rows)
            loss = F.smooth_l1_loss(predicted, scaled[known], reduction="sum")
            losses.append(loss / known.sum().clamp(min=1))
        return torch.stack(losses).mean()


class Supervised(nn.Module):
    """Targets of the stay by linear maps, from the pooled states and from the state after each set."""

    mean: Tensor
    width: Tensor

    def __init__(self, settings: SupervisedSettings, n_pooled: int, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.names = (*settings.labels, *settings.scores)
        self.register_buffer("mean", torch.zeros(len(settings.scores)))
        self.register_buffer("width", torch.ones(len(settings.scores)))
        self.norm = nn.LayerNorm(n_pooled)
        self.pooled = nn.Linear(n_pooled, len(self.names))
        self.state = nn.Linear(dim, len(self.names)) if settings.every_set else None

    def forward(self, pooled: Tensor, state: Tensor, owner: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted losses by target, averaged over the stays that have it.

        Parameters
        ----------
        pooled : Tensor
            (E, P), zeros for a stay without sets.
        state : Tensor
            (S, D).
        owner : Tensor
            (S,) stay of each set.
        targets : mapping
            (E,) by name, -1 where there is none.
        """
        dropout = self.settings.dropout
        of_stay = self.pooled(F.dropout(self.norm(pooled), dropout, self.training)).float()  # (E, L)
        of_set = None if self.state is None else self.state(F.dropout(state, dropout, self.training)).float()
        sets = torch.bincount(owner, minlength=len(pooled)).clamp(min=1).to(of_stay.dtype)
        losses = {}
        for i, name in enumerate(self.names):
            known = targets[name] >= 0
            losses[name] = self._mean(i, of_stay[:, i], targets[name], known.to(of_stay.dtype))
            if of_set is not None:
                weights = known.to(of_stay.dtype) / sets
                each = self._mean(i, of_set[:, i], targets[name][owner], weights[owner], known.sum())
                losses[f"{name}/every_set"] = self.settings.every_set * each
        return losses

    def of_members(self, answers: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same losses of the answers (K, E, L) of K nets that learn apart: the mean of theirs."""
        losses = {}
        for i, name in enumerate(self.names):
            known = (targets[name] >= 0).to(answers.dtype)
            each = [self._mean(i, answer, targets[name], known) for answer in answers[..., i].float()]
            losses[f"{name}/summary"] = torch.stack(each).mean()
        return losses

    def _mean(self, i: int, answer: Tensor, target: Tensor, weights: Tensor, total: Tensor | None = None) -> Tensor:
        n_label = len(self.settings.labels)
        if i < n_label:
            positive = torch.tensor(self.settings.positive_weight, device=answer.device)
            each = F.binary_cross_entropy_with_logits(
                answer, (target > 0).to(answer.dtype), pos_weight=positive, reduction="none"
            )
        else:
            logs = target.clamp(min=0).to(answer.dtype).log1p()
            scaled = (logs - self.mean[i - n_label]) / self.width[i - n_label]
            each = F.smooth_l1_loss(answer, scaled, reduction="none")
        weight = (*self.settings.labels.values(), *self.settings.scores.values())[i]
        return weight * (each * weights).sum() / (weights.sum() if total is None else total).clamp(min=1)
