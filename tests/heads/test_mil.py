import math
from typing import Any

import numpy as np
import pytest
import torch
from stay_events import D, stay_events, stay_schema
from torch import Tensor
from torch.distributions import Normal

from frz.config import parse
from frz.errors import ConfigError
from frz.heads.mil import GaussianMil, GaussianMilConfig, log_one_minus_exp
from frz.loading.batch import to_batch


def build(**config: Any) -> GaussianMil:
    torch.manual_seed(0)
    head = GaussianMil(parse(GaussianMilConfig, config, "test"), stay_schema()).eval()
    with torch.no_grad():
        head.log_width.normal_(0, 0.3)
        head.prototype.normal_(0, 0.5)
        head.balance.fill_(0.7)
    return head


def fitted(head: GaussianMil, **options: Any) -> dict[str, Tensor]:
    prepared = head.prepare(stay_events(**options))
    head.fit([prepared])
    return to_batch(prepared, head.prepared)


def evidence_of(head: GaussianMil, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Expected log-likelihood ratio of one set, from torch's densities: E_q ln N = ln N(mu) - sigma^2 / (2 tau^2)."""
    found = []
    for centre, log_width in zip(head.prototype, head.log_width, strict=True):
        density = Normal(centre, (log_width / 2).exp())
        found.append((density.log_prob(mean) - log_variance.exp() / (2 * density.variance)).sum())
    return found[1] - found[0]


def by_hand(head: GaussianMil, batch: dict[str, Tensor], event: int) -> float:
    """Evidence of one event, set by set."""
    prior = math.log(float(head.targets.share[1] / head.targets.share[0]))
    begin, end = batch["member/offsets"][event : event + 2].tolist()
    weighted, gates, none = 0.0, 0.0, 1.0
    for t in range(begin, end):
        mean, log_variance, minute = (batch[f"member/{name}"][t] for name in ("mu", "logvar", "minute"))
        s = evidence_of(head, mean, log_variance) + prior
        row = torch.cat((mean, log_variance, minute[None]))
        a = torch.sigmoid(head.gate(torch.cat((head.standard(row[None])[0], s[None]))[None]))[0, 0]
        weighted, gates = weighted + float(a * s), gates + float(a)
        none *= 1 - float(a * torch.sigmoid(s))
    alpha = 1 / (1 + math.exp(-float(head.balance)))
    return alpha * weighted / gates + (1 - alpha) * math.log((1 - none) / none) if end > begin else prior


@torch.no_grad()
def test_evidence_is_the_expectation_of_the_log_likelihood_ratio():
    """Closed form against samples of q."""
    head = build()
    generator = torch.Generator().manual_seed(1)
    mean, log_variance = torch.randn(D, generator=generator), torch.full((D,), -1.0)
    found = float(head.evidence(mean[None], log_variance[None]))
    assert found == pytest.approx(float(evidence_of(head, mean, log_variance)), rel=1e-5)
    z = mean + (log_variance / 2).exp() * torch.randn(200_000, D, generator=generator)
    densities = [
        Normal(m, (w / 2).exp()).log_prob(z).sum(1) for m, w in zip(head.prototype, head.log_width, strict=True)
    ]
    assert found == pytest.approx(float((densities[1] - densities[0]).mean()), abs=0.03)


def test_logits_of_each_event_by_hand():
    head = build()
    batch = fitted(head)
    with torch.no_grad():
        found = head(batch)
        expected = [by_hand(head, batch, event) for event in range(6)]
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 0], -found[:, 1])


def test_a_stay_without_sets_has_the_odds_of_the_training_split():
    head = build()
    batch = fitted(head, sets=(0, 4, 0, 3, 0, 0))
    shares = head.targets.share
    torch.testing.assert_close(head(batch)[0, 1], (shares[1] / shares[0]).log())


def test_descriptors_add_log_odds():
    head = build(descriptors=["event/static"])
    batch = fitted(head)
    plain = build()
    fitted(plain)
    plain.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith(("odds", "descriptors"))})
    more = head.odds(head.descriptors(batch["event/descriptors"])).squeeze(1)
    torch.testing.assert_close(head(batch)[:, 1], plain(batch)[:, 1] + more)


@pytest.mark.parametrize("shift", [-300.0, -40.0, 40.0, 300.0])
def test_extreme_evidence_has_finite_gradients(shift):
    head = build()
    batch = fitted(head)
    with torch.no_grad():
        head.gate[-1].bias.fill_(shift)
        head.prototype[1] += shift / 10
    loss, _ = head.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_log_one_minus_exp_keeps_its_digits():
    x = torch.tensor([-1e-6, -1e-3, -0.6, -0.7, -5.0, -30.0])
    exact = torch.log1p(-x.double().exp())
    torch.testing.assert_close(log_one_minus_exp(x).double(), exact, rtol=1e-5, atol=0)
    assert torch.isfinite(log_one_minus_exp(torch.tensor([0.0, -1e4]))).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"inputs": ["set/mu", "set/minute"]}, r"inputs: set/mu has 8 columns, set/minute 1; name means and ln"),
        ({"inputs": ["set/mu"]}, r"inputs"),
        ({"own": "event/pooled_fast"}, r"goes to descriptors"),
        ({"classes": 3}, r"classes"),
    ],
)
def test_bad_configs_are_named(config, message):
    with pytest.raises(ConfigError, match=message):
        build(**config)
