"""`frz train-backbone` and `frz train-head`, the two stages of training, and `frz finetune`, both at once.

Particular: under `torchrun` the first process speaks for all.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from frz_cli import options
from frz_cli.output import emit

AT_LENGTH = ("epoch_metrics", "versions")
"""What people are shown by `frz show` and not at the end of a training."""

TENSORBOARD = "trainer.tensorboard"

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, as under configs/.")]


class Residency(StrEnum):
    """Where prepared events lie."""

    device = "device"
    ram = "ram"
    mapped = "mapped"


def backbone(
    config: Config,
    data: options.Data = None,
    tensorboard: options.Tensorboard = False,
    artifacts: options.Artifacts = None,
    overrides: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Stage 1: train a backbone.

    The same command continues a run that was broken off.
    """
    from frz.artifacts import root
    from frz.config import read_yaml
    from frz.pretrain import train

    _quiet_beside_the_first()
    chosen = options.chosen(overrides, {"data": data, TENSORBOARD: "true" if tensorboard else None})
    _tell(train(read_yaml(config, chosen), root(artifacts), str(config)), as_json)


def head(
    config: Config,
    features: options.Features = None,
    data: options.Data = None,
    tensorboard: options.Tensorboard = False,
    residency: Annotated[
        Residency | None,
        typer.Option("--residency", help="Where prepared events lie while the head trains; default where they fit."),
    ] = None,
    artifacts: options.Artifacts = None,
    overrides: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Stage 2: train a head on stored features.

    The same command continues a run that was broken off.
    """
    from frz.artifacts import root
    from frz.config import read_yaml
    from frz.heads.run import train

    options.refuse_both(features, data)
    _quiet_beside_the_first()
    given = {"features.data": data, TENSORBOARD: "true" if tensorboard else None, "loading.residency": residency}
    values = read_yaml(config, options.chosen(overrides, given))
    _tell(train(values, root(artifacts), str(config), features), as_json)


def finetune(
    head: Annotated[
        str,
        typer.Argument(
            metavar="HEAD|CONFIG", help="A trained head, or a YAML file such as configs/muon/finetune.yaml."
        ),
    ],
    tensorboard: options.Tensorboard = False,
    artifacts: options.Artifacts = None,
    overrides: options.SetBelow = None,
    as_json: options.Json = False,
) -> None:
    """Train a head and its backbone on, end to end, at a low rate.

    Makes a new backbone, its features, and a new head on them; what they come from stays as it is. The same command
    continues a run that was broken off.
    """
    from frz.artifacts import root
    from frz.config import override, read_yaml
    from frz.joint.finetune import finetune as run

    _quiet_beside_the_first()
    chosen = options.chosen(overrides, {TENSORBOARD: "true" if tensorboard else None})
    is_file = head.endswith((".yaml", ".yml"))
    values = read_yaml(head, chosen) if is_file else override({"head": head}, chosen)
    _tell(run(values, root(artifacts), head if is_file else "finetune"), as_json)


def _quiet_beside_the_first() -> None:
    from frz import progress
    from frz.training.distributed import first_process

    if not first_process():
        progress.show("none")


def _tell(result: dict[str, Any], as_json: bool) -> None:
    """Print what came of a training, and draw its learning curves where it lies."""
    from frz.evaluation.curves import draw
    from frz.location import location
    from frz.training.distributed import first_process

    if not first_process():
        return
    if curves := draw(location(result["path"])):
        result = {**result, "curves": curves}
    emit(result if as_json else {key: value for key, value in result.items() if key not in AT_LENGTH}, as_json)
