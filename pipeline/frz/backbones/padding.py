"""Ragged <-> padded. Particular: a batch is cut into buckets of similar length, each padded to its own longest.

Attention costs the square of the padded length, so on a CPU a batch of mixed lengths runs much faster as
a few buckets of like lengths than as one block; on an accelerator, where launches cost more than padding,
it stays one. What stands in a bucket never changes a result beyond rounding. "Events" are whatever holds
members: the sets of a stay and their elements are cut alike.

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


def cut(offsets: Tensor, step: int = STEP, split: bool | None = None) -> list[Bucket]:
    """Cut the events of a batch into buckets.

    Parameters
    ----------
    offsets : Tensor
        int64 (n_event + 1), where each event's members begin and end.
    step : int
        Padded lengths are multiples of this.
    split : bool, optional
        Into several buckets; default on a CPU only. Small sets of which few are large pay everywhere.

    Returns
    -------
    list of Bucket
        Every event stands in exactly one; the buckets are a function of the lengths, `step` and `split`.
    """
    lengths = (offsets[1:] - offsets[:-1]).cpu()
    order, bounds = _plan(lengths, step, offsets.device.type == "cpu" if split is None else split)
    starts = offsets[:-1]
    return [_bucket(order[a:b].to(offsets.device), lengths[order[a:b]], starts, step) for a, b in bounds]


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


def _plan(lengths: Tensor, step: int, split: bool) -> tuple[Tensor, list[tuple[int, int]]]:
    """Order of the events and the bounds of the buckets in it."""
    n_event = len(lengths)
    if not split or n_event < 2:
        return torch.arange(n_event), [(0, n_event)] if n_event else []
    order = torch.argsort(lengths, descending=True, stable=True)
    widths, runs = torch.unique_consecutive(_round_up(lengths[order], step), return_counts=True)
    bounds, start, begin, open_width = [], 0, 0, int(widths[0])
    for width, count in zip(widths.tolist(), runs.tolist(), strict=True):
        # the first event of this width, or later, where the bucket before it is large enough
        close = max(begin, start + -(-MIN_MEMBERS // open_width))
        begin += count
        if width < open_width and close < begin:
            bounds.append((start, close))
            start, open_width = close, width
    return order, [*bounds, (start, n_event)]


def _round_up(lengths: Tensor, step: int) -> Tensor:
    return ((lengths + step - 1) // step).clamp(min=1) * step


def _bucket(events: Tensor, lengths: Tensor, starts: Tensor, step: int) -> Bucket:
    shortest = int(lengths.min())
    width = int(_round_up(lengths.max(), step))
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
