"""What the progress of a training shows beside the training loss."""

import json

import pytest
from toy_run import run

from frz.progress import _number, show
from frz.training.record import METRICS


def last_line(folder):
    return json.loads((folder / METRICS).read_text().splitlines()[-1])


@pytest.mark.parametrize(("monitor", "shown"), [("val/loss", ["val/loss"]), ("val/abs", ["val/loss", "val/abs"])])
def test_the_last_validation_stands_beside_the_training_loss(tmp_path, capsys, monitor, shown):
    show("lines")
    run(tmp_path, monitor=monitor)
    said = capsys.readouterr().err.splitlines()[-1].split(", ")
    assert [part.split()[0] for part in said if "loss" in part or "abs" in part] == ["loss", *shown]
    for name in shown:
        assert f"{name} {_number(last_line(tmp_path)[name])}" in said


def test_a_run_that_goes_on_shows_the_validation_before(tmp_path, capsys):
    def stop_at(number):
        def stop(call):
            if call == number:
                raise RuntimeError

        return stop

    show("lines")
    for number in (10, 1):  # in the second epoch, and at once when it goes on
        capsys.readouterr()
        with pytest.raises(RuntimeError):
            run(tmp_path, stop_at(number), checkpoint_minutes=0)
    told = capsys.readouterr().err
    assert f"val/loss {_number(last_line(tmp_path)['val/loss'])}" in told
    # losses 1 to 4 and 7 to 9 were steps, 5 and 6 the validation
    assert "training: goes on after step 7, 1 of 3 epochs done, 3 of 4 batches into the next" in told
