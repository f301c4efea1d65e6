"""Checkpoints: one safetensors file each, tensors beside JSON, whole or not there.

The header's metadata has one entry, `frz`, a JSON text with `meta` (what the tensors are: config, versions,
metrics) and `crc32` (a checksum per tensor, so that damage is found and not trained on); one, since the
format's writer gives several in any order. Nothing is ever unpickled.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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


def load_into(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, ignore_prefixes: Iterable[str] = ()
) -> tuple[str, ...]:
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
    tuple of str
        Names that were left out.

    Raises
    ------
    CheckpointError
        Listing missing, unexpected and mis-shaped tensors by name.
    """
    prefixes = tuple(ignore_prefixes)
    expected: dict[str, Tensor] = module.state_dict()
    left_out = tuple(sorted(name for name in tensors if name not in expected and name.startswith(prefixes)))
    missing = sorted(set(expected) - set(tensors))
    unexpected = sorted(set(tensors) - set(expected) - set(left_out))
    misfits = [
        f"{name}: {_form(tensors[name])} in the file, {_form(value)} in the model"
        for name, value in sorted(expected.items())
        if name in tensors and _form(tensors[name]) != _form(value)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "mis-shaped": misfits}
    report = "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names)
    if report:
        way_out = "build the model with the config that stands in the checkpoint"
        raise CheckpointError(f"weights do not fit the model: {report}", where=where, way_out=way_out)
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(tensors[name])
    return left_out


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


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"
