"""Attention pooling: trainable queries look at the members of a slot or event, however many there are.

Keys and values are linear maps of each member; the softmax runs over ragged segments.
"""

# Axes: N slots or events, M members of them sorted, H attention heads, A width of a head.

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from frz.heads.bags import BagHead, BagSettings
from frz.heads.contract import Batch
from frz.heads.nets import mlp
from frz.heads.pooling import segment_softmax, slot_of_pairs
from frz.heads.settings import ClassSettings, FieldSettings, MemberSettings, NetSettings
from frz.store.schema import Schema

LEAST_WEIGHT = 1e-6
"""Assignment probabilities below it count as it in ln p."""


class AttentionSettings(BagSettings):
    """What attention sees, and its shape."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = ("attention_heads", "attention_width")
    attention_heads: int = Field(default=4, ge=1)
    """Independent queries H."""
    attention_width: int = Field(default=16, ge=1)
    """Width A of each one's keys and values."""


class _AttentionHead(BagHead):
    """Attention pooling and an MLP.

    a_mh = softmax over the members m of a slot of (<query_h, key_h(x_m)> / sqrt(A) + ln p_m), p the assignment
    probability (events: 1); outputs = MLP([sum_m a_mh value_h(x_m) for each h, own]). A slot without members gets 0.
    """

    query: Tensor

    def __init__(self, config: MemberSettings, schema: Schema) -> None:
        assert isinstance(config, AttentionSettings)
        assert isinstance(config, NetSettings)
        super().__init__(config, schema)
        heads, width, n_member = config.attention_heads, config.attention_width, sum(self.widths)
        self.keys = nn.Linear(n_member, heads * width, bias=False)  # a bias moves all scores of a query alike
        self.values = nn.Linear(n_member, heads * width)
        self.query = nn.Parameter(torch.randn(heads, width))
        self.net = mlp(heads * width + self.n_joined, self.targets.n_output, config)

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs (N, O) in the normalised target space, for every slot or event of the batch."""
        n_member, owner = len(batch[f"{self.axis}/counts"]), slot_of_pairs(batch["member/offsets"])
        heads, width = self.query.shape
        members = self.standard(self.columns(batch))
        keys = self.keys(members).view(-1, heads, width)  # (M, H, A)
        scores = (keys * self.query).sum(2) / math.sqrt(width)  # (M, H)
        scores = scores + batch["member/weight"].clamp(min=LEAST_WEIGHT).log().unsqueeze(1)
        share = segment_softmax(scores.float(), owner, n_member).unsqueeze(2)  # (M, H, 1)
        seen = (share * self.values(members).view(-1, heads, width)).flatten(1).float()  # (M, H A)
        found = seen.new_zeros(n_member, heads * width).index_add(0, owner, seen)
        outputs: Tensor = self.net(self.joined(found, batch))
        return outputs.float()


class AttentionConfig(FieldSettings, AttentionSettings, NetSettings):
    """Settings of the regression by attention."""


class AttentionClassifierConfig(ClassSettings, AttentionSettings, NetSettings):
    """Settings of the classifier by attention."""


class AttentionHead(_AttentionHead):
    """Regression of fields by attention over members."""

    Config = AttentionConfig


class AttentionClassifier(_AttentionHead):
    """Classification by attention over members."""

    Config = AttentionClassifierConfig
