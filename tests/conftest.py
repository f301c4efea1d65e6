"""What every test gets: one thread, no display, fixed examples, no artifacts folder from outside, fast folders."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch, numpy or matplotlib read them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import settings

from frz.store.process import Process

settings.register_profile("frz", deadline=None, derandomize=True)
settings.load_profile("frz")

MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory: tests make and remove small files by the hundred thousand."""
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)

Python = Callable[..., "subprocess.CompletedProcess[str]"]

DEAD = Process.this()._replace(pid=2**22 + 1, start="1")  # Linux gives no such number
LEFT = "+".join(map(str, (*DEAD, 0)))
"""What a process of this machine that is gone called a file or folder that it had begun."""


@pytest.fixture(autouse=True)
def _no_artifacts_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRZ_ARTIFACTS", raising=False)


@pytest.fixture(autouse=True)
def _silent_progress() -> Iterator[None]:
    """The command line chooses how progress shows for the whole process; a test must not inherit that."""
    yield
    from frz.progress import show

    show("none")


@pytest.fixture
def project() -> Path:
    """Root of the source tree."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def fresh_python(project: Path) -> Python:
    """Run `python ARGUMENTS` in a new process that finds the package as this one does."""

    def run(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        # No empty entry: it would stand for the working folder.
        paths = [str(project / "pipeline"), str(project / "cli"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[dict[str, str]]:
    """The environment in which a client finds a local S3 server."""
    for package in ("s3fs", "upath", "moto"):
        pytest.importorskip(package, reason=f"object stores are tested with {package}: pip install 'frz[dev]'")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("s3_server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
            "AWS_ACCESS_KEY_ID": "an-access-key-id",
            "AWS_SECRET_ACCESS_KEY": "a-secret-access-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }
        server.kill()


@pytest.fixture
def bucket(_s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://…` of a new bucket."""
    import s3fs

    for name, value in _s3_server.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{secrets.token_hex(4)}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


TINY_BACKBONE = {
    "name": "tiny",
    "family": "hit_track",
    "data": "tiny",
    "model": {
        "position": ["globEdgeLowX", "globEdgeLowY", "globEdgeLowZ"],
        "fields": ["globEdgeLowX", "globEdgeLowY", "globEdgeLowZ", "driftR", "r", "theta", "phi"],
        "pos_fields": ["r", "theta", "phi"],
        "dim": 8,
        "heads": 2,
        "encoder_layers": 1,
        "decoder_layers": 1,
    },
    "trainer": {"max_epochs": 1, "batch_size": 50, "device": "cpu"},
}
TINY_HEAD = {
    "name": "tiny",
    "head": "regression",
    "features": {"backbone": "tiny", "data": "tiny"},
    "model": {"inverse_fields": ["pt"], "bce_fields": ["q"], "assignment_threshold": 0.4},
    "trainer": {"max_epochs": 2, "batch_size": 50, "device": "cpu"},
}


def tiny_recipe(n_events: int = 320) -> dict[str, Any]:
    """A data set of simulated muons in many small parts."""
    return {"name": "tiny", "source": {"kind": "muon_sim", "n_events": n_events}}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of the whole path at tiny size, made once; copy them before changing anything."""
    from frz.data.build import build
    from frz.extract.run import extract
    from frz.heads.run import train as train_head
    from frz.pretrain import train as train_backbone

    artifacts = tmp_path_factory.mktemp("artifacts")
    build(tiny_recipe(), artifacts)
    train_backbone(TINY_BACKBONE, artifacts)
    extract("tiny", artifacts, settings={"dtype": "float32"})
    train_head(TINY_HEAD, artifacts)
    return artifacts
