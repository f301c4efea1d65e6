"""`frz bench`: what a head of the user costs on this machine behind its backbone, and from stored features.

joint    a training step of the backbone and one of the head, each with its own batch
frozen   the backbone forward without gradients before every step of the head, in every epoch
device, ram, mapped
         what `train-head` does, from each place where prepared events can lie
sweep    several such heads in one pass, as `frz sweep` trains them; numbers are of one of them

The ways take turns, so that other programs disturb all of them alike; a rate is the median over the rounds.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from frz import artifacts as names
from frz.config import parse
from frz.errors import FrzError, TrainingError
from frz.extract.opening import open_both
from frz.extract.settings import Settings
from frz.heads.contract import Head
from frz.heads.features import find_features
from frz.heads.prefix import prepare
from frz.heads.run import HeadConfig, plan
from frz.joint.cached import cached
from frz.joint.on_the_fly import FrozenFeatures, OnTheFly
from frz.joint.stacked import SweepStep
from frz.joint.ways import Loop, Spent, Step, TimedReader
from frz.loading.frozen import build
from frz.loading.source import ReaderSource
from frz.pretrain import without_overflow
from frz.progress import progress
from frz.store.reader import EventStore
from frz.store.table import EventTable
from frz.training.checkpoint import n_trainable
from frz.training.config import pick_device
from frz.training.source import BatchSource

N_HEADS = 16
"""That the sweep trains at once."""
SWEEP = "sweep"
BEHIND = ("joint", "frozen")
"""Ways that run the backbone."""
HOLDERS: Mapping[str, tuple[str, ...]] = {"memory": ("device", "ram", SWEEP), "device_memory": ("device", SWEEP)}
"""Ways that keep all prepared events in a memory, where it has that place."""
PARTS = ("reading", "copies", "compute")
ROUNDS = 4
PREPARE_SHARE = 0.3
"""Share of the time in which events are prepared; where that is not enough for all, the first are measured."""
SAMPLE = 256
"""Events from which the speed of preparing is judged."""
EPOCHS = 20
"""That the advice is about."""
WAITING = 0.3
"""Share of the time in reading and copies from which on the advice speaks of them."""


def bench(
    values: Mapping[str, Any], artifacts: Path, where: str = "config", *, seconds: float = 60.0
) -> dict[str, Any]:
    """Measure the ways to train a head.

    Nothing stays: the head is built anew from its config and thrown away, the backbone is a copy, and mapped events lie
    in a temporary folder for as long as it takes.

    Parameters
    ----------
    values : mapping
        A `HeadConfig`, as read from YAML.
    artifacts : Path
        Where backbone, data set and features lie.
    where : str
        What errors call the config.
    seconds : float
        About how long to measure; opening stores comes on top.

    Returns
    -------
    dict
        Head, backbone, data and machine; `ways`, by name: `events_per_s`, `epoch_s` (of all training events),
        `over_joint`, `over_frozen`, bytes of `memory` and `device_memory`, and the shares `reading`, `copies`,
        `compute`; `prepare`, what the parameter-free prefix costs once; `left_out`, ways that cannot be measured here
        and why; `advice`, a sentence.

    Raises
    ------
    FrzError
        If the config and the features do not fit, or the features carry no targets.
    """
    config = parse(HeadConfig, values, where)
    store = find_features(config.features, artifacts)
    head = plan(config, store, artifacts, where).head
    trainer, device = config.trainer, pick_device(config.trainer.device)
    begin = time.monotonic()
    own_random = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with own_random, tempfile.TemporaryDirectory(prefix="frz-bench-") as scratch:
        torch.manual_seed(trainer.seed)
        table, prepare_rate = _prepared(head, store, PREPARE_SHARE * seconds)
        head.fit([table.arrays])
        kept = sum(values.nbytes for values in table.arrays.values())
        step = Step(head, trainer, device)
        order, seed = config.loading, trainer.data_seed
        sources, left_out = cached(table, order, trainer.batch_size, seed, device, Path(scratch))
        loops: dict[str, Loop] = {}

        def add(way: str, loop: Loop) -> None:
            loop.warm_up()  # before there are others, whose memory would be counted
            loops[way] = loop

        for mode, source in sources.items():
            add(mode, Loop(source, step))
        try:
            for way, loop in _behind_backbone(store, head, step, artifacts, table.n_events):
                add(way, loop)
        except FrzError as error:
            left_out |= dict.fromkeys(BEHIND, str(error))
        try:
            add(SWEEP, _sweep(values, store, table, next(iter(sources.values())), device))
        except TrainingError as error:
            left_out[SWEEP] = str(error)
        spent, apart = _take_turns(loops, seconds - (time.monotonic() - begin))
    per_event = {name: median(one.seconds / one.events for one in found) for name, found in spent.items()}
    n_train = len(store.split("train"))
    ways: dict[str, tuple[str, ...]] = {"joint": ("backbone", next(iter(sources)))} if "backbone" in loops else {}
    ways |= {way: (way,) for way in ("frozen", *sources, SWEEP) if way in loops}
    rows = {way: _row([(loops[n], per_event[n], apart[n]) for n in made_of], n_train) for way, made_of in ways.items()}
    for way, row in rows.items():
        for key, holders in HOLDERS.items():  # what is kept for other ways alone
            if row[key] is not None and way not in holders and set(holders) & set(sources):
                row[key] -= kept
        row |= {f"over_{other}": row["events_per_s"] / rows[other]["events_per_s"] for other in ways if other in BEHIND}
    return {
        "head": f"{config.name} ({config.head}, {n_trainable(head):,} parameters)",
        "backbone": store.snapshot.about["backbone"]["name"],
        "features": str(store.root),
        "events": table.n_events,
        "training_events": n_train,
        "batch_size": trainer.batch_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "prepare": {"events_per_s": prepare_rate, "seconds_for_all": n_train / prepare_rate, "bytes": kept},
        "left_out": left_out,
        "ways": rows,
        "advice": advice(rows, n_train),
    }


def _prepared(head: Head, store: EventStore, seconds: float) -> tuple[EventTable, float]:
    """Training events after the head's prefix, as many as it takes so long to prepare; events per second."""
    positions = store.split("train")
    begin = time.perf_counter()
    head.prepare(store.events(positions[:SAMPLE], head.needs))
    per_event = (time.perf_counter() - begin) / min(SAMPLE, max(len(positions), 1))
    chosen = positions[: max(SAMPLE, int(seconds / per_event))]
    begin = time.perf_counter()
    table = prepare(head, store, chosen)
    return table, len(chosen) / (time.perf_counter() - begin)


def _sweep(
    values: Mapping[str, Any], store: EventStore, table: EventTable, source: BatchSource, device: torch.device
) -> Loop:
    """Steps of several heads on batches of the nearest place."""
    epoch = source.plan(0)
    with closing(source.batches(epoch[:1])) as batches:
        batch = next(batches)
    return Loop(source, SweepStep(values, N_HEADS, store, table, batch, len(epoch), device))


def _behind_backbone(
    store: EventStore, head: Head, step: Step, artifacts: Path, n_events: int
) -> Iterator[tuple[str, Loop]]:
    """Stage-1 steps of the backbone, and steps of the head behind it, on as many events of the data set."""
    about = store.snapshot.about
    weights = names.weights_of(about["backbone"]["name"], about["fingerprint"]["value"], artifacts)
    data = f"{about['data']['name']}@{about['data']['version']}"
    frozen, source = open_both(weights, artifacts, data, step.device.type)
    teacher = build(frozen.card, source.schema)
    teacher.load_state_dict(frozen.module.state_dict())
    trainer = step.trainer
    positions: NDArray[np.int64] = without_overflow(teacher, source, source.split("train")[:n_events], "skip_event")
    settings: dict[str, Any] = {"positions": positions, "seed": trainer.data_seed, "window": trainer.window}
    stage1 = ReaderSource(source, [*teacher.inputs, *teacher.targets], trainer.batch_size, **settings)
    reader = TimedReader(source)
    recipe = Settings.of_store(about["recipe"], store.schema)
    features = FrozenFeatures(frozen, cast(EventStore, reader), recipe, batching="read")
    yield "backbone", Loop(stage1, Step(teacher, trainer, step.device))
    yield "frozen", Loop(OnTheFly(features, head, stage1), step, reader)


def _take_turns(loops: Mapping[str, Loop], seconds: float) -> tuple[dict[str, list[Spent]], dict[str, Spent]]:
    """Rounds of every loop, and a last one in which the parts are timed apart.

    Each gets an equal part of the time, and at most an epoch per round.
    """
    spent: dict[str, list[Spent]] = {name: [] for name in loops}
    apart: dict[str, Spent] = {}
    turn = max(seconds, 0.0) / len(loops) / (ROUNDS + 1)
    n_batches = {name: max(1, min(loop.n_batches, int(turn / loop.batch_seconds))) for name, loop in loops.items()}
    with progress("bench", total=len(loops) * (ROUNDS + 1), unit="round") as bar:
        for _ in range(ROUNDS):
            for name, loop in loops.items():
                spent[name].append(loop.run(n_batches[name]))
                bar.advance(way=name)
        for name, loop in loops.items():
            apart[name] = loop.run(n_batches[name], apart=True)
            bar.advance(way=name)
    return spent, apart


def _row(loops: Sequence[tuple[Loop, float, Spent]], n_train: int) -> dict[str, Any]:
    """Numbers of a way: its loops with their seconds per event and with their parts timed apart."""
    seconds = sum(per_event for _, per_event, _ in loops)
    shares = {
        part: sum(per_event * getattr(apart, part) / apart.seconds for _, per_event, apart in loops) / seconds
        for part in PARTS
    }
    first = loops[0][0]
    row = {"events_per_s": 1 / seconds, "epoch_s": n_train * seconds}
    return row | {"memory": first.memory, "device_memory": first.device_memory} | shares


def advice(rows: Mapping[str, Mapping[str, Any]], n_train: int) -> str:
    """What to do with the numbers, in a sentence."""
    best = max((way for way in rows if way not in (*BEHIND, SWEEP)), key=lambda way: float(rows[way]["events_per_s"]))
    row = rows[best]
    took = {way: _duration(EPOCHS * found["epoch_s"]) for way, found in rows.items()}
    text = f"{EPOCHS} epochs of {n_train:,} events take {took[best]} from stored features ({best})"
    if "frozen" in rows:
        text += f", {took['frozen']} behind the frozen backbone and {took['joint']} jointly"
        if row["over_frozen"] <= 1:
            return f"{text}: this head gains nothing from stored features"
    if SWEEP in rows:
        text += f"; one of {N_HEADS} heads in a sweep {took[SWEEP]}"
        if rows[SWEEP]["events_per_s"] < row["events_per_s"]:
            text += (
                f" (more than alone: a step of this head is arithmetic rather than calls, and the weights of {N_HEADS} "
                "leave the cache; a sweep still reads and prepares the events once)"
            )
    if row["reading"] > WAITING:
        return f"{text}; {row['reading']:.0%} of that is waiting for batches, so the head is not what is slow"
    if row["copies"] > WAITING:
        return f"{text}; {row['copies']:.0%} of that is copying to the device, so larger batches help"
    share = f"{row['compute']:.0%}"
    return f"{text}; {share} of that is the head's own arithmetic, so larger batches or a smaller head help"


def _duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
