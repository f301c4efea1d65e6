"""Events per second of head training three ways, over the same steps: joint, frozen forward, cached.

Joint costs a training step of the backbone and one of the head; frozen forward runs the backbone without
gradients before every head step; cached is what `train-head` does.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import cast

import torch
from torch import nn

from frz import artifacts as names
from frz.extract.opening import open_both
from frz.extract.settings import Settings
from frz.heads.prefix import prepare
from frz.heads.run import Features, find_features, load_head
from frz.joint.on_the_fly import FrozenFeatures, OnTheFly
from frz.loading.frozen import build
from frz.loading.source import ReaderSource
from frz.store.schema import Schema
from frz.training.source import BatchSource, Trainable

BATCH = 200


def throughput(backbone: str, head: str, artifacts: Path, n_batches: int = 6, repeats: int = 3) -> dict[str, float]:
    """Measure the three ways, interleaved; the median of a few repetitions.

    Parameters
    ----------
    backbone, head : str
        Names of finished runs; the head was trained on the features of the backbone.
    artifacts : Path
        Where artifacts lie.
    n_batches : int
        Batches of 200 training events per measurement (cached: ten times as many).
    repeats : int
        Measurements of each way.

    Returns
    -------
    dict
        `joint`, `frozen`, `cached` in events per second, and `cached_over_joint`, `cached_over_frozen`.
    """
    frozen, source = open_both(names.weights(backbone, artifacts), artifacts)
    student, about = load_head(head, artifacts)
    settings = Settings.of_store(about["features"]["recipe"], Schema.model_validate(about["event_schema"]))
    store = find_features(Features(backbone=backbone, data=source.snapshot.name), artifacts)
    table = prepare(student, store)
    positions = store.split("train")
    cached = ReaderSource(table, student.prepared.arrays, BATCH, positions=positions, window=1)
    on_the_fly = OnTheFly(FrozenFeatures(frozen, source, settings, batching="read"), student, cached)
    teacher = build(frozen.card, source.schema)
    teacher.load_state_dict(frozen.module.state_dict())
    stage1 = ReaderSource(source, [*teacher.inputs, *teacher.targets], BATCH, positions=positions, window=1)

    head_step, joint_step = _stepper(student), _stepper(teacher)
    seconds: dict[str, list[float]] = {"backbone": [], "frozen": [], "cached": []}
    for _ in range(repeats):
        seconds["backbone"].append(_time(stage1, joint_step, n_batches))
        seconds["frozen"].append(_time(on_the_fly, head_step, n_batches))
        seconds["cached"].append(_time(cached, head_step, 10 * n_batches))
    per_event = {name: median(values) for name, values in seconds.items()}
    joint = per_event["backbone"] + per_event["cached"]
    return {
        "joint": 1 / joint,
        "frozen": 1 / per_event["frozen"],
        "cached": 1 / per_event["cached"],
        "cached_over_joint": joint / per_event["cached"],
        "cached_over_frozen": per_event["frozen"] / per_event["cached"],
    }


def _stepper(module: nn.Module) -> Callable[[dict[str, torch.Tensor]], None]:
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4)
    module.train()
    head_or_backbone = cast(Trainable, module)

    def step(batch: dict[str, torch.Tensor]) -> None:
        loss, _ = head_or_backbone.loss(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()

    return step


def _time(source: BatchSource, step: Callable[[dict[str, torch.Tensor]], None], n_batches: int) -> float:
    """Seconds per event of some steps, loading included."""
    plan = source.plan(0)[:n_batches]
    n_events = sum(len(positions) for positions in plan)
    begin = time.perf_counter()
    for batch in source.batches(plan):
        step(batch)
    return (time.perf_counter() - begin) / n_events
