"""The README's own backbone is run as it stands there."""

import re
import sys

import frz
from conftest import TINY_HEAD, tiny_recipe
from frz.data.build import build
from frz.extract.run import extract
from frz.heads.run import train as train_head
from frz.pretrain import train as train_backbone


def blocks(project, language):
    return re.findall(rf"```{language}\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)


def test_the_own_backbone_runs_train_extract_and_head(project, tmp_path, monkeypatch):
    code = next(block for block in blocks(project, "python") if "(Backbone)" in block)
    (tmp_path / "mynet.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    build(tiny_recipe(), tmp_path)
    values = {"name": "mine", "family": "mynet:DeepSet", "data": "tiny"}
    train_backbone({**values, "trainer": {"max_epochs": 1, "batch_size": 50}}, tmp_path)
    result = extract("mine", tmp_path)
    assert result["events"] == 320
    head = {**TINY_HEAD, "features": {"backbone": "mine", "data": "tiny"}, "model": {"fields": ["eta"], "hit_nets": []}}
    card = train_head(head, tmp_path)
    assert card["metrics"]["test"]["head"]["slots"] > 0
    sys.modules.pop("mynet")


def test_the_notebook_lines_run(project, tiny, monkeypatch):
    code = next(block for block in blocks(project, "python") if "frz.open" in block)
    monkeypatch.chdir(tiny.parent)
    (path,) = (tiny / "features").iterdir()
    code = re.sub(r'"artifacts/features/[^"]*"', repr(str(path)), code)
    exec(code, {"frz": frz})
