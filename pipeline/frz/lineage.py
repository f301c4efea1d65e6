"""Where numbers come from: the fingerprint of the weights, the code and the versions, and what differs between two.

The fingerprint covers every weight and buffer (normalisation constants and fitted state are buffers), the
family and its canonical config. It knows nothing of files, times or paths. Code is found and read, never imported:
whoever only reads features can say whether the code that made them has changed.
"""

import ast
import io
import platform
import sysconfig
import tokenize
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.config import StrictModel, canonical_json, digest_of

SOURCES = 1024
"""Files whose reading is remembered, by their text: one command asks several times."""


class Fingerprint(StrictModel):
    """Identity of a frozen backbone."""

    value: str
    """SHA-256 (hex) of everything below."""
    family: str
    config: dict[str, Any]
    tensors: dict[str, str]
    """SHA-256 (hex) of (dtype, shape, bytes) of each weight and buffer."""


def fingerprint(tensors: Mapping[str, NDArray[Any]], family: str, config: Mapping[str, Any]) -> Fingerprint:
    """Fingerprint of weights and buffers with the config that gives them a meaning.

    Parameters
    ----------
    tensors : mapping
        Every entry of the state dict, as numpy arrays (bfloat16 viewed as uint16).
    family : str
        Name or import path of the family.
    config : mapping
        Its validated config, with defaults filled in.
    """
    digests = {name: tensor_digest(values) for name, values in sorted(tensors.items())}
    total = digest_of([family, dict(config), digests])
    return Fingerprint(value=total, family=family, config=dict(config), tensors=digests)


def tensor_digest(values: NDArray[Any]) -> str:
    """SHA-256 (hex) of dtype, shape and bytes."""
    state = sha256(canonical_json([str(values.dtype), list(values.shape)]).encode())
    state.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def differences(one: Fingerprint, other: Fingerprint, most: int = 5) -> str:
    """What differs between two fingerprints, in words: family, config keys, tensors by name."""
    found = []
    if one.family != other.family:
        found.append(f"family ({one.family} / {other.family})")
    keys = sorted(k for k in one.config.keys() | other.config.keys() if one.config.get(k) != other.config.get(k))
    if keys:
        found.append(f"config keys {_some(keys, most)}")
    names = sorted(n for n in one.tensors.keys() | other.tensors.keys() if one.tensors.get(n) != other.tensors.get(n))
    if names:
        found.append(f"{len(names)} of {len(one.tensors.keys() | other.tensors.keys())} tensors ({_some(names, most)})")
    return "; ".join(found) or "nothing"


def _some(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def versions() -> dict[str, str]:
    """Versions of what numbers depend on softly: Python, the machine and the libraries."""
    found = {package: _version(package) for package in ("frz", "torch", "numpy", "zarr", "scipy")}
    libraries = {package: number for package, number in found.items() if number}
    return {"python": platform.python_version(), "machine": platform.machine(), **libraries}


@cache  # read from files of many lines, and asked for whenever weights are saved
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_digests(modules: Iterable[str]) -> dict[str, str]:
    """SHA-256 (hex) of the source of each module that is found here, without comments and blank lines."""
    files = {name: _source_file(name) for name in modules}
    return {name: sha256(_bare(file.read_text()).encode()).hexdigest() for name, file in files.items() if file}


def imported(start: Iterable[str], inside: Iterable[str]) -> list[str]:
    """Modules that the code of some modules imports, directly or not, and these themselves; sorted.

    Followed are the modules of the packages `inside`, those that share a package with one in `start` (frz itself
    apart), and what is installed nowhere, such as files in the working folder. Imports are read from the source, so
    those by a computed name are not seen.
    """
    inside, found, open_ = tuple(inside), set[str](), list(start)
    packages = {name.partition(".")[0] for name in open_} - {"frz"}
    while open_:
        name = open_.pop()
        file = None if name in found else _source_file(name)
        top = name.partition(".")[0]
        if file is None or not (
            name.startswith(inside) or top in packages or (top != "frz" and not _is_installed(file))
        ):
            continue
        found.add(name)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        open_ += [name.rpartition(".")[0], *_imports(file.read_text(), package)]
    return sorted(found)


def _source_file(name: str) -> Path | None:
    """The Python file of a module; only its top package is looked up, by the import system, and nothing is run."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top) if top else None
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    places = [Path(location, *rest) for location in spec.submodule_search_locations or ()]
    files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    return next((file for file in files if file.is_file()), None)


def _is_installed(file: Path) -> bool:
    """Whether a file is part of Python or of an installed library: these have versions."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return True
    return any(file.is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))


@lru_cache(SOURCES)
def _imports(source: str, package: str) -> tuple[str, ...]:
    """Names that may be modules in the import statements of a file of a package."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


@lru_cache(SOURCES)
def _bare(source: str) -> str:
    """Python source without comments and the lines that hold nothing else."""
    lines = source.splitlines()
    blank = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column].rstrip()
        if token.type == tokenize.NL and not lines[row - 1].strip():
            blank.add(row - 1)
    return "\n".join(line for row, line in enumerate(lines) if row not in blank)


def soft_differences(theirs: Mapping[str, Any], mine: Mapping[str, Any], most: int = 5) -> list[str]:
    """What differs, in words, between two records of what features were made with: versions, device, code."""
    names = sorted(n for n in (theirs.keys() | mine.keys()) - {"code"} if theirs.get(n) != mine.get(n))
    found = [f"{n} ({theirs.get(n, 'none')} there, {mine.get(n, 'none')} here)" for n in names]
    one, other = theirs.get("code", {}), mine.get("code", {})
    modules = sorted(m for m in one.keys() | other.keys() if one.get(m) != other.get(m))
    return found + ([f"code of {_some(modules, most)}"] if modules else [])


def changed_since(made_with: Mapping[str, Any]) -> list[str]:
    """What differs, in words, between what features were made with and what is here, as far as that is here."""
    code = made_with.get("code", {})
    return soft_differences(made_with, {**made_with, **versions(), "code": {**code, **code_digests(code)}})
