"""Stage 1: a family, a data set, a trainer, and the run that joins them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from frz import artifacts as names
from frz.backbones.contract import BACKBONES, Backbone
from frz.config import StrictModel, digest_of, import_class, parse
from frz.errors import CheckpointError, IdentityError, TrainingError
from frz.lineage import versions
from frz.loading.balance import balanced
from frz.loading.frozen import HEAD_PREFIXES, BackboneCard, build, fingerprint_of, seen_before
from frz.loading.source import ReaderSource
from frz.location import location
from frz.progress import note
from frz.store.reader import EventStore
from frz.store.schema import ID, EventArrays, Schema
from frz.training import run
from frz.training.checkpoint import load, n_trainable
from frz.training.config import TrainerConfig
from frz.training.distributed import World, joined
from frz.training.foreign import read_weights, warm_start
from frz.training.loop import fit, resumable
from frz.training.record import BEST

FIT_EVENTS = 2048
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""What ends so is meant as a file, not as the name of a backbone."""


class BackboneConfig(StrictModel):
    """A Stage-1 run."""

    name: str
    """The backbone is called so from now on."""
    family: str
    """A known family or `package.module:Class`."""
    data: str
    """A data set: `name`, `name@<version>`."""
    model: dict[str, Any] = Field(default={})
    """The family's own settings."""
    trainer: TrainerConfig = TrainerConfig()
    overflow: Literal["error", "skip_event"] = "error"
    """What to do with events that the model cannot hold (more tracks than queries)."""
    init: str | None = None
    """Begin with the weights and constants of a backbone (`muon`, `muon@<run>`), or of a file: `.safetensors`, or what
    `torch.save` wrote of a state dict, bare or under `state_dict` or `model_state_dict`. Every tensor of the model has
    to be there, with its shape; tensors of heads are left out."""
    init_except: tuple[str, ...] = ()
    """Tensors whose names begin so are not taken from there, and not missed there."""


def train(values: Mapping[str, Any], artifacts: Path, where: str = "config") -> dict[str, Any]:
    """Train a backbone, go on with an interrupted run, or report a finished one.

    Parameters
    ----------
    values : mapping
        A `BackboneConfig`, as read from YAML.
    artifacts : Path
        The run goes to `backbones/<name>/<run>` below it.
    where : str
        What errors call the config.

    Returns
    -------
    dict
        The run's card: path, data set, parameters, epochs, best metrics, fingerprint.

    Raises
    ------
    FrzError
        If the config, the data set and the model do not fit, or training cannot go on.
    """
    config = parse(BackboneConfig, values, where)
    with joined(config.trainer.device) as world:
        return _train(config, artifacts, where, world)


def _train(config: BackboneConfig, artifacts: Path, where: str, world: World) -> dict[str, Any]:
    place = names.dataset(config.data, artifacts)
    store = EventStore(place.path, place.version)
    family = import_class(config.family, BACKBONES, "backbone")
    model_config = parse(family.Config, config.model, f"{where}: model")
    data = {
        **{"name": store.snapshot.name, "version": store.snapshot.version, "hash": store.snapshot.hash},
        "split": store.snapshot.split.model_dump(mode="json"),
    }
    asked = {
        "name": config.name,
        "family": config.family,
        "data": data,
        "model": model_config.model_dump(mode="json"),
        "trainer": run.identity(config.trainer),
        "overflow": config.overflow,
    }
    start = _start(config, artifacts)
    identity = asked | {"data": data["hash"]}
    if start is not None:
        asked["init"] = start.origin | {"weights": start.digest, "except": list(config.init_except)}
        identity["init"] = [start.digest, *config.init_except]
        data = data | ({"earlier": start.earlier} if start.earlier else {})
    folder = names.run_path(artifacts, "backbones", config.name, digest_of(identity))
    card = BackboneCard(
        name=config.name, family=config.family, model=asked["model"], event_schema=store.schema, data=data
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        model = build(card)
    chosen = {split: without_overflow(model, store, store.split(split), config.overflow) for split in ("train", "val")}
    then = f"frz extract --ckpt {config.name}@{folder.name}"
    with run.opened(folder, asked, world) as finished:
        if finished is not None:
            return run.told(finished, folder, run.NOTHING_TO_DO, then)
        if not resumable(folder):
            model.fit(_events(model, store, chosen["train"]))
            if start is not None:
                _check_columns(start, model, store.schema, config.init_except)
                report = warm_start(model, start.tensors, str(start.path), HEAD_PREFIXES, config.init_except)
                note(f"begins with {start.path}: {report}{_uncompared(start, model, store.schema)}")

        def meta(weights: Mapping[str, Tensor]) -> Mapping[str, Any]:
            identity = fingerprint_of(weights, card.family, card.model)
            return {"backbone": card.model_dump(mode="json"), "fingerprint": identity.value, "versions": versions()}

        read = dict.fromkeys([ID, *model.inputs, *model.targets])
        trainer = config.trainer
        train_events = ReaderSource(
            store,
            read,
            trainer.batch_size,
            positions=chosen["train"],
            seed=trainer.data_seed,
            window=trainer.window,
            draw=balanced(trainer.balance, store, chosen["train"], trainer.data_seed),
        )
        val_events = ReaderSource(store, read, trainer.batch_size, positions=chosen["val"], shuffle=False)
        result = fit(
            model, train_events, val_events, trainer, folder, meta=meta, description=f"train {config.name}", world=world
        )
        done = world.once(
            lambda: run.finish(
                folder,
                {
                    "name": config.name,
                    "family": config.family,
                    "data": data,
                    "fingerprint": load(folder / BEST)[1]["fingerprint"],
                    **({"init": asked["init"]} if start is not None else {}),
                    "parameters": n_trainable(model),
                    **result.told,
                    "events": {split: len(positions) for split, positions in chosen.items()},
                    "versions": versions(),
                },
            )
        )
        return run.told(done, folder, result.status, then)


class Start(NamedTuple):
    """Weights that a backbone begins with."""

    path: Path
    tensors: dict[str, Tensor]
    digest: str
    """SHA-256 (hex) of all of them."""
    origin: dict[str, str]
    """The file; of a backbone of frz its run and fingerprint."""
    earlier: list[dict[str, Any]]
    """Data sets that they were trained on, as far as the file says."""
    schema: Schema | None
    """Of the data set they were trained on, if they are of frz."""


def _start(config: BackboneConfig, artifacts: Path) -> Start | None:
    if config.init is None:
        return None
    path = location(config.init)
    if not path.is_file():
        if path.suffix in WEIGHT_FILES:
            raise CheckpointError("no such file", where=str(path), way_out="check init, or name a backbone")
        path = names.weights(config.init, artifacts)
    tensors, meta = read_weights(path)
    origin, earlier, schema = {"checkpoint": str(path)}, [], None
    if "backbone" in meta:
        origin |= {"backbone": f"{meta['backbone']['name']}@{path.parent.name}", "fingerprint": meta["fingerprint"]}
        earlier = seen_before(meta["backbone"]["data"])
        schema = Schema.model_validate(meta["backbone"]["event_schema"])
    return Start(path, tensors, fingerprint_of(tensors, "", {}).value, origin, earlier, schema)


def _check_columns(start: Start, model: Backbone, schema: Schema, init_except: tuple[str, ...]) -> None:
    """Refuse weights whose inputs had other columns: shapes may fit, and weights of one variable meet another.

    Raises
    ------
    IdentityError
        If columns of an input or of a static array (a vocabulary) differ and `init_except` leaves nothing out.
    """
    for name in (*model.inputs, *model.constants) if start.schema else ():
        there = [of.arrays.get(name, of.static.get(name)) for of in (schema, start.schema) if of]
        columns = [list(found.columns) for found in there if found]
        if len(columns) < 2 or columns[0] == columns[1]:
            continue
        what = f"columns of {name} were {columns[1]}, those of this data set are {columns[0]}"
        if not init_except:
            way_out = "name what depends on them in init_except: [PREFIX, …], or begin anew"
            raise IdentityError(what, where=str(start.path), way_out=way_out)
        note(f"warning: {what}; what depends on them has to be among init_except ({', '.join(init_except)})")


def _uncompared(start: Start, model: Backbone, schema: Schema) -> str:
    """What to say of inputs with named columns where the file does not say which columns it is of."""
    arrays = {**schema.arrays, **schema.static}
    named = [name for name in (*model.inputs, *model.constants) if name in arrays and arrays[name].columns]
    told = f"; it names no columns, so those of {', '.join(named)} are not compared with this data set's"
    return told if named and start.schema is None else ""


def without_overflow(
    model: Backbone, store: EventStore, positions: NDArray[np.int64], overflow: Literal["error", "skip_event"]
) -> NDArray[np.int64]:
    """The events that the model can hold.

    Raises
    ------
    TrainingError
        If there are others and `overflow` is `error`: how many, and the way out.
    """
    reason = model.overflow(store.snapshot.largest())
    if not reason:
        return positions
    fits = np.ones(store.n_events, bool)
    for axis, spec in store.schema.axes.items():
        if spec.parent != "event" or spec.length is not None:
            continue
        lengths = store.lengths(axis)
        for length in np.unique(lengths):
            if model.overflow({axis: int(length)}):
                fits[lengths == length] = False
    if overflow == "error" and not fits.all():
        raise TrainingError(
            f"{int((~fits).sum())} of {store.n_events} events do not fit the model: {reason}", where=str(store.root)
        )
    return positions[fits[positions]]


def _events(model: Backbone, store: EventStore, positions: NDArray[np.int64]) -> Iterator[EventArrays]:
    """What `fit` measures of the training events, a few at a time, in store order."""
    constants = {name: store.static(name) for name in model.constants}
    names = tuple(dict.fromkeys((*model.inputs, *model.targets)))
    for begin in range(0, len(positions), FIT_EVENTS):
        yield store.events(positions[begin : begin + FIT_EVENTS], names) | constants
