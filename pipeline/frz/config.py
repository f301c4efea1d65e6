"""YAML to strict models: unknown keys are refused with the nearest known one, overrides are dotted.

A component (backbone, head, source) is named by a word of a plain table or by an import path
(`mypkg.net:MyBackbone`); both end in `import_class`.
"""

import difflib
import importlib
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from frz.errors import ConfigError, nearest


class StrictModel(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML mapping and apply `key.sub=value` overrides to it.

    Raises
    ------
    ConfigError
        If the file is missing, is not a YAML mapping (naming line and column), or an override is not `key=value`.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a config file" if path.is_dir() else "no such config file"
        beside = [found.name for found in (path if path.is_dir() else path.parent).glob("*.yaml")]
        raise ConfigError(what, where=str(path), way_out=nearest(path.name, beside) if beside else "check the path")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"not valid YAML: {error.problem}", where=where) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid YAML: {error}", where=str(path)) from None
    if not isinstance(values, dict):
        raise ConfigError("expected a mapping of keys to values", where=str(path))
    return override(values, overrides)


def override(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `key.sub=value` overrides, whose values are YAML, to `values` in place and return it.

    Raises
    ------
    ConfigError
        If an override is not `key=value`, or its key leads through something that is not a mapping.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        *parents, last = key.split(".")
        if not equals or not all((*parents, last)):
            raise ConfigError(f"override {text!r} is not of the form key.sub=value", where="--set")
        node = values
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"{parent!r} in {key!r} holds a value, not a mapping", where="--set")
            node = child
        try:
            node[last] = yaml.load(value, _UniqueKeys)
        except yaml.YAMLError as error:
            problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            raise ConfigError(f"value of {key!r} is not valid YAML: {problem}", where="--set") from None
    return values


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which the plain loader silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a dict; keys that came in by a merge (`<<`) may be given again."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Validate `values` as `model`; a bad key or value is one line that names it.

    Raises
    ------
    ConfigError
        Naming the dotted key, the value found and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _explain(model, values, error, where) from None


def _explain(model: type[BaseModel], values: Mapping[str, Any], error: ValidationError, where: str) -> ConfigError:
    """One line for the fault that explains most: a misspelt key before what its absence causes, then the deepest."""
    faults = sorted(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
    for fault in faults:
        if fault["type"] != "extra_forbidden":
            break
        known, key = _follow(model, values, fault["loc"])
        if near := difflib.get_close_matches(str(fault["loc"][-1]), known, n=1):
            return ConfigError(f"unknown key {key!r}", where=where, way_out=f"did you mean {near[0]!r}?")
    fault = faults[0]
    known, key = _follow(model, values, fault["loc"])
    if fault["type"] == "extra_forbidden":
        return ConfigError(f"unknown key {key!r}", where=where, way_out=f"known keys: {', '.join(known) or 'none'}")
    if fault["type"] == "missing":
        return ConfigError(f"key {key!r} is missing", where=where, way_out="add it")
    rule = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        # A rule between several keys: the whole mapping as "found" would drown it.
        return ConfigError(f"{key}: {rule}" if key else rule, where=where)
    kind, _, fails = fault["type"].partition("_")
    if kind in _NEEDS and fails in ("type", "parsing", "from_float"):
        rule = f"should be {_NEEDS[kind]}"
    rule = rule.replace("Input should", "should")
    return ConfigError(f"{key} = {_short(fault['input'])}: {rule}", where=where)


_NEEDS = {
    "int": "an integer",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
}
"""What the value of a key should be, by the first word of the code that pydantic gives its error."""


def _short(value: Any, limit: int = 80) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _follow(model: type[BaseModel], values: Any, path: Sequence[str | int]) -> tuple[list[str], str]:
    """Keys known beside the last step of `path`, and the dotted key as the user wrote it.

    Steps that are no fields are positions in lists and keys of mappings, or the member of a union that pydantic
    tried (its type, or the value that tells it apart); the latter stand in no file.
    """
    current, written = [model], []
    known: list[str] = []
    for step in path:
        known = sorted({name for c in current for name in c.model_fields})
        fields = [c.model_fields[str(step)] for c in current if step in c.model_fields]
        members = [c for c in current if step == c.__name__ or _has_tag(c, step)]
        inside = isinstance(values, Mapping) and step in values
        if fields or inside or isinstance(step, int):
            written.append(str(step))
        if inside or (isinstance(values, list) and isinstance(step, int) and step < len(values)):
            values = values[step]
        if fields:
            current = [m for field in fields for m in _models(field.annotation)]
        elif members:
            current = members
    return known, ".".join(written)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation mentions: itself, or in its arguments."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models(argument)]


def _has_tag(model: type[BaseModel], step: str | int) -> bool:
    """Whether a Literal field of the model allows `step` alone."""
    return any(get_args(field.annotation) == (step,) for field in model.model_fields.values())


def import_extra(module: str, extra: str) -> Any:
    """A module that only an optional extra of the package brings.

    Raises
    ------
    ConfigError
        Naming the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        way_out = f"pip install 'frz[{extra}]'"
        raise ConfigError(f"this needs {module.partition('.')[0]} ({error})", way_out=way_out) from None


def import_class(spec: str, table: Mapping[str, str], kind: str) -> type[Any]:
    """Find the class that `spec` names: a word of `table`, or `package.module:Class`.

    Raises
    ------
    ConfigError
        If the word is not in the table, or the module or class cannot be imported.
    """
    target = table.get(spec, spec)
    module_name, colon, class_name = target.partition(":")
    if not colon:
        way_out = f"{nearest(spec, table)}, or give package.module:Class"
        raise ConfigError(f"unknown {kind} {spec!r}", way_out=way_out)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot import {kind} {target!r}: {error}", way_out="check PYTHONPATH") from None
    if not isinstance(found, type):
        raise ConfigError(f"{kind} {target!r} is not a class")
    return found


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values give equal text."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return sha256(canonical_json(value).encode()).hexdigest()
