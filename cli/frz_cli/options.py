"""Arguments and options that commands share.

Particular: no option has a default of its own where the library has one.
"""

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import typer

from frz.errors import ConfigError

Artifacts: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--artifacts", metavar="DIR", help="Where artifacts lie; s3://… too (default $FRZ_ARTIFACTS, else ./artifacts)."
    ),
]
Data: TypeAlias = Annotated[
    str | None, typer.Option("--data", metavar="NAME", help="Data set (muon-sim@2), in place of the config's.")
]
Features: TypeAlias = Annotated[
    str | None,
    typer.Option("--features", metavar="NAME", help="Feature store (NAME@2), in place of what the config asks for."),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, as in trainer.max_epochs=10; repeatable."),
]
SetBelow: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting (the keys are below); repeatable."),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout; logs stay on stderr.")
]
Tensorboard: TypeAlias = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard files too, into tensorboard/ of the run.")
]


def chosen(overrides: list[str] | None, given: Mapping[str, str | None]) -> list[str]:
    """`--set`, and after it the settings that options of their own stand for, as far as these are given."""
    return [*(overrides or ()), *(f"{key}={value}" for key, value in given.items() if value)]


def refuse_both(features: str | None, data: str | None) -> None:
    """Refuse a data set beside features, which are of one.

    Raises
    ------
    ConfigError
        If both are given.
    """
    if features and data:
        raise ConfigError("the features say of which data they are", where="--data", way_out="leave it out")
