"""The folder of a run: the same command on an unfinished run goes on, on a finished one only reports.

`config.yaml` is what was asked for, `card.json` what came of it; both are for people, the truth lies in the
checkpoints.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from frz import artifacts as names
from frz.ancestry import config_of, differing, flat
from frz.errors import Diverged, FrzError
from frz.location import children, is_remote
from frz.progress import note
from frz.store.atomic import full_disk, make_folder, remove, write_file, write_json
from frz.training.config import NOT_IDENTITY, TrainerConfig
from frz.training.distributed import World
from frz.training.lock import only_writer

NOTHING_TO_DO = "finished before: nothing to do"
MADE_FIRST = {"config.yaml", "card.json"}
"""What lies in the folder of a run before its first save."""
PLACES = ("features.store", "features.version")
"""Keys of a config that make no other run."""
MOST_KEYS = 4
"""That are named of those in which a run differs from the one before."""


@contextmanager
def opened(folder: Path, config: Mapping[str, Any], world: World) -> Iterator[dict[str, Any] | None]:
    """`begin` for a block that trains; one that is refused before its first save leaves no folder.

    Says how a new run differs from the last one of its name.
    """
    new = not names.card(folder)
    if new and world.first and (said := _since_the_last(folder, config)):
        note(said)
    finished = world.once(lambda: begin(folder, config))
    try:
        yield finished
    except Diverged:  # was under way: what it was asked for may be looked at
        raise
    except FrzError:
        if new and world.first:
            remove_refused(folder, lambda: bool({child.name for child in children(folder)} - MADE_FIRST))
        raise


def remove_refused(folder: Path, begun: Callable[[], bool]) -> None:
    """Remove the folder of something that was refused, unless it has begun or another process has taken it up."""
    with suppress(FrzError, FileNotFoundError), only_writer(folder):
        if not begun():
            remove(folder)
    remove_if_empty(folder.parent)


def begin(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Make the folder of a run; the card if the run is finished already.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    found = names.card(folder)
    if found.get("finished"):
        return found
    with full_disk(folder):
        make_folder(folder)
    write_file(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False).encode())
    write_json(folder / "card.json", {"finished": False, "created": found.get("created", _now())})
    return None


def finish(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Write the card of a finished run."""
    whole = {**card, "finished": True, "created": names.card(folder).get("created", _now()), "ended": _now()}
    write_json(folder / "card.json", whole)
    return whole


def told(card: Mapping[str, Any], folder: Path, status: str, then: str) -> dict[str, Any]:
    """What a command says of a run: where it lies, how it came to its end, its card, and which command follows."""
    return {"name": card["name"], "path": str(folder), "status": status, **card, "next": then}


def identity(trainer: TrainerConfig) -> dict[str, Any]:
    """The trainer's settings that make a run what it is."""
    return trainer.model_dump(mode="json", exclude=set(NOT_IDENTITY))


def _since_the_last(folder: Path, config: Mapping[str, Any]) -> str:
    """How the settings of a new run differ from those of the newest one of its name; '' if there is none."""
    if not (others := names.runs(folder.parent)):
        return ""
    keys = [flat(of) for of in (config_of(others[-1]), config)]
    changed = [f"{key} {_short(a)} -> {_short(b)}" for key, (a, b) in differing(*keys).items() if key not in PLACES]
    more = f" and {len(changed) - MOST_KEYS} more" if len(changed) > MOST_KEYS else ""
    before = f"{folder.parent.name}@{others[-1].name}"
    return f"{folder.name} is a new run of {folder.parent.name}; since {before}: {', '.join(changed[:MOST_KEYS])}{more}"


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a name that has no run; object stores have none."""
    if not is_remote(folder):
        with suppress(OSError):
            folder.rmdir()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
