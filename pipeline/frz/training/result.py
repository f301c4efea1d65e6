"""What a training came to, in numbers."""

from dataclasses import dataclass
from typing import Any

from frz.training.record import Metrics


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    epochs: int
    """Epochs finished."""
    steps: int
    """Optimiser steps taken."""
    best: Metrics
    """Line of `metrics.jsonl` with the best value of the monitored metric."""
    score: dict[str, Any]
    """That value as the card says it: `score`, `monitor`, `monitor_mode`."""
    last: Metrics
    """Its last line."""
    stopped_early: bool
    """Whether patience ran out."""
    resumed: bool
    """Whether the run went on from a saved state."""
    begun_after: tuple[int, int]
    """Epochs finished and steps taken by earlier calls."""

    @property
    def told(self) -> dict[str, Any]:
        """What the card of the run says of it."""
        epochs = {"best": self.best, "last": self.last}
        ended = {"epochs": self.epochs, "steps": self.steps, "stopped_early": self.stopped_early}
        return {**ended, **self.score, "epoch_metrics": epochs}

    @property
    def status(self) -> str:
        """How the run came to its end, in words."""
        epoch, step = self.begun_after
        return f"resumed after epoch {epoch}, step {step}" if self.resumed else "trained"
