"""Versions of a data set on the command line: `name`, `@latest`, `@<n>` and `@<hash>` mean the same everywhere."""

import json
import re
import shutil
from pathlib import Path

import pandas
from test_build import recipe
from typer.testing import CliRunner

from conftest import tiny_recipe
from frz.data.build import build
from frz.store import snapshot
from frz_cli.main import app


def frz(artifacts: Path, *arguments: str) -> dict:
    result = CliRunner().invoke(app, [*arguments, "--artifacts", str(artifacts), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def hashes(artifacts: Path, name: str) -> list[str]:
    return [snapshot.read(artifacts / "datasets" / name, n).hash[:12] for n in (1, 2)]


def test_a_difference_is_rows_that_fit_a_page(tmp_path):
    build(recipe([list(range(100_000_000_000, 100_000_000_040))]), tmp_path)
    build(recipe([list(range(100_000_000_020, 100_000_000_060))]) | {"split": {"seed": 1}}, tmp_path)
    arguments = ["data", "diff", "listed@1", "listed@2", "--artifacts", str(tmp_path)]
    lines = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    assert any(line.split()[:2] == ["added", "20"] for line in lines)
    assert any("train -> " in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_data_commands(tmp_path):
    build(recipe([[3, 1, 2], [7, 8]]), tmp_path)
    table = tmp_path / "labels.csv"
    pandas.DataFrame({"id": [3, 1], "y": [0.5, 1.5], "text": ["a", "b"]}).to_csv(table, index=False)
    added = frz(tmp_path, "data", "add", "listed@latest", str(table), "--columns", "y")
    assert (added["version"], added["added"]["event/y"]["without_value"]) == (2, 3)
    one, two = hashes(tmp_path, "listed")
    for first, second in (("@1", "@2"), ("@1", ""), (f"@{one}", "@latest"), ("@1", f"@{two}")):
        found = frz(tmp_path, "data", "diff", f"listed{first}", f"listed{second}")
        assert found["schema"]["added"][0] == "event/y"
    assert frz(tmp_path, "data", "diff", "listed@2", "datasets/listed")["schema"] == {}
    shown = [frz(tmp_path, "data", "show", f"listed@{selector}")["version"] for selector in ("1", one, two, "latest")]
    assert shown == [1, 1, 2, 2]


def test_extract(tmp_path, tiny):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    build(tiny_recipe(330), tmp_path)
    one, two = hashes(tmp_path, "tiny")
    for selector, version in (("@2", 2), ("@1", 1), (f"@{two}", 2), (f"@{one}", 1), ("@latest", 2), ("", 2)):
        data = ("--data", f"tiny{selector}", "--set", f"out={tmp_path / 'own'}")
        found = frz(tmp_path, "extract", "--ckpt", "tiny", *data)
        assert found["data"] == f"tiny@{version}"


def test_the_difference_reads_well(tmp_path):
    build(recipe([[3, 1, 2], [7, 8]]), tmp_path)
    build(recipe([[3, 1, 2], [1007, 8]]), tmp_path)
    arguments = ["data", "diff", "listed@1", "listed@2", "--artifacts", str(tmp_path)]
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "{}" not in text
    for row in (r"a +5 +-", r"b +5 +-", r"added +1 +1007", r"removed +1 +7", r"changed +0 +-", r"reordered +no +-"):
        assert re.search(rf"\n +{row} *\n", text), row
