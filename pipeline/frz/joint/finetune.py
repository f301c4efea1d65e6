"""`frz finetune`: a trained head and the backbone it stands on, trained on end to end at a low rate.

What comes of it are artifacts like any other: a backbone run of its own fingerprint, features that it wrote, and a head
run on these features. What they came from is only read. Each step of the way is taken up where it was broken off.
"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from frz import artifacts as names
from frz.config import digest_of, parse
from frz.errors import IdentityError
from frz.extract.opening import open_both
from frz.extract.run import extract
from frz.extract.settings import Settings, feature_schema
from frz.heads.features import Features
from frz.heads.prefix import prepare
from frz.heads.run import HeadConfig, load_head, plan, score
from frz.joint.live import Live, LiveSource
from frz.joint.settings import FinetuneConfig
from frz.lineage import versions
from frz.loading.balance import balanced
from frz.loading.frozen import FINE_TUNED, BackboneCard, build, fingerprint_of, seen_before
from frz.location import location
from frz.progress import note
from frz.store.atomic import write_file
from frz.store.reader import EventStore
from frz.store.schema import Schema
from frz.training import run
from frz.training.checkpoint import load, load_into, n_trainable, save
from frz.training.config import TrainerConfig
from frz.training.distributed import World, joined
from frz.training.loop import fit
from frz.training.record import BEST, METRICS, under

SLOWER = 0.1
"""The rate of a fine-tuning, in units of that with which the head was trained."""
EPOCHS = 5


class Beginning(NamedTuple):
    """A fine-tuning before it begins."""

    config: FinetuneConfig
    trainer: TrainerConfig
    source: EventStore
    """The data set."""
    live: Live
    about: dict[str, Any]
    """What the head's checkpoint says of it."""
    recipe: Settings
    """How the features that it stands on were made."""
    card: BackboneCard
    """Of the new backbone."""
    origin: dict[str, Any]
    """Where it comes from: what the new cards say."""
    asked: dict[str, Any]
    folder: Path

    @property
    def backbone(self) -> str:
        """The new backbone."""
        return f"{self.card.name}@{self.folder.name}"

    @property
    def head_name(self) -> str:
        """What the new head is called."""
        return f"{self.about['name']}-{self.config.name}"

    def meta(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """JSON to keep beside weights: they are a backbone's."""
        own = {name: value for name, value in weights.items() if not name.startswith(FINE_TUNED)}
        identity = fingerprint_of(own, self.card.family, self.card.model)
        known = {"backbone": self.card.model_dump(mode="json"), "fingerprint": identity.value, "finetune": self.origin}
        return known | {"versions": versions()}


def finetune(values: Mapping[str, Any], artifacts: Path, where: str = "config") -> dict[str, Any]:
    """Fine-tune a head with its backbone, go on with an interrupted run, or report a finished one.

    Parameters
    ----------
    values : mapping
        A `FinetuneConfig`, as read from YAML.
    artifacts : Path
        Where the head and what it stands on lie, and where new runs and features go.
    where : str
        What errors call the config.

    Returns
    -------
    dict
        The new head's card: path, backbone, features, epochs, metrics on validation and test split.

    Raises
    ------
    FrzError
        If no gradient can pass what the head prepares, head, backbone and data set are not all in place, or training
        cannot go on.
    """
    config = parse(FinetuneConfig, values, where)
    trainer = _trainer(config, artifacts, where)
    with joined(trainer.device) as world:
        begun = _begin(config, trainer, artifacts)
        done = _trained(begun, world)
        return world.once(lambda: _conclude(begun, done, artifacts, where))


def _trainer(config: FinetuneConfig, artifacts: Path, where: str) -> TrainerConfig:
    """The keys that are given, else those that the head was trained with, slowed down."""
    before = load(_file(config.head, artifacts))[1].get("trainer", {})
    slow = {"lr": SLOWER * parse(TrainerConfig, before, config.head).lr, "max_epochs": EPOCHS}
    return parse(TrainerConfig, {**before, **slow, **config.trainer}, f"{where}: trainer")


def _file(head: str, artifacts: Path) -> Path:
    """The weights of a head."""
    path = location(head)
    if path.is_file():
        return path
    found = names.head(head, artifacts)
    return found.path / f"{found.weights}.safetensors"


def _begin(config: FinetuneConfig, trainer: TrainerConfig, artifacts: Path) -> Beginning:
    """Put backbone and head together, and see that a gradient passes."""
    file = _file(config.head, artifacts)
    about = load_head(str(file), artifacts)[1]
    features = about["features"]
    of = features["data"]
    weights = names.weights_of(features["backbone"], features["fingerprint"], artifacts)
    frozen, source = open_both(weights, artifacts, f"{of['name']}@{of['version']}", "cpu")
    if source.snapshot.hash != of["hash"]:
        what = f"is {source.snapshot.hash[:8]}, the head was trained on {of['hash'][:8]}"
        way_out = "train the head on features of the data set that is here"
        raise IdentityError(what, where=f"{of['name']}@{of['version']}", way_out=way_out)
    recipe = Settings.of_store(features["recipe"], Schema.model_validate(about["event_schema"]))
    backbone = build(frozen.card, source.schema)
    load_into(backbone, frozen.module.state_dict(), str(weights))
    schema = feature_schema(backbone, source.schema, recipe)
    head = load_head(str(file), artifacts, schema)[0]
    live = Live(backbone, head, schema, config.backbone_lr)

    data = {**of, "split": source.snapshot.split.model_dump(mode="json")}
    if earlier := [one for one in seen_before(frozen.card.data) if one["hash"] != of["hash"]]:
        data["earlier"] = earlier
    own = fingerprint_of(head.state_dict(), about["head"], about["model"]).value
    origin = {
        **{"backbone": f"{features['backbone']}@{weights.parent.name}", "fingerprint": features["fingerprint"]},
        **{"head": f"{about['name']}@{file.parent.name}", "head_weights": own, "backbone_lr": config.backbone_lr},
    }
    card = BackboneCard(
        name=f"{frozen.card.name}-{config.name}",
        family=frozen.card.family,
        model=frozen.card.model,
        event_schema=source.schema,
        data=data,
    )
    asked = {
        **{"name": card.name, "family": card.family, "data": data, "model": card.model},
        **{"finetune": origin, "trainer": run.identity(trainer)},
    }
    made_of = {"fingerprint": features["fingerprint"], "head": own, "data": of["hash"], "recipe": features["recipe"]}
    identity = digest_of(asked | {"finetune": config.backbone_lr, "data": made_of})
    folder = names.run_path(artifacts, "backbones", card.name, identity)
    return Beginning(config, trainer, source, live, about, recipe, card, origin, asked, folder)


def _trained(begun: Beginning, world: World) -> dict[str, Any]:
    """The card of the new backbone, trained if it is not yet, and how that came to its end (`status`)."""
    live, source, trainer = begun.live, begun.source, begun.trainer
    train, val = source.split("train"), source.split("val")
    draw = balanced(trainer.balance, source, train, trainer.data_seed)
    order: dict[str, Any] = {"seed": trainer.data_seed, "window": trainer.window, "draw": draw}
    train_events = LiveSource(source, live, trainer.batch_size, positions=train, **order)
    val_events = LiveSource(source, live, trainer.batch_size, positions=val, shuffle=False)
    _refuse_closed(live, train_events)
    with run.opened(begun.folder, begun.asked, world) as finished:
        if finished is not None:
            return {**finished, "status": run.NOTHING_TO_DO}
        parameters = {"backbone": n_trainable(live.backbone), "head": n_trainable(live.head)}
        frozen = sum(parameter.numel() for parameter in live.parameters()) - n_trainable(live)
        rates = f"lr {begun.config.backbone_lr * trainer.lr:g} and {trainer.lr:g}"
        told = f"{parameters['backbone']:,} of the backbone, {parameters['head']:,} of the head; {rates}"
        note(f"{n_trainable(live):,} trainable parameters ({told}), {frozen:,} frozen")
        result = fit(
            live,
            train_events,
            val_events,
            trainer,
            begun.folder,
            meta=begun.meta,
            measure=lambda _: live.measure(val_events),
            description=f"finetune {begun.head_name}",
            world=world,
        )
        best = load(begun.folder / BEST)[1]
        card = world.once(
            lambda: run.finish(
                begun.folder,
                {
                    **{key: begun.asked[key] for key in ("name", "family", "data", "finetune")},
                    "fingerprint": best["fingerprint"],
                    "parameters": parameters["backbone"],
                    **result.told,
                    "events": {"train": len(train), "val": len(val)},
                    "versions": versions(),
                },
            )
        )
        return {**card, "status": result.status}


def _refuse_closed(live: Live, events: LiveSource) -> None:
    """Refuse a head whose prefix no gradient can pass, on the first event."""
    with torch.no_grad(), closing(events.batches([batch[:1] for batch in events.plan(0)[:1]])) as batches:
        for batch in batches:
            live.eval().loss(batch)


def _conclude(begun: Beginning, backbone: Mapping[str, Any], artifacts: Path, where: str) -> dict[str, Any]:
    """Extract features with the new backbone, and write the new head on them; what is told of it."""
    of_backbone = {"backbone": begun.backbone, "fingerprint": backbone["fingerprint"]}
    for folder in names.runs(artifacts / "heads" / begun.head_name):
        found = names.card(folder)
        if found.get("finished") and found["features"]["fingerprint"] == backbone["fingerprint"]:
            then = f"frz compare {begun.origin['head']} {begun.head_name}@{folder.name}"
            return run.told(found, folder, backbone["status"], then) | of_backbone
    data = begun.card.data
    made = extract(
        str(begun.folder / BEST),
        artifacts,
        f"{data['name']}@{data['version']}",
        begun.recipe.model_dump(mode="json", exclude={"device", "out", "codec"}) | {"device": begun.trainer.device},
    )
    store = EventStore(location(made["path"]), made["version"])
    config = HeadConfig(
        name=begun.head_name,
        head=begun.about["head"],
        features=Features(backbone=begun.backbone, data=f"{data['name']}@{data['version']}"),
        model=begun.about["model"],
        trainer=begun.trainer,
    )
    new = plan(config, store, artifacts, where)
    asked = new.asked | {"finetune": begun.origin}
    tensors, best = load(begun.folder / BEST)
    load_into(new.head, under(FINE_TUNED, tensors), str(begun.folder / BEST))
    run.begin(new.folder, asked)
    write_file(new.folder / METRICS, (begun.folder / METRICS).read_bytes())
    kept = {key: best[key] for key in ("trainer", "metrics", "weights")}
    save(new.folder / BEST, new.head.state_dict(), kept | {"finetune": begun.origin} | new.meta({}))
    scored = {split: store.split(split) for split in store.snapshot.split.fractions if split != "train"}
    table = prepare(new.head, store)
    same = ("epochs", "steps", "stopped_early", "score", "monitor", "monitor_mode", "epoch_metrics")
    card = run.finish(
        new.folder,
        {
            **{key: new.about[key] for key in ("name", "head", "features")},
            "finetune": begun.origin,
            "parameters": n_trainable(new.head),
            **{key: backbone[key] for key in same},
            "metrics": {split: score(new.head, table, chosen) for split, chosen in scored.items() if len(chosen)},
            "versions": versions(),
        },
    )
    then = f"frz compare {begun.origin['head']} {begun.head_name}@{new.folder.name}"
    return run.told(card, new.folder, backbone["status"], then) | of_backbone
