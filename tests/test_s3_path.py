"""The whole path with all artifacts on an object store: the same results as on a disk, whatever is killed meanwhile."""

import json
import os
import signal

import pytest
from typer.testing import CliRunner

from conftest import TINY_BACKBONE, TINY_HEAD, tiny_recipe
from frz import artifacts as names
from frz import open as open_store
from frz.data.build import build
from frz.evaluation.run import evaluate
from frz.extract.run import extract
from frz.heads.run import train as train_head
from frz.location import location
from frz.pretrain import train as train_backbone
from frz.store import objects, snapshot
from frz.store.verify import verify
from frz_cli.main import app

N_EVENTS = 64
SECRETS = (b"an-access-key-id", b"a-secret-access-key")


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """The whole path on a disk."""
    artifacts = tmp_path_factory.mktemp("disk")
    build(tiny_recipe(N_EVENTS), artifacts)
    train_backbone(TINY_BACKBONE, artifacts)
    extract("tiny", artifacts, settings={"dtype": "float32"})
    train_head(TINY_HEAD, artifacts)
    return artifacts


@pytest.fixture
def frz(bucket, tmp_path, monkeypatch):
    """Run a command on artifacts in the bucket; its output, which tells no secret."""
    monkeypatch.setenv("FRZ_ARTIFACTS", f"{bucket}/art")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output + repr(result.exception)
        assert not any(secret.decode() in result.output for secret in SECRETS)
        return result.stdout

    return run


def written(path, values):
    path.write_text(json.dumps(values))
    return str(path)


def test_every_command_of_the_path(frz, bucket, tmp_path, disk):
    recipe = written(tmp_path / "data.yaml", tiny_recipe(N_EVENTS))
    backbone = written(tmp_path / "backbone.yaml", TINY_BACKBONE)
    head = written(tmp_path / "head.yaml", TINY_HEAD)
    frz("data", "build", recipe)
    frz("train-backbone", backbone)
    assert json.loads(frz("extract", "--ckpt", "tiny", "--set", "dtype=float32", "--dry-run", "--json"))["bytes"] > 0
    frz("extract", "--ckpt", "tiny", "--set", "dtype=float32")
    frz("train-head", head)
    assert "nothing to do" in frz("train-backbone", backbone)
    assert json.loads(frz("extract", "--ckpt", "tiny", "--set", "dtype=float32", "--json"))["events_run"] == 0

    here, there = json.loads(frz("evaluate", "heads/tiny", "--json")), location(f"{bucket}/art")
    assert here["metrics"] == evaluate("heads/tiny", disk)["metrics"]
    for kind in ("datasets", "features"):
        [theirs], [ours] = names.entries(disk, kind), names.entries(there, kind)
        assert snapshot.read(ours).hash == snapshot.read(theirs).hash

    assert {row["state"] for row in json.loads(frz("ls", "--json"))} == {"finished"}
    assert json.loads(frz("show", "datasets/tiny", "--json"))["path"] == f"{bucket}/art/datasets/tiny"
    frz("show", "backbones/tiny")
    frz("data", "diff", "datasets/tiny@1", f"{bucket}/art/datasets/tiny@1")
    frz("verify", "datasets/tiny", "--content")
    [features] = names.entries(there, "features")
    lost = next(path for path in features.joinpath("events.zarr").glob("features-*/*/query/embedding/c/0/0"))
    objects.put(lost, lost.read_bytes()[:-1])
    frz("verify", "features/tiny", code=1)
    assert "made again, equal to what was committed" in frz("repair", "features/tiny")
    frz("verify", "features/tiny")
    frz("gc", "--json")
    (store,) = json.loads(frz("gc", f"{bucket}/art/datasets/tiny", "--json"))["stores"]
    assert store["store"] == f"{bucket}/art/datasets/tiny"
    table = tmp_path / "table.csv"
    ids = open_store(f"{bucket}/art/datasets/tiny")["event/id"]
    table.write_text("id,label\n" + "".join(f"{i},{i % 2}\n" for i in ids))
    frz("data", "add", "tiny", str(table))
    assert json.loads(frz("extract", "--ckpt", "tiny", "--set", "dtype=float32", "--json"))["events_run"] == 0
    frz("export", "datasets/tiny", str(tmp_path / "out"), "--format", "zarr")
    frz("predict", "heads/tiny", "--data", "tiny", "--out", str(tmp_path / "out.csv"))
    frz("extract", "--ckpt", "tiny", "--set", "dtype=float32", "--set", f"out={bucket}/elsewhere", "--workers", "2")
    assert names.versions(location(f"{bucket}/elsewhere")) == [1]
    frz("show", "s3://key:hush@bucket/a", code=2)

    content = objects.fetch_below(location(f"{bucket}/art"))
    assert len(content) > 400
    assert not [name for name, data in content.items() if any(secret in data for secret in SECRETS)]


DIE = """
import os, signal, sys
sys.path.insert(0, sys.argv[5])
from frz.pretrain import train as train_backbone
from frz.store import objects
what, moment, number, url = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
real, calls = {"upload": objects.upload, "put_if_absent": objects.put_if_absent}, {"upload": 0, "put_if_absent": 0}

def deadly(kind, counts):
    def call(path, *rest):
        target = rest[0] if kind == "upload" else path
        calls[kind] += counts(target)
        last = calls[kind] == number and counts(target) and moment.startswith(kind)
        if last and moment.endswith("before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real[kind](path, *rest)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

objects.upload = deadly("upload", lambda place: place.parent.parent.name == "events.zarr")
folder = "snapshots" if "snapshot" in moment else "events.zarr"
objects.put_if_absent = deadly("put_if_absent", lambda path: folder in (path.parent.name, path.parent.parent.name)
                               and path.parent.name != "events.zarr")
from conftest import tiny_recipe
from frz.artifacts import root
if what == "build":
    from frz.data.build import build
    build(tiny_recipe(int(sys.argv[6])), root(url))
else:
    from frz.extract.run import extract
    extract("tiny", root(url), settings={"dtype": "float32"})
"""

MOMENTS = [
    ("upload before", 3),
    ("upload after", 3),
    ("put_if_absent after", 3),
    ("put_if_absent snapshot before", 1),
    ("put_if_absent snapshot after", 1),
]


@pytest.mark.parametrize(("moment", "number"), MOMENTS)
def test_a_killed_build_goes_on_to_the_same_content(fresh_python, bucket, disk, moment, number):
    expected = snapshot.read(disk / "datasets/tiny").hash
    root = location(f"{bucket}/art/datasets/tiny")
    here = os.path.dirname(__file__)
    died = fresh_python("-c", DIE, "build", moment, str(number), f"{bucket}/art", here, str(N_EVENTS))
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert names.versions(root) == ([1] if moment == "put_if_absent snapshot after" else [])
    result = build(tiny_recipe(N_EVENTS), location(f"{bucket}/art"))
    assert result["hash"] == expected
    assert result["version"] == 1
    report = verify(root, content=True)
    assert not report.damages
    assert report.orphans == 0


def test_a_killed_extraction_goes_on_to_the_same_content(fresh_python, bucket, disk):
    there = location(f"{bucket}/art")
    for folder in ("backbones", "datasets"):
        objects.upload(disk / folder, there / folder)
    here = os.path.dirname(__file__)
    died = fresh_python("-c", DIE, "extract", "upload after", "3", f"{bucket}/art", here, "0")
    assert died.returncode == -signal.SIGKILL, died.stderr
    [root] = names.entries(there, "features")
    assert names.versions(root) == []
    result = extract("tiny", there, settings={"dtype": "float32"})
    assert result["events_taken"] > 0
    [expected] = names.entries(disk, "features")
    assert snapshot.read(root).hash == snapshot.read(expected).hash
    assert not verify(root).damages


def test_an_interrupted_training_goes_on(fresh_python, bucket, disk):
    there = location(f"{bucket}/art")
    objects.upload(disk / "datasets", there / "datasets")
    changes = {"max_epochs": 2, "batch_size": 10, "checkpoint_minutes": 0}
    config = {**TINY_BACKBONE, "trainer": {**TINY_BACKBONE["trainer"], **changes}}
    code = f"""
import os, signal
from frz import artifacts
from frz.pretrain import train
from frz.training.record import Record
real = Record.save
def save(self, *rest):
    real(self, *rest)
    os.kill(os.getpid(), signal.SIGKILL)
Record.save = save
train({config!r}, artifacts.root({f"{bucket}/art"!r}))
"""
    died = fresh_python("-c", code)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert train_backbone(config, there)["status"].startswith("resumed after epoch")
    assert train_backbone(config, there)["status"].startswith("finished before")
