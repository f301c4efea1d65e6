"""`frz why` and `frz diff`: where a number comes from, and what differs between two artifacts."""

from typing import Annotated, Any

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
    if as_json:
        emit(steps, True)
    else:
        emit({_title(step): {key: value for key, value in step.items() if key != "kind"} for step in steps}, False)
    lost = [step for step in steps if not step["in_place"]]
    for step in lost:
        typer.echo(f"no longer in place: {_title(step)} {step['name']} ({step['identity']})", err=True)
    if lost:
        raise typer.Exit(1)


def _title(step: dict[str, Any]) -> str:
    """Kind of a step; of several data sets or backbones, with what each was read by or went into."""
    if "begun_by" in step:
        return f"{step['kind']} that {step['begun_by']} began with"
    return f"{step['kind']} read by {step['read_by']}" if "read_by" in step else str(step["kind"])


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

    found = compare(one, other, root(artifacts))
    if found["same"] and not as_json:
        typer.echo(f"the same: {one} and {other} do not differ")
        return
    emit(found if as_json else _tables(found, one, other), as_json)


def _tables(found: dict[str, Any], one: str, other: str) -> dict[str, Any]:
    """What differs, with a column for each side; what is equal or empty is left out."""
    shown = {name: part for name, part in found.items() if part and name != "same"}
    for name in ("config", "made_from", "about"):
        if name in shown:
            shown[name] = [{"": key, one: a, other: b} for key, (a, b) in shown[name].items()]
    if "events" in shown:
        ids = shown.pop("ids", {})
        shown["events"] = [
            {"": kind, "events": n, "ids": [str(i) for i in ids.get(kind, [])]}
            for kind, n in shown["events"].items()
            if n or kind in ("a", "b")
        ]
    if "metrics" in shown:
        rows = [{"": key, one: a, other: b, "difference": d} for key, (a, b, d) in shown["metrics"].items() if a != b]
        shown |= {"metrics": rows}
    return {name: part for name, part in shown.items() if part}
