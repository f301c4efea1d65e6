"""What features depend on, and the refusal to mix features that differ in it.

Hard differences (weights, the recipe of the forward pass, outputs and their types, static inputs) make other features:
a store never holds both. The refusal names what differs and what doing all again would cost.
"""

from pathlib import Path
from typing import Any

import torch

from frz.config import digest_of
from frz.errors import IdentityError
from frz.extract.settings import ANNOTATION, CARRIED, FEATURES, Settings, group_of
from frz.lineage import Fingerprint, differences
from frz.loading.frozen import FrozenBackbone
from frz.progress import size
from frz.store.reader import EventStore
from frz.store.schema import Schema
from frz.store.snapshot import Snapshot


def identity_of(frozen: FrozenBackbone, source: EventStore, out: Schema, settings: Settings) -> dict[str, str]:
    """Per group of arrays: digest of what its rows depend on beside the event itself."""
    features = digest_of(
        [frozen.fingerprint.value, settings.recipe(), static_inputs(source), group_of(out, FEATURES).digest()]
    )
    found = {FEATURES: features, CARRIED: group_of(out, CARRIED).digest()}
    if frozen.module.annotations:
        found[ANNOTATION] = digest_of([features, group_of(out, ANNOTATION).digest()])
    return found


def static_inputs(source: EventStore) -> dict[str, str]:
    """Digests of the static arrays that the source brings; those that keep added columns are no inputs."""
    return {name: source.snapshot.static[name] for name in source.schema.static}


def workplace(frozen: FrozenBackbone) -> dict[str, str]:
    """The device, and torch's threads: what last bits depend on beside versions."""
    device = frozen.device
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    return {"device": name, "threads": str(torch.get_num_threads())}


def refuse_other(
    there: Snapshot, root: Path, frozen: FrozenBackbone, source: EventStore, out: Schema, settings: Settings
) -> None:
    """Refuse to add to a store features that are not of a kind with those it holds.

    Raises
    ------
    IdentityError
        If it holds no features; else with what differs by name, the events touched, and bytes and seconds to redo them.
    """
    if "fingerprint" not in there.about:
        way_out = "give the features a folder of their own with --set out=DIR"
        raise IdentityError("holds a data set, not features", where=str(root), way_out=way_out)
    found = [
        *_weights(Fingerprint.model_validate(there.about["fingerprint"]), frozen.fingerprint),
        *_values("setting", there.about["recipe"], settings.recipe()),
        *_values("static array", there.about["static"], static_inputs(source)),
        *_values("array", _layout(there.event_schema), _layout(out)),
    ]
    if there.about["data"]["name"] != source.snapshot.name:
        found.append(f"data set ({there.about['data']['name']} there, {source.snapshot.name} asked for)")
    if found:
        raise IdentityError(
            f"holds other features: {'; '.join(found)}. {to_redo(there)}",
            where=str(root),
            way_out="ask for the same, or give the new features a store of their own with --set out=DIR",
        )


def to_redo(there: Snapshot) -> str:
    """What extracting all of a store again would cost, in words."""
    cost = there.about["cost"]
    seconds = there.n_events * cost["seconds_per_event"]
    return f"To redo: {there.n_events} events, {size(there.n_events * cost['bytes_per_event'])}, about {seconds:.0f} s"


def _weights(theirs: Fingerprint, mine: Fingerprint) -> list[str]:
    if theirs.value == mine.value:
        return []
    return [f"weights {theirs.value[:12]} there, {mine.value[:12]} asked for ({differences(theirs, mine)})"]


def _values(what: str, theirs: dict[str, Any], mine: dict[str, Any]) -> list[str]:
    names = sorted(name for name in theirs.keys() | mine.keys() if theirs.get(name) != mine.get(name))
    return [f"{what} {name} ({theirs.get(name, 'none')} there, {mine.get(name, 'none')} asked for)" for name in names]


def _layout(schema: Schema) -> dict[str, str]:
    """Type and shape of each feature."""
    arrays = group_of(schema, FEATURES).arrays
    return {name: f"{spec.dtype}{list(spec.shape)}" for name, spec in arrays.items()}
