"""Every error a user can cause, in one tree.

FrzError
├── ConfigError        a key, a value or a name in a config or on the command line
├── SourceError        what a source read (file, event, column) cannot be used
├── StoreError         an event store is missing, incomplete or full
│   └── DamageError    a file of it is gone or is not what was committed
├── IdentityError      the artifacts asked for belong to other weights, data or settings
├── CheckpointError    a checkpoint is missing or does not fit the model
├── TrainingError      training cannot start or cannot go on
│   └── Diverged       a loss or a gradient is not finite
└── ClusterError       workers cannot be reached, do not fit together, or keep dying

A message says what is wrong, where, and the way out, in one line. The command line catches `FrzError`
alone, prints that line and exits with code 2; anything else is a bug of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class FrzError(Exception):
    """Base of all errors that a user can cause and mend.

    Parameters
    ----------
    what : str
        What is wrong, with the offending value.
    where : str, optional
        File, event, key or array.
    way_out : str, optional
        What to do about it.
    """

    def __init__(self, what: str, *, where: str = "", way_out: str = "") -> None:
        self.what, self.where, self.way_out = what, where, way_out
        text = f"{where}: {what}" if where else what
        super().__init__(" ".join((f"{text}; {way_out}" if way_out else text).split()))


class ConfigError(FrzError):
    """A key, a value or a name in a config or on the command line."""


class SourceError(FrzError):
    """What a source read cannot be used."""


class StoreError(FrzError):
    """An event store is missing, incomplete or full."""


class DamageError(StoreError):
    """A file of an event store is gone or is not what was committed."""


class IdentityError(FrzError):
    """The artifacts asked for belong to other weights, data or settings."""


class CheckpointError(FrzError):
    """A checkpoint is missing or does not fit the model."""


class TrainingError(FrzError):
    """Training cannot start or cannot go on."""


class Diverged(TrainingError):
    """Training cannot go on because a loss or a gradient is not finite."""


class ClusterError(FrzError):
    """Workers cannot be reached, do not fit together, or keep dying."""


def nearest(name: object, known: Iterable[str]) -> str:
    """The way out for a name that is not known: the nearest that is, and all there are."""
    names = sorted(set(known))
    near = difflib.get_close_matches(str(name), names, n=1)
    have = f"have: {', '.join(names) or 'nothing'}"
    return f"did you mean {near[0]!r}? ({have})" if near else have
