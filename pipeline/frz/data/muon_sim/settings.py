"""What a recipe may say about the simulated events."""

from pydantic import Field, model_validator

from frz.config import StrictModel


class MuonSimConfig(StrictModel):
    """Settings of the simulator; every one but `n_events` is part of the identity of an event."""

    n_events: int = Field(default=100_000, ge=1)
    seed: int = Field(default=0, ge=0)
    filtered: bool = True
    """True: as after a hit filter, about half of the hits are noise. False: about 99 % are."""
    tracks_per_event: tuple[float, ...] = (0.49, 0.51)
    """Probabilities of 1, 2, ... muons in an event."""
    pt_min: float = Field(default=5.0, gt=0)
    """Smallest transverse momentum, GeV."""
    pt_scale: float = Field(default=33.0, gt=0)
    """Scale of the Weibull spectrum (shape 1.2) above `pt_min`, GeV; the mean excess is 0.94 of it."""
    eta_max: float = Field(default=2.7, gt=0, le=2.7)
    """Largest |eta|."""
    min_hits: int = Field(default=3, ge=1)
    """A muon with fewer hits is no track; its hits count as noise."""
    close_pairs: float = Field(default=0.1, ge=0, le=1)
    """Probability that a second, third ... muon flies within about 0.03 rad of the first."""
    field_scale: float = Field(default=1.0, ge=0)
    """Factor on the toroidal field; 0 gives straight lines."""
    calorimeter: bool = True
    """Energy loss and multiple scattering on the way in, scattering in the stations."""
    tube_resolution: float = Field(default=0.08, gt=0)
    """Standard deviation of the drift radius, mm."""
    efficiency: float = Field(default=0.92, gt=0, le=1)
    """Probability that a crossed channel gives a hit."""
    near_noise: float = Field(default=0.50, ge=0, le=1)
    """Noise hits per muon hit on channels near it (delta rays, cross-talk, showers)."""
    noise_segments: float = Field(default=1.7, ge=0)
    """Mean number per muon of short straight segments of other particles in the muon's sector."""
    cavern_hits: float | None = Field(default=None, ge=0)
    """Mean number per event of single hits anywhere; None: 8, or 5,600 unfiltered."""

    @model_validator(mode="after")
    def _check(self) -> "MuonSimConfig":
        if not self.tracks_per_event or min(self.tracks_per_event) < 0 or abs(sum(self.tracks_per_event) - 1) > 1e-6:
            raise ValueError("tracks_per_event must be probabilities that add up to 1")
        return self

    @property
    def mean_cavern(self) -> float:
        """Mean number of cavern hits of an event."""
        if self.cavern_hits is not None:
            return self.cavern_hits
        return 8.0 if self.filtered else 5600.0
