"""TensorBoard files are a copy of the metrics, also after an interruption."""

import json
import sys

import pytest
from toy_run import STEPS, run

from frz.errors import ConfigError
from frz.training.board import BOARD, Board
from frz.training.config import TrainerConfig
from frz.training.record import METRICS
from frz.training.run import identity


def scalars(folder):
    """Name -> [(step, value)] of all event files in a folder."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install 'frz[tensorboard]'"
    )
    found = accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    names = found.Tags()["tensors"]
    return {name: [(e.step, float(e.tensor_proto.float_val[0])) for e in found.Tensors(name)] for name in names}


def of_metrics(folder):
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    return {
        name: [(line["step"], pytest.approx(line[name])) for line in lines if line.get(name) is not None]
        for name in names
    }


@pytest.fixture
def _tensorboard():
    pytest.importorskip("tensorboard", reason="pip install 'frz[tensorboard]'")


@pytest.mark.usefixtures("_tensorboard")
def test_every_entry_of_the_metrics_is_a_curve(tmp_path):
    run(tmp_path, tensorboard=True)
    found = scalars(tmp_path / BOARD)
    assert found == of_metrics(tmp_path)
    assert [step for step, _ in found["val/loss"]] == [STEPS, 2 * STEPS, 3 * STEPS]


@pytest.mark.usefixtures("_tensorboard")
def test_lines_appear_while_the_run_goes_on_and_what_is_missing_does_not(tmp_path):
    file = tmp_path / METRICS
    board = Board(file)
    file.write_text('{"epoch": 1, "step": 4, "train/loss": 2.0}\n')
    board.follow()
    assert scalars(tmp_path / BOARD)["train/loss"] == [(4, 2.0)]
    with file.open("a") as lines:
        lines.write('{"epoch": 2, "step": 8, "train/loss": null}\n{"epoch": 3, "step": 12, "train/loss": 0.5}\n')
    board.follow()
    assert scalars(tmp_path / BOARD)["train/loss"] == [(4, 2.0), (12, 0.5)]
    board.close()


@pytest.mark.usefixtures("_tensorboard")
def test_a_run_that_goes_on_writes_its_curves_anew(tmp_path):
    def stop(call):
        if call == 10:  # in the second epoch
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run(tmp_path, stop, tensorboard=True, checkpoint_minutes=0)
    assert [step for step, _ in scalars(tmp_path / BOARD)["lr"]] == [STEPS]
    run(tmp_path, tensorboard=True)
    assert scalars(tmp_path / BOARD) == of_metrics(tmp_path)
    assert len(list((tmp_path / BOARD).iterdir())) == 1


def test_curves_are_not_what_makes_a_run(tmp_path):
    assert identity(TrainerConfig(tensorboard=True)) == identity(TrainerConfig())
    run(tmp_path)
    assert not (tmp_path / BOARD).exists()


def test_without_the_package_the_extra_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ConfigError, match=r"pip install 'frz\[tensorboard\]'"):
        run(tmp_path, tensorboard=True)
    assert not (tmp_path / METRICS).exists()
