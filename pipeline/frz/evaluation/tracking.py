"""Tracking quality in inference order: efficiency, fakes, duplicates, and how whole the tracks are.

Particular: every number says what it is a fraction of, and comes in both conventions of the field.
"""

# Axes: P predicted tracks, T true tracks.

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.evaluation.intervals import Mean, Proportion
from frz.evaluation.matching import Matching


@dataclass(frozen=True)
class TrackingScores:
    """Counts and means of a matching; `strict` asks for > 0.5 twice, `inclusive` for >= 0.5 twice."""

    efficiency_strict: Proportion
    """True tracks found: given to a predicted track with a double majority / all true tracks."""
    efficiency_inclusive: Proportion
    perfect_of_true: Proportion
    """True tracks found with exactly their hits / all true tracks."""
    fakes_of_predicted_strict: Proportion
    """Predicted tracks without a double majority / all predicted tracks."""
    fakes_of_predicted_inclusive: Proportion
    duplicates_of_predicted_strict: Proportion
    """Predicted tracks with a double majority whose particle another track was given / all predicted tracks."""
    duplicates_of_predicted_inclusive: Proportion
    hit_efficiency_of_matched: Mean
    """Mean over the true tracks that share hits with the track they are given to: shared / true hits."""
    hit_efficiency_of_true: Mean
    """Mean over all true tracks; 0 where there is no match."""
    hit_purity_of_matched: Mean
    """Mean over matched true tracks: shared / hits of the predicted track."""
    hit_purity_of_true: Mean
    """Mean over all true tracks; 0 where there is no match."""

    def to_json(self) -> dict[str, Any]:
        """Every number with its interval or error and its denominator."""
        return {field.name: getattr(self, field.name).to_json() for field in fields(self)}


def score(matching: Matching, of: NDArray[np.bool_] | None = None, missing: int = 0) -> TrackingScores:
    """Count a matching.

    Parameters
    ----------
    matching : Matching
        From `match`.
    of : bool array (T,), optional
        The true tracks that efficiencies and hit means are about (say, long tracks). Fakes and duplicates
        are always counted against all true tracks: a track that finds another particle is no fake.
    missing : int
        True tracks that the matching does not hold and the model never had a chance of: those of skipped
        events, or lost in a cut. They count as not found.
    """
    chosen = np.ones(len(matching.track), bool) if of is None else of
    track = matching.track[chosen]
    held = np.flatnonzero(track >= 0)
    shared = matching.shared[track[held]]
    efficiency = shared / matching.n_true_hits[chosen][held]
    purity = shared / matching.n_predicted_hits[track[held]]
    without = missing + len(track) - len(held)
    strict, inclusive = matching.double_majority(True), matching.double_majority(False)
    return TrackingScores(
        efficiency_strict=Proportion.of(found(matching, strict)[chosen], missing),
        efficiency_inclusive=Proportion.of(found(matching, inclusive)[chosen], missing),
        perfect_of_true=Proportion.of(found(matching, matching.perfect)[chosen], missing),
        fakes_of_predicted_strict=Proportion.of(~strict),
        fakes_of_predicted_inclusive=Proportion.of(~inclusive),
        duplicates_of_predicted_strict=Proportion.of(strict & ~matching.given),
        duplicates_of_predicted_inclusive=Proportion.of(inclusive & ~matching.given),
        hit_efficiency_of_matched=Mean.of(efficiency),
        hit_efficiency_of_true=Mean.of(efficiency, without),
        hit_purity_of_matched=Mean.of(purity),
        hit_purity_of_true=Mean.of(purity, without),
    )


def found(matching: Matching, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True tracks (T,) that are given to a predicted track for which `good` (P,) holds."""
    return np.append(good, False)[matching.track]
