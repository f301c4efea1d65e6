"""The learning curves of a run as a picture in its folder, drawn when the training is over."""

from pathlib import Path

from frz.store.atomic import write_file
from frz.training.history import history, kept

CURVES = "curves.png"


def draw(run: Path) -> Path | None:
    """Draw losses, what else was measured in validation, and learning rate; the file, or None if there is nothing.

    Without the plotting package nothing is drawn: a training does not fail for want of a picture.

    Raises
    ------
    CheckpointError
        If the metrics are damaged.
    """
    lines = history(run)
    if not lines:
        return None
    try:
        from frz.evaluation import page, plots
    except ImportError:
        return None
    write_file(run / CURVES, page.png(plots.training_curves(lines, kept(run, lines)), transparent=False))
    return run / CURVES
