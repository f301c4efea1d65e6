"""One writer per folder."""

from pathlib import Path

import pytest

from frz.errors import TrainingError
from frz.training.lock import only_writer


def test_a_second_writer_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        with (
            pytest.raises(TrainingError, match="this run is being trained already; wait for it"),
            only_writer(tmp_path),
        ):
            pytest.fail("two writers")
        other = tmp_path / "other"
        other.mkdir()
        with only_writer(other):
            pass
    with only_writer(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_an_error_lets_the_folder_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), only_writer(tmp_path):
        raise ValueError("mine")
    with only_writer(tmp_path):
        pass
