import json

import numpy as np
import pytest
from made_up_tracks import made_up_events, sets_of

from frz.evaluation.hitsets import query_sets, true_tracks
from frz.evaluation.intervals import Mean, Proportion
from frz.evaluation.slots import score_slots


def by_hand(events, missing):
    slots, true = sets_of(query_sets(events)), sets_of(true_tracks(events))
    n_queries = len(slots) // len(events["event/id"])
    valid = events["query/valid_logit"] >= 0
    efficiency, purity, claiming, double, strict, called = [], [], [], 0, 0, 0
    for e in range(len(events["event/id"])):
        first = events["track/offsets"][e]
        for t in range(first, events["track/offsets"][e + 1]):
            places = [q for q in range(e * n_queries, (e + 1) * n_queries) if events["query/match"][q] == t - first]
            if not places:
                efficiency.append(0.0)
                purity.append(0.0)
                continue
            claimed, own = slots[places[0]][1], true[t][1]
            shared = len(claimed & own)
            efficiency.append(shared / len(own) if own else 0.0)
            purity.append(shared / len(claimed) if claimed else 0.0)
            if claimed:
                claiming.append(purity[-1])
            double += efficiency[-1] >= 0.5 and purity[-1] >= 0.5
            strict += efficiency[-1] > 0.5 and purity[-1] > 0.5
            called += bool(valid[places[0]])
    fakes = int((valid & (events["query/match"] < 0)).sum())
    n_true = len(true) + missing
    return (
        Mean.of(np.array(efficiency), missing), Mean.of(np.array(purity), missing), Mean.of(np.array(claiming)),
        Proportion(double, n_true), Proportion(strict, n_true), Proportion(called, n_true),
        Proportion(fakes, int(valid.sum())), Proportion(fakes, len(slots)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("missing", [0, 5])
def test_against_plain_loops(seed, missing):
    # Three queries for up to four tracks: some tracks have no slot.
    events = made_up_events(seed, n_queries=3, pairs=bool(seed % 2))
    scores = score_slots(events, missing=missing)
    expected = by_hand(events, missing)
    found = list(vars(scores).values())[:-1]
    for got, wanted in zip(found, expected, strict=True):
        if isinstance(wanted, Mean):
            assert (got.value, got.error, got.count) == pytest.approx((wanted.value, wanted.error, wanted.count))
        else:
            assert got == wanted


def test_json_of_nothing_is_valid():
    numbers = score_slots(made_up_events(0, n_events=0)).to_json()
    assert json.loads(json.dumps(numbers, allow_nan=False))["validity_auc"] is None
