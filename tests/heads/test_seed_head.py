"""The head on flat pairs equals the padded reference of the benchmarks, loss curve and all."""

import importlib

import numpy as np
import pytest
import torch
from feature_events import N_FIELD, N_QUERY, D, feature_events, feature_schema

from frz.heads.regression import RegressionHead
from frz.heads.settings import RegressionConfig
from frz.loading.batch import to_batch


@pytest.fixture
def seed_head(project, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    return importlib.import_module("benchmarks.reference.seed_head").SeedHead


def padded(events):
    """query (B, N, D), raw (B, M, F), hit (B, M, D), logit (B, N, M), keep (B, M)."""
    lengths = np.diff(events["hit/offsets"])
    keep = torch.arange(int(lengths.max())) < torch.from_numpy(lengths)[:, None]

    def pad(name):
        values = torch.from_numpy(events[name])
        block = values.new_zeros(*keep.shape, *values.shape[1:])
        block[keep] = values
        return block

    query = torch.from_numpy(events["query/embedding"]).view(-1, N_QUERY, D)
    return query, pad("hit/scaled"), pad("hit/embedding"), pad("hit/assignment_logit").transpose(1, 2), keep


def test_training_curves_agree(seed_head):
    events = feature_events(0, hits=(7, 0, 1, 12, 5, 9), tracks=(3, 3, 3, 3, 3, 3))
    torch.manual_seed(0)
    head = RegressionHead(RegressionConfig(dropout=0.0), feature_schema())
    prepared = head.prepare(events)
    head.fit([prepared])
    other = seed_head(D, N_FIELD, 9 * D // 2, dropout=0.0)
    other.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("targets.")})
    batch, block = to_batch(prepared, head.prepared), padded(events)
    curves = []
    for model in (head, other):
        optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
        curve = []
        for _ in range(10):
            optimiser.zero_grad()
            raw = model(batch) if model is head else model(*block).flatten(0, 1)
            loss = head.targets.losses(raw, batch["slot/goal"], batch["slot/counts"]).mean()
            loss.backward()
            optimiser.step()
            curve.append(loss.item())
        curves.append(curve)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    assert curves[0][-1] < curves[0][0]
