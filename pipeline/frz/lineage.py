"""Where numbers come from: the fingerprint of the weights, and what differs between two of them.

The fingerprint covers every weight and buffer (normalisation constants and fitted state are buffers), the
family and its canonical config. It knows nothing of files, times or paths.
"""

import platform
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.config import StrictModel, canonical_json, digest_of


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
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("frz", "torch", "numpy", "zarr", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
