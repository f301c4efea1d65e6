"""Tracking quality in truth order, slot by slot, as the muon papers quote it.

Particular: each true track is judged by the slot that the training's matching gave it. That looks better than
what a user gets, who has no truth to order the slots by; `tracking` gives those numbers.
"""

# Axes: E events, Q queries per event, T true tracks.

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from frz.evaluation.hitsets import Arrays, logit, query_sets, true_tracks
from frz.evaluation.intervals import Mean, Proportion
from frz.heads.scores import Ranking, auc


@dataclass(frozen=True)
class SlotScores:
    """Counts and means over true tracks and slots."""

    hit_efficiency_of_true: Mean
    """Mean over all true tracks: shared / true hits, whether or not the slot calls itself valid."""
    hit_purity_of_true: Mean
    """Mean over all true tracks: shared / claimed hits; 0 where the slot claims none."""
    hit_purity_of_claiming: Mean
    """The same over the true tracks whose slot claims a hit."""
    double_match_of_true: Proportion
    """True tracks with shared >= half of the claimed and of the true hits / all true tracks."""
    double_match_strict_of_true: Proportion
    """The same with > half."""
    validity_efficiency: Proportion
    """True tracks whose slot calls itself valid / all true tracks."""
    validity_fakes_of_valid_slots: Proportion
    """Slots without a true track that call themselves valid / all slots that do."""
    validity_fakes_of_slots: Proportion
    """The same / all slots."""
    validity_auc: float
    """Probability that a slot with a true track has a higher validity than one without; NaN if one kind lacks."""

    def to_json(self) -> dict[str, Any]:
        """Every number with its interval or error and its denominator."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self)}
        area = numbers.pop("validity_auc")
        values = {name: number.to_json() for name, number in numbers.items()}
        return values | {"validity_auc": None if np.isnan(area) else area}


def score_slots(events: Arrays, threshold: float = 0.5, valid_threshold: float = 0.5, missing: int = 0) -> SlotScores:
    """Judge each true track by its slot.

    Parameters
    ----------
    events : mapping
        What `query_sets` and `true_tracks` read, and `query/match` (E Q,): the true track of each slot
        (position within the event) or -1. A true track without a slot counts as missed.
    threshold, valid_threshold : float
        Assignment and validity probabilities from which a hit is claimed and a slot is valid.
    missing : int
        True tracks of skipped events; they count as missed.
    """
    true, slots = true_tracks(events), query_sets(events, threshold)
    n_queries = len(slots) // max(len(events["event/id"]), 1)
    matched = events["query/match"] >= 0
    begin = np.repeat(events["track/offsets"][:-1], n_queries)
    slot = np.full(len(true), -1)
    slot[(begin + events["query/match"])[matched]] = np.flatnonzero(matched)
    claimed = slots.select(slot[slot >= 0])
    own = true.select(slot >= 0)
    stride = 1 + max((int(s.hits.max()) for s in (claimed, own) if len(s.hits)), default=0)
    hit_of_own = np.isin(claimed.set_of_hit * stride + claimed.hits, own.set_of_hit * stride + own.hits)
    shared = np.bincount(claimed.set_of_hit[hit_of_own], minlength=len(own))
    efficiency = shared / np.maximum(own.n_hits, 1)
    purity = shared / np.maximum(claimed.n_hits, 1)
    without = missing + len(true) - len(own)
    valid = slots.quality >= logit(valid_threshold)
    fakes = int(np.count_nonzero(valid & ~matched))
    return SlotScores(
        hit_efficiency_of_true=Mean.of(efficiency, without),
        hit_purity_of_true=Mean.of(purity, without),
        hit_purity_of_claiming=Mean.of(purity[claimed.n_hits > 0]),
        double_match_of_true=Proportion.of((efficiency >= 0.5) & (purity >= 0.5), without),
        double_match_strict_of_true=Proportion.of((efficiency > 0.5) & (purity > 0.5), without),
        validity_efficiency=Proportion.of(valid[slot[slot >= 0]], without),
        validity_fakes_of_valid_slots=Proportion(fakes, int(np.count_nonzero(valid))),
        validity_fakes_of_slots=Proportion(fakes, len(slots)),
        validity_auc=float(auc(Ranking(slots.quality, matched).counts())[0]),
    )
