"""One query for each true track at least total cost. Particular: tiny cases are searched exhaustively, batched.

Only true tracks are matched: padding never enters, an event without tracks is legal. If an event has more
tracks than there are queries, the tracks left over stay unmatched.

Axes: B events, Q queries, P padded true tracks, A injections of P tracks into Q queries.
"""

import math
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

MAX_INJECTIONS = 24


def match(cost: Tensor, n_true: Tensor) -> Tensor:
    """Query of each true track.

    Parameters
    ----------
    cost : Tensor
        (B, Q, P), detached; column j of event i counts only for j < n_true[i].
    n_true : Tensor
        int64 (B,), true tracks per event.

    Returns
    -------
    Tensor
        int64 (B, P): the query of each track, -1 for padding and for tracks left over.
    """
    # Equal infinities or NaN of a diverging model must not stop the run here: its loss tells.
    cost = torch.nan_to_num(cost.detach().float())
    n_query, n_track = cost.shape[1:]
    if not n_track or not len(cost):
        return n_true.new_full((len(cost), n_track), -1)
    if n_track <= n_query and math.perm(n_query, n_track) <= MAX_INJECTIONS:
        return exhaustive(cost, n_true)
    return hungarian(cost, n_true)


def exhaustive(cost: Tensor, n_true: Tensor) -> Tensor:
    """`match` by trying every injection of P tracks into Q queries (P <= Q)."""
    n_query, n_track = cost.shape[1:]
    real = torch.arange(n_track, device=cost.device) < n_true[:, None]  # (B, P)
    tries = torch.tensor(list(permutations(range(n_query), n_track)), device=cost.device)  # (A, P)
    # Padded tracks cost nothing anywhere, so they never sway the choice for true ones.
    cost = cost.masked_fill(~real[:, None], 0.0)
    totals = cost[:, tries, torch.arange(n_track, device=cost.device)].sum(-1)  # (B, A)
    return tries[totals.argmin(1)].masked_fill(~real, -1)


def hungarian(cost: Tensor, n_true: Tensor) -> Tensor:
    """`match` by the Hungarian algorithm, event by event."""
    found = np.full((len(cost), cost.shape[2]), -1)
    columns = cost.transpose(1, 2).cpu().numpy()  # (B, P, Q)
    for event, n in enumerate(n_true.tolist()):
        if n:
            track, query = linear_sum_assignment(columns[event, :n])
            found[event, track] = query
    return torch.from_numpy(found).to(cost.device)
