"""Linear probes: what a single linear map can read from frozen features, as numbers or as classes."""

from torch import nn

from frz.heads.nets import xavier
from frz.heads.settings import ClassSettings, FieldSettings
from frz.heads.vectors import VectorHead, VectorSettings


class LinearConfig(FieldSettings, VectorSettings):
    """Settings of the linear regression."""

    inputs: tuple[str, ...] = ("query/embedding",)


class LinearClassifierConfig(ClassSettings, VectorSettings):
    """Settings of the linear classifier."""

    inputs: tuple[str, ...] = ("query/embedding",)


class _Probe(VectorHead):
    def make_net(self, n_input: int, n_output: int) -> nn.Module:
        """One linear map."""
        net = nn.Linear(n_input, n_output)
        xavier(net)
        return net


class LinearHead(_Probe):
    """Linear regression of the fields."""

    Config = LinearConfig


class LinearClassifier(_Probe):
    """Linear (logistic, softmax) classification."""

    Config = LinearClassifierConfig
