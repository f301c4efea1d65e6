"""Settings of a fine-tuning.

Particular: imports no torch, because the help of `frz finetune` is made of them.
"""

from typing import Any

from pydantic import ConfigDict, Field

from frz.config import StrictModel


class FinetuneConfig(StrictModel):
    """A fine-tuning."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    head: str
    """A trained head (`muon-regression`, `muon-regression@<run>`); its backbone, data set and features follow."""
    name: str = "finetuned"
    """The new backbone and the new head are called as the old ones, with this behind: `muon-finetuned`."""
    backbone_lr: float = Field(default=1.0, ge=0)
    """Learning rate of the backbone in units of `trainer.lr`, that of the head; 0 freezes it."""
    trainer: dict[str, Any] = Field(default={})
    """Keys of the trainer. What is left out is as the head was trained with, but for `lr`, a tenth of that, and
    `max_epochs`, 5."""
