"""What a recipe may say about the simulated stays."""

from pydantic import Field

from frz.config import StrictModel


class IcuSimConfig(StrictModel):
    """Settings of the simulator; every one but `n_events` is part of the identity of an event."""

    n_events: int = Field(default=8_000, ge=1)
    seed: int = Field(default=0, ge=0)
    hours: float = Field(default=48.0, gt=0)
    """Time since admission that is observed."""
    gap: float = Field(default=40.0, gt=0)
    """Mean time between two sets, minutes; of a single stay it differs from that by about 30 %."""
    empty: float = Field(default=0.002, ge=0, le=1)
    """Probability that nothing of a stay was recorded."""
    noise: float = Field(default=1.0, ge=0)
    """Factor on the scatter of measurements about what the severity of the illness says."""
    weight: float = Field(default=2.0, ge=0)
    """How much the logit of the risk rises per unit of the severity at the end."""
    intercept: float = -3.2
    """Logit of the risk at severity 0 at the age of 62; the shipped settings give 14 % of deaths."""
