"""Arguments and options that commands share.

Particular: no option has a default of its own where the library has one.
"""

from typing import Annotated, TypeAlias

import typer

Artifacts: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--artifacts", metavar="DIR", help="Where artifacts lie; s3://… too (default $FRZ_ARTIFACTS, else ./artifacts)."
    ),
]
Data: TypeAlias = Annotated[
    str | None, typer.Option("--data", metavar="NAME", help="Data set (muon-sim@2), in place of the config's.")
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
