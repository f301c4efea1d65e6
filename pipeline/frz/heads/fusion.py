"""Three-pool fusion: mean, maximum and attention over the members of a slot or event, projected, and an MLP.

Particular: the attention, whose query is the mean, is `nn.MultiheadAttention` to the letter, yet no linear map of a
member is made. Keys meet one query per slot, so the query is mapped back instead; values are mapped after their mean
is taken. A step then costs H D multiplications per member in place of D^2.
"""

# Axes: N slots or events, M members of them sorted, D columns of a member, H attention heads, A = D / H.

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from frz.errors import ConfigError
from frz.heads.attention import LEAST_WEIGHT
from frz.heads.bags import BagHead, BagSettings
from frz.heads.contract import Batch
from frz.heads.nets import mlp, xavier
from frz.heads.pooling import rows_of, segment_pool, segment_softmax, slot_of_pairs
from frz.heads.settings import ClassSettings, NetSettings
from frz.store.schema import Schema


class FusionSettings(BagSettings):
    """What is pooled, and into how much."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = ("attention_heads", "fused_width", "fused_dropout")
    attention_heads: int = Field(default=1, ge=1)
    """Heads H of the attention; a divisor of the columns D of the members."""
    fused_width: int | None = Field(default=None, ge=1)
    """Width of the projection of the three pools; None = D."""
    fused_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout after it."""


class FusionClassifierConfig(ClassSettings, FusionSettings, NetSettings):
    """Settings of the classifier by three-pool fusion."""


class MeanAttention(nn.Module):
    """Multi-head attention over the members of each bag whose query is the mean of these members.

    Parameters
    ----------
    n_column : int
        D.
    n_head : int
        H.
    """

    def __init__(self, n_column: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        # The bias of the keys moves all scores of a query alike: it is here so that published weights have a place.
        self.query, self.key = nn.Linear(n_column, n_column), nn.Linear(n_column, n_column)
        self.value, self.out = nn.Linear(n_column, n_column), nn.Linear(n_column, n_column)
        xavier(self)

    def forward(self, members: Tensor, mean: Tensor, weights: Tensor, owner: Tensor) -> Tensor:
        """What each bag sees.

        Parameters
        ----------
        members : Tensor (M, D)
        mean : Tensor (N, D)
        weights : Tensor (M,)
            ln of them is added to the scores.
        owner : int64 Tensor (M,)
            Ascending.

        Returns
        -------
        Tensor (N, D)
            Of a bag without members: what the biases say.
        """
        n, width = mean.shape
        per_head = width // self.n_head
        query = self.query(mean).view(n, self.n_head, per_head) / math.sqrt(per_head)
        turned = torch.einsum("nha,had->nhd", query, self.key.weight.view(self.n_head, per_head, width))
        shift = (query * self.key.bias.view(self.n_head, per_head)).sum(2)  # (N, H)
        scores = (members.unsqueeze(1) * rows_of(turned.flatten(1), owner).view(-1, self.n_head, width)).sum(2)
        scores = scores + rows_of(shift, owner) + weights.clamp(min=LEAST_WEIGHT).log().unsqueeze(1)
        share = segment_softmax(scores.float(), owner, n)  # (M, H)
        seen = (share.unsqueeze(2) * members.unsqueeze(1)).flatten(1)  # (M, H D)
        pooled = seen.new_zeros(n, self.n_head * width).index_add(0, owner, seen).view(n, self.n_head, width)
        value = torch.einsum("nhd,had->nha", pooled, self.value.weight.view(self.n_head, per_head, width))
        found: Tensor = self.out(value.flatten(1) + self.value.bias)
        return found


class FusionClassifier(BagHead):
    """Classification by three-pool fusion.

    outputs = MLP(fuse([mean x, max x, attention(mean x; x)])), fuse = (Linear, LayerNorm, ReLU, Dropout). A slot or
    event without members gets 0 for mean and max.
    """

    Config = FusionClassifierConfig

    def __init__(self, config: FusionClassifierConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        n_column = sum(self.widths)
        if n_column % config.attention_heads:
            what = f"{n_column} columns cannot be shared by {config.attention_heads} heads"
            raise ConfigError(what, where="attention_heads", way_out="take a divisor")
        width = config.fused_width or n_column
        self.attention = MeanAttention(n_column, config.attention_heads)
        self.fuse = nn.Sequential(
            nn.Linear(3 * n_column, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(config.fused_dropout)
        )
        self.net = mlp(width + self.n_joined, self.targets.n_output, config)

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs (N, O) for every slot or event of the batch."""
        n, owner = len(batch[f"{self.axis}/counts"]), slot_of_pairs(batch["member/offsets"])
        members, weights = self.standard(self.columns(batch)), batch["member/weight"]
        mean, _, largest, _ = segment_pool(members, weights, owner, n).unbind(1)
        fused = self.fuse(torch.cat((mean, largest, self.attention(members, mean, weights, owner)), 1))
        outputs: Tensor = self.net(self.joined(fused, batch))
        return outputs.float()
