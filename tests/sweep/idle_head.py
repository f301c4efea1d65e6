"""Heads of users that train alone, but not in a stack."""

import torch
from torch import Tensor, nn
from user_head import MeanHitHead

from frz.heads.contract import Batch


class IdleHead(MeanHitHead):
    """Has a parameter that its loss does not use."""

    def __init__(self, config: object, schema: object) -> None:
        super().__init__(config, schema)  # type: ignore[arg-type]
        self.idle = nn.Parameter(torch.ones(2))


class NoisyHead(MeanHitHead):
    """Draws random numbers of its own in training."""

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(batch)
        return loss * (1 + 0.1 * torch.rand(()) if self.training else 1), parts
