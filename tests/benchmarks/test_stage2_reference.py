"""The padded reference that `stage2` measures against is the same model: features, matching and losses agree."""

import importlib

import numpy as np
import pytest
import torch

from frz.backbones.hit_track.model import HitTrack
from frz.data.muon_sim.source import MuonSim
from frz.extract import engine
from frz.extract.settings import Settings, feature_schema, group_of
from frz.heads.regression import RegressionHead
from frz.heads.settings import RegressionConfig
from frz.loading.batch import to_batch
from frz.store.ragged import concat
from frz.store.table import EventTable

N_EVENTS = 24


@pytest.fixture
def seed_way(project, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    return importlib.import_module("benchmarks.reference.seed_way").SeedWay


@pytest.fixture
def example():
    """Data, an untrained backbone, and a fitted head on its features."""
    source = MuonSim(MuonSim.Config(n_events=N_EVENTS, seed=3))
    arrays = concat([batch for unit in source.units() for batch in source.read(unit)])
    data = EventTable(source.schema, arrays)
    position = ("globEdgeLowX", "globEdgeLowY", "globEdgeLowZ")
    fields = (*position, "driftR", "layer", "r", "phi", "eta")
    torch.manual_seed(0)
    config = HitTrack.Config(fields=fields, position=position, pos_fields=("r", "phi"), dim=16, heads=2)
    backbone = HitTrack(config, source.schema)
    backbone.fit([arrays])
    backbone.eval()
    settings = Settings(embedding_dtype="float32")
    out = feature_schema(backbone, source.schema, settings)
    cpu = torch.device("cpu")
    features = engine.features_of(backbone, data, range(N_EVENTS), out, settings, cpu)
    features |= engine.annotate(backbone, data, range(N_EVENTS), features, out, settings, cpu)
    features |= data.range(0, N_EVENTS, group_of(out, "carried").arrays)
    head = RegressionHead(RegressionConfig(inverse_fields=("pt",), bce_fields=("q",)), out).eval()
    prepared = head.prepare(features)
    head.fit([prepared])
    return data, backbone, head, prepared


def test_features_and_losses_agree(example, seed_way):
    data, backbone, head, prepared = example
    seed = seed_way(backbone, head, data, 1e-3)
    seed.model.eval()
    positions = np.arange(N_EVENTS)
    with torch.no_grad():
        ours = backbone(to_batch(data.arrays, data.schema))
        theirs = seed.features(positions)
        loss, _ = head.loss(to_batch(prepared, head.prepared))
        padded = seed.loss(seed.block(positions), joint=False)
    for name, values in theirs.items():
        torch.testing.assert_close(values, ours[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded, loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("joint", [False, True])
def test_a_step_moves_what_it_should(example, seed_way, joint):
    data, backbone, head, _ = example
    seed = seed_way(backbone, head, data, 1e-3)
    before = {name: value.clone() for name, value in seed.model.state_dict().items()}
    seed.step(np.arange(8), joint=joint)
    moved = {name.partition(".")[0] for name, value in seed.model.state_dict().items() if not value.equal(before[name])}
    assert moved == ({"0", "1"} if joint else {"1"})


def test_an_unknown_benchmark_is_refused(fresh_python, project):
    done = fresh_python("-m", "benchmarks", "stage3", cwd=project)
    assert done.returncode == 2
    assert "stage2" in done.stderr
