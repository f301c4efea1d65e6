"""`frz why` and `frz diff`: where a number comes from, and what differs between two artifacts."""

from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit


def why(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any artifact: its name, kind/name, or a path.")],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Follow an artifact back to the source of its events.

    Exit code 1 if something on the way is no longer there.
    """
    from frz.ancestry import why as follow
    from frz.artifacts import root

    steps = follow(name, root(artifacts))
    emit(steps if as_json else {step["kind"]: _without_kind(step) for step in steps}, as_json)
    if not all(step["in_place"] for step in steps):
        raise typer.Exit(1)


def _without_kind(step: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in step.items() if key != "kind"}


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A run, or a version of a store.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another of its kind.")],
    artifacts: options.Artifacts = None,
    as_json: options.Json = False,
) -> None:
    """Say what differs between two artifacts.

    Of runs settings, origin and metrics; of stores events, arrays and origin.
    """
    from frz.ancestry import compare
    from frz.artifacts import root

    emit(compare(one, other, root(artifacts)), as_json)
