"""Training the seed's head the usual way: pad a random batch, run the whole model, match, regress.

`joint` trains everything on the sum of all losses. Frozen runs the model under `no_grad` in every epoch and trains the
head alone. Kind to the usual way: hit fields are standardised and encoded once beforehand, in memory, and no file
is read.
"""

# Axes: B events, M padded hits, N queries, P true tracks, F hit fields, T target fields.

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.reference.seed_backbone import Block, Decoded, SeedBackbone, losses, match
from benchmarks.reference.seed_head import SeedHead
from frz.backbones.hit_track.model import HitTrack
from frz.heads.regression import RegressionHead
from frz.heads.targets import Kind, to_goals
from frz.loading.batch import to_batch
from frz.store.schema import Array, Schema
from frz.store.table import EventTable


class SeedWay:
    """The padded model with the weights of a backbone and a head, and the steps that train it.

    Parameters
    ----------
    backbone : HitTrack
    head : RegressionHead
        With the default hit nets, fitted.
    data : EventTable
        The data set that the backbone reads.
    lr : float
    """

    def __init__(self, backbone: HitTrack, head: RegressionHead, data: EventTable, lr: float) -> None:
        n_field = len(backbone.fields.names)
        config = head.config
        self.backbone = SeedBackbone(backbone.config.model_dump(), n_field)
        weights = backbone.state_dict()
        self.backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fields.")})
        hidden = config.regression_hidden_dim or 9 * head.width // 2
        layers, output = config.regression_num_layers, head.targets.n_output
        self.head = SeedHead(head.width, n_field, hidden, output, layers, config.dropout, config.assignment_threshold)
        self.head.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("targets.")})
        self.targets = head.targets
        self.model = nn.ModuleList([self.backbone, self.head])
        self.optimisers = {
            True: torch.optim.AdamW(self.model.parameters(), lr, fused=True),
            False: torch.optim.AdamW(self.head.parameters(), lr, fused=True),
        }
        columns = [columns[0] for columns in head.target_columns.values()]
        self.table = _encoded(backbone, data, columns, config.kinds)

    def block(self, positions: NDArray[np.int64]) -> Block:
        """The events at `positions`, padded to the longest of them."""
        batch = to_batch(self.table.events(positions), self.table.schema)
        hits, tracks, members = (batch[f"{axis}/offsets"] for axis in ("hit", "track", "member"))
        keep = torch.arange(int(hits.diff().max())) < hits.diff()[:, None]  # (B, M)
        real = torch.arange(int(tracks.diff().max())) < tracks.diff()[:, None]  # (B, P)
        mask = torch.zeros(*real.shape, keep.shape[1])
        track = torch.repeat_interleave(members.diff())
        event = torch.repeat_interleave(tracks.diff())[track]
        mask[event, track - tracks[event], batch["member/hit"] - hits[event]] = 1
        fields, encoding = _pad(batch["hit/fields"], keep), _pad(batch["hit/encoding"], keep)
        return Block(fields, encoding, keep, mask, tracks.diff(), _pad(batch["track/goal"], real))

    def loss(self, block: Block, *, joint: bool) -> Tensor:
        """Loss of the head, and of the tasks too if `joint`."""
        with torch.set_grad_enabled(joint):
            decoded: Decoded = self.backbone(block)
        track = match(decoded, block)
        outputs = self.head(decoded.query, block.scaled, decoded.hit, decoded.hit_logits[-1], block.keep)
        index = track.clamp(min=0).unsqueeze(-1).expand(-1, -1, block.truth.shape[-1])
        goals = block.truth.gather(1, index)
        per_field = self.targets.losses(outputs.flatten(0, 1), goals.flatten(0, 1), (track >= 0).flatten())
        return per_field.mean() + losses(decoded, block, track) if joint else per_field.mean()

    def step(self, positions: NDArray[np.int64], *, joint: bool) -> None:
        """One optimiser step."""
        self.model.train()
        optimiser = self.optimisers[joint]
        optimiser.zero_grad()
        self.loss(self.block(positions), joint=joint).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], 1.0)
        optimiser.step()

    @torch.no_grad()
    def features(self, positions: NDArray[np.int64]) -> dict[str, Tensor]:
        """Features in the layout of a batch, to compare with those of the family."""
        block = self.block(positions)
        decoded = self.backbone(block)
        return {
            "query/embedding": decoded.query.flatten(0, 1),
            "query/valid_logit": decoded.valid_logit.flatten(),
            "hit/embedding": decoded.hit[block.keep],
            "hit/assignment_logit": decoded.hit_logits[-1].transpose(1, 2)[block.keep],
        }


@torch.no_grad()
def _encoded(backbone: HitTrack, data: EventTable, columns: list[int], kinds: Sequence[Kind]) -> EventTable:
    """The events with what has no parameters computed: standardised fields, positional encodings, goals."""
    embedding, n_field = backbone.embedding, len(backbone.fields.names)
    assert embedding.position is not None
    raw = backbone.fields.raw(torch.from_numpy(data.arrays[backbone.config.array]))
    scaled = backbone.fields.scale(raw)
    encoding = embedding.position(scaled[:, embedding.plain], raw[:, embedding.periodic])
    kept = ("event/id", "member/hit")
    names = [name for name in data.arrays if name.endswith("/offsets") or name in kept]
    arrays = {name: data.arrays[name] for name in names}
    arrays["hit/fields"] = np.ascontiguousarray(scaled[:, :n_field].numpy())
    arrays["hit/encoding"] = encoding.numpy()
    arrays["track/goal"] = to_goals(data.arrays["track/parameters"][:, columns], kinds)
    specs = {name: data.schema.arrays[name] for name in kept}
    for name in ("hit/fields", "hit/encoding", "track/goal"):
        specs[name] = Array(dtype="float32", shape=arrays[name].shape[1:])
    return EventTable(Schema(axes=data.schema.axes, arrays=specs), arrays)


def _pad(flat: Tensor, keep: Tensor) -> Tensor:
    """(n, ...) as (B, M, ...) with zeros where `keep` is False."""
    block = flat.new_zeros(*keep.shape, *flat.shape[1:])
    block[keep] = flat
    return block
