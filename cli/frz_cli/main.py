"""`frz`: the table of commands, and the one place where errors become a line and an exit code.

Particular: commands import the library inside their bodies, so that `frz --help` is quick and needs no torch.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from frz import progress
from frz.errors import FrzError
from frz_cli import (
    bench,
    compare,
    data,
    demo,
    evaluate,
    export,
    extract,
    gc,
    output,
    repair,
    show,
    sweep,
    train,
    verify,
    why,
)
from frz_cli.keys import taking

USER_ERROR = 2
INTERRUPTED = 130
_ENVIRONMENT_ERRNOS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),  # a folder given on the command line that cannot be
)


# What click raises for a wrong command line; typer carries it under different names, and its subclass under this one.
UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """Turns what a user can mend into one line on stderr; any other exception keeps its traceback."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read what stands before the command."""
        with _one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the line names."""
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except FrzError as error:
        output.fail(str(error))
        raise typer.Exit(USER_ERROR) from None
    except UsageError as error:
        message, *rest = error.format_message().splitlines()
        if rest:  # the whole help, where a group of commands is given nothing
            raise
        what = message[0].lower() + message[1:].rstrip(".")
        command = error.ctx.command_path if error.ctx else "frz"
        output.fail(f"{what}{' ' if what.endswith('?') else '; '}see '{command} --help'")
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command continues", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        if error.errno not in _ENVIRONMENT_ERRNOS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        output.fail(f"{where}{error.strerror}; mend that and run the same command again")
        raise typer.Exit(USER_ERROR) from None


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


def _print_version(asked: bool) -> None:
    if not asked:
        return
    try:
        typer.echo(f"frz {metadata.version('frz')}")
    except metadata.PackageNotFoundError:
        typer.echo("frz, run from its source without being installed")
    raise typer.Exit


@app.callback()
def begin(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train a backbone once, run it frozen once, train heads on its cached features in seconds."""
    del version
    progress.show("auto")


app.command("demo", cls=taking("frz.evaluation.settings:DemoSettings"))(demo.demo)
app.add_typer(data.app, name="data")
app.command("train-backbone")(train.backbone)
app.command("extract", cls=taking("frz.extract.settings:Settings"))(extract.extract)
app.command("train-head")(train.head)
app.command("finetune", cls=taking("frz.joint.settings:FinetuneConfig"))(train.finetune)
app.command("sweep")(sweep.sweep)
app.command("evaluate", cls=taking("frz.evaluation.settings:EvaluateSettings"))(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("predict")(evaluate.predict)
app.command("export")(export.export)
app.command("ls")(show.ls)
app.command("show")(show.show)
app.command("why")(why.why)
app.command("diff")(why.diff)
app.command("verify")(verify.verify)
app.command("repair")(repair.repair)
app.command("gc")(gc.gc)


def main() -> None:
    """Entry point of the console script."""
    # A class named by import path may lie in the folder the user works in; last, so that it shadows nothing.
    sys.path.append(os.getcwd())
    app(prog_name="frz")
