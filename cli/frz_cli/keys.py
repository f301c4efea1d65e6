"""The keys that `--set` of a command takes, listed at the end of its help.

Particular: the list is made of the settings themselves, which are imported when help is asked for and not before.
"""

import json
from importlib import import_module
from typing import Any

from typer.core import TyperCommand


def taking(settings: str) -> type[TyperCommand]:
    """A command whose help lists the fields of `settings` (`package.module:Class`)."""

    class Command(TyperCommand):
        def format_epilog(self, ctx: Any, formatter: Any) -> None:
            """Write key and default, then what the key is for."""
            module, _, name = settings.partition(":")
            fields = getattr(import_module(module), name).model_fields
            rows = [
                (f"{key}={_text(field.default)}", field.description)
                for key, field in fields.items()
                if not field.is_required()
            ]
            with formatter.section("Keys of --set"):
                formatter.write_dl(rows)
            super().format_epilog(ctx, formatter)

    return Command


def _text(default: Any) -> str:
    """A default as it could be given."""
    return "FILE" if default is None else default if isinstance(default, str) else json.dumps(default)
