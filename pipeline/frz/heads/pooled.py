"""Pooled regression: the targets of the regression head from hits that are pooled once, without trainable hit nets.

A training step meets one vector per slot and no hit, so it costs a small MLP and nothing else.
"""

from torch import nn

from frz.heads.nets import mlp
from frz.heads.settings import FieldSettings, NetSettings
from frz.heads.vectors import VectorHead, VectorSettings


class PooledConfig(FieldSettings, VectorSettings, NetSettings):
    """Settings of the pooled regression."""


class PooledHead(VectorHead):
    """MLP on pooled vectors, see `FieldSettings`, `VectorSettings` and `NetSettings`."""

    Config = PooledConfig
    config: PooledConfig

    def make_net(self, n_input: int, n_output: int) -> nn.Module:
        """Dense layers."""
        return mlp(n_input, n_output, self.config)
