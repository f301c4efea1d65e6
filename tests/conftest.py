"""What every test gets: one thread, no display, fixed examples, no artifacts folder from outside."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Before torch, numpy or matplotlib read them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import settings

settings.register_profile("frz", deadline=None, derandomize=True)
settings.load_profile("frz")

Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _no_artifacts_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRZ_ARTIFACTS", raising=False)


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
