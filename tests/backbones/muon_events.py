"""Random events with the schema of the muon spectrometer, a few kilobytes each."""

import numpy as np

from frz.backbones.contract import Batch
from frz.data.muon_sim.source import SCHEMA
from frz.loading.batch import to_batch
from frz.store.schema import EventArrays

__all__ = ["CONSTANTS", "SCHEMA", "batch_of", "easy_events", "make_events", "shuffled"]

CONSTANTS: EventArrays = {}

LOW_EDGE = slice(3, 6)


def make_events(
    lengths: list[int], seed: int = 0, n_tracks: list[int] | None = None, per_track: int = 6
) -> EventArrays:
    """Events with the given numbers of hits; hits of a track stand close together and may be shared."""
    rng = np.random.default_rng(seed)
    if n_tracks is None:
        n_tracks = [min(int(rng.integers(1, 3)), n) for n in lengths]
    raw, members, counts = [], [], []
    for n_hit, n_track in zip(lengths, n_tracks, strict=True):
        hits = rng.normal(size=(n_hit, 19)) * np.linspace(1, 5000, 19)
        for _ in range(n_track):
            own = np.sort(rng.choice(n_hit, size=min(per_track, n_hit), replace=False))
            hits[own, LOW_EDGE] = rng.normal(size=3) * 3000 + rng.normal(size=(len(own), 3)) * 30
            members.append(own)
            counts.append(len(own))
        raw.append(hits)
    return {
        "event/id": np.arange(len(lengths), dtype=np.int64),
        "event/group": np.arange(len(lengths), dtype=np.int64),
        "hit/raw": np.concatenate(raw).astype(np.float32),
        "hit/offsets": np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        "track/parameters": rng.normal(size=(sum(n_tracks), 4)).astype(np.float32),
        "track/offsets": np.concatenate(([0], np.cumsum(n_tracks))).astype(np.int64),
        "member/hit": np.concatenate([np.zeros(0, int), *members]).astype(np.int32),
        "member/offsets": np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    }


def batch_of(events: EventArrays) -> Batch:
    """The events as a batch."""
    return to_batch(events, SCHEMA)


def easy_events() -> EventArrays:
    """Events whose losses fall fast."""
    return make_events([30] * 8, n_tracks=[1] * 8)


def shuffled(events: EventArrays, rng: np.random.Generator) -> tuple[EventArrays, dict[str, np.ndarray]]:
    """The same events with their hits in another order, and that order by axis."""
    bounds = events["hit/offsets"]
    order = np.concatenate([a + rng.permutation(b - a) for a, b in zip(bounds, bounds[1:], strict=False)])
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    shift = np.repeat(bounds[:-1], np.diff(events["member/offsets"][events["track/offsets"]]))
    member = (back[events["member/hit"] + shift] - shift).astype(np.int32)
    return {**events, "hit/raw": events["hit/raw"][order], "member/hit": member}, {"hit": order}
