"""Stage 1: a family, a data set, a trainer, and the run that joins them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from frz import artifacts as names
from frz.backbones.contract import BACKBONES, Backbone
from frz.config import StrictModel, digest_of, import_class, parse
from frz.errors import TrainingError
from frz.lineage import versions
from frz.loading.balance import balanced
from frz.loading.frozen import BackboneCard, build, fingerprint_of
from frz.loading.source import ReaderSource
from frz.store.reader import EventStore
from frz.store.schema import ID, EventArrays
from frz.training import run
from frz.training.checkpoint import load, n_trainable
from frz.training.config import TrainerConfig
from frz.training.distributed import World, joined
from frz.training.loop import fit, resumable
from frz.training.record import BEST

FIT_EVENTS = 2048


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
    folder = names.run_path(artifacts, "backbones", config.name, digest_of(asked | {"data": data["hash"]}))
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
                    "parameters": n_trainable(model),
                    "epochs": result.epochs,
                    "steps": result.steps,
                    "stopped_early": result.stopped_early,
                    **result.score,
                    "epoch_metrics": {"best": result.best, "last": result.last},
                    "events": {split: len(positions) for split, positions in chosen.items()},
                    "versions": versions(),
                },
            )
        )
        return run.told(done, folder, result.status, then)


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
    """The inputs of the training events, a few at a time, in store order."""
    for begin in range(0, len(positions), FIT_EVENTS):
        yield store.events(positions[begin : begin + FIT_EVENTS], model.inputs)
