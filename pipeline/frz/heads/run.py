"""Stage 2: a head on the features of a store. No backbone is loaded, in no process, for no purpose.

The head's parameter-free prefix runs once over all parts (`prefix`); what is left of the events is trained on from
where it fits (`frz.loading.residency`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from frz import artifacts as names
from frz.config import StrictModel, digest_of, import_class, parse
from frz.errors import CheckpointError
from frz.heads.contract import HEADS, Head
from frz.heads.features import Features, open_features
from frz.heads.prefix import PREPARE_EVENTS, Prefix, prepared
from frz.lineage import versions
from frz.loading.balance import balanced
from frz.loading.blocks import BlockSource, PreparedEvents
from frz.loading.config import LoadingConfig
from frz.loading.order import labels_of, shuffle_quality
from frz.loading.source import ReaderSource
from frz.location import location
from frz.progress import note
from frz.store import ragged
from frz.store.reader import EventStore
from frz.store.schema import EventArrays, Schema
from frz.store.table import Reader
from frz.training import run
from frz.training.checkpoint import load, load_into, n_trainable
from frz.training.config import TrainerConfig, pick_device
from frz.training.distributed import World, joined
from frz.training.loop import fit, resumable
from frz.training.record import BEST
from frz.training.result import Result

PREDICT_EVENTS = 1024
"""Events at once."""
NOT_IDENTITY = {"prefix", "residency"}
"""Keys of `loading` that change no result."""


class HeadConfig(StrictModel):
    """A Stage-2 run."""

    name: str
    """The head is called so from now on."""
    head: str
    """A known head or `package.module:Class`."""
    features: Features
    """What it is trained on."""
    model: dict[str, Any] = Field(default={})
    """The head's own settings."""
    loading: LoadingConfig = LoadingConfig()
    trainer: TrainerConfig = TrainerConfig()

    @field_validator("trainer")
    @classmethod
    def _no_window(cls, trainer: TrainerConfig) -> TrainerConfig:
        # Blocks (`loading`) decide the order of features, so that a window makes no other run.
        return trainer.model_copy(update={"window": TrainerConfig().window})


def train(
    values: Mapping[str, Any], artifacts: Path, where: str = "config", features: str | None = None
) -> dict[str, Any]:
    """Train a head, go on with an interrupted run, or report a finished one.

    Parameters
    ----------
    values : mapping
        A `HeadConfig`, as read from YAML.
    artifacts : Path
        The run goes to `heads/<name>/<run>` below it.
    where : str
        What errors call the config.
    features : str, optional
        A feature store by name or path, in place of the one that the config's backbone wrote.

    Returns
    -------
    dict
        The run's card: path, features, epochs, metrics on validation and test split beside the training mean's.

    Raises
    ------
    FrzError
        If the config and the features do not fit, or training cannot go on.
    """
    config = parse(HeadConfig, values, where)
    with joined(config.trainer.device) as world:
        return _train(config, artifacts, where, features, world)


def _train(config: HeadConfig, artifacts: Path, where: str, features: str | None, world: World) -> dict[str, Any]:
    store = open_features(config.features, artifacts, features)
    return train_planned(plan(config, store, artifacts, where), world)


def train_planned(begun: "HeadRun", world: World, prefix: Prefix | None = None) -> dict[str, Any]:
    """`train` for a run that is planned, on `prefix` if its events are prepared already."""
    with run.opened(begun.folder, begun.asked, world) as finished:
        if finished is not None:
            return run.told(finished, begun.folder, run.NOTHING_TO_DO, begun.then)
        head, store, config = begun.head, begun.store, begun.config
        note(f"{n_trainable(head):,} trainable parameters; {_frozen(begun)} are frozen")
        events = sources(begun, prefix)
        if not resumable(begun.folder):
            head.check(store, events.prefix.reader, events.splits)
            head.fit(events.split("train"))
        result = fit(
            head,
            events.train,
            events.val,
            config.trainer,
            begun.folder,
            meta=begun.meta,
            measure=lambda module: score(cast(Head, module), events.prefix.reader, events.splits["val"])["head"],
            description=f"train {config.name}",
            world=world,
        )
        load_into(head, load(begun.folder / BEST)[0], str(begun.folder / BEST))
        done = world.once(lambda: conclude(begun, events, result))
        return run.told(done, begun.folder, result.status, begun.then)


def _frozen(begun: "HeadRun") -> str:
    """What is not trained: the backbone, with its number of parameters where its card is here."""
    weights = begun.asked["features"]
    card = names.card_of(weights["backbone"], weights["fingerprint"], begun.folder.parents[2])
    return (
        f"the {card['parameters']:,} of backbone {weights['backbone']}" if card else f"backbone {weights['backbone']}"
    )


class HeadRun(NamedTuple):
    """A run before it begins: what is asked for, and where it goes."""

    config: HeadConfig
    store: EventStore
    head: Head
    """With its initial weights."""
    asked: dict[str, Any]
    """What identifies the run; goes to `config.yaml`."""
    folder: Path

    @property
    def then(self) -> str:
        """The command that follows."""
        return f"frz evaluate {self.config.name}@{self.folder.name}"

    @property
    def about(self) -> dict[str, Any]:
        """What the checkpoint says of the head."""
        known = {key: self.asked[key] for key in ("name", "head", "model", "features")}
        return known | {"event_schema": self.store.schema.model_dump(mode="json")}

    def meta(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """JSON to keep beside weights."""
        del weights
        return {"head": self.about, "versions": versions()}


def plan(config: HeadConfig, store: EventStore, artifacts: Path, where: str) -> HeadRun:
    """What a run of `config` on the features of `store` is called, and its head with the weights it begins with.

    Raises
    ------
    FrzError
        If the config and the features do not fit.
    """
    head_class = import_class(config.head, HEADS, "head")
    model_config = parse(head_class.Config, config.model, f"{where}: model")
    origin = {
        "store": str(store.root),
        "version": store.snapshot.version,
        "hash": store.snapshot.hash,
        "fingerprint": store.snapshot.about["fingerprint"]["value"],
        "backbone": store.snapshot.about["backbone"]["name"],
        "data": store.snapshot.about["data"],
        "recipe": store.snapshot.about["recipe"],
    }
    asked = {
        "name": config.name,
        "head": config.head,
        "features": origin,
        "model": model_config.model_dump(mode="json"),
        "loading": config.loading.model_dump(mode="json", exclude=NOT_IDENTITY),
        "trainer": run.identity(config.trainer),
    }
    folder = names.run_path(artifacts, "heads", config.name, digest_of(asked | {"features": origin["hash"]}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        head: Head = head_class(model_config, store.schema)
    return HeadRun(config, store, head, asked, folder)


class Sources(NamedTuple):
    """The events of a run."""

    prefix: Prefix
    """Prepared events, and where they lie."""
    splits: dict[str, NDArray[np.int64]]
    """Positions of the events of each."""
    train: BlockSource
    val: BlockSource
    told: dict[str, Any]
    """What the card says of where they lie and how well they are shuffled."""

    def split(self, name: str) -> Iterator[EventArrays]:
        """The prepared events of a split, some at a time."""
        positions = self.splits[name]
        for begin in range(0, len(positions), PREPARE_EVENTS):
            yield self.prefix.reader.events(positions[begin : begin + PREPARE_EVENTS])


def sources(begun: HeadRun, prefix: Prefix | None = None) -> Sources:
    """Prepare the events of a run (or take `prefix`, of a run with the same one), and put them where they fit."""
    head, store, loading, trainer = begun.head, begun.store, begun.config.loading, begun.config.trainer
    device = pick_device(trainer.device)
    prefix = prefix or prepared(head, store, begun.asked["model"], loading, device)
    table, residency = prefix
    note(str(residency))
    splits = {split: store.split(split) for split in store.snapshot.split.fractions}
    draw = balanced(trainer.balance, store, splits["train"], trainer.data_seed)
    drawn = splits["train"] if draw is None else splits["train"][draw(0)]
    shuffle = shuffle_quality(labels_of(table, drawn), loading, trainer.batch_size, trainer.data_seed)
    note(str(shuffle))
    events = PreparedEvents(table, head.prepared.arrays, residency.mode, device, loading.window)
    train_events = BlockSource(
        events,
        trainer.batch_size,
        splits["train"],
        order=loading,
        seed=trainer.data_seed,
        draw=draw,
    )
    val_events = BlockSource(events, trainer.batch_size, splits.get("val", splits["train"][:0]))
    told = {"residency": residency._asdict(), "shuffle": shuffle.shares}
    return Sources(prefix, splits, train_events, val_events, told)


def conclude(begun: HeadRun, events: Sources, result: Result, **more: Any) -> dict[str, Any]:
    """Write the card of a finished run, whose head has its best weights."""
    head = begun.head
    scored = {name: positions for name, positions in events.splits.items() if name != "train" and len(positions)}
    return run.finish(
        begun.folder,
        {
            **{key: begun.about[key] for key in ("name", "head", "features")},
            "parameters": n_trainable(head),
            **result.told,
            **events.told,
            "metrics": {name: score(head, events.prefix.reader, positions) for name, positions in scored.items()},
            **more,
            "versions": versions(),
        },
    )


def predict(head: Head, table: Reader, positions: NDArray[np.int64]) -> EventArrays:
    """Predictions in physical units for the events at `positions`, in that order."""
    source = ReaderSource(table, head.prepared.arrays, PREDICT_EVENTS, positions=positions, shuffle=False)
    plan = [positions[begin : begin + PREDICT_EVENTS] for begin in range(0, len(positions), PREDICT_EVENTS)]
    pieces = []
    head.eval()
    for batch in source.batches(plan):
        device = next(head.parameters()).device
        made = head.predict({name: values.to(device) for name, values in batch.items()})
        pieces.append({name: values.cpu().numpy() for name, values in made.items()})
    return ragged.concat(pieces) if pieces else {}


def score(head: Head, table: Reader, positions: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Metrics of the head on some events, beside those of its yardstick, the training mean."""
    truth = table.events(positions)
    found = {"head": head.metrics(predict(head, table, positions), truth)}
    mean = head.predict_mean(truth)
    return found | ({"training_mean": head.metrics(mean, truth)} if mean else {})


def load_head(spec: str, artifacts: Path, schema: Schema | None = None) -> tuple[Head, dict[str, Any]]:
    """A trained head for features of `schema` (default: as trained), and what its checkpoint says of it.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, or no head's.
    """
    path = location(spec)
    if not path.is_file():
        found = names.head(spec, artifacts)
        path = found.path / f"{found.weights}.safetensors"
    tensors, meta = load(path)
    if "head" not in meta:
        raise CheckpointError("not the checkpoint of a head", where=str(path), way_out="give one that train-head wrote")
    about: dict[str, Any] = meta["head"]
    head_class = import_class(about["head"], HEADS, "head")
    schema = schema or Schema.model_validate(about["event_schema"])
    head: Head = head_class(parse(head_class.Config, about["model"], str(path)), schema)
    load_into(head, tensors, str(path))
    return head.eval(), about
