"""The README of training: every key with its default, and the figure that the code draws."""

import re
from pathlib import Path
from typing import Any

from PIL import Image

from frz.training.config import TrainerConfig


def test_every_key_stands_in_the_table_with_its_default(project: Path) -> None:
    text = (project / "pipeline/frz/training/README.md").read_text()
    table = text.partition("\n## Keys\n")[2].partition("\n## ")[0]
    stated: dict[str, str] = {}
    for keys, defaults in re.findall(r"^\| (`.+?) \| (.+?) \| .+ \|$", table, re.MULTILINE):
        names = re.findall(r"`(\w+)`", keys)
        stated |= dict(zip(names, defaults.split(", ") if len(names) > 1 else [defaults], strict=True))
    assert stated.keys() == TrainerConfig.model_fields.keys()
    for name, field in TrainerConfig.model_fields.items():
        default: Any = field.default
        if isinstance(default, str):
            assert stated[name] == f"`{default}`", name
        elif isinstance(default, bool):
            assert stated[name] == str(default).lower(), name
        elif default is not None:
            assert float(stated[name]) == default, name


def test_the_figure_is_drawn(fresh_python: Any, project: Path, tmp_path: Path) -> None:
    done = fresh_python("-m", "benchmarks", "schedules", "--out", str(tmp_path / "drawn.png"), cwd=project)
    assert done.returncode == 0, done.stderr
    kept = project / "pipeline/frz/training/schedules.png"
    assert kept.stat().st_size < 40_000
    with Image.open(kept) as ours, Image.open(tmp_path / "drawn.png") as drawn:
        assert ours.size == drawn.size
