"""Heads of a pass to disk: each in its own run folder, as a run of `frz train-head` would leave it.

Lines of metrics, weights and card are written when a head is done, the card last: a folder without a card is not
taken for a finished run. `state.safetensors`, from which a broken-off run goes on, is not written; nothing goes on
from within a pass.
"""

import json
from collections.abc import Mapping
from typing import Any

from frz.heads.run import Sources, conclude
from frz.store.atomic import write_file
from frz.sweep.team import Course
from frz.training import run
from frz.training.board import Board
from frz.training.checkpoint import load_into, save
from frz.training.lock import only_writer
from frz.training.record import BEST, LAST, METRICS, about_weights
from frz.training.result import Result


def keep(course: Course, events: Sources, sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Write the run of a head whose training is over; the card.

    Parameters
    ----------
    course : Course
        `whole` or `early`.
    events : Sources
        Of the pass, for the metrics of the card.
    sweep : mapping
        What the card says of the sweep.

    Raises
    ------
    TrainingError
        If another process is training in the folder.
    StoreError
        If the disk is full.
    """
    begun = course.member.run
    finished = run.begin(begun.folder, begun.asked)
    if finished is not None:  # by another process, in the meantime
        return finished
    with only_writer(begun.folder):
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in course.lines)
        write_file(begun.folder / METRICS, text.encode())
        if course.member.trainer.tensorboard:
            board = Board(begun.folder / METRICS)
            board.follow()
            board.close()
        trainer, best = course.member.trainer, course.standing.best
        for name, weights, line in ((BEST, course.weights, best), (LAST, course.last, course.lines[-1])):
            save(begun.folder / name, weights, about_weights(trainer, weights, line, "raw", begun.meta))
        head = begun.head.to("cpu")
        load_into(head, course.weights, str(begun.folder / BEST))
        result = Result(
            epochs=course.epochs,
            steps=course.steps,
            best=best,
            score=course.standing.monitor.score(best),
            last=course.lines[-1],
            stopped_early=course.over == "early",
            resumed=False,
            begun_after=(0, 0),
        )
        return conclude(begun, events, result, sweep=dict(sweep))
