"""True tracks of a batch as padded masks, bucket by bucket.

Axes: E events of the batch, B events of a bucket, P padded true tracks, M padded hits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from frz.backbones.contract import Batch
from frz.backbones.padding import Bucket
from frz.store.schema import axis_of


@dataclass(frozen=True)
class Truth:
    """True tracks of the events of a bucket."""

    mask: Tensor
    """(B, P, M) float32: 1 where the hit belongs to the track."""
    n_track: Tensor
    """int64 (B,): true tracks, the first ones of P."""
    n_hit: Tensor
    """int64 (B,): hits."""


def true_tracks(batch: Batch, buckets: list[Bucket], tracks: str, members: str) -> list[Truth]:
    """Lay out the truth of each bucket.

    Parameters
    ----------
    batch : dict of Tensor
        Holds `members` (positions in the whole batch), its offsets, and the offsets of `tracks` and `hit`.
    buckets : list of Bucket
        Of the hits.
    tracks : str
        Axis of the true tracks.
    members : str
        Array of the hits of each track.
    """
    hit_offsets, track_offsets = batch["hit/offsets"], batch[f"{tracks}/offsets"]
    device = hit_offsets.device
    n_hit, n_track = hit_offsets.diff(), track_offsets.diff()
    event_of_track = torch.repeat_interleave(torch.arange(len(n_track), device=device), n_track)
    rank = torch.arange(len(event_of_track), device=device) - track_offsets[event_of_track]
    per_track = batch[f"{axis_of(members)}/offsets"].diff()
    event_of_member = torch.repeat_interleave(event_of_track, per_track)
    track_of_member = torch.repeat_interleave(rank, per_track)
    hit_of_member = batch[members].long() - hit_offsets[event_of_member]

    found = []
    for bucket in buckets:
        n = n_track[bucket.events]
        shape = (len(bucket.events), int(n.max()), bucket.width)
        place = torch.full_like(n_track, -1)
        place[bucket.events] = torch.arange(shape[0], device=device)
        place = place[event_of_member]
        here = place >= 0
        slot = (place[here] * shape[1] + track_of_member[here]) * shape[2] + hit_of_member[here]
        mask = torch.zeros(shape, device=device)
        mask.view(-1)[slot] = 1.0
        found.append(Truth(mask, n, n_hit[bucket.events]))
    return found
