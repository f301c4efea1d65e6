"""However the work is divided among threads and processes, the parts are the same, and an accident is a line."""

import os
import signal

import pytest
import torch

from frz import artifacts as names
from frz.errors import ConfigError, StoreError
from frz.extract import pipeline, writer
from frz.extract.identity import identity_of
from frz.extract.opening import open_both
from frz.extract.plan import make_plan
from frz.extract.settings import Settings, feature_schema
from frz.extract.work import Work
from frz.store import snapshot

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no anonymous files in memory on this system")


def prepared(tiny, root, **chosen):
    settings = Settings(device="cpu", **chosen)
    frozen, source = open_both(names.weights("tiny", tiny), tiny)
    out = feature_schema(frozen.module, source.schema, settings)
    snapshot.prepare_root(root)
    identity = identity_of(frozen, source, out, settings)
    plan = make_plan(source, root, set(), [], out, identity, frozen.module.targets, 50)
    return Work(frozen, source, None, root, out, settings), plan.jobs


def digests(work, jobs, apart):
    done = pipeline.do(work, jobs, apart=apart)
    return [(job.number, {group: record.digest for group, record in records.items()}) for job, records in done]


@pytest.mark.parametrize("chosen", [{}, {"precision": "bf16", "dtype": "bfloat16"}])
def test_a_process_of_its_own_writes_the_same_parts(tiny, tmp_path, chosen):
    here, jobs = prepared(tiny, tmp_path / "here", **chosen)
    there, _ = prepared(tiny, tmp_path / "there", **chosen)
    assert digests(there, jobs, apart=True) == digests(here, jobs, apart=False)
    for work in (here, there):
        assert not list((work.root / "tmp").iterdir())


def test_what_goes_wrong_there_is_said_here(tiny, tmp_path):
    work, jobs = prepared(tiny, tmp_path / "here")
    with torch.no_grad():
        next(p for name, p in work.frozen.module.named_parameters() if name.endswith("bias")).fill_(float("nan"))
    with pytest.raises(ConfigError, match="not finite"):
        list(pipeline.do(work, jobs, apart=True))
    assert not list((work.root / "tmp").iterdir())


def test_the_death_of_the_process_is_a_line(tiny, tmp_path, monkeypatch):
    work, jobs = prepared(tiny, tmp_path / "here")
    started = writer.subprocess.Popen

    def dying(*arguments, **options):
        process = started(*arguments, **options)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return process

    monkeypatch.setattr(writer.subprocess, "Popen", dying)
    with pytest.raises(StoreError, match="has died; the same command continues"):
        list(pipeline.do(work, jobs, apart=True))
