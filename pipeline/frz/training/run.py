"""The folder of a run: the same command on an unfinished run goes on, on a finished one only reports.

`config.yaml` is what was asked for, `card.json` what came of it; both are for people, the truth lies in the
checkpoints.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from frz import artifacts as names
from frz.store.atomic import full_disk, make_folder, write_file, write_json
from frz.training.config import NOT_IDENTITY, TrainerConfig

NOTHING_TO_DO = "finished before: nothing to do"


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
