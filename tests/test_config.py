"""YAML to strict models: every refusal is one line that names the key."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator, model_validator

from frz.config import StrictModel, canonical_json, digest_of, import_class, override, parse, read_yaml
from frz.errors import ConfigError


class Optimiser(StrictModel):
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


class Circle(StrictModel):
    kind: Literal["circle"]
    radius: float


class Square(StrictModel):
    kind: Literal["square"]
    edge_length: float = 1.0


class Run(StrictModel):
    name: str
    optimiser: Optimiser = Optimiser()
    layers: list[Optimiser] = []
    groups: dict[str, Optimiser] = {}
    shape: Annotated[Circle | Square, Field(discriminator="kind")] | None = None
    loose: Circle | Optimiser | None = None
    epochs: int = 1
    rate: float = Field(default=0.0, ge=0)
    paths: str | list[str] = ""

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if name == "bad":
            raise ValueError("is reserved")
        return name

    @model_validator(mode="after")
    def _check(self) -> "Run":
        if self.epochs == 13:
            raise ValueError("epochs and name do not fit")
        return self


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_a_file_is_read_and_overridden(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\noptimiser: {learning_rate: 0.1}\n")
    values = read_yaml(path, ["optimiser.learning_rate=0.5", "groups.x.betas=[0.1, 0.2]", "epochs=3", "name=b=c"])
    run = parse(Run, values, str(path))
    assert run.optimiser.learning_rate == 0.5
    assert run.groups["x"].betas == (0.1, 0.2)
    assert run.epochs == 3
    assert run.name == "b=c"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping of keys to values"),
        ("- 1\n- 2\n", "expected a mapping of keys to values"),
        ("a: [1\nb: 2", ":2:2: not valid YAML: expected ',' or ']', but got ':'"),
        ("a: 1\n\tb: 2\n", ":2:1: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: \x00\n", "not valid YAML: unacceptable character"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}\n", ":2:17: not valid YAML: key 'c' is given twice"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_may_replace_what_a_merge_brought_in(tmp_path: Path) -> None:
    path = write(tmp_path, "base: &b {x: 1, y: 2}\nother: {<<: *b, x: 3}\n")
    assert read_yaml(path)["other"] == {"x": 3, "y": 2}


def test_a_file_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file; check the path"):
        read_yaml(tmp_path / "nothing.yaml")
    write(tmp_path, "name: a")
    with pytest.raises(ConfigError, match=r"no such config file; did you mean 'run.yaml'\?"):
        read_yaml(tmp_path / "runs.yaml")
    with pytest.raises(ConfigError, match="is a folder, not a config file; have: run.yaml"):
        read_yaml(tmp_path)
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "override 'epochs' is not of the form"),
        ("=3", "not of the form"),
        ("a..b=3", "not of the form"),
        ("name.first=3", "'name' in 'name.first' holds a value"),
        ("epochs=[1", "value of 'epochs' is not valid YAML: expected ',' or ']'"),
    ],
)
def test_bad_overrides_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^--set: ") as caught:
        override({"name": "a"}, [text])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"epoch": 3}, "f: unknown key 'epoch'; did you mean 'epochs'?"),
        ({"optimiser": {"learning_rat": 1}}, "unknown key 'optimiser.learning_rat'; did you mean 'learning_rate'?"),
        ({"layers": [{}, {"beta": 1}]}, "unknown key 'layers.1.beta'; did you mean 'betas'?"),
        ({"groups": {"epochs": {"lerning_rate": 1}}}, "unknown key 'groups.epochs.lerning_rate'; did you mean 'learn"),
        ({"shape": {"kind": "square", "edge_len": 1}}, "'shape.edge_len'; did you mean 'edge_length'?"),
        ({"shape": {"kind": "circle", "radius": 1, "edge_length": 1}}, "known keys: kind, radius"),
        ({"loose": {"learning_rte": 1}}, "unknown key 'loose.learning_rte'; did you mean 'learning_rate'?"),
        ({"optimiser": {"zzz": 1}}, "unknown key 'optimiser.zzz'; known keys: betas, learning_rate"),
    ],
)
def test_an_unknown_key_brings_the_nearest_known_one_of_its_own_model(extra: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Run, {"name": "a", **extra}, "f")
    assert message in str(caught.value)


def test_a_misspelt_required_key_is_reported_rather_than_its_absence() -> None:
    with pytest.raises(ConfigError, match="unknown key 'nmae'; did you mean 'name'"):
        parse(Run, {"nmae": "a"}, "f")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "f: key 'name' is missing; add it"),
        ({"name": "a", "shape": {"kind": "circle"}}, "f: key 'shape.radius' is missing; add it"),
        ({"name": "a", "epochs": "many"}, "f: epochs = 'many': should be an integer"),
        ({"name": "a", "epochs": None}, "f: epochs = nothing: should be an integer"),
        ({"name": "a", "epochs": 1.5}, "f: epochs = 1.5: should be an integer"),
        ({"name": "a", "optimiser": "adam"}, "f: optimiser = 'adam': should be a mapping of keys to values"),
        ({"name": "a", "optimiser": {"betas": [1]}}, "f: key 'optimiser.betas.1' is missing"),
        ({"name": "a", "paths": 3}, "f: paths = 3: should be text"),
        ({"name": "a", "rate": -1}, "f: rate = -1: should be greater than or equal to 0"),
        ({"name": "bad"}, "f: name = 'bad': is reserved"),
        ({"name": "a", "epochs": 13}, "f: epochs and name do not fit"),
        ({"name": "a", "shape": {"kind": "star"}}, "'star'"),
        ({"name": "a", "layers": 3}, "f: layers = 3: should be a list"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Run, values, "f")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_bad_value_is_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Run, {"name": "a", "epochs": list(range(1000))}, "f")
    assert len(str(caught.value)) < 200


def test_a_parsed_model_cannot_be_changed() -> None:
    run = parse(Run, {"name": "a"}, "f")
    with pytest.raises(ValueError, match="frozen"):
        run.epochs = 3


def test_classes_are_found_by_word_and_by_import_path() -> None:
    table = {"path": "pathlib:Path"}
    assert import_class("path", table, "source") is Path
    assert import_class("pathlib:Path", {}, "source") is Path


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pth", "unknown source 'pth'; did you mean 'path'? (have: path), or give package.module:Class"),
        ("zzz", "unknown source 'zzz'; have: path, or give package.module:Class"),
        ("no_such_module:X", "cannot import source 'no_such_module:X': No module named 'no_such_module'"),
        ("pathlib:Pth", "cannot import source 'pathlib:Pth'"),
        ("math:pi", "source 'math:pi' is not a class"),
    ],
)
def test_a_class_that_cannot_be_found_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        import_class(spec, {"path": "pathlib:Path"}, "source")
    assert message in str(caught.value)


def test_equal_values_have_equal_digests_whatever_the_order_of_keys() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1}) == sha256(b'{"a":2,"b":1}').hexdigest()
    assert digest_of(Optimiser()) == digest_of({"betas": [0.9, 0.999], "learning_rate": 0.001})


def test_nan_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
