"""Every head config for simulated muons trains, predicts and is measured, on random features with its names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_events import feature_events, feature_schema

from frz.config import import_class, parse, read_yaml
from frz.heads.contract import HEADS, Head
from frz.heads.run import HeadConfig
from frz.loading.batch import to_batch
from frz.store.schema import Schema
from frz.training.optimisers import build_optimiser

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "muon").glob("head-*.yaml"))
COLUMNS = ("r", "globEdgeLowZ", "phi", "eta", "s")


def muon_schema() -> Schema:
    schema = feature_schema()
    scaled = schema.arrays["hit/scaled"].model_copy(update={"columns": COLUMNS})
    return Schema(axes=schema.axes, arrays=schema.arrays | {"hit/scaled": scaled})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_trains(path):
    config = parse(HeadConfig, read_yaml(path), str(path))
    cls = import_class(config.head, HEADS, "head")
    model = {key: value for key, value in config.model.items() if key != "dim"}  # these embeddings are narrower
    torch.manual_seed(0)
    head: Head = cls(parse(cls.Config, model, str(path)), muon_schema())
    prepared = head.prepare(feature_events(0, hits=(9,) * 40, tracks=(2,) * 40))
    head.fit([prepared])
    batch = to_batch(prepared, head.prepared)
    optimiser = build_optimiser(config.trainer, head)
    losses = []
    for _ in range(30):
        loss, _ = head.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    found = {name: values.numpy() for name, values in head.eval().predict(batch).items()}
    metrics = head.metrics(found, prepared)
    assert metrics["slots"] == 80
    assert all(np.isfinite(value) for value in metrics.values())


def test_every_head_has_a_config():
    assert {read_yaml(path)["head"] for path in CONFIGS} == set(HEADS)
