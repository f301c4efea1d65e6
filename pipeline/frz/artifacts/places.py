"""Where artifacts lie, and what their JSON says: no array and no weights are opened.

datasets/<name>/                     event store; versions are snapshots/<n>.json
features/<backbone>-<fingerprint8>/  event store (`-<data set>` after it if that is not the one trained on)
backbones/<name>/<run8>/             card.json, best.safetensors, last.safetensors, ...
heads/<name>/<run8>/                 likewise
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from frz.errors import ConfigError, StoreError
from frz.location import children, is_remote, location, read_bytes, refuse_missing_bucket

Kind: TypeAlias = Literal["datasets", "features", "backbones", "heads"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MADE_WITH = "made_with.json"
"""Beside the snapshots of a feature store: what parts that no snapshot holds yet are made with."""


def root(option: str | Path | None = None) -> Path:
    """Folder of all artifacts, or prefix of an object store: the option, else FRZ_ARTIFACTS, else `./artifacts`.

    Raises
    ------
    ConfigError, StoreError
        If it is a URL that cannot be used, or the object store has no such bucket or does not answer.
    """
    found = location(option or os.environ.get("FRZ_ARTIFACTS") or "artifacts")
    if is_remote(found):
        refuse_missing_bucket(found)
    return found


def store_path(artifacts: Path, kind: Literal["datasets", "features"], name: str) -> Path:
    """Where the event store of a data set or a feature set is written."""
    return artifacts / kind / _plain(name)


def run_path(artifacts: Path, kind: Literal["backbones", "heads"], name: str, digest: str) -> Path:
    """Where a run is written; `digest` (hex) identifies its config and input versions."""
    return artifacts / kind / _plain(name) / digest[:8]


def sweep_path(artifacts: Path, name: str) -> Path:
    """Where the results of a sweep are written."""
    return artifacts / "sweeps" / _plain(name)


def features_name(backbone: str, fingerprint: str) -> str:
    """Name of the feature store that holds what one set of weights says."""
    return f"{backbone}-{fingerprint[:8]}"


def _plain(name: str) -> str:
    """The name itself if it can be a folder and be asked for later.

    Raises
    ------
    ConfigError
        If it is empty, or holds a separator or '@'.
    """
    if not name or name.startswith(".") or any(character in name for character in "/\\@"):
        raise ConfigError(f"{name!r} cannot name an artifact", way_out="use letters, digits, '-' and '_'")
    return name


def entries(artifacts: Path, kind: Kind) -> list[Path]:
    """Folders of the stores, or of the families of runs, of one kind; by name."""
    return folders(artifacts / kind)


def versions(store: Path) -> list[int]:
    """Numbers of the snapshots of an event store, ascending; one whose file was lost counts while its copy is there."""
    files = [file for folder in ("snapshots", "copies") for file in children(store / folder)]
    numbered = [(int(file.stem), file.suffix) for file in files if file.stem.isdigit()]
    dropped = {version for version, suffix in numbered if suffix == ".dropped"}
    return sorted({version for version, suffix in numbered if suffix == ".json"} - dropped)


def newer_data(data: Mapping[str, Any], artifacts: Path) -> int | None:
    """Number of the newest version of a data set (`name`, `version`) if that is newer; else None."""
    newest = max(versions(store_path(artifacts, "datasets", data["name"])), default=0)
    return newest if newest > data["version"] else None


def latest_snapshot(store: Path) -> dict[str, Any]:
    """JSON of the newest snapshot of an event store ({} if it has none); of its second copy if it is damaged."""
    if not (numbers := versions(store)):
        return {}
    try:
        return read_json(store / "snapshots" / f"{numbers[-1]}.json")
    except StoreError:
        return read_json(store / "copies" / f"{numbers[-1]}.json")


def card(run: Path) -> dict[str, Any]:
    """The card of a run ({} while it has none that can be read: the same command writes it anew)."""
    try:
        return read_json(run / "card.json")
    except StoreError:
        return {}


def card_of(backbone: str, fingerprint: str, artifacts: Path) -> dict[str, Any]:
    """The card of the run of a backbone that has this fingerprint ({} if none is here)."""
    cards = (card(run) for run in runs(artifacts / "backbones" / backbone))
    return next((found for found in cards if found.get("fingerprint") == fingerprint), {})


def runs(folder: Path) -> list[Path]:
    """Folders of the runs of one backbone or head, oldest first."""
    found = [path for path in folders(folder) if not path.name.startswith(".") and not is_store(path)]
    return sorted(found, key=lambda path: (created(card(path)), path.name))


def is_store(path: Path) -> bool:
    """Whether a folder is an event store (it may hold no version yet)."""
    return (path / "snapshots").is_dir()


def is_run(path: Path) -> bool:
    """Whether a folder is a training run."""
    return any((path / name).is_file() for name in ("card.json", "best.safetensors", "last.safetensors"))


def folders(path: Path) -> list[Path]:
    """Folders in a folder, by name; none if it does not exist."""
    return sorted(child for child in children(path) if child.is_dir())


def created(record: Mapping[str, Any]) -> str:
    """Creation time as ISO 8601 text, which sorts by time ('' if unknown)."""
    return str(record.get("created", ""))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    try:
        value = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise StoreError("the file is missing", where=str(path)) from None
    except ValueError as error:
        raise StoreError(f"not valid JSON ({error})", where=str(path), way_out="the file is damaged") from None
    if not isinstance(value, dict):
        raise StoreError("not a JSON object", where=str(path), way_out="the file is damaged")
    return value
