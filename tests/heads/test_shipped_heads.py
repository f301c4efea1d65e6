"""Every shipped head config trains, predicts and is measured, on random features with its names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_events import feature_events, feature_schema
from stay_events import stay_events, stay_schema

from frz.config import import_class, parse, read_yaml
from frz.heads.contract import HEADS, Head
from frz.heads.run import HeadConfig
from frz.loading.batch import to_batch
from frz.store.ragged import take
from frz.store.schema import EventArrays, Schema
from frz.training.optimisers import build_optimiser

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MUON, ICU = (sorted((CONFIGS / name).glob("head-*.yaml")) for name in ("muon", "icu"))
COLUMNS = ("r", "globEdgeLowZ", "phi", "eta", "s")


def muon_schema() -> Schema:
    schema = feature_schema()
    scaled = schema.arrays["hit/scaled"].model_copy(update={"columns": COLUMNS})
    return Schema(axes=schema.axes, arrays=schema.arrays | {"hit/scaled": scaled})


def example(path: Path) -> tuple[Schema, EventArrays]:
    """Features of 80 slots or stays, without and with one set among the latter."""
    if path in MUON:
        return muon_schema(), feature_events(0, hits=(9,) * 40, tracks=(2,) * 40)
    return stay_schema(), stay_events(0, sets=(0, 1, *(9,) * 78))


@pytest.mark.parametrize("path", [*MUON, *ICU], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_trains(path):
    config = parse(HeadConfig, read_yaml(path), str(path))
    cls = import_class(config.head, HEADS, "head")
    model = {key: value for key, value in config.model.items() if key != "dim"}  # these embeddings are narrower
    schema, events = example(path)
    torch.manual_seed(0)
    head: Head = cls(parse(cls.Config, model, str(path)), schema)
    prepared = head.prepare(events)
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
    assert metrics["slots" if path in MUON else "events"] == (80 if path in MUON else 64)
    assert all(np.isfinite(value) for value in metrics.values())
    if path in ICU:
        assert "label/auc" in metrics  # what they monitor
        assert ((found["event/label_probability"] > 0) & (found["event/label_probability"] < 1)).all()


@pytest.mark.parametrize("path", ICU, ids=lambda path: path.stem)
def test_a_last_batch_of_one_stay_trains(path):
    config = read_yaml(path)
    cls = import_class(config["head"], HEADS, "head")
    head = cls(parse(cls.Config, config["model"], str(path)), stay_schema())
    prepared = head.prepare(stay_events())
    head.fit([prepared])
    for stay in (0, 1):  # with sets, without
        one = take(prepared, head.prepared, np.array([stay]))
        loss, _ = head.train().loss(to_batch(one, head.prepared))
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_parameters_of_the_published_heads():
    """Where states are 256 wide, without what is known of the stay itself."""
    counts = {}
    for name in ("head-fast", "head-old"):
        config = read_yaml(CONFIGS / "icu" / f"{name}.yaml")
        cls = import_class(config["head"], HEADS, "head")
        head = cls(parse(cls.Config, {**config["model"], "descriptors": []}, name), stay_schema(width=256))
        counts[name] = sum(parameter.numel() for parameter in head.parameters())
    assert counts == {"head-fast": 33_410, "head-old": 460_544 + 107_970}


def test_every_head_has_a_config():
    assert {read_yaml(path)["head"] for path in [*MUON, *ICU]} == set(HEADS)
