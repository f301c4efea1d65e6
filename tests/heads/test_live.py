"""A head's prefix with gradients is its prefix: the same numbers, and a gradient for every feature that it reads."""

import pytest
import torch
from feature_events import as_pairs, feature_events, feature_schema
from test_head_contract import wanted

from frz.config import import_class
from frz.errors import ConfigError
from frz.heads.contract import HEADS
from frz.heads.pairs import SPARSE
from frz.loading.batch import to_batch

FLOATS = ("query/embedding", "hit/embedding", "hit/scaled", "hit/assignment_logit", "pair/logit")
ALL_POOLED = {"inputs": ["query/embedding", "hit/embedding"], "pooling": ["mean", "sum", "max", "min", "softmax"]}
CASES = {name: (name, {}) for name in HEADS} | {
    "pooled in every way": ("pooled", ALL_POOLED),
}


def head_and_events(case, sparse):
    spec, model = CASES[case]
    cls = import_class(spec, HEADS, "head")
    torch.manual_seed(0)
    head = cls(cls.Config.model_validate(model), feature_schema(sparse=sparse)).eval()
    events = as_pairs(feature_events()) if sparse else feature_events()
    events = {name: values for name, values in events.items() if wanted(name, head)}
    head.fit([head.prepare(events)])
    return head, events


def with_gradient(events):
    return {name: torch.from_numpy(events[name]).requires_grad_() for name in FLOATS if name in events}


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "as pairs"])
@pytest.mark.parametrize("case", sorted(set(CASES)))
def test_it_is_the_prefix(case, sparse):
    head, events = head_and_events(case, sparse)
    stored = to_batch(head.prepare(events), head.prepared)
    live = head.live(events, with_gradient(events))
    assert set(live) == set(stored)
    for name, values in stored.items():
        torch.testing.assert_close(live[name].detach().to(values.dtype), values, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "as pairs"])
@pytest.mark.parametrize("case", sorted(set(CASES)))
def test_gradients_are_those_of_small_steps(case, sparse):
    head, events = head_and_events(case, sparse)
    features = with_gradient(events)
    head.loss(head.live(events, features))[0].backward()
    reached = {name for name, values in features.items() if values.grad is not None and values.grad.abs().sum() > 0}
    inputs = {name for name in head.reads if name in FLOATS}
    assert reached == inputs | ({SPARSE[1] if sparse else "hit/assignment_logit"} if head.uses_pairs else set())

    def loss(changed):  # which hits belong to a slot stays as it is
        return head.loss(head.live(events, changed))[0].item()

    for name in sorted(reached):
        step = torch.sign(features[name].grad) * 1e-3  # along this a loss that is nearly linear grows by |g|_1 each
        detached = {key: values.detach() for key, values in features.items()}
        change = loss(detached | {name: detached[name] + step}) - loss(detached | {name: detached[name] - step})
        assert change == pytest.approx(2e-3 * float(features[name].grad.abs().sum()), rel=0.1), name


def test_a_head_without_it_says_so_in_one_line():
    cls = import_class("user_head:MeanHitHead", HEADS, "head")
    head = cls(cls.Config(), feature_schema())
    with pytest.raises(ConfigError, match="no gradient can pass what MeanHitHead prepares.*give it a method `live`"):
        head.live(feature_events(), {})
