"""Made-up VELO events, and archives of them."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np

from frz.data.velo import Velo
from frz.data.velo.archive import N_MODULES
from frz.store import ragged

NAMES = [
    "key", "pid", "p", "pt", "eta", "phi", "isLong", "isDown", "hasVelo", "hasUT", "hasScifi",
    "fromBeautyDecay", "fromCharmDecay", "fromStrangeDecay", "charge", "hits",
]  # fmt: skip


def particle(hits, phi=0.0, charge=-0.999, pid=-211):
    row = dict.fromkeys(NAMES, 0) | {"pid": pid, "p": 5000.5, "pt": 300.25, "eta": 2.5, "phi": phi, "charge": charge}
    return [(row | {"hits": hits})[name] for name in NAMES]


def event(rng, n_hits=60, n_particles=8):
    """A random event: tracks at random phi with 2 to 9 hits, some shared, some hits of nobody."""
    phi = rng.uniform(-np.pi, np.pi, n_hits)
    rho = rng.uniform(5.2, 50, n_hits)
    particles = []
    for _ in range(n_particles):
        direction = rng.uniform(-np.pi, np.pi)
        hits = rng.choice(n_hits, rng.integers(2, 10), replace=False)
        phi[hits] = direction + rng.normal(0, 0.15, len(hits))
        particles.append(particle([int(hit) for hit in hits], float(direction)))
    return {
        "description": "made up",
        "x": [float(x) for x in rho * np.cos(phi)],
        "y": [float(y) for y in rho * np.sin(phi)],
        "z": [float(z) for z in rng.uniform(-280, 750, n_hits)],
        "module_prefix_sum": [0, *sorted(int(i) for i in rng.integers(0, n_hits + 1, N_MODULES - 1)), n_hits],
        "montecarlo": {"description": NAMES, "particles": particles},
    }


def events(n=3, seed=0):
    rng = np.random.default_rng(seed)
    return {f"velo_events/velo_event_{i}.json": json.dumps(event(rng)) for i in range(n)}


def tar_bytes(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def write_archive(path: Path, members) -> Path:
    path.write_bytes(gzip.compress(tar_bytes(members), mtime=0))
    return path


def read(path, **settings):
    source = Velo(Velo.Config(path=str(path), **settings))
    return source, ragged.concat([batch for unit in source.units() for batch in source.read(unit)])


def straight(phi, hits_of):
    """An event of hits at the given phi, one particle per list of hits."""
    n = len(phi)
    return {
        "x": [10 * float(np.cos(a)) for a in phi], "y": [10 * float(np.sin(a)) for a in phi], "z": [0.0] * n,
        "module_prefix_sum": [0] * N_MODULES + [n],
        "montecarlo": {"description": NAMES, "particles": [particle(hits) for hits in hits_of]},
    }  # fmt: skip
