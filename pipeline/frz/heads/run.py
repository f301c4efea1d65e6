"""Stage 2: a head on the features of a store. No backbone is loaded, in no process, for no purpose.

The head's parameter-free prefix runs once over all parts; what is left of the events stays in memory and is
trained on from there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from frz import artifacts as names
from frz import seen
from frz.config import StrictModel, digest_of, import_class, parse
from frz.errors import CheckpointError, IdentityError
from frz.heads.contract import HEADS, Head
from frz.lineage import changed_since, versions
from frz.loading.balance import balanced
from frz.loading.source import ReaderSource
from frz.location import location
from frz.progress import note, progress
from frz.store import ragged
from frz.store.reader import EventStore
from frz.store.schema import EventArrays, Schema
from frz.store.table import EventTable, Reader
from frz.training import run
from frz.training.checkpoint import load, load_into, n_trainable
from frz.training.config import TrainerConfig
from frz.training.loop import fit, resumable
from frz.training.record import BEST

PREPARE_EVENTS = 4096
PREDICT_EVENTS = 1024
"""Events at once."""


class Features(StrictModel):
    """Which features a head is for; compared with what the store says of itself."""

    backbone: str
    """Backbone by name (`muon`, `muon@<run>`): its weights must be those that wrote the features."""
    data: str
    """Data set, by name or `name@<version>`."""


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
    trainer: TrainerConfig = TrainerConfig()


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
    store = find_features(config.features, artifacts, features)
    if changed := changed_since(store.snapshot.about["made_with"]):
        way_out = f"'frz extract --ckpt {config.features.backbone} --check' says whether it matters"
        note(f"warning: the features were made with other {'; '.join(changed)}; {way_out}")
    if leak := seen.warning(store, artifacts):
        note(leak)
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
        "trainer": run.identity(config.trainer),
    }
    folder = names.run_path(artifacts, "heads", config.name, digest_of(asked | {"features": origin["hash"]}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        head: Head = head_class(model_config, store.schema)
    then = f"frz evaluate {config.name}@{folder.name}"
    if (finished := run.begin(folder, asked)) is not None:
        return run.told(finished, folder, run.NOTHING_TO_DO, then)

    table = prepare(head, store)
    splits = {split: store.split(split) for split in store.snapshot.split.fractions}
    if not resumable(folder):
        head.fit([table.events(splits["train"])])
    about = {
        "name": config.name,
        "head": config.head,
        "model": asked["model"],
        "features": origin,
        "event_schema": store.schema.model_dump(mode="json"),
    }
    trainer = config.trainer
    train_events = ReaderSource(
        table,
        head.prepared.arrays,
        trainer.batch_size,
        positions=splits["train"],
        seed=trainer.data_seed,
        window=trainer.window,
        draw=balanced(trainer.balance, store, splits["train"], trainer.data_seed),
    )
    val_events = ReaderSource(
        table, head.prepared.arrays, trainer.batch_size, positions=splits.get("val", splits["train"][:0]), shuffle=False
    )
    result = fit(
        head,
        train_events,
        val_events,
        trainer,
        folder,
        meta=lambda weights: {"head": about, "versions": versions()},
        description=f"train {config.name}",
    )
    tensors, best = load(folder / BEST)
    load_into(head, tensors, str(folder / BEST))
    n_parameters = n_trainable(head)
    done = run.finish(
        folder,
        {
            **{key: about[key] for key in ("name", "head", "features")},
            "parameters": n_parameters,
            "epochs": result.epochs,
            "steps": result.steps,
            "stopped_early": result.stopped_early,
            "score": best["metrics"].get("val/loss", best["metrics"].get("train/loss")),
            "epoch_metrics": {"best": result.best, "last": result.last},
            "metrics": {s: score(head, table, p) for s, p in splits.items() if s != "train" and len(p)},
            "versions": versions(),
        },
    )
    return run.told(done, folder, result.status, then)


def find_features(asked: Features, artifacts: Path, place: str | None = None) -> EventStore:
    """The features that a head asks for: of exactly these weights, of this data set.

    Raises
    ------
    IdentityError
        If the store was written by other weights or of another data set, naming both.
    StoreError
        If there is none.
    """
    expected = _fingerprint(asked.backbone, artifacts)
    if place is not None:
        found = names.features(place, artifacts)
    elif expected is None:
        found = names.features(asked.backbone, artifacts)
    else:
        found = names.features(_store_of(asked, expected, artifacts), artifacts)
    store = EventStore(found.path, found.version)
    theirs = store.snapshot.about["fingerprint"]["value"]
    if expected is not None and theirs != expected:
        raise IdentityError(
            f"these features were written by weights {theirs[:12]}, backbone {asked.backbone!r} has {expected[:12]}",
            where=str(store.root),
            way_out=f"run 'frz extract --ckpt {asked.backbone}', or name their run (backbone: name@<run>)",
        )
    return _of_data(store, asked.data)


def _fingerprint(backbone: str, artifacts: Path) -> str | None:
    """Fingerprint of the best weights of a backbone; None if only its features are here."""
    try:
        run_of = names.backbone(backbone, artifacts)
    except CheckpointError:
        return None
    found: str | None = names.card(run_of.path).get("fingerprint")
    return found


def _store_of(asked: Features, fingerprint: str, artifacts: Path) -> Path:
    name = names.features_name(asked.backbone.partition("@")[0], fingerprint)
    data = asked.data.partition("@")[0]
    places = [names.store_path(artifacts, "features", n) for n in (f"{name}-{data}", name)]
    for place in places:
        if names.versions(place):
            return place
    raise IdentityError(
        f"no features of backbone {asked.backbone!r} with its present weights {fingerprint[:12]}",
        where=str(places[-1]),
        way_out=f"run 'frz extract --ckpt {asked.backbone}'",
    )


def _of_data(store: EventStore, data: str) -> EventStore:
    """The newest version of the store that holds the data set asked for."""
    name, _, version = data.partition("@")
    known = []
    for number in reversed(names.versions(store.root)):
        candidate = EventStore(store.root, number)
        about = candidate.snapshot.about["data"]
        if about["name"] == name and (
            version in ("", "latest", str(about["version"])) or names.hash_fits(version, about["hash"])
        ):
            return candidate
        known.append(f"{about['name']}@{about['version']}")
    raise IdentityError(
        f"holds features of {', '.join(known)}, the head asks for {data}",
        where=str(store.root),
        way_out=f"run 'frz extract --data {data}', or change features.data",
    )


def prepare(head: Head, store: Reader, positions: NDArray[np.int64] | None = None) -> EventTable:
    """What the head's parameter-free prefix leaves of the events at `positions` (default all), in memory."""
    chosen = np.arange(store.n_events) if positions is None else positions
    pieces = []
    with progress("prepare", total=len(chosen), unit="event") as bar:
        for begin in range(0, max(len(chosen), 1), PREPARE_EVENTS):
            block = chosen[begin : begin + PREPARE_EVENTS]
            pieces.append(head.prepare(store.events(block, head.needs)))
            bar.advance(len(block))
    return EventTable(head.prepared, ragged.concat(pieces))


def predict(head: Head, table: EventTable, positions: NDArray[np.int64]) -> EventArrays:
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


def score(head: Head, table: EventTable, positions: NDArray[np.int64]) -> dict[str, dict[str, float]]:
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
