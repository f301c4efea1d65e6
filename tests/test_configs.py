"""Every shipped config and recipe is valid: each key known, each component found."""

from pathlib import Path

import pytest

from frz.backbones.contract import BACKBONES
from frz.config import import_class, parse, read_yaml
from frz.data.build import Recipe
from frz.data.source import SOURCES
from frz.heads.contract import HEADS
from frz.heads.run import HeadConfig
from frz.joint.settings import FinetuneConfig
from frz.loading.frozen import BackboneCard, build
from frz.pretrain import BackboneConfig
from frz.sweep.space import SweepConfig, expand
from frz.training.config import TrainerConfig

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
RECIPES = sorted((ROOT / "data").glob("*.yaml"))


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    """Files, where the recipe expects them, that a schema cannot be told without: the variables of `seqset`."""
    table = tmp_path / "data/downloads/seqset/stats.csv"
    table.parent.mkdir(parents=True)
    table.write_text("variable,mean,std\nHR,80,15\n")
    monkeypatch.chdir(tmp_path)


def schema_of(recipe_name: str):
    values = parse(Recipe, read_yaml(ROOT / "data" / f"{recipe_name}.yaml"), recipe_name)
    settings = dict(values.source)
    source_class = import_class(settings.pop("kind"), SOURCES, "source")
    return source_class(parse(source_class.Config, settings, recipe_name)).schema


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes(path):
    assert parse(Recipe, read_yaml(path), str(path)).name == path.stem
    assert schema_of(path.stem).with_role("input")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_configs(path):
    values = read_yaml(path)
    if "family" in values:
        config = parse(BackboneConfig, values, str(path))
        family = import_class(config.family, BACKBONES, "backbone")
        model = parse(family.Config, config.model, str(path)).model_dump(mode="json")
        built = build(
            BackboneCard(
                name=config.name, family=config.family, model=model, event_schema=schema_of(config.data), data={}
            )
        )
        assert set(built.inputs) <= set(schema_of(config.data).arrays)
        return
    if "features" not in values and "head" in values:
        tuned = parse(FinetuneConfig, values, str(path))
        parse(TrainerConfig, tuned.trainer, str(path))
        assert tuned.head in [read_yaml(file)["name"] for file in path.parent.glob("head-*.yaml")]
        return
    heads = [values]
    if "base" in values:
        sweep = parse(SweepConfig, values, str(path))
        heads = [point.values for point in expand(sweep, read_yaml(path.parent / sweep.base), str(path))]
    backbone = read_yaml(path.parent / "backbone.yaml")
    for head in heads:
        config = parse(HeadConfig, head, str(path))
        parse(import_class(config.head, HEADS, "head").Config, config.model, str(path))
        assert (config.features.backbone, config.features.data) == (backbone["name"], backbone["data"])


def test_there_is_something_to_check():
    assert len(CONFIGS) >= 4
    assert len(RECIPES) >= 2
