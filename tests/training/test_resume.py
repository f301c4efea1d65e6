"""A run that was interrupted, however and wherever, ends like one that was not: same files, bit for bit."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_run import STEPS, run

import frz.store.atomic
from conftest import LEFT
from frz.errors import CheckpointError, StoreError, TrainingError
from frz.training import checkpoint
from frz.training.config import TIMING
from frz.training.loop import DRAIN_STEPS
from frz.training.record import LAST, METRICS, STATE, Record

VALIDATION = 2  # batches, so an epoch calls the loss 6 times
CALLS = 3 * (STEPS + VALIDATION)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert not run(folder).resumed
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    """Metrics without the times."""
    found = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in found]


def assert_same(folder: Path, whole: Path) -> None:
    assert lines(folder) == lines(whole)
    for path in whole.glob("*.safetensors"):
        if path.name != STATE:  # which holds times
            assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    (ours, our_values), (theirs, their_values) = (checkpoint.load(place / STATE) for place in (folder, whole))
    assert ours.keys() == theirs.keys()
    assert all(our_values[name] == their_values[name] for name in ("schedule", "optimiser"))
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())


def at(call: int, act: Callable[[], None]) -> Callable[[int], None]:
    return lambda now: act() if now == call else None


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class Crash(Exception):
    pass


def crash() -> None:
    raise Crash


def test_a_run_is_worth_comparing(whole: Path) -> None:
    """The toy learns, its epochs differ, and all that a state holds is in use."""
    losses = [line["val/loss"] for line in lines(whole)]
    assert len(set(losses)) == 3
    assert losses[-1] < losses[0]
    names = checkpoint.load(whole / STATE)[0].keys()
    assert {"model/net.1.running_mean", "optimiser/0/exp_avg", "random/cpu"} <= names


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_ctrl_c(tmp_path: Path, whole: Path, call: int) -> None:
    """At every training and validation batch; the last one is after the last step, and still stops the program."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at(call, ctrl_c))
    result = run(tmp_path)
    assert result.resumed
    assert_same(tmp_path, whole)


SCHEDULES = {
    "plateau": {"plateau_patience": 0, "plateau_threshold": 0.5, "plateau_factor": 0.1},
    "cosine_restarts": {"restart_epochs": 1},
    "onecycle per epoch": {"schedule_per": "epoch"},
    "schedule_free": {},
    "schedule_free sgd": {"optimiser": "sgd", "val_every": 2},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_ctrl_c_with_every_schedule(tmp_path: Path, name: str) -> None:
    """At every third loss and, going on, at the next but one."""
    schedule = name.partition(" ")[0]
    if schedule == "schedule_free":
        pytest.importorskip("schedulefree", reason="needs the package schedulefree: pip install 'frz[schedule-free]'")
    changes = SCHEDULES[name] | {"schedule": schedule}
    run(tmp_path / "whole", **changes)
    rates = [line["lr"] for line in lines(tmp_path / "whole")]
    assert schedule != "plateau" or rates[-1] < 1e-2
    for call in range(1, CALLS - 2, 3):
        for again in (call, 2):
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / str(call), at(again, ctrl_c), **changes)
        assert run(tmp_path / str(call), **changes).resumed
        assert_same(tmp_path / str(call), tmp_path / "whole")


def test_ctrl_c_loses_no_step(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at(3, ctrl_c))
    position = checkpoint.load(tmp_path / STATE)[1]["position"]
    assert (position["epoch"], position["batch"]) == (0, 3)


@pytest.mark.parametrize("call", [1, 2, 3, 5, 8, 9])
def test_ctrl_c_between_two_looks_at_the_losses(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """As on a GPU, where losses are fetched every few steps."""
    monkeypatch.setitem(DRAIN_STEPS, "cpu", 3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at(call, ctrl_c))
    run(tmp_path)
    assert_same(tmp_path, whole)


def test_ctrl_c_during_the_last_save_stops_the_program(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Record.save

    def save_and_interrupt(record: Record, *arguments: Any) -> None:
        save(record, *arguments)
        if len(lines(tmp_path)) == 3:
            ctrl_c()

    monkeypatch.setattr(Record, "save", save_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert_same(tmp_path, whole)


def test_last_is_a_finished_epoch_whenever_the_run_stops(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at(STEPS + VALIDATION + 2, ctrl_c))
    weights, meta = checkpoint.load(tmp_path / LAST)
    now = checkpoint.load(tmp_path / STATE)[0]
    assert meta["metrics"]["epoch"] == 1
    assert weights["net.1.num_batches_tracked"] == STEPS
    assert now["model/net.1.num_batches_tracked"] == STEPS + 2


def test_interrupted_all_the_time(tmp_path: Path, whole: Path) -> None:
    """Every run gets as far as its third batch; a validation that was cut short begins again."""
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, at(3, ctrl_c))
    assert run(tmp_path).resumed
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("minutes", [0.0, 5.0])
@pytest.mark.parametrize("call", [1, 3, 4, 5, 6, 7, 12, 15])
def test_a_crash(tmp_path: Path, whole: Path, call: int, minutes: float) -> None:
    """An error that nothing was prepared for: the run goes on from the save before, however old."""
    with pytest.raises(Crash):
        run(tmp_path, at(call, crash), checkpoint_minutes=minutes)
    run(tmp_path)
    assert_same(tmp_path, whole)


def test_a_crash_before_each_write(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, best, last, state: whichever file is the first that is missing."""
    replace = Path.replace
    allowed = 0

    def replace_or_crash(self: Path, target: Path) -> Path:
        nonlocal allowed
        allowed -= 1
        if allowed < 0:
            raise Crash
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_or_crash)
    for n_writes in range(100):
        folder, allowed = tmp_path / str(n_writes), n_writes
        try:
            run(folder)
        except Crash:
            allowed = 10**9
            run(folder)
            assert_same(folder, whole)
        else:
            break
    assert n_writes >= 3 * 2  # at least best or last, and the state, for each epoch


def test_kill_9(tmp_path: Path, whole: Path, fresh_python: Any) -> None:
    """In the third step of the second epoch, with a save after every step."""
    died = fresh_python(str(Path(__file__).with_name("toy_run.py")), str(tmp_path), str(STEPS + VALIDATION + 3))
    assert died.returncode == -signal.SIGKILL, died.stderr
    position = checkpoint.load(tmp_path / STATE)[1]["position"]
    assert (position["epoch"], position["batch"]) == (1, 2)
    run(tmp_path)
    assert_same(tmp_path, whole)


def test_a_finished_run_is_only_reported(tmp_path: Path, whole: Path) -> None:
    first = run(tmp_path)
    second = run(tmp_path, crash_if_called)
    assert second.resumed
    assert (second.epochs, second.steps, second.best, second.last) == (3, 12, first.best, first.last)
    assert_same(tmp_path, whole)


def crash_if_called(call: int) -> None:
    raise Crash(call)


def test_lines_that_the_state_does_not_know_are_cut(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(Crash):
        run(tmp_path, at(15, crash))
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"epoch": 3, "half a li')
    run(tmp_path)
    assert_same(tmp_path, whole)


def test_lines_of_a_run_that_never_saved_a_state_are_dropped(tmp_path: Path, whole: Path) -> None:
    (tmp_path / METRICS).write_text('{"epoch": 1}\n')
    run(tmp_path)
    assert_same(tmp_path, whole)


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path, whole: Path) -> None:
    (tmp_path / f".{LEFT}").write_bytes(b"half")
    run(tmp_path)
    assert_same(tmp_path, whole)


def test_metrics_that_were_cut_by_hand_are_an_error(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / METRICS).write_text("")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is shorter than when the state was saved"):
        run(tmp_path)


def test_a_damaged_state_is_an_error_and_stays(tmp_path: Path) -> None:
    run(tmp_path)
    data = (tmp_path / STATE).read_bytes()[:-7]
    (tmp_path / STATE).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: not a whole safetensors file"):
        run(tmp_path)
    assert (tmp_path / STATE).read_bytes() == data


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(TrainingError, match=r"other settings: lr 0\.01 -> 0\.02, max_epochs 3 -> 4; go on with"):
        run(tmp_path, lr=0.02, max_epochs=4)
    assert run(tmp_path, checkpoint_minutes=1.0).resumed


@pytest.mark.parametrize("error", [28, 122])  # no space left, quota exceeded
def test_a_full_disk_is_one_line_and_the_state_before_stays(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, at(3, ctrl_c))
    before = (tmp_path / STATE).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(frz.store.atomic.os, "fsync", full)
        with pytest.raises(StoreError, match="no space left on the device; free some and run the same command again"):
            run(tmp_path)
    assert (tmp_path / STATE).read_bytes() == before
    run(tmp_path)
    assert_same(tmp_path, whole)
