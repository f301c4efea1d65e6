import json

import numpy as np
import pytest
from made_up_tracks import made_up_events, sets_of
from test_matching import hit_sets

from frz.evaluation.hitsets import predicted_tracks, true_tracks
from frz.evaluation.intervals import Proportion
from frz.evaluation.matching import match
from frz.evaluation.tracking import found, score

# Six particles: found whole, found in part, missed, found twice, half found, seen in a fragment.
TRUE = hit_sets({0, 1, 2}, {3, 4, 5, 6}, {7, 8, 9}, {10, 11, 12}, {13, 14, 15, 16}, set(range(20, 30)))
PREDICTED = hit_sets(
    {0, 1, 2}, {3, 4, 5, 40}, {10, 11, 12}, {10, 11, 12, 41}, {13, 14, 42, 43}, {20, 21, 22}, {44, 45, 46}
)


def test_hand_made_case():
    scores = score(match(PREDICTED, TRUE))
    assert scores.efficiency_strict == Proportion(3, 6)
    assert scores.efficiency_inclusive == Proportion(4, 6)
    assert scores.perfect_of_true == Proportion(2, 6)
    assert scores.fakes_of_predicted_strict == Proportion(3, 7)  # half, fragment, nothing
    assert scores.fakes_of_predicted_inclusive == Proportion(2, 7)
    assert scores.duplicates_of_predicted_strict == Proportion(1, 7)
    assert scores.duplicates_of_predicted_inclusive == Proportion(1, 7)
    efficiency = [1, 3 / 4, 1, 2 / 4, 3 / 10]
    purity = [1, 3 / 4, 1, 2 / 4, 1]
    assert scores.hit_efficiency_of_matched.value == pytest.approx(np.mean(efficiency))
    assert scores.hit_efficiency_of_matched.count == 5
    assert scores.hit_efficiency_of_true.value == pytest.approx(sum(efficiency) / 6)
    assert scores.hit_purity_of_matched.value == pytest.approx(np.mean(purity))
    assert scores.hit_purity_of_true.value == pytest.approx(sum(purity) / 6)
    assert scores.hit_purity_of_true.error == pytest.approx(np.std([*purity, 0], ddof=1) / np.sqrt(6))


def test_missing_particles_stay_in_the_denominator():
    scores = score(match(PREDICTED, TRUE), missing=4)
    assert scores.efficiency_strict == Proportion(3, 10)
    assert scores.efficiency_inclusive == Proportion(4, 10)
    assert scores.perfect_of_true == Proportion(2, 10)
    assert scores.hit_efficiency_of_true.count == scores.hit_purity_of_true.count == 10
    assert scores.hit_efficiency_of_matched.count == 5
    assert scores.fakes_of_predicted_strict.total == 7


def test_a_track_that_finds_a_particle_of_another_category_is_no_fake():
    of = np.array([False, True, True, False, False, False])
    scores = score(match(PREDICTED, TRUE), of)
    assert scores.efficiency_strict == Proportion(1, 2)
    assert scores.hit_efficiency_of_matched.value == 0.75
    assert scores.fakes_of_predicted_strict == Proportion(3, 7)


def test_perfect_tracks_score_one():
    truth = true_tracks(made_up_events(0))
    truth = truth.select(truth.n_hits > 0)
    scores = score(match(truth, truth))
    # Particles with the same hits as another one cannot be told apart.
    different = len({(event, frozenset(hits)) for event, hits in sets_of(truth)})
    assert scores.efficiency_strict == scores.perfect_of_true == Proportion(different, len(truth))
    assert scores.fakes_of_predicted_inclusive.successes == 0
    assert scores.duplicates_of_predicted_strict.successes == len(truth) - different


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("strict", [True, False])
def test_found_fake_and_duplicate_add_up(seed, strict):
    events = made_up_events(seed)
    matching = match(predicted_tracks(events, min_hits=1), true_tracks(events))
    scores, name = score(matching), "strict" if strict else "inclusive"
    numbers = [getattr(scores, f"{kind}_{name}") for kind in ("fakes_of_predicted", "duplicates_of_predicted")]
    efficiency = getattr(scores, f"efficiency_{name}")
    assert efficiency.successes + sum(n.successes for n in numbers) == len(matching.particle)
    assert found(matching, matching.double_majority(strict)).sum() == efficiency.successes


def test_json_of_nothing_is_valid():
    text = json.dumps(score(match(hit_sets(), hit_sets())).to_json(), allow_nan=False)
    assert json.loads(text)["efficiency_strict"] == {"successes": 0, "total": 0, "value": None, "low": 0, "high": 1}
