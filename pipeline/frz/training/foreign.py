"""Weights from a file that frz need not have written: a state dict, bare or wrapped, in a safetensors or torch file.

Nothing is unpickled but tensors and plain containers (`weights_only`). Names are matched as they stand, else without
the prefixes that DataParallel (`module.`) and Lightning (`model.`) put before them.
"""

import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from frz.errors import CheckpointError
from frz.training.checkpoint import LISTED, LoadReport, compare, load, load_into

WRAPPERS = ("state_dict", "model_state_dict")
PREFIXES = ("module.", "model.")


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name (CPU) of a `.safetensors` file, or of one that `torch.save` wrote; and its meta if it is ours.

    Raises
    ------
    CheckpointError
        If there is no such file, it cannot be read without running code, or it holds no state dict.
    """
    if not path.is_file():
        raise CheckpointError("no such checkpoint", where=str(path), way_out="check the path")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                ours = "frz" in (file.metadata() or {})
            return load(path) if ours else (safetensors.torch.load_file(path), {})
        with warnings.catch_warnings(action="ignore"):  # about what it then refuses
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        ours_to_tell = isinstance(error, (SafetensorError, RuntimeError))
        why = next(iter(str(error).splitlines()), "") if ours_to_tell else "it holds other objects, or is damaged"
        what = f"not a file of tensors alone ({why})"
        way_out = "save model.state_dict() with torch.save or safetensors"
        raise CheckpointError(what, where=str(path), way_out=way_out) from None
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        what = f"holds no state dict, neither bare nor under {' or '.join(WRAPPERS)}"
        raise CheckpointError(what, where=str(path), way_out="save model.state_dict()")
    return tensors, {}


def warm_start(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, leave_out: Iterable[str], keep: Iterable[str] = ()
) -> LoadReport:
    """Fill a module with weights, or change nothing and say all that does not fit.

    Parameters
    ----------
    module : nn.Module
        What to fill. Floats are cast to its types.
    tensors : mapping
        As read; see the top of the module for names.
    where : str
        Named in the error.
    leave_out : iterable of str
        Names that the module does not know and that begin so are left out: heads.
    keep : iterable of str
        What begins so keeps the values that it has, whether the file holds it or not.

    Raises
    ------
    CheckpointError
        Listing missing, unexpected and mis-shaped tensors by name; or those whose weights are not finite.
    """
    expected: dict[str, Tensor] = module.state_dict()
    kept = tuple(keep)
    given = {name: value for name, value in matched(expected, tensors).items() if not name.startswith(kept)}
    wanted = {name: value for name, value in expected.items() if not name.startswith(kept)}
    for name in wanted.keys() & given.keys():
        if wanted[name].is_floating_point() and given[name].is_floating_point():
            given[name] = given[name].to(wanted[name].dtype)
    report = compare(wanted, given, leave_out)
    if report.fault or not report.loaded:
        fault = report.fault or "no tensor of it is known"
        way_out = "give a checkpoint of this model, or name what to leave as it is in init_except: [PREFIX, …]"
        raise CheckpointError(f"weights do not fit the model: {fault}", where=where, way_out=way_out)
    weights = dict(module.named_parameters())
    if bad := sorted(name for name in wanted if name in weights and not given[name].isfinite().all()):
        what = f"holds weights that are not finite: {', '.join(bad[:LISTED])}"
        raise CheckpointError(what, where=where, way_out="take a checkpoint from before it diverged")
    left = {name: value for name, value in expected.items() if name not in wanted}
    load_into(module, {name: given[name] for name in wanted} | left, where)
    return report


def matched(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names that are expected where prefixes are all that differs; others as they stand."""
    found = {name: value for name, value in tensors.items() if name in expected}
    for name in tensors.keys() - found.keys():
        short = name
        while short not in expected and short.startswith(PREFIXES):
            short = short.partition(".")[2]
        found[name if short in found else short] = tensors[name]
    return found
