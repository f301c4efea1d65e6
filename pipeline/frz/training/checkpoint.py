"""Checkpoints: one safetensors file each, tensors beside JSON, whole or not there.

The header's metadata has one entry, `frz`, a JSON text with `meta` (what the tensors are: config, versions,
metrics) and `crc32` (a checksum per tensor, so that damage is found and not trained on); one, since the
format's writer gives several in any order. Nothing is ever unpickled.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from frz.errors import CheckpointError
from frz.location import read_bytes
from frz.store.atomic import write_file

LISTED = 8
"""Names that a refusal lists of each kind."""


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint; whatever stood at `path` stays until the new file is on disk.

    Parameters
    ----------
    path : Path
        File to write; its folder exists.
    tensors : mapping
        Tensors by name, on any device.
    meta : mapping
        JSON values. NaN and infinity are no JSON and are refused (ValueError).

    Raises
    ------
    StoreError
        If no space is left.
    """
    # a copy where memory is shared or strided: the format knows neither
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().to("cpu").contiguous()
        if value.untyped_storage().data_ptr() in storages:
            value = value.clone()
        storages.add(value.untyped_storage().data_ptr())
        plain[name] = value
    checksums = {name: _crc32(value) for name, value in plain.items()}
    text = json.dumps({"meta": meta, "crc32": checksums}, sort_keys=True, allow_nan=False)
    write_file(path, safetensors.torch.save(plain, {"frz": text}))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: tensors (CPU) and meta.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, damaged, or no checkpoint of ours.
    """
    again = f"put a copy of it back, remove the folder {path.parent} and train again, or name another checkpoint"
    try:
        data = read_bytes(path)
        tensors = safetensors.torch.load(data)
    except FileNotFoundError:
        if (path.parent / "config.yaml").is_file():
            way_out = "give the command that began it again: it goes on"
            raise CheckpointError("the run has no weights yet", where=str(path), way_out=way_out) from None
        raise CheckpointError("no such checkpoint", where=str(path), way_out="check the path") from None
    except IsADirectoryError:
        raise CheckpointError("is a folder, not a checkpoint", where=str(path), way_out="name the file") from None
    except SafetensorError as error:
        what = f"not a whole safetensors file ({error})"
        raise CheckpointError(what, where=str(path), way_out=again) from None
    length = int.from_bytes(data[:8], "little")
    try:
        frz = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["frz"])
        meta, checksums = frz["meta"], frz["crc32"]
    except (KeyError, ValueError):
        what = "a safetensors file, but not a checkpoint of frz (its metadata has no 'frz')"
        raise CheckpointError(what, where=str(path), way_out="name a file that frz wrote") from None
    damaged = [name for name, value in tensors.items() if checksums.get(name) != _crc32(value)]
    if damaged:
        raise CheckpointError(f"damaged: wrong checksum of {_listed(damaged)}", where=str(path), way_out=again)
    return tensors, meta


class LoadReport(NamedTuple):
    """How tensors fit the state dict of a module, by name."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    """That the module wants."""
    unexpected: tuple[str, ...]
    """That it does not know."""
    misfits: tuple[str, ...]
    """Of another shape or dtype: `name: float32 (3,) in the file, float32 (4,) in the model`."""
    left_out: tuple[str, ...]
    """That it does not know and shall not: heads."""

    @property
    def fault(self) -> str:
        """What does not fit, in a line; '' if all does."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "mis-shaped": self.misfits}
        return "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names)

    def __str__(self) -> str:
        told = f"{len(self.loaded)} tensors loaded"
        return f"{told}, {len(self.left_out)} of heads left out ({_listed(self.left_out)})" if self.left_out else told


def compare(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], ignore_prefixes: Iterable[str] = ()
) -> LoadReport:
    """How `tensors` fit what is `expected`; those that are not and begin with one of the prefixes are left out."""
    prefixes = tuple(ignore_prefixes)
    shared = sorted(expected.keys() & tensors.keys())
    misfits = {
        name: f"{name}: {_form(tensors[name])} in the file, {_form(expected[name])} in the model"
        for name in shared
        if _form(tensors[name]) != _form(expected[name])
    }
    strange = sorted(tensors.keys() - expected.keys())
    return LoadReport(
        loaded=tuple(name for name in shared if name not in misfits),
        missing=tuple(sorted(expected.keys() - tensors.keys())),
        unexpected=tuple(name for name in strange if not name.startswith(prefixes)),
        misfits=tuple(misfits.values()),
        left_out=tuple(name for name in strange if name.startswith(prefixes)),
    )


def load_into(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, ignore_prefixes: Iterable[str] = ()
) -> LoadReport:
    """Fill `module` with `tensors`, or change nothing and say all that does not fit.

    Parameters
    ----------
    module : nn.Module
        Its state dict says what is expected: names, shapes, dtypes.
    tensors : mapping
        Weights and buffers by name.
    where : str
        Named in the error: the file.
    ignore_prefixes : iterable of str
        Names in `tensors` that begin so are left out (heads in a backbone's checkpoint).

    Returns
    -------
    LoadReport
        Without fault.

    Raises
    ------
    CheckpointError
        Listing missing, unexpected and mis-shaped tensors by name.
    """
    expected: dict[str, Tensor] = module.state_dict()
    report = compare(expected, tensors, ignore_prefixes)
    if report.fault:
        way_out = "put a whole checkpoint of this very model there, or name another one"
        raise CheckpointError(f"weights do not fit the model: {report.fault}", where=where, way_out=way_out)
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(tensors[name])
    return report


def freeze(module: nn.Module) -> int:
    """Make `module` a constant: no gradients, and in eval mode for good, whatever `train()` a parent calls.

    Call it after loading.

    Returns
    -------
    int
        Number of parameters (scalars) that are frozen now; none is left trainable (asserted).
    """
    module.requires_grad_(False)
    module.eval()
    for part in module.modules():
        part.__dict__["train"] = _StaysInEval(part)
    assert n_trainable(module) == 0
    return sum(parameter.numel() for parameter in module.parameters())


def n_trainable(module: nn.Module) -> int:
    """Number of trainable parameters (scalars)."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


class _StaysInEval:
    """Stands in for `train` of a frozen module (a class, so that the module can still be copied)."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        del mode
        return self.module


def _crc32(tensor: Tensor) -> int:
    flat = tensor.contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0


def _form(tensor: Tensor) -> str:
    """`float32 (3, 4)`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"
