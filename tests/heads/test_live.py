"""A head's prefix with gradients is its prefix: the same numbers, and a gradient for every feature that it reads."""

import pytest
import torch
from feature_events import as_pairs, feature_schema
from test_head_contract import CASES as HEADS
from test_head_contract import Case, wanted

from frz.config import import_class
from frz.errors import ConfigError
from frz.heads.pairs import SPARSE, assignment_arrays
from frz.loading.batch import to_batch

OWN = "user_head:MeanHitHead"
POOLED = {"inputs": ["query/embedding", "hit/embedding"], "pooling": ["mean", "sum", "max", "min", "softmax"]}


class Sparse(Case):
    """The same, with assignments as pairs."""

    def schema(self, truth=True):
        return feature_schema(sparse=True, truth=truth)

    def events(self, *args, **options):
        return as_pairs(super().events(*args, **options))


class Pooled(Case):
    """Slots pooled in every way."""

    def head(self, truth=True):
        cls = import_class("frz.heads.pooled:PooledHead", {}, "head")
        torch.manual_seed(0)
        return cls(cls.Config.model_validate(POOLED), self.schema(truth)).eval()


CASES = {name: case for name, case in HEADS.items() if name != OWN}
CASES |= {f"{name}, as pairs": Sparse(*case) for name, case in CASES.items() if case.model is None}
CASES |= {"pooled in every way": Pooled("pooled")}


@pytest.fixture(params=CASES)
def fitted(request):
    case = CASES[request.param]
    head = case.head()
    events = {name: values for name, values in case.events().items() if wanted(name, head)}
    head.fit([head.prepare(events)])
    return head, events


def with_gradient(head, events):
    floats = [name for name in head.needs if events[name].dtype.kind == "f"]
    made = {name: torch.from_numpy(events[name]) for name in floats}
    return {name: v.requires_grad_(head.schema.arrays[name].role == "feature") for name, v in made.items()}


def test_it_is_the_prefix(fitted):
    head, events = fitted
    stored = to_batch(head.prepare(events), head.prepared)
    live = head.live(events, with_gradient(head, events))
    assert set(live) == set(stored)
    for name, values in stored.items():
        found = live[name].detach().to(values.dtype)
        torch.testing.assert_close(found, values, rtol=1e-5, atol=1e-6, msg=name, equal_nan=True)


def test_gradients_are_those_of_small_steps(fitted):
    head, events = fitted
    features = with_gradient(head, events)
    head.loss(head.live(events, features))[0].backward()
    reached = {name for name, values in features.items() if values.grad is not None and values.grad.abs().sum() > 0}
    inputs = {name for name in head.reads if name in features}
    assert reached == inputs | ({assignment_arrays(head.schema)[-1]} if head.uses_pairs else set())

    def loss(changed):  # which hits belong to a slot stays as it is
        return head.loss(head.live(events, changed))[0].item()

    for name in sorted(reached):
        detached = {key: values.detach() for key, values in features.items()}
        gradient, size = features[name].grad, 1e-3 * max(1.0, float(detached[name].std()))
        step = size * torch.sign(gradient)  # along this a loss that is nearly linear grows by |g|_1 each
        change = loss(detached | {name: detached[name] + step}) - loss(detached | {name: detached[name] - step})
        assert change == pytest.approx(2 * size * float(gradient.abs().sum()), rel=0.1), name


def test_pairs_and_dense_logits_are_both_met():
    assert {assignment_arrays(CASES[name].schema()) for name in ("regression", "regression, as pairs")} == {
        ("hit/assignment_logit",),
        SPARSE,
    }


def test_a_head_without_it_says_so_in_one_line():
    case = HEADS[OWN]
    with pytest.raises(ConfigError, match="no gradient can pass what MeanHitHead prepares.*give it a method `live`"):
        case.head().live(case.events(), {})
