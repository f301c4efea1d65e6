"""Who an event is, and what a part holds.

The event key hashes the event's id and its `input` arrays and nothing else: new truth, units or splits
leave it as it is, so features of an event stay valid as long as what the backbone reads does.
"""

from hashlib import blake2b, sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.config import canonical_json
from frz.store import ragged
from frz.store.schema import ID, EventArrays, Schema, axis_of, count_events

KEY_BYTES = 16


def event_keys(arrays: EventArrays, schema: Schema) -> NDArray[np.uint8]:
    """Key of each event, uint8 (n_event, 16): BLAKE2b of its id and inputs.

    Names, dtypes and trailing shapes of the inputs go in first, then per event the id, the number of
    members of every ragged axis that inputs live on (per parent), and the bytes of each input in order
    of name.
    """
    names = [name for name in schema.with_role("input") if name != ID]
    layout = [(name, schema.arrays[name].dtype, list(schema.arrays[name].shape)) for name in names]
    seed = blake2b(canonical_json(layout).encode(), digest_size=KEY_BYTES)
    n_events = count_events(arrays, schema)
    pieces: list[tuple[memoryview, list[int]]] = []
    ids = np.ascontiguousarray(arrays[ID])
    pieces.append(_bytes_per_event(ids, np.arange(n_events + 1)))
    for axis in schema.ordered_axes(names):
        if schema.axes[axis].length is None:
            counts = np.diff(arrays[f"{axis}/offsets"])
            pieces.append(_bytes_per_event(counts, ragged.edges(arrays, schema, schema.axes[axis].parent)))
    for name in names:
        pieces.append(_bytes_per_event(arrays[name], ragged.edges(arrays, schema, axis_of(name))))
    keys = bytearray()
    for event in range(n_events):
        state = seed.copy()
        for view, edges in pieces:
            state.update(view[edges[event] : edges[event + 1]])
        keys += state.digest()
    return np.frombuffer(bytes(keys), np.uint8).reshape(n_events, KEY_BYTES)


def keys_digest(keys: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of event keys (n_event, 16) in order: which events a part holds."""
    return sha256(np.ascontiguousarray(keys).data).hexdigest()


def _bytes_per_event(values: NDArray[Any], edges: NDArray[np.int64]) -> tuple[memoryview, list[int]]:
    row = values.nbytes // max(len(values), 1)
    flat = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return flat.reshape(-1).view(np.uint8).data, (edges * row).tolist()


def content_digest(arrays: EventArrays) -> str:
    """SHA-256 (hex) of what a part holds: names, dtypes, shapes and values, whatever the codec."""
    total = sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False))
        total.update(canonical_json([name, str(arrays[name].dtype), list(values.shape)]).encode())
        total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def natural_id(*key: str | int) -> int:
    """The int64 id of an event whose natural key is not an integer: first 8 bytes of its SHA-256."""
    return int.from_bytes(sha256(canonical_json(list(key)).encode()).digest()[:8], "little", signed=True)
