"""`frz`: the table of commands, and the one place where errors become a line and an exit code.

Particular: commands import the library inside their bodies, so that `frz --help` is quick and needs no torch.
"""

import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from frz import progress
from frz.errors import FrzError
from frz_cli import data, demo, evaluate, export, extract, gc, output, show, train, verify

USER_ERROR = 2
INTERRUPTED = 130
_ENVIRONMENT_ERRNOS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),  # a folder given on the command line that cannot be
)


class Commands(TyperGroup):
    """Turns what a user can mend into one line on stderr; any other exception keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the line names."""
        try:
            return super().invoke(ctx)
        except FrzError as error:
            output.fail(str(error))
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


@app.callback()
def begin() -> None:
    """Train a backbone once, run it frozen once, train heads on its cached features in seconds."""
    progress.show("auto")


app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("train-backbone")(train.backbone)
app.command("extract")(extract.extract)
app.command("train-head")(train.head)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(evaluate.predict)
app.command("export")(export.export)
app.command("ls")(show.ls)
app.command("show")(show.show)
app.command("verify")(verify.verify)
app.command("gc")(gc.gc)


def main() -> None:
    """Entry point of the console script."""
    # A class named by import path may lie in the folder the user works in; last, so that it shadows nothing.
    sys.path.append(os.getcwd())
    app(prog_name="frz")
