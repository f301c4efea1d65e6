"""A sweep's config and the heads it spans: a pure function, the same names and settings on every machine.

A random draw i depends on `draw_seed` and i alone, so more draws keep the ones before. Drawn numbers have four
digits: what stands in a head's name is its exact setting.
"""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from frz.config import StrictModel, digest_of, override, parse, read_yaml
from frz.errors import ConfigError
from frz.heads.run import HeadConfig
from frz.training.config import TrainerConfig

SEED = "trainer.seed"


class Range(StrictModel):
    """Values of one key: exactly one of `choice`, `uniform` and `log`."""

    choice: list[Any] | None = Field(default=None, min_length=1)
    """These values."""
    uniform: tuple[float, float] | None = None
    """Evenly between two numbers."""
    log: tuple[float, float] | None = None
    """Evenly between the logarithms of two numbers above 0."""
    n: int | None = Field(default=None, ge=2)
    """Points of `uniform` and `log` in a grid, both ends among them."""

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if sum(kind is not None for kind in (self.choice, self.uniform, self.log)) != 1:
            raise ValueError("give a list, or one of choice, uniform and log")
        if self.log is not None and min(self.log) <= 0:
            raise ValueError("the ends of log have to be above 0")
        return self

    def at(self, u: float) -> Any:
        """The value at u in [0, 1]."""
        if self.choice is not None:
            return self.choice[min(int(u * len(self.choice)), len(self.choice) - 1)]
        if self.uniform is not None:
            return rounded(self.uniform[0] + u * (self.uniform[1] - self.uniform[0]))
        assert self.log is not None
        low, high = log(self.log[0]), log(self.log[1])
        return rounded(exp(low + u * (high - low)))

    @property
    def grid(self) -> list[Any]:
        """All values, or `n` of them."""
        if self.choice is not None:
            return self.choice
        assert self.n is not None
        return [self.at(i / (self.n - 1)) for i in range(self.n)]


class HalvingConfig(StrictModel):
    """Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): the worst are dropped on the way."""

    eta: int = Field(default=3, ge=2)
    """One in `eta` goes on at each rung."""
    first: int = Field(default=1, ge=1)
    """Epochs before the first rung; each next one comes after `eta` times as many."""
    metric: str | None = None
    """Entry of `metrics.jsonl` that decides, by default `trainer.monitor`; which values are better is told as there, by
    its name."""


class SweepConfig(StrictModel):
    """What `frz sweep` trains."""

    name: str
    """Of the sweep; its heads are called after it."""
    base: str | dict[str, Any]
    """A head's config: its settings, or a file, beside this one."""
    over: dict[str, Any] = {}
    """Dotted keys of it, each with a list of values or a range."""
    random: int | None = Field(default=None, ge=1)
    """So many random points instead of the whole grid."""
    draw_seed: int = Field(default=0, ge=0)
    """Of the random points."""
    seeds: int = Field(default=1, ge=1)
    """Heads per point, with `trainer.seed` one higher each."""
    halving: HalvingConfig | None = None
    """Drop the worst on the way; a dropped head leaves its curve and no weights."""
    search: Literal["optuna"] | None = None
    """Adaptive search instead of the grid: `trials` points, `batch` at a time."""
    trials: int = Field(default=64, ge=1)
    """Points of a search."""
    batch: int = Field(default=16, ge=1)
    """Points that a search asks for at once: they are trained together."""

    @model_validator(mode="after")
    def _check(self) -> "SweepConfig":
        if self.search and self.random:
            raise ValueError("random and search exclude each other")
        if self.search and not self.over:
            raise ValueError("a search needs keys to search over")
        if apart := {"trainer.monitor", "trainer.monitor_mode"} & self.over.keys():
            raise ValueError(f"{min(apart)} in over: heads that are judged by different metrics cannot be ranked")
        if self.seeds > 1 and SEED in self.over:
            raise ValueError(f"{SEED} in over and seeds above 1 exclude each other")
        return self


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A sweep's config from a file; overrides reach into a base that is a file beside it (`base.features.data=...`).

    Raises
    ------
    ConfigError
        See `read_yaml`.
    """
    deeper = [text for text in overrides if text.startswith("base.")]
    values = read_yaml(path, [text for text in overrides if text not in deeper])
    if deeper and isinstance(values.get("base"), str):
        values["base"] = read_yaml(path.parent / values["base"])
    return override(values, deeper)


class Point(NamedTuple):
    """One head of a sweep."""

    chosen: dict[str, Any]
    """Values by key, without the seed."""
    values: dict[str, Any]
    """A `HeadConfig`, as it could stand in a file."""
    config: HeadConfig


def ranges(config: SweepConfig, where: str) -> dict[str, Range]:
    """The range of every key.

    Raises
    ------
    ConfigError
        If one is no range, a grid lacks its number of points, or two values would have the same name.
    """
    found: dict[str, Range] = {}
    for key, values in config.over.items():
        spec = {"choice": values} if isinstance(values, list) else values
        if not isinstance(spec, Mapping):
            raise ConfigError(f"over.{key} = {values!r}: give a list or a range", where=where)
        found[key] = parse(Range, spec, f"{where}: over.{key}")
        if found[key].choice is None and found[key].n is None and not (config.random or config.search):
            way_out = "add n, or draw at random (random: 20)"
            raise ConfigError(f"over.{key} is a range without a number of points", where=where, way_out=way_out)
        known: dict[str, Any] = {}
        for value in found[key].choice or []:
            if known.setdefault(_text(value), value) != value:
                what = f"over.{key}: {known[_text(value)]!r} and {value!r} would both be called {_text(value)!r}"
                raise ConfigError(what, where=where, way_out="a head is named by its values: give another spelling")
    return found


def expand(config: SweepConfig, base: Mapping[str, Any], where: str) -> list[Point]:
    """The heads of a grid or of random draws, each once.

    Parameters
    ----------
    config : SweepConfig
    base : mapping
        The head's config that the keys are set in.
    where : str
        What errors call the sweep's config.

    Raises
    ------
    ConfigError
        If a key is unknown or a value does not fit it, in one line.
    """
    spans = ranges(config, where)
    if config.random is None:
        rows: Iterator[tuple[Any, ...]] = itertools.product(*(span.grid for span in spans.values()))
    else:
        draws = (_uniforms(config.draw_seed, index, len(spans)) for index in range(config.random))
        rows = (tuple(span.at(u) for span, u in zip(spans.values(), us, strict=True)) for us in draws)
    points: dict[str, Point] = {}
    for row in rows:
        for point in points_of(config, base, dict(zip(spans, row, strict=True)), where):
            if points.setdefault(point.config.name, point).values != point.values:
                what = f"two heads with different settings would be called {point.config.name!r}"
                raise ConfigError(what, where=where, way_out="give other values")
    return list(points.values())


def points_of(config: SweepConfig, base: Mapping[str, Any], chosen: Mapping[str, Any], where: str) -> list[Point]:
    """The heads of one choice of values: one per seed."""
    labels = short_names([*chosen, *([SEED] if config.seeds > 1 else [])])
    found = []
    for number in range(config.seeds):
        values: dict[str, Any] = copy.deepcopy(dict(base))
        for key, value in chosen.items():
            _set(values, key, value, where)
        told = dict(chosen)
        if config.seeds > 1:
            told[SEED] = (values.get("trainer") or {}).get("seed", 0) + number
            _set(values, SEED, told[SEED], where)
        label = "".join(f"-{labels[key]}{_text(value)}" for key, value in told.items())
        values["name"] = config.name + label
        found.append(Point(dict(chosen), values, parse(HeadConfig, values, f"{where}: base and over")))
        if config.halving:
            _check_halving(config.halving, found[-1].config.trainer, where)
    return found


def _check_halving(halving: HalvingConfig, trainer: TrainerConfig, where: str) -> None:
    """Refuse a rung before the first validation."""
    first, validated = halving.first, min(trainer.val_every, trainer.max_epochs)
    if (halving.metric or trainer.monitor).startswith("val/") and first < validated:
        what = f"halving.first = {first} comes before the first validation, after epoch {validated}"
        raise ConfigError(what, where=where, way_out="lower trainer.val_every, or set halving.first no lower than it")


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Initials of the last word of each key (`model.regression_hidden_dim`: rhd); the whole word where they collide."""
    words = {key: key.rpartition(".")[2] for key in keys}
    initials = {key: "".join(part[0] for part in word.split("_") if part) for key, word in words.items()}
    taken = list(initials.values())
    short = {key: words[key] if taken.count(initials[key]) > 1 else initials[key] for key in keys}
    taken = list(short.values())
    return {key: key.replace(".", "_") if taken.count(short[key]) > 1 else short[key] for key in keys}


def _set(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{parent!r} in over.{key} holds a value, not a mapping", where=where)
    node[last] = copy.deepcopy(value)


def _uniforms(seed: int, index: int, n: int) -> list[float]:
    """Numbers in [0, 1) from raw bits alone: these never change between versions of numpy."""
    bits = np.random.Philox(key=np.array([seed, index], np.uint64)).random_raw(n)
    return [float(word) / 2.0**64 for word in np.atleast_1d(bits)]


def rounded(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def _text(value: Any) -> str:
    """A value as part of a name."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if float(f"{value:.6g}") == value else repr(value)
    if isinstance(value, int | str):
        return re.sub(r"[^\w.+-]", "_", str(value))
    return digest_of(value)[:6]
