"""Adaptive search over a sweep's ranges by optuna, a batch of points at a time so that heads can still be stacked.

The study lies in the sweep's folder (`study.log`). A search that was broken off goes on with the points that it had
asked for; each further one follows from its number and the scores before it, so they are those of an unbroken search.
Points of one batch do not know of each other's results: the larger the batch, the fewer the rounds that learn.
"""

from typing import TYPE_CHECKING, Any

from frz.config import import_extra
from frz.errors import ConfigError
from frz.progress import note
from frz.sweep.results import Outcome, best_of
from frz.sweep.space import Range, points_of, ranges, rounded

if TYPE_CHECKING:
    from frz.sweep.run import Sweep

STUDY = "study.log"
LOCK = f"{STUDY}.lock"
"""Optuna's: a killed process leaves it."""
SPACE = "over"
"""What the study says of the keys it is over, and of their choices."""
FAILED = "failed"
"""Mark of trials with a head that failed: these count as points, those that were never wholly asked do not."""


def search(sweep: "Sweep") -> None:
    """Ask for points, train them together, tell their scores (mean over seeds), until there are `trials`.

    Raises
    ------
    ConfigError
        If optuna is not installed, a key or value does not fit the head's config, or the study is over other ones.
    """
    optuna: Any = import_extra("optuna", "search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config, spans = sweep.config, ranges(sweep.config, sweep.where)
    (sweep.folder / LOCK).unlink(missing_ok=True)  # nobody else is here (`only_writer`): optuna would wait for 30 s
    journal = import_extra("optuna.storages.journal", "search").JournalFileBackend(str(sweep.folder / STUDY))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(journal),
        study_name=config.name,
        load_if_exists=True,
    )
    space = {key: span.choice for key, span in spans.items()}  # ends of ranges may move, choices go by their number
    if study.user_attrs.get(SPACE, space) != space:
        way_out = "give another name, or the keys and choices that it was begun with"
        raise ConfigError("a search over other keys or choices", where=str(sweep.folder), way_out=way_out)
    study.set_user_attr(SPACE, space)
    told, begun = 0, []
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():  # of a process that was killed
            if trial.params.keys() == spans.keys():
                begun.append(optuna.Trial(study, trial._trial_id))
            else:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        elif trial.value is not None or FAILED in trial.user_attrs:  # heads on disk: their outcomes go to the table
            chosen = {key: _value(span, trial.params[key]) for key, span in spans.items()}
            sweep.train(points_of(config, sweep.base, chosen, sweep.where))
            told += 1
    while told < config.trials:
        size = min(config.batch - told % config.batch, config.trials - told)  # what is left of a batch that was begun
        trials, begun = begun[:size], begun[size:]
        trials += [study.ask() for _ in range(size - len(trials))]
        asked = []
        for number, trial in enumerate(trials, told):
            study.sampler = optuna.samplers.TPESampler(seed=config.draw_seed + number, constant_liar=True)
            asked.append({key: _ask(trial, key, span) for key, span in spans.items()})
        points = [points_of(config, sweep.base, chosen, sweep.where) for chosen in asked]
        distinct = {point.config.name: point for group in points for point in group}
        found = dict(zip(distinct, sweep.train(list(distinct.values())), strict=True))
        for trial, group in zip(trials, points, strict=True):
            score = _score([found[point.config.name] for point in group])
            if score is None:
                trial.set_user_attr(FAILED, True)
            study.tell(trial, score, optuna.trial.TrialState.FAIL if score is None else None)
        told += len(trials)
        best = best_of(list(found.values()))
        note(f"search: {told} of {config.trials} points, best of this batch {best.score if best else None}")


def _ask(trial: Any, key: str, span: Range) -> Any:
    if span.choice is not None:
        return _value(span, trial.suggest_categorical(key, list(range(len(span.choice)))))
    low, high = span.uniform or span.log or (0.0, 0.0)
    return _value(span, trial.suggest_float(key, low, high, log=span.log is not None))


def _value(span: Range, asked: Any) -> Any:
    """The value that a parameter of a trial stands for: choices are asked for by their number."""
    return span.choice[asked] if span.choice is not None else rounded(asked)


def _score(outcomes: list[Outcome]) -> float | None:
    """Mean over the seeds, turned so that smaller is better.

    A head that was dropped counts with its best so far, one that failed fails the point.
    """
    scores = [None if one.status.startswith("failed") else one.loss for one in outcomes]
    return None if None in scores else sum(score for score in scores if score is not None) / len(scores)
