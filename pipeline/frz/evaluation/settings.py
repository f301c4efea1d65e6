"""What `frz evaluate` and `frz demo` can be told.

Particular: imports nothing heavy, because the help of the commands is made of it.
"""

from pathlib import Path

from pydantic import ConfigDict, Field, field_validator

from frz.config import StrictModel


class EvaluateSettings(StrictModel):
    """What is measured on, how tracks are made of logits, and what is told of classes."""

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
    resamples: int = Field(default=1000, ge=0)
    """Samples of the events drawn with replacement for the intervals of a head of classes; 0 = no intervals."""
    level: float = Field(default=0.683, gt=0, lt=1)
    """Share of the samples that lies inside an interval."""
    by: tuple[str, ...] = ()
    """Columns of few values whose parts are measured apart, of event arrays of features or data set:
    `[event/static.icu_type]`."""
    report: Path | None = None
    """File (.html) to write beside the numbers, with plots."""

    @field_validator("by", mode="before")
    @classmethod
    def _one_or_more(cls, by: object) -> object:
        return (by,) if isinstance(by, str) else by

    @field_validator("report")
    @classmethod
    def _is_html(cls, report: Path | None) -> Path | None:
        if report is not None and report.suffix not in (".html", ".htm"):
            raise ValueError(f"a report is HTML; give a file such as {report}.html")
        return report


class DemoSettings(StrictModel):
    """Sizes of the demo; other families than muons have defaults of their own."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    n_events: int = Field(default=24_000, ge=64)
    """Simulated events."""
    backbone_epochs: int = Field(default=14, ge=1)
    """Passes over the training events in Stage 1."""
    head_epochs: int = Field(default=20, ge=1)
    """Passes over the features in Stage 2."""
    seed: int = Field(default=0, ge=0)
    """Of the simulation and of both trainings."""
