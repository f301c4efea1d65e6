"""Opening what an extraction needs: a backbone and a data set that fit, and the place of the features."""

from pathlib import Path

from frz import artifacts as names
from frz.errors import ConfigError, IdentityError
from frz.extract.settings import Settings
from frz.loading.frozen import FrozenBackbone
from frz.store.reader import EventStore
from frz.store.schema import Schema
from frz.training.config import pick_device


def open_both(
    checkpoint: Path, artifacts: Path, data: str | None = None, device: str = "auto"
) -> tuple[FrozenBackbone, EventStore]:
    """A frozen backbone and a data set that it can read (default: the newest version of its training data).

    The backbone is built for this data set: where it has no truth, nothing is annotated.

    Raises
    ------
    FrzError
        See `FrozenBackbone` and `check_inputs`.
    """
    frozen = FrozenBackbone(checkpoint, pick_device(device))
    place = names.dataset(data or frozen.card.data["name"], artifacts)
    source = EventStore(place.path, place.version)
    check_inputs(frozen, source.schema)
    if source.schema != frozen.card.event_schema:
        frozen = FrozenBackbone(checkpoint, frozen.device, source.schema)
    return frozen, source


def check_inputs(frozen: FrozenBackbone, schema: Schema) -> None:
    """Refuse a data set whose inputs are not those the backbone was trained on.

    Raises
    ------
    ConfigError
        If an array is missing.
    IdentityError
        If an array, or a static array (a vocabulary), has another dtype, shape or other columns.
    """
    trained = frozen.card.event_schema
    for name in (*frozen.module.inputs, *frozen.module.constants):
        given, expected = (there.arrays.get(name, there.static.get(name)) for there in (schema, trained))
        assert expected is not None, "the backbone was trained without its inputs"
        if given is None:
            raise ConfigError(f"the data set has no {name!r}, which backbone {frozen.card.name} reads")
        if (given.dtype, given.shape, given.columns) != (expected.dtype, expected.shape, expected.columns):
            raise IdentityError(
                f"{name} is {given.dtype}{list(given.shape)} with columns {list(given.columns)}, backbone "
                f"{frozen.card.name} was trained on {expected.dtype}{list(expected.shape)}, {list(expected.columns)}",
                way_out="extract from a data set of the same layout, or train a backbone on this one",
            )


def root_of(settings: Settings, frozen: FrozenBackbone, source: EventStore, artifacts: Path) -> Path:
    """Where the features of a backbone on a data set lie: where the settings say, or among the artifacts.

    Raises
    ------
    ConfigError
        If there is a file.
    """
    if settings.out is not None:
        if settings.out.is_file():
            raise ConfigError("is a file", where=str(settings.out), way_out="give a folder with --set out=DIR")
        return settings.out
    name = names.features_name(frozen.card.name, frozen.fingerprint.value)
    if source.snapshot.name != frozen.card.data["name"]:
        name += f"-{source.snapshot.name}"
    return names.store_path(artifacts, "features", name)
