"""The decoder's masks, and what they do."""

import torch
from muon_events import SCHEMA, make_events

from frz.backbones.hit_track.decoder import Decoder, open_empty_rows
from frz.backbones.hit_track.settings import HitTrackConfig
from frz.backbones.hit_track.truth import true_tracks
from frz.backbones.padding import cut
from frz.loading.batch import to_batch


class FixedMask(torch.nn.Module):
    """A mask task that says the same whatever it sees."""

    def __init__(self, logit: torch.Tensor) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, query, hit, keep):
        return self.logit


def decode(logit: torch.Tensor, hit: torch.Tensor, **config) -> torch.Tensor:
    torch.manual_seed(0)
    decoder = Decoder(HitTrackConfig(dim=8, num_queries=2, decoder_layers=1, bidirectional=False, **config))
    start = decoder.queries.expand(len(hit), -1, -1)
    return decoder(start, hit, None, None, FixedMask(logit), every_look=False).query


def test_rows_that_admit_nothing_are_opened_fully():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert open_empty_rows(mask).tolist() == [[True, False, True], [True, True, True]]


def test_a_query_reads_only_what_its_mask_admits():
    logit = torch.tensor([[[5.0, 5.0, -5.0], [-5.0, -5.0, 5.0]]])
    hit = torch.randn(1, 3, 8)
    moved = hit.clone()
    moved[0, 2] += 1  # only query 1 may read it; query 0 hears of it through query 1 alone
    torch.manual_seed(1)
    first, second = decode(logit, hit), decode(logit, moved)
    assert not torch.equal(first[0, 1], second[0, 1])
    alone = torch.tensor([[[5.0, 5.0, -5.0], [5.0, 5.0, -5.0]]])
    assert torch.equal(decode(alone, hit), decode(alone, moved))


def test_the_threshold_is_inclusive_and_can_be_switched_off():
    hit = torch.randn(1, 3, 8)
    moved = hit.clone()
    moved[0, 2] *= -1  # adding a number to all features would be undone by the norm
    # sigmoid(0) is exactly 0.5
    at, below = torch.tensor([[[5.0, 5.0, 0.0]] * 2]), torch.tensor([[[5.0, 5.0, -1e-3]] * 2])
    assert not torch.equal(decode(at, hit, mask_threshold=0.5), decode(at, moved, mask_threshold=0.5))
    assert torch.equal(decode(below, hit, mask_threshold=0.5), decode(below, moved, mask_threshold=0.5))
    off = {"mask_threshold": 0.5, "mask_attention": False}
    assert not torch.equal(decode(below, hit, **off), decode(below, moved, **off))


def test_masks_of_a_bucket_leave_every_row_a_key():
    config = HitTrackConfig(dim=8, num_queries=3, mask_threshold=0.5)
    decoder = Decoder(config)
    (bucket,) = cut(torch.tensor([0, 20, 24, 24]))  # longest first: rows are the events in this order
    logit = torch.full((3, 3, bucket.width), -100.0)
    logit[0, 0, 1] = 3.0
    read_hits, read_queries = decoder._admit(logit, bucket.keys)
    assert read_hits[0, 0, 0].nonzero().flatten().tolist() == [1]
    assert torch.equal(read_hits[0, 0, 1], bucket.keep[0])
    assert torch.equal(read_hits[1, 0, 2], bucket.keep[1])
    assert read_hits[2, 0].sum(-1).tolist() == [1, 1, 1]  # an event without hits has one stand-in
    assert read_queries[0, 0, 1].tolist() == [True, False, False]
    assert bool(read_queries[0, 0, 2].all())


def test_true_tracks_stand_where_their_hits_do():
    events = make_events([5, 0, 60, 9, 30], n_tracks=[2, 0, 1, 3, 0], per_track=4)
    batch = to_batch(events, SCHEMA)
    buckets = cut(batch["hit/offsets"])
    seen = []
    for bucket, truth in zip(buckets, true_tracks(batch, buckets, "track", "member/hit"), strict=True):
        for row, event in enumerate(bucket.events.tolist()):
            tracks = range(*events["track/offsets"][event : event + 2])
            assert truth.n_track[row] == len(tracks)
            assert truth.n_hit[row] == events["hit/offsets"][event + 1] - events["hit/offsets"][event]
            for rank, track in enumerate(tracks):
                own = events["member/hit"][slice(*events["member/offsets"][track : track + 2])]
                assert truth.mask[row, rank].nonzero().flatten().tolist() == sorted(own)
            assert not truth.mask[row, len(tracks) :].any()
            seen.append(event)
    assert sorted(seen) == [0, 1, 2, 3, 4]
