"""Each technique of the loop, and all together: interrupted anywhere, a run ends like one that was not, bit for bit."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import Crash, assert_same, at, crash, ctrl_c, lines
from toy_run import ToySource, run

from frz.training import checkpoint
from frz.training.record import LAST_EMA, STATE
from frz.training.source import Batch, Plan

SETTINGS: dict[str, dict[str, Any]] = {
    "accumulate": {"accumulate": 3},  # steps of 3 and 1 batches
    "ema": {"ema_decay": 0.9},
    "fp16": {"precision": "fp16"},
    "monitor": {"monitor": "val/abs", "patience": 2, "save_top_k": 2},
    "parts": {"val_every": 0.5, "save_top_k": 3},
    "skip": {"skip_nonfinite": 10},
}
SETTINGS["all"] = {key: value for changes in SETTINGS.values() for key, value in changes.items()}


@pytest.fixture(autouse=True)
def _a_bad_event(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Where batches may be skipped, each epoch has one to skip."""
    name = request.getfixturevalue("name")
    batches = ToySource.batches

    def with_nan(source: ToySource, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        for batch in batches(source, plan, start):
            bad = (batch["event/id"] == 1007) & (source.n_events == 29)
            yield batch | {"event/x": torch.where(bad[:, None], torch.nan, batch["event/x"])}

    if "skip_nonfinite" in SETTINGS[name]:
        monkeypatch.setattr(ToySource, "batches", with_nan)


@pytest.mark.parametrize("minutes", [0.0, 5.0])
@pytest.mark.parametrize("name", SETTINGS)
def test_resume(tmp_path: Path, name: str, minutes: float) -> None:
    """Ctrl-C and a crash at some batches; saves after every step, or after lines alone."""
    settings = SETTINGS[name] | {"checkpoint_minutes": minutes}
    calls: list[int] = []
    whole = tmp_path / "whole"
    run(whole, calls.append, **settings)
    state = checkpoint.load(whole / STATE)
    if "ema_decay" in settings:
        assert "ema/net.0.weight" in state[0]
        assert (whole / LAST_EMA).is_file()
    if "skip_nonfinite" in settings:
        assert lines(whole)[-1]["train/skipped"] == 3
    if "save_top_k" in settings:
        assert len(list(whole.glob("top-*"))) == settings["save_top_k"]
    for call in calls[:: 2 if name == "all" else 5]:
        folder = tmp_path / f"ctrl-c-{call}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, at(call, ctrl_c), **settings)
        assert run(folder, **settings).resumed
        assert_same(folder, whole)
        folder = tmp_path / f"crash-{call}"
        with pytest.raises(Crash):
            run(folder, at(call, crash), **settings)
        run(folder, **settings)
        assert_same(folder, whole)


@pytest.mark.parametrize("name", ["accumulate"])
def test_a_group_of_batches_is_finished_before_a_save(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at(2, ctrl_c), **SETTINGS[name])
    assert checkpoint.load(tmp_path / STATE)[1]["position"]["batch"] == 3
