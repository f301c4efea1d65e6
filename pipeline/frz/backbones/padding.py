"""Ragged <-> padded. Particular: a batch is cut into buckets of similar length, each padded to its own longest.

Attention costs the square of the padded length, so on a CPU a batch of mixed lengths runs much faster as
a few buckets of like lengths than as one block; on an accelerator, where launches cost more than padding,
it stays one. What stands in a bucket never changes a result beyond rounding.

Axes: N members of the batch (flat), B events of a bucket, M padded length of the bucket.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

STEP = 16
"""Padded lengths are multiples of this, which the vector units like; events that share one share a bucket."""
MIN_MEMBERS = 1024
"""A bucket is not closed below this many slots: the fixed cost of operations would outweigh the padding saved."""


@dataclass(frozen=True)
class Bucket:
    """Events of similar length and where their members stand."""

    events: Tensor
    """(B,) positions in the batch."""
    width: int
    """Padded length M, at least 1."""
    rows: Tensor
    """(n,) flat positions of the members, event after event."""
    slots: Tensor
    """(n,) their positions in the flattened (B, M) block."""
    keep: Tensor | None
    """(B, M) bool: real members; None when every slot is real."""
    keys: Tensor | None
    """(B, 1, 1, M) bool: `keep`, with slot 0 opened for events without members, so that attention has a key."""

    def pad(self, flat: Tensor) -> Tensor:
        """Lay (N, ...) out as (B, M, ...), zeros where there is no member."""
        members = flat.index_select(0, self.rows)
        shape = (len(self.events), self.width, *flat.shape[1:])
        if self.keep is None:
            return members.view(shape)
        block = members.new_zeros((shape[0] * shape[1], *flat.shape[1:]))
        return block.index_copy(0, self.slots, members).view(shape)

    def flatten(self, padded: Tensor) -> Tensor:
        """Members (n, ...) of a padded (B, M, ...), in the order of `rows`."""
        block = padded.flatten(0, 1)
        return block if self.keep is None else block.index_select(0, self.slots)


def cut(offsets: Tensor) -> list[Bucket]:
    """Cut the events of a batch into buckets.

    Parameters
    ----------
    offsets : Tensor
        int64 (n_event + 1), where each event's members begin and end.

    Returns
    -------
    list of Bucket
        Every event stands in exactly one; the buckets are a function of the lengths and the device type.
    """
    lengths = (offsets[1:] - offsets[:-1]).cpu()
    order, bounds = _plan(lengths, split=offsets.device.type == "cpu")
    starts = offsets[:-1]
    return [_bucket(order[a:b].to(offsets.device), lengths[order[a:b]], starts) for a, b in bounds]


def join(buckets: list[Bucket], parts: list[Tensor]) -> Tensor:
    """Put per-member results (n, ...) of each bucket back into the order of the batch (N, ...)."""
    return _reorder([bucket.rows for bucket in buckets], parts)


def join_events(buckets: list[Bucket], parts: list[Tensor]) -> Tensor:
    """Put per-event results (B, ...) of each bucket back into the order of the batch."""
    return _reorder([bucket.events for bucket in buckets], parts)


def _reorder(positions: list[Tensor], parts: list[Tensor]) -> Tensor:
    if len(parts) == 1 and torch.equal(positions[0], torch.arange(len(positions[0]), device=positions[0].device)):
        return parts[0]
    joined, order = torch.cat(parts), torch.cat(positions)
    return torch.empty_like(joined).index_copy(0, order, joined)


def _plan(lengths: Tensor, split: bool) -> tuple[Tensor, list[tuple[int, int]]]:
    """Order of the events and the bounds of the buckets in it."""
    n_event = len(lengths)
    if not split or n_event < 2:
        return torch.arange(n_event), [(0, n_event)] if n_event else []
    order = torch.argsort(lengths, descending=True, stable=True)
    widths = [_round_up(length) for length in lengths[order].tolist()]
    bounds, start = [], 0
    for i in range(1, n_event):
        if widths[i] < widths[start] and (i - start) * widths[start] >= MIN_MEMBERS:
            bounds.append((start, i))
            start = i
    return order, [*bounds, (start, n_event)]


def _round_up(length: int) -> int:
    return max(-(-length // STEP), 1) * STEP


def _bucket(events: Tensor, lengths: Tensor, starts: Tensor) -> Bucket:
    longest, shortest = int(lengths.max()), int(lengths.min())
    width = _round_up(longest)
    lengths = lengths.to(events.device)
    steps = torch.arange(width, device=events.device)
    keep = steps < lengths[:, None]
    slots = keep.flatten().nonzero().squeeze(1)
    rows = (starts[events][:, None] + steps)[keep]
    if shortest == width:
        return Bucket(events, width, rows, slots, None, None)
    keys = keep
    if shortest == 0:
        keys = keep.clone()
        keys[:, 0] = True
    return Bucket(events, width, rows, slots, keep, keys[:, None, None, :])
