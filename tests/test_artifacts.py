"""Names of artifacts: every form finds its place, every refusal names what there is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from frz import artifacts
from frz.artifacts import Run, StoreVersion
from frz.errors import CheckpointError, ConfigError, FrzError, StoreError


def add_store(folder: Path, *hashes: str, created: str = "2026-01-01T00:00:00+00:00") -> Path:
    (folder / "snapshots").mkdir(parents=True)
    for number, text in enumerate(hashes, start=1):
        (folder / "snapshots" / f"{number}.json").write_text(json.dumps({"hash": text, "created": created}))
    return folder


def add_run(folder: Path, created: str = "", **card: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "best.safetensors").touch()
    (folder / "last.safetensors").touch()
    (folder / "top-step12-val_auc-0.9.safetensors").touch()
    if created:
        (folder / "card.json").write_text(json.dumps({"created": created, **card}))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two data sets, features of two sets of weights, three runs of one backbone, one head."""
    root = tmp_path / "artifacts"
    add_store(root / "datasets" / "muon-sim", "aa11" * 16, "ab22" * 16, "1234" * 16)
    add_store(root / "datasets" / "velo", "cc33" * 16)
    add_store(root / "features" / "muon-3f2a9c01", "dd44" * 16, created="2026-01-02T00:00:00+00:00")
    add_store(root / "features" / "muon-91c00000", "ee55" * 16, created="2026-01-03T00:00:00+00:00")
    add_run(root / "backbones" / "muon" / "3f2a9c01", "2026-01-01", finished=True, score=0.5)
    add_run(root / "backbones" / "muon" / "3fbb0000", "2026-01-03", finished=True, score=0.7)
    add_run(root / "backbones" / "muon" / "77aa0000", "2026-01-04", finished=False)
    add_run(root / "heads" / "regression" / "0badcafe", "2026-01-05", finished=True)
    return root


def test_the_root_is_the_option_then_the_environment_then_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert artifacts.root() == Path("artifacts")
    monkeypatch.setenv("FRZ_ARTIFACTS", "/elsewhere")
    assert artifacts.root() == Path("/elsewhere")
    assert artifacts.root("given") == Path("given")


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        ("muon-sim", 3),
        ("muon-sim@latest", 3),
        ("muon-sim@1", 1),
        ("muon-sim@aa11", 1),
        ("muon-sim@ab22", 2),
        ("muon-sim@12341234", 3),
        ("datasets/muon-sim@2", 2),
    ],
)
def test_data_sets(spec: str, version: int, root: Path) -> None:
    assert artifacts.dataset(spec, root) == StoreVersion(root / "datasets" / "muon-sim", version)


def test_a_path_is_a_name_too(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = root / "datasets" / "muon-sim"
    assert artifacts.dataset(path, tmp_path / "elsewhere") == StoreVersion(path, 3)
    assert artifacts.dataset(f"{path}/", tmp_path / "elsewhere") == StoreVersion(path, 3)
    assert artifacts.dataset(f"{path}@1", tmp_path / "elsewhere") == StoreVersion(path, 1)
    monkeypatch.chdir(root / "datasets")
    assert artifacts.dataset("velo", tmp_path / "elsewhere") == StoreVersion(Path("velo"), 1)


def test_an_artifact_goes_before_a_folder_of_the_same_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "velo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert artifacts.dataset("velo", root).path == root / "datasets" / "velo"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("muonsim", "no data set 'muonsim' in {root}/datasets; did you mean 'muon-sim'? (have: muon-sim, velo)"),
        ("zzz", "no data set 'zzz' in {root}/datasets; have: muon-sim, velo"),
        ("muon-sim@9", "{root}/datasets/muon-sim: no version '9'; have: 1 (aa11aa11), 2 (ab22ab22), 3 (12341234)"),
        ("muon-sim@1234", "no version '1234'; have: 1 (aa11aa11), 2 (ab22ab22), 3 (12341234)"),
        ("muon-sim@aa1", "no version 'aa1'"),
        ("muon-sim@best", "no version 'best'"),
        ("no/such/folder", "no/such/folder: no such file or folder"),
    ],
)
def test_data_sets_that_are_not_there(spec: str, message: str, root: Path) -> None:
    with pytest.raises(StoreError) as caught:
        artifacts.dataset(spec, root)
    assert message.format(root=root) in str(caught.value)


def test_a_prefix_of_two_hashes_is_ambiguous(root: Path) -> None:
    add_store(root / "datasets" / "twins", "ab12" * 16, "ab12" * 15 + "0000")
    with pytest.raises(StoreError, match=r"hash prefix 'ab12' fits versions \[1, 2\]; give more digits"):
        artifacts.dataset("twins@ab12", root)


@pytest.mark.parametrize("spec", ["muon-sim@", "datasets/muon-sim@", "muon@", "muon-3f2a9c01@"])
def test_nothing_after_the_at_sign_is_refused(spec: str, root: Path) -> None:
    name = spec.rstrip("@")
    with pytest.raises(ConfigError, match=f"'{spec}' ends before it says which; give {name}, {name}@latest"):
        artifacts.find(spec, root)


def test_the_first_name_of_a_kind_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no data set 'x' in .*; make one with 'frz data build'"):
        artifacts.dataset("x", tmp_path)
    with pytest.raises(CheckpointError, match=r"make one with 'frz train-backbone'"):
        artifacts.backbone("x", tmp_path)


def test_a_folder_that_is_no_store_and_a_store_without_versions_are_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(StoreError, match="is not a data set"):
        artifacts.dataset(tmp_path / "plain", root)
    add_store(root / "datasets" / "broken-off")
    with pytest.raises(StoreError, match="holds no version yet; run 'frz data build' to finish it"):
        artifacts.dataset("broken-off", root)
    unfinished = add_store(root / "features" / "muon-00000000")
    with pytest.raises(StoreError, match="holds no version yet; run 'frz extract' to finish it"):
        artifacts.find(str(unfinished), root)
    shutil.copytree(unfinished, elsewhere := tmp_path / "ks")
    (elsewhere / "made_with.json").write_text("{}")  # what extraction leaves from its start on
    with pytest.raises(StoreError, match=rf"holds no version yet; run 'frz extract … --set out={elsewhere}' to finish"):
        artifacts.find(str(elsewhere), root)


def test_a_damaged_snapshot_is_named(root: Path) -> None:
    (root / "datasets" / "velo" / "snapshots" / "1.json").write_text('{"hash": ')
    with pytest.raises(StoreError, match=r"snapshots/1\.json: not valid JSON"):
        artifacts.dataset("velo@cc", root)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("muon", "muon-91c00000"),
        ("muon@latest", "muon-91c00000"),
        ("muon-3f", "muon-3f2a9c01"),
        ("muon-3f2a9c01", "muon-3f2a9c01"),
        ("muon-3f2a9c01@dd44", "muon-3f2a9c01"),
    ],
)
def test_features(spec: str, name: str, root: Path) -> None:
    assert artifacts.features(spec, root) == StoreVersion(root / "features" / name, 1)


def test_features_on_another_data_set_are_named_in_full(root: Path) -> None:
    add_store(root / "features" / "muon-3f2a9c01-velo", "ff66" * 16, created="2026-01-09T00:00:00+00:00")
    add_store(root / "features" / "muon-big-00000000", "ff77" * 16, created="2026-01-09T00:00:00+00:00")
    assert artifacts.features("muon", root).path.name == "muon-91c00000"
    assert artifacts.features("muon-3f", root).path.name == "muon-3f2a9c01"
    assert artifacts.features("muon-3f2a9c01-v", root).path.name == "muon-3f2a9c01-velo"
    assert artifacts.features("muon-big", root).path.name == "muon-big-00000000"


def test_features_that_are_not_there(root: Path) -> None:
    add_store(root / "features" / "muon-3fbb0000", "ff66" * 16)
    with pytest.raises(StoreError, match=r"'muon-3f' fits several: muon-3f2a9c01, muon-3fbb0000"):
        artifacts.features("muon-3f", root)
    with pytest.raises(StoreError, match=r"no feature store 'mu' in "):
        artifacts.features("mu", root)
    with pytest.raises(StoreError, match=r"no feature store 'muo' in .*did you mean 'muon'\?"):
        artifacts.features("muo", root)
    with pytest.raises(StoreError, match=r"no feature store 'velo' in .*have: muon, muon-3f2a9c01"):
        artifacts.features("velo", root)


@pytest.mark.parametrize(
    ("spec", "run", "weights"),
    [
        ("muon", "3fbb0000", "best"),
        ("muon@latest", "3fbb0000", "best"),
        ("muon@best", "3f2a9c01", "best"),
        ("muon@3f2a", "3f2a9c01", "best"),
        ("muon@77aa", "77aa0000", "best"),
        ("muon/3f2a9c01", "3f2a9c01", "best"),
        ("muon/77aa", "77aa0000", "best"),
        ("backbones/muon", "3fbb0000", "best"),
        ("muon/3fbb0000/last.safetensors", "3fbb0000", "last"),
        ("muon/3fbb0000/best.safetensors", "3fbb0000", "best"),
        ("muon/3fbb0000/top-step12-val_auc-0.9.safetensors", "3fbb0000", "top-step12-val_auc-0.9"),
    ],
)
def test_backbones(spec: str, run: str, weights: str, root: Path) -> None:
    assert artifacts.backbone(spec, root) == Run(root / "backbones" / "muon" / run, weights)


def test_the_best_run_is_the_best_by_the_metric_that_decided(root: Path) -> None:
    by_auc = {"finished": True, "monitor": "val/q/auc", "monitor_mode": "max"}
    for number, score in enumerate((0.6, 0.9, 0.8)):
        add_run(root / "heads" / "charge" / f"{number}bad0000", f"2026-01-0{number + 1}", score=score, **by_auc)
    assert artifacts.head("charge@best", root).path.name == "1bad0000"
    add_run(root / "heads" / "charge" / "3bad0000", "2026-01-09", finished=True, score=0.1)
    with pytest.raises(CheckpointError, match=r"different metrics \(val/loss \(min\), val/q/auc \(max\)\), so none is"):
        artifacts.head("charge@best", root)


def test_a_run_by_its_path(root: Path, tmp_path: Path) -> None:
    family = root / "backbones" / "muon"
    assert artifacts.backbone(str(family), tmp_path / "none") == Run(family / "3fbb0000")
    assert artifacts.backbone(str(family / "77aa0000"), tmp_path / "none") == Run(family / "77aa0000")
    last = family / "77aa0000" / "last.safetensors"
    assert artifacts.backbone(last, tmp_path / "none") == Run(family / "77aa0000", "last")
    assert artifacts.head("regression", root).name == "regression/0badcafe"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("muno", "no backbone 'muno' in {root}/backbones; did you mean 'muon'? (have: muon)"),
        ("muon@3f2", "no run '3f2' of 'muon'; have: 3f2a9c01, 3fbb0000, 77aa0000"),
        ("muon@last", "; the last weights of a run are muon/77aa0000/last.safetensors"),
        ("muon@ffff", "no run 'ffff' of 'muon'; have: 3f2a9c01, 3fbb0000, 77aa0000"),
        ("no/such/run", "no such file or folder"),
    ],
)
def test_backbones_that_are_not_there(spec: str, message: str, root: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        artifacts.backbone(spec, root)
    assert message.format(root=root) in str(caught.value)


def test_a_prefix_of_two_runs_is_ambiguous(root: Path) -> None:
    add_run(root / "backbones" / "muon" / "3f2a0000", "2026-01-05")
    with pytest.raises(CheckpointError, match="'muon@3f2a' fits several: 3f2a9c01, 3f2a0000"):
        artifacts.backbone("muon@3f2a", root)


def test_the_last_weights_are_found_where_the_refusal_says(root: Path) -> None:
    assert artifacts.weights("muon/77aa0000/last.safetensors", root).name == "last.safetensors"


def test_a_broken_run_does_not_turn_into_the_features_called_after_it(root: Path) -> None:
    for run in ("3f2a9c01", "3fbb0000"):
        (root / "backbones" / "muon" / run / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match="no finished run of backbone 'muon'"):
        artifacts.find("muon", root)
    assert artifacts.find("muon", root, ("datasets", "features")).kind == "features"
    assert artifacts.find("muon@1", root).kind == "features"


def test_weights_are_a_file(root: Path) -> None:
    family = root / "backbones" / "muon"
    assert artifacts.weights("muon", root) == family / "3fbb0000" / "best.safetensors"
    last = family / "3f2a9c01" / "last.safetensors"
    assert artifacts.weights(last, root) == last
    (family / "3fbb0000" / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors: no weights yet"):
        artifacts.weights("muon", root)


def test_an_unfinished_run_is_taken_only_by_its_own_name(root: Path) -> None:
    path = add_run(root / "backbones" / "velo" / "12345678")
    with pytest.raises(CheckpointError, match=r"no finished run of backbone 'velo'; .* name a run: velo@12345678"):
        artifacts.backbone("velo", root)
    assert artifacts.backbone("velo@1234", root) == Run(path)
    (path / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"run 'frz train-backbone' again to finish it$"):
        artifacts.backbone("velo", root)


def test_best_of_several_needs_scores(root: Path) -> None:
    assert artifacts.head("regression@best", root).path.name == "0badcafe"
    add_run(root / "heads" / "regression" / "11111111", "2026-01-06", finished=True, score=0.1)
    with pytest.raises(CheckpointError, match="no score in the card of 0badcafe"):
        artifacts.head("regression@best", root)


@pytest.mark.parametrize(
    ("spec", "kind", "name", "version"),
    [
        ("velo", "datasets", "velo", 1),
        ("muon-sim@2", "datasets", "muon-sim", 2),
        ("muon-3f", "features", "muon-3f2a9c01", 1),
        ("features/muon", "features", "muon-91c00000", 1),
        ("muon", "backbones", "3fbb0000", None),
        ("regression", "heads", "0badcafe", None),
    ],
)
def test_anything_is_found_by_name(spec: str, kind: str, name: str, version: int | None, root: Path) -> None:
    found = artifacts.find(spec, root)
    assert (found.kind, found.path.name, found.version) == (kind, name, version)


@pytest.mark.parametrize(
    "place", ["datasets/velo", "features/muon-3f2a9c01", "backbones/muon/77aa0000", "heads/regression"]
)
def test_anything_is_found_by_path(place: str, root: Path, tmp_path: Path) -> None:
    found = artifacts.find(str(root / place), tmp_path / "none")
    assert found.kind == place.partition("/")[0]


def test_one_name_in_two_kinds_must_be_told_apart(root: Path) -> None:
    add_run(root / "heads" / "velo" / "22222222", "2026-01-06", finished=True)
    with pytest.raises(ConfigError, match="'velo' fits several: datasets/velo, heads/velo"):
        artifacts.find("velo", root)
    assert artifacts.find("heads/velo", root).path.name == "22222222"


def test_a_name_of_another_kind_is_told(root: Path) -> None:
    with pytest.raises(ConfigError, match="'heads/regression' is a head, not a data set or feature store"):
        artifacts.find("heads/regression", root, ("datasets", "features"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("regresion", "nothing is called 'regresion'; did you mean 'regression'?"),
        ("velo@7", "no version '7'"),
        ("muon@ffff", "no run 'ffff'"),
        ("", "names no data set"),
    ],
)
def test_what_no_kind_has(spec: str, message: str, root: Path) -> None:
    with pytest.raises(FrzError) as caught:
        artifacts.find(spec, root)
    assert message in str(caught.value)


def test_where_things_are_written() -> None:
    root = Path("r")
    assert artifacts.store_path(root, "datasets", "muon-sim") == Path("r/datasets/muon-sim")
    assert artifacts.features_name("muon", "0123456789abcdef") == "muon-01234567"
    assert artifacts.run_path(root, "heads", "eta", "0123456789abcdef") == Path("r/heads/eta/01234567")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a@b", "a\\b", ".hidden"])
def test_a_name_that_could_not_be_asked_for_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name an artifact"):
        artifacts.store_path(Path("r"), "datasets", name)


def test_runs_and_entries_are_listed_in_order(root: Path) -> None:
    assert [path.name for path in artifacts.entries(root, "datasets")] == ["muon-sim", "velo"]
    assert [p.name for p in artifacts.runs(root / "backbones" / "muon")] == ["3f2a9c01", "3fbb0000", "77aa0000"]
    assert artifacts.entries(root / "none", "heads") == []
