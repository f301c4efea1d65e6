"""A batch of events: muons, their hits, noise, and what the read-out makes of them.

E = events, T = tracks, N = hits of a batch. A channel that was hit twice is read out once, with its first
signal: two muons in one tube share a hit, and noise in a muon's tube may spoil its drift radius.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data import draws
from frz.data.muon_sim.crossings import muon_hits
from frz.data.muon_sim.fields import raw_fields
from frz.data.muon_sim.geometry import LAYERS
from frz.data.muon_sim.hits import Hits, Ints, joined, numbered
from frz.data.muon_sim.muons import Muons, draw_muons, leave_calorimeter
from frz.data.muon_sim.noise import beside, cavern, segments
from frz.data.muon_sim.settings import MuonSimConfig
from frz.data.muon_sim.stations import barrel_paths, end_cap_paths
from frz.errors import ConfigError
from frz.store.ragged import offsets_of
from frz.store.schema import EventArrays

_NUMBER, _MUON, _CAVERN = range(3)
MOST_ATTEMPTS: Final = 100
"""Attempts at the first muon of an event before the settings are refused."""
_TIME_BITS: Final = 20


def simulate(config: MuonSimConfig, ids: NDArray[np.int64]) -> EventArrays:
    """Simulate the events numbered `ids`.

    Every event has a track: its first muon is drawn again until it leaves `min_hits` hits. Others that leave
    fewer are dropped and their hits become noise.

    Parameters
    ----------
    config : MuonSimConfig
        Settings.
    ids : ndarray of int64, (E,)
        Event numbers, in the order wanted.

    Returns
    -------
    EventArrays
        See `MuonSim.schema`.

    Raises
    ------
    ConfigError
        If some muon does not leave `min_hits` hits in 100 attempts.
    """
    thresholds = np.cumsum(config.tracks_per_event)
    thresholds[-1] = 1.0
    number = np.searchsorted(thresholds, draws.uniform(draws.keys(config.seed, _NUMBER, ids), 0)) + 1
    event, slot = numbered(number)
    first = draws.keys(config.seed, _MUON, ids[event], 0, 0)
    muons = draw_muons(config, event, first, draws.keys(config.seed, _MUON, ids[event], slot, 0))
    hits, noise = _shoot(config, muons)
    n_hits = np.bincount(hits.track, minlength=len(event))
    again = np.flatnonzero((slot == 0) & (n_hits < config.min_hits))
    attempt = 0
    while len(again):
        attempt += 1
        if attempt == MOST_ATTEMPTS:
            raise ConfigError(
                f"no muon of event {ids[event[again[0]]]} leaves min_hits = {config.min_hits} hits",
                where="muon_sim", way_out="lower min_hits or raise efficiency",
            )  # fmt: skip
        key = draws.keys(config.seed, _MUON, ids[event[again]], 0, attempt)
        redrawn = draw_muons(config, event[again], key, key)
        _put(muons, again, redrawn)
        new_hits, new_noise = _shoot(config, redrawn)
        new_hits.track = again[new_hits.track]
        hits = joined([hits[~np.isin(hits.track, again)], new_hits])
        # what the lost muon left beside its few hits stays: background does not ask for tracks
        noise = joined([noise, new_noise])
        n_hits = np.bincount(hits.track, minlength=len(event))
        again = again[n_hits[again] < config.min_hits]

    kept = np.flatnonzero(n_hits >= config.min_hits)
    kept = kept[np.lexsort((muons.phi[kept], event[kept]))]
    track = np.full(len(event) + 1, -1)  # the last entry serves noise, whose track is -1
    track[kept] = np.arange(len(kept))
    hits.track = track[hits.track]
    everything = joined([hits, noise, cavern(config, draws.keys(config.seed, _CAVERN, ids))])
    n_tracks = np.bincount(event[kept], minlength=len(ids))
    arrays = _read_out(config, everything, n_tracks)
    parameters = (muons.pt, muons.eta, muons.phi, muons.charge)
    arrays["track/parameters"] = np.stack([p[kept] for p in parameters], axis=1).astype(np.float32)
    arrays["event/id"] = ids.astype(np.int64)
    arrays["event/group"] = ids.astype(np.int64)
    return arrays


def _shoot(config: MuonSimConfig, muons: Muons) -> tuple[Hits, Hits]:
    """Hits of the muons, and the noise that stands near them."""
    flight = leave_calorimeter(config, muons)
    hits: list[Hits] = []
    noise: list[Hits] = []
    for paths in (
        barrel_paths(config, flight, np.flatnonzero(flight.barrel)),
        end_cap_paths(config, flight, np.flatnonzero(~flight.barrel)),
    ):
        event = muons.event[paths.muon]
        found = joined(muon_hits(config, paths, event))
        hits.append(found)
        noise += [beside(config, found), segments(config, paths, event)]
    return joined(hits), joined(noise)


def _put(muons: Muons, where: Ints, new: Muons) -> None:
    for name in ("key", "pt", "eta", "phi", "charge"):
        getattr(muons, name)[where] = getattr(new, name)


def _read_out(config: MuonSimConfig, hits: Hits, n_tracks: Ints) -> EventArrays:
    """Order hits as they are read out, merge those of one channel, and link them to tracks.

    Parameters
    ----------
    config : MuonSimConfig
        Settings.
    hits : Hits
        All hits; `track` counts tracks of the batch.
    n_tracks : ndarray of int64, (E,)
        Tracks of each event.

    Returns
    -------
    EventArrays
        Arrays of the axes hit and member, and the offsets of all axes.
    """
    assert len(n_tracks) <= 2**15, "the keys below have 15 bits for the event"
    channel, time = _channel_keys(hits)
    order = np.argsort((channel << _TIME_BITS) | time, kind="stable")
    channel = channel[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = channel[1:] != channel[:-1]
    group = np.cumsum(first) - 1
    read = hits[order[first]]
    n_read = len(read.event)
    hit_offsets = offsets_of(np.bincount(read.event, minlength=len(n_tracks)))
    track_offsets = offsets_of(n_tracks)

    track = hits.track[order]
    linked = track >= 0
    pairs = np.sort(track[linked] * n_read + group[linked])  # by track, then by hit; a muon hits a channel once
    track, hit = pairs // max(n_read, 1), pairs % max(n_read, 1)
    event = read.event[hit]
    link = np.full(n_read, -1, dtype=np.int32)
    # written backwards, so that the first track of a shared hit is what stays
    link[hit[::-1]] = (track - track_offsets[event])[::-1]
    return {
        "hit/offsets": hit_offsets,
        "track/offsets": track_offsets,
        "member/offsets": offsets_of(np.bincount(track, minlength=int(track_offsets[-1]))),
        "hit/raw": raw_fields(read, config.tube_resolution),
        "hit/truthLink": link,
        "member/hit": (hit - hit_offsets[event]).astype(np.int32),
    }


def _channel_keys(hits: Hits) -> tuple[Ints, Ints]:
    """A number per channel, in read-out order (chamber by chamber), and the time as an integer of 20 bits."""
    key = hits.event << 4 | _STATION[hits.layer]
    key = key << 6 | hits.sector
    key = key << 1 | hits.side
    key = key << 3 | hits.chamber
    key = key << 7 | hits.layer
    key = key << 7 | hits.channel
    return key, ((hits.time + 200.0) * 512.0).astype(np.int64)


_STATION: Final = np.unique(LAYERS.station, return_inverse=True)[1].astype(np.int64)
