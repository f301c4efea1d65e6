"""What a feature store has lost is made again from weights and data; what cannot be says why."""

import shutil

import numpy as np
import pytest

from frz import artifacts as names
from frz.errors import DamageError
from frz.extract import engine, restore
from frz.store import EventStore, snapshot
from frz.store.gc import collect
from frz.store.part import part_name
from frz.store.verify import verify


@pytest.fixture
def mine(tiny, tmp_path):
    """A copy of the tiny artifacts that a test may change."""
    return shutil.copytree(tiny, tmp_path / "artifacts")


@pytest.fixture
def root(mine):
    return names.features("tiny", mine).path


def lose(root, *groups, index=3):
    """Remove a part of each group."""
    found = snapshot.read(root)
    for group in groups:
        pieces = found.parts.groups[group]
        shutil.rmtree(root / "events.zarr" / part_name(group, pieces.key[pieces.stored[pieces.edges[index]]]))


def mend(root, artifacts):
    return restore.repair(root, artifacts, verify(root))


def drop_first(root, make):
    """A second version in place of the first."""
    made = make(snapshot.read(root))
    fewer = made.split.model_copy(update={"seed": made.split.seed + 1})
    snapshot.commit(root, lambda latest: made.model_copy(update={"split": fewer}))
    collect(root, drop=[1], delete=True)


def whole(root):
    report = verify(root, content=True)
    return report.damages == report.warnings == []


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def reasons(outcomes):
    return [outcome.how for outcome in outcomes if not outcome.repaired]


def test_all_groups_of_a_part_come_out_equal(root, mine):
    before = snapshot.read(root)
    lose(root, "features", "carried", "annotation")
    outcomes, added = mend(root, mine)
    assert [(outcome.repaired, outcome.same) for outcome in outcomes] == [(True, True)] * 3
    assert added is None
    assert snapshot.read(root) == before
    assert whole(root)


def test_weights_are_found_by_fingerprint_wherever_they_lie_now(root, mine):
    found = snapshot.read(root)
    elsewhere = {**found.about, "backbone": {"name": "tiny", "checkpoint": "gone/best.safetensors"}}
    drop_first(
        root,
        lambda latest: latest.model_copy(
            update={
                "about": elsewhere,
            }
        ),
    )
    lose(root, "features")
    assert mend(root, mine)[0][0].same
    lose(root, "features")
    shutil.rmtree(mine / "backbones/tiny")
    (reason,) = reasons(mend(root, mine)[0])
    assert f"no run of backbone 'tiny' has fingerprint {found.about['fingerprint']['value'][:12]}" in reason


def test_a_damaged_data_set_is_repaired_first(root, mine):
    lose(root, "features")
    lose(mine / "datasets/tiny", "events")
    (reason,) = reasons(mend(root, mine)[0])
    assert "run 'frz repair" in reason
    assert "datasets/tiny" in reason
    lose(mine / "datasets/tiny", "events", index=5)
    shutil.rmtree(mine / "datasets/tiny")
    (reason,) = reasons(mend(root, mine)[0])
    assert "no data set 'tiny'" in reason


@pytest.fixture
def elsewhere(monkeypatch):
    """As on another machine, where everything rounds differently; here even the queries change places."""
    whole_run = engine.features_of

    def other(*args):
        made = whole_run(*args)
        pairs = {name: values.reshape(-1, 2, *values.shape[1:]) for name, values in made.items() if "query" in name}
        return made | {name: np.ascontiguousarray(v[:, ::-1]).reshape(made[name].shape) for name, v in pairs.items()}

    with monkeypatch.context() as patch:
        patch.setattr(engine, "features_of", other)
        yield patch


def test_other_numbers_get_a_version_and_annotations_that_fit_them(root, mine, elsewhere):
    first = EventStore(root)
    begin, end = first.part_bounds[3:5].tolist()
    lose(root, "features")
    outcomes, added = mend(root, mine)
    assert [(outcome.repaired, outcome.same) for outcome in outcomes] == [(True, False)] * 2
    assert ["/features-" in o.path or "/annotation-" in o.path for o in outcomes] == [True, True]
    assert added.version == 2
    report = verify(root)
    assert report.damages == []
    assert {warning.events for warning in report.warnings} == {((1, begin, end),)}
    store = EventStore(root, 2)
    lost = restore.LostPart("annotation", store.snapshot.parts.groups["annotation"].part(3), ((2, begin, end),), None)
    fitting = restore.Restore(root, mine).remake(lost)
    equal(store.range(begin, end, list(fitting)), fitting)
    equal(store.range(0, begin), first.range(0, begin))
    with pytest.raises(DamageError, match=f"events {begin} to {end - 1} of version 1"):
        EventStore(root, 1).range(begin, end)
    assert mend(root, mine) == ([], None)


def test_features_wait_for_annotations_that_cannot_follow(root, mine, elsewhere):
    data = mine / "datasets/tiny"
    (piece,) = snapshot.read(data).parts[3].groups["events"]
    truth = data / "events.zarr" / part_name("events", piece.key) / "member/hit/c/0"
    aside = truth.rename(mine / "truth")
    lose(root, "features")
    outcomes, added = mend(root, mine)
    assert added is None
    assert "what was made from it cannot follow" in reasons(outcomes)[0]
    assert "member/hit/c/0" in reasons(outcomes)[0]
    assert verify(root).damages != []
    aside.rename(truth)
    elsewhere.undo()
    outcomes, added = mend(root, mine)
    assert [(outcome.repaired, outcome.same) for outcome in outcomes] == [(True, True)]
    assert whole(root)


def test_events_that_no_version_has_are_said_to_be_gone(root, mine):
    pieces = snapshot.read(root).parts

    def half(latest):
        entries = list(pieces)
        groups = {g: (p[0]._replace(last=5),) for g, p in entries[3].groups.items()}
        entries[3] = entries[3]._replace(n_events=5, groups=groups)
        return latest.model_copy(update={"parts": type(pieces).of(entries)})

    drop_first(root, half)
    place = root / "events.zarr" / part_name("carried", pieces.groups["carried"].key[3])
    next(path for path in place.rglob("0") if path.is_file()).unlink()
    (reason,) = reasons(mend(root, mine)[0])
    assert "11 of its 16 events are in no version any more" in reason
