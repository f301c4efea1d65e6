"""MLP classifier: by default 256-128-2 where the vector is 256 wide, with BatchNorm and Xavier's start.

The older head 256-256-128-64-2 is `hidden: [256, 128, 64]`, `norm: layer`, `dropout: [0.2, 0.2, 0.1]`.
"""

from torch import nn

from frz.heads.nets import mlp
from frz.heads.settings import ClassSettings, NetSettings
from frz.heads.vectors import VectorHead, VectorSettings


class ClassifierConfig(ClassSettings, VectorSettings, NetSettings):
    """Settings of the MLP classifier."""


class ClassifierHead(VectorHead):
    """MLP on one vector per slot or event, softmax over classes."""

    Config = ClassifierConfig
    config: ClassifierConfig

    def make_net(self, n_input: int, n_output: int) -> nn.Module:
        """Dense layers."""
        return mlp(n_input, n_output, self.config)
