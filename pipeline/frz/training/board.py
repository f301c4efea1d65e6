"""The metrics of a run as TensorBoard event files, in `tensorboard/` of its folder (`tensorboard --logdir DIR`).

Particular: they are a copy of `metrics.jsonl` and nothing else, brought up to date whenever that file is. A run that
goes on writes them anew, so no line stands in them that the run does not know of.
"""

import json
from pathlib import Path
from typing import Any

from frz.config import import_extra
from frz.errors import ConfigError
from frz.location import is_remote
from frz.store import atomic

BOARD = "tensorboard"


class Board:
    """Event files beside a file of metrics.

    Parameters
    ----------
    metrics : Path
        JSON lines: each entry is a curve by optimiser step, but for `step` itself and values that are None.

    Raises
    ------
    ConfigError
        If TensorBoard is not installed, or the run lies in an object store.
    """

    def __init__(self, metrics: Path) -> None:
        self._writer_of = import_extra("tensorboard.summary", "tensorboard").Writer
        if is_remote(metrics):
            raise ConfigError(
                "TensorBoard files need a folder of this machine",
                where="trainer.tensorboard",
                way_out="set it to false",
            )
        self._metrics, self._read = metrics, 0
        self._writer: Any = None

    def follow(self) -> None:
        """Write the lines that are new since the last call; in the first one all, and remove earlier files."""
        if self._writer is None:
            folder = self._metrics.parent / BOARD
            atomic.remove(folder)
            self._writer = self._writer_of(str(folder))
        with self._metrics.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        self._read += len(lines)
        for line in map(json.loads, lines.splitlines()):
            step = line.pop("step")
            for name, value in line.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
