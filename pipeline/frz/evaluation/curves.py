"""The learning curves of a run: a figure, and that as a picture in its folder when the training is over."""

from pathlib import Path
from typing import TYPE_CHECKING

from frz.ancestry import config_of
from frz.store.atomic import write_file
from frz.training.history import history, kept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves.png"


def draw(run: Path) -> Path | None:
    """Draw the curves; the file, or None if there is nothing to draw.

    Without the plotting package nothing is drawn: a training does not fail for want of a picture.

    Raises
    ------
    CheckpointError
        If the metrics are damaged.
    """
    if not history(run):
        return None
    try:
        from frz.evaluation import page

        write_file(run / CURVES, page.png(figure(run), transparent=False))
    except ImportError:
        return None
    return run / CURVES


def figure(run: Path, weights: str = "best") -> "Figure":
    """Losses, the metric that decided, and learning rate of a run that has metrics; `weights` says which are marked."""
    from frz.evaluation import plots

    lines, trainer = history(run), config_of(run).get("trainer", {})
    return plots.training_curves(lines, kept(run, lines, weights), trainer.get("monitor", "val/loss"))
