"""What `frz evaluate` and `frz demo` can be told.

Particular: imports nothing heavy, because the help of the commands is made of it.
"""

from pathlib import Path

from pydantic import ConfigDict, Field, field_validator

from frz.config import StrictModel


class EvaluateSettings(StrictModel):
    """How tracks are made of logits and what they are measured on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    split: str = "test"
    """Split of the data set, or `all`."""
    assignment_threshold: float = Field(default=0.5, gt=0, lt=1)
    """A hit belongs to a track from this probability on."""
    valid_threshold: float = Field(default=0.5, gt=0, lt=1)
    """A query is a track from this probability on."""
    min_hits: int = Field(default=3, ge=1)
    """A predicted track has at least so many hits."""
    merge_share: float = Field(default=0.5, gt=0, lt=1)
    """Tracks of overlapping wedges that share more than this are one."""
    report: Path | None = None
    """File (.html) to write beside the numbers, with plots."""

    @field_validator("report")
    @classmethod
    def _is_html(cls, report: Path | None) -> Path | None:
        if report is not None and report.suffix not in (".html", ".htm"):
            raise ValueError(f"a report is HTML; give a file such as {report}.html")
        return report


class DemoSettings(StrictModel):
    """Sizes of the demo."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    n_events: int = Field(default=24_000, ge=64)
    """Simulated events."""
    backbone_epochs: int = Field(default=14, ge=1)
    """Passes over the training events in Stage 1."""
    head_epochs: int = Field(default=20, ge=1)
    """Passes over the features in Stage 2."""
    seed: int = Field(default=0, ge=0)
    """Of the simulation and of both trainings."""
