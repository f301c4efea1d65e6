"""Cuts a collision into overlapping wedges in phi, each an event of its own in a frame of its own.

Particular: nothing leaves the books. Every particle of the collision with enough hits stands in exactly one
wedge, its owner, with the full list of its hits; if the owner sees enough of them it is also a track there,
that is a target to be found.
"""

# Axes: N hits and P particles of the collision, L (particle, hit) pairs, W wedges.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frz.data.velo.archive import COLUMNS, ParentEvent
from frz.store.ragged import offsets_of, rows
from frz.store.schema import EventArrays

ID_STRIDE = 1000
"""`event/id` = number of the collision x 1000 + number of the wedge, so 17003 is wedge 3 of collision 17."""
PARAMETERS = (
    "eta", "phi", "p", "pt", "charge", "isLong", "isDown", "hasVelo", "hasUT", "hasScifi",
    "fromBeautyDecay", "fromCharmDecay", "fromStrangeDecay",
)  # fmt: skip


@dataclass(frozen=True)
class Wedges:
    """How to cut.

    Parameters
    ----------
    count : int
        Number of wedges W; wedge w is centred on phi = 2 pi w / W. One wedge is the whole event, unrotated.
    overlap : float
        How far a wedge reaches beyond its own edges on each side [rad].
    min_hits : int
        Hits that a particle needs in the collision, and a track in its wedge.
    """

    count: int
    overlap: float
    min_hits: int

    @property
    def centres(self) -> NDArray[np.float64]:
        """phi of the wedge centres (W,) [rad] in [-pi, pi)."""
        return wrap(2 * np.pi * np.arange(self.count) / self.count)

    def inside(self, phi: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which wedges see each hit (N, W); at least one does."""
        width = 2 * np.pi / self.count
        home = np.floor(phi / width + 0.5).astype(np.int64) % self.count
        near = np.abs(wrap(phi[:, None] - self.centres)) < width / 2 + self.overlap
        near[np.arange(len(phi)), home] = True  # rounding at an edge must not lose a hit
        return near

    def cut(self, event: ParentEvent) -> EventArrays:
        """The W wedges of a collision as W events.

        A particle belongs to the wedge that holds most of its hits. With overlapping wedges several often
        hold all of them; then it is the one whose centre is nearest to the particle's mean hit direction
        (the direction of the sum of the hits' unit vectors in x-y), and at equal distance the lower number.
        """
        phi = np.arctan2(event.xyz[:, 1], event.xyz[:, 0])
        inside = self.inside(phi)
        hit_wedge, hit = np.nonzero(inside.T)  # wedge after wedge, hits in the collision's order
        seat = np.cumsum(inside, axis=0) - 1  # (N, W) position of a hit within a wedge
        n_particles = len(event.particles)
        n_hits = np.bincount(event.particle_of, minlength=n_particles)
        owner, n_seen = self._owners(event, phi, inside)
        kept = np.flatnonzero(n_hits >= self.min_hits)
        lost = n_seen < self.min_hits
        # Of a wedge's particles the tracks come first, so that track i of an event is its particle i.
        particle = kept[np.lexsort((kept, lost[kept], owner[kept]))]
        track = particle[~lost[particle]]
        own_hits, own_offsets = _members(event, particle, n_particles)
        members, member_offsets = _members(event, track, n_particles)
        wedge_of = np.repeat(owner[track], np.diff(member_offsets))
        seen = inside[members, wedge_of]
        member_offsets = np.append(0, np.cumsum(seen))[member_offsets]
        raw = np.column_stack([event.xyz, event.module])[hit]
        raw[:, :2] = _turn(raw[:, :2], self.centres[hit_wedge])
        return {
            "event/id": event.number * ID_STRIDE + np.arange(self.count),
            "event/group": np.full(self.count, event.number),
            "event/wedge_phi": self.centres.astype(np.float32),
            "hit/offsets": self._offsets(hit_wedge),
            "hit/raw": raw.astype(np.float32),
            "hit/parent_hit": hit.astype(np.int32),
            "track/offsets": self._offsets(owner[track]),
            "track/parameters": self._parameters(event, track, self.centres[owner[track]]),
            "track/pid": event.particles[track, COLUMNS.index("pid")].astype(np.int32),
            "track/parent_particle": track.astype(np.int32),
            "member/offsets": member_offsets,
            "member/hit": seat[members, wedge_of][seen].astype(np.int32),
            "particle/offsets": self._offsets(owner[particle]),
            "particle/parameters": self._parameters(event, particle, np.zeros(len(particle))),
            "particle/parent_particle": particle.astype(np.int32),
            "particle_hit/offsets": own_offsets,
            "particle_hit/parent_hit": own_hits.astype(np.int32),
        }

    def _offsets(self, wedge: NDArray[np.int64]) -> NDArray[np.int64]:
        return offsets_of(np.bincount(wedge, minlength=self.count))

    def _owners(
        self, event: ParentEvent, phi: NDArray[np.float64], inside: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Owning wedge of each particle (P,) and the number of its hits that this wedge sees (P,)."""
        n_particles = len(event.particles)
        seen = np.zeros((n_particles, self.count))
        np.add.at(seen, event.particle_of, inside[event.hit_of])
        direction = np.zeros((n_particles, 2))
        np.add.at(direction, event.particle_of, np.stack([np.cos(phi), np.sin(phi)], axis=1)[event.hit_of])
        mean = np.arctan2(direction[:, 1], direction[:, 0])
        distance = np.abs(wrap(mean[:, None] - self.centres))  # (P, W), at most pi: below one hit after / 4
        owner = np.argmax(seen - distance / 4, axis=1)
        return owner, seen[np.arange(n_particles), owner].astype(np.int64)

    def _parameters(
        self, event: ParentEvent, chosen: NDArray[np.int64], frame: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Truth of the chosen particles (n, len(PARAMETERS)) in frames turned by the angles (n,)."""
        values = event.particles[chosen][:, [COLUMNS.index(name) for name in PARAMETERS]]
        phi, charge = PARAMETERS.index("phi"), PARAMETERS.index("charge")
        values[:, phi] = wrap(values[:, phi] - frame)
        values[:, charge] = np.rint(values[:, charge])  # the files say -0.999 for -1
        return values.astype(np.float32)


def wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _turn(xy: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points (n, 2) rotated by minus the angles (n,) about the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([xy[:, 0] * cos + xy[:, 1] * sin, xy[:, 1] * cos - xy[:, 0] * sin], axis=1)


def _members(
    event: ParentEvent, chosen: NDArray[np.int64], n_particles: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits of the chosen particles, one after the other, and their offsets."""
    offsets = offsets_of(np.bincount(event.particle_of, minlength=n_particles))
    picked, new = rows(offsets, chosen)
    return event.hit_of[picked], new
