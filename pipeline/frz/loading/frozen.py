"""A trained backbone from its checkpoint: built from the config that lies in it, filled strictly, frozen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frz.backbones.contract import BACKBONES, Backbone
from frz.config import StrictModel, import_class, parse
from frz.errors import CheckpointError, IdentityError
from frz.lineage import Fingerprint, fingerprint
from frz.store.schema import Schema
from frz.training.checkpoint import freeze, load, load_into

FINE_TUNED = "finetuned_head."
"""What begins so in the weights of a fine-tuned backbone is the head's that it was tuned with."""
HEAD_PREFIXES = (FINE_TUNED, "head.", "heads.", "cls_head.", "classifier.")
"""Tensors of a head that a checkpoint holds beside the backbone's, as fine-tuned ones do; left out by name."""


class BackboneCard(StrictModel):
    """What a backbone's checkpoint says of itself."""

    name: str
    family: str
    model: dict[str, Any]
    """The family's config, defaults filled in."""
    event_schema: Schema
    """Of the data set it was trained on."""
    data: dict[str, Any]
    """Name, version, hash and split of that data set; `earlier`: the same of others that weights it began with saw."""


class FrozenBackbone:
    """A backbone that no longer changes, and who it is."""

    def __init__(self, path: Path, device: torch.device, schema: Schema | None = None) -> None:
        """Load the checkpoint at `path`, for data of `schema` (default: of the data set it was trained on).

        Raises
        ------
        CheckpointError
            If the file is damaged, is no backbone's, or its weights do not fit its config.
        IdentityError
            If the weights are not those the checkpoint's fingerprint was taken of.
        """
        tensors, meta = load(path)
        if "backbone" not in meta:
            raise CheckpointError(
                "not the checkpoint of a backbone", where=str(path), way_out="give one that train-backbone wrote"
            )
        self.path = path
        self.card = BackboneCard.model_validate(meta["backbone"])
        self.module = build(self.card, schema)
        of_backbone = {name: value for name, value in tensors.items() if not name.startswith(FINE_TUNED)}
        self.report = load_into(self.module, of_backbone, str(path), HEAD_PREFIXES)
        self.n_parameters = freeze(self.module)
        self.fingerprint = fingerprint_of(self.module.state_dict(), self.card.family, self.card.model)
        self.device = device
        expected = meta.get("fingerprint", self.fingerprint.value)
        if expected != self.fingerprint.value:
            raise IdentityError(
                f"the weights have fingerprint {self.fingerprint.value[:12]}, the checkpoint says {expected[:12]}",
                where=str(path),
                way_out="the file was changed after training; take another checkpoint",
            )
        self.module.to(device)


def seen_before(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The data set in a backbone's card, and those before it: what whoever begins with its weights has seen too."""
    return [{key: value for key, value in data.items() if key != "earlier"}, *data.get("earlier", ())]


def build(card: BackboneCard, schema: Schema | None = None) -> Backbone:
    """The untrained model that a card describes, for data of `schema` (default: the card's)."""
    family = import_class(card.family, BACKBONES, "backbone")
    model: Backbone = family(parse(family.Config, card.model, f"{card.name}: model"), schema or card.event_schema)
    return model


def fingerprint_of(tensors: Mapping[str, Tensor], family: str, config: Mapping[str, Any]) -> Fingerprint:
    """Fingerprint of a state dict: weights and buffers."""
    arrays = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu()
        arrays[name] = (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()
    return fingerprint(arrays, family, config)
