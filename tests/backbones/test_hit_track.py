"""`hit_track` as a whole: losses from outputs by plain loops, pairs, matching, overflow, errors."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from muon_events import SCHEMA, batch_of, make_events

from frz.backbones.hit_track.model import HitTrack
from frz.backbones.hit_track.pairs import from_pairs, to_pairs
from frz.backbones.hit_track.settings import DENSE_LIMIT, HitTrackConfig
from frz.backbones.layers import logit_of
from frz.config import parse, read_yaml
from frz.errors import ConfigError
from frz.store.schema import Array, EventArrays, Schema

XYZ = ["globEdgeLowX", "globEdgeLowY", "globEdgeLowZ"]
SMALL = {"fields": ["driftR", "r", "phi"], "position": XYZ, "pos_fields": ["theta", "phi"], "dim": 16}
LENGTHS = [12, 40, 0, 7, 90, 33]


def build(seed: int = 0, schema: Schema = SCHEMA, **config) -> HitTrack:
    torch.manual_seed(seed)
    model = HitTrack(HitTrackConfig.model_validate({**SMALL, **config}), schema)
    model.fit([make_events(LENGTHS, seed=5)])
    return model.eval()


def true_masks(events: EventArrays, event: int) -> torch.Tensor:
    """(P, M) of one event."""
    n_hit = int(np.diff(events["hit/offsets"])[event])
    masks = []
    for track in range(*events["track/offsets"][event : event + 2]):
        masks.append(torch.zeros(n_hit))
        masks[-1][events["member/hit"][slice(*events["member/offsets"][track : track + 2])]] = 1
    return torch.stack(masks) if masks else torch.zeros(0, n_hit)


def best_match(valid: torch.Tensor, mask: torch.Tensor, truth: torch.Tensor) -> tuple[int, ...]:
    """Query of each track, by trying everything, with the default costs."""

    def cost(queries):
        return sum(
            float(-10 * valid[q].sigmoid() + F.binary_cross_entropy_with_logits(mask[:, q], t, reduction="sum"))
            for q, t in zip(queries, truth, strict=True)
        )

    return min(permutations(range(len(valid)), len(truth)), key=cost)


@pytest.mark.parametrize("n_query", [2, 5])
def test_loss_and_match_are_those_of_the_final_outputs(n_query):
    model = build(num_queries=n_query, intermediate_losses=False, null_weight=0.3, loss={"track_valid": {"bce": 2.0}})
    events = make_events(LENGTHS)
    batch = batch_of(events)
    with torch.no_grad():
        features = model(batch)
    bce_valid, bce, dice, matches = [], [], [], []
    for event in range(len(LENGTHS)):
        valid = features["query/valid_logit"].view(-1, n_query)[event]
        mask = features["hit/assignment_logit"][slice(*events["hit/offsets"][event : event + 2])]
        truth = true_masks(events, event)
        queries = best_match(valid, mask, truth)
        match = [queries.index(q) if q in queries else -1 for q in range(n_query)]
        matches += match
        for q, track in enumerate(match):
            target = torch.tensor(float(track >= 0))
            term = F.binary_cross_entropy_with_logits(valid[q], target)
            bce_valid.append(float(term) * (1.0 if track >= 0 else 0.3))
        for q, t in zip(queries, truth, strict=True):
            p = mask[:, q].sigmoid()
            bce.append(float(F.binary_cross_entropy_with_logits(mask[:, q], t)))
            dice.append(float(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)))
    total, parts = model.loss(batch)
    expected = {
        "track_valid/bce": 2 * np.mean(bce_valid),
        "track_hit_valid/bce": np.mean(bce),
        "track_hit_valid/dice": np.mean(dice),
    }
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-4)
    assert total.item() == pytest.approx(sum(expected.values()), rel=1e-4)
    assert model.annotate(batch, features)["query/match"].tolist() == matches


def test_every_look_adds_its_mask_losses():
    model = build(decoder_layers=2)
    total, parts = model.loss(batch_of(make_events(LENGTHS)))
    masks = [f"track_hit_valid/{loss}{look}" for look in ("", "/layer0", "/layer1") for loss in ("bce", "dice")]
    assert set(parts) == {"track_valid/bce", *masks}
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-5)


def test_parameters_carry_the_names_of_their_tasks():
    names = [name for name, _ in build().named_parameters() if name.startswith("tasks.")]
    assert {name.split(".")[1] for name in names} == {"track_valid", "track_hit_valid"}


def test_events_without_tracks_train_validity_alone():
    model = build()
    total, parts = model.loss(batch_of(make_events([4, 6], n_tracks=[0, 0])))
    assert parts["track_hit_valid/bce"] == 0
    assert parts["track_valid/bce"] > 0
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_pairs_are_the_dense_logits_above_the_floor():
    logit = 5 * torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    pairs = to_pairs(logit, 0.01)
    expected = [
        [(q, logit[h, q].item()) for q in range(20) if torch.sigmoid(logit[h, q].double()) >= 0.01] for h in range(50)
    ]
    offsets = pairs["pair/offsets"].tolist()
    found = list(zip(pairs["pair/query"].tolist(), pairs["pair/logit"].tolist(), strict=True))
    assert [found[a:b] for a, b in zip(offsets, offsets[1:], strict=False)] == expected
    floored = torch.where(logit >= logit_of(0.01), logit, torch.tensor(logit_of(0.01)))
    assert torch.equal(from_pairs(pairs, 20, 0.01), floored)


def test_a_model_with_many_queries_gives_pairs_and_matches_from_them():
    model = build(num_queries=DENSE_LIMIT + 1)
    events = make_events(LENGTHS, n_tracks=[2, 5, 0, 1, 9, 3])
    batch = batch_of(events)
    with torch.inference_mode():
        features = model(batch)
        match = model.annotate(batch, features)["query/match"].view(len(LENGTHS), -1)
    assert "hit/assignment_logit" not in features
    assert model.axes["pair"].parent == "hit"
    assert model.outputs["pair/logit"].floor == pytest.approx(logit_of(0.01))
    assert [sorted(m[m >= 0].tolist()) for m in match] == [list(range(n)) for n in (2, 5, 0, 1, 9, 3)]


def test_more_tracks_than_queries_is_said_with_the_ways_out():
    model = build(num_queries=2)
    assert model.overflow({"hit": 900, "track": 2}) == ""
    said = model.overflow({"hit": 900, "track": 5})
    assert "5 true tracks" in said
    assert "2 queries" in said
    assert "num_queries to at least 5" in said
    assert "overflow: skip_event" in said


def test_without_truth_it_predicts_but_does_not_train():
    bare = SCHEMA.select(["hit/raw"])
    model = build(schema=bare)
    assert model.targets == ()
    assert model.annotations == {}
    events = make_events(LENGTHS)
    features = model({name: value for name, value in batch_of(events).items() if name.startswith("hit/")})
    assert torch.equal(features["hit/embedding"], build()(batch_of(events))["hit/embedding"])
    with pytest.raises(ConfigError, match="no array 'member/hit'"):
        model.loss(batch_of(events))


def test_autocast_keeps_logits_losses_and_dtypes():
    model = build()
    batch = batch_of(make_events(LENGTHS))
    with torch.autocast("cpu", torch.bfloat16):
        features = model(batch)
        loss, _ = model.loss(batch)
    loss.backward()
    assert {value.dtype for name, value in features.items()} == {torch.float32}
    assert loss.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    full, _ = model.loss(batch)
    assert loss.item() == pytest.approx(full.item(), rel=0.05)


def test_dropout_acts_while_training_alone():
    model = build(dropout=0.3)
    batch = batch_of(make_events(LENGTHS))
    model.train()
    assert model.loss(batch)[0] != model.loss(batch)[0]
    model.eval()
    assert model.loss(batch)[0] == model.loss(batch)[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 30, "heads": 4}, "not a multiple of heads"),
        ({"num_querys": 3}, "did you mean 'num_queries'?"),
        ({"loss": {"track_hit_valid": {"dise": 1.0}}}, "did you mean 'dice'?"),
        ({"fields": ["r", "r"]}, "a name stands twice"),
        ({"dim": 4, "pos_fields": ["r", "phi", "eta"]}, "3 pos_fields need dim >= 6"),
        ({"array": "track/raw"}, "array = 'track/raw'"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(ConfigError) as error:
        parse(HitTrackConfig, values, "model")
    assert message in str(error.value)


VELO = Schema(
    axes=SCHEMA.axes,
    arrays={
        **{name: array for name, array in SCHEMA.arrays.items() if name != "hit/raw"},
        "hit/raw": Array(dtype="float32", shape=(4,), columns=("x", "y", "z", "module")),
    },
)


@pytest.mark.parametrize(("name", "schema", "n_field"), [("muon", SCHEMA, 23), ("velo", VELO, 9)])
def test_shipped_configs_build(project: Path, name, schema, n_field):
    values = read_yaml(project / "configs" / name / "backbone.yaml")
    assert values["family"] == "hit_track"
    model = HitTrack(parse(HitTrackConfig, values["model"], name), schema)
    assert len(model.outputs["hit/scaled"].columns) == n_field
