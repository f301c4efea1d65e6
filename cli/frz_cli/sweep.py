"""`frz sweep`: many heads from one read of the features."""

from pathlib import Path
from typing import Annotated

import typer

from frz_cli import options
from frz_cli.output import emit

SHOWN = 20
"""Rows of a table; the files have all."""


def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, as configs/muon/sweep.yaml.")],
    features: options.Features = None,
    data: options.Data = None,
    artifacts: options.Artifacts = None,
    overrides: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Stage 2 for many heads at once.

    A grid, random draws or a search over any key of a head's config, from one read of the features. Every head is
    saved as if trained alone. The same command continues a sweep that was broken off.
    """
    from frz.artifacts import root
    from frz.evaluation.sweep_plots import draw
    from frz.location import location
    from frz.sweep.run import sweep as run
    from frz.sweep.space import read_config

    options.refuse_both(features, data)
    chosen = options.chosen(overrides, {"base.features.data": data})
    result = run(read_config(config, chosen), root(artifacts), str(config), features)
    result["plots"] = draw(location(result["path"]))
    if not as_json:
        shown = "points" if len(result["heads"]) > len(result["points"]) else "heads"
        rows = [{key: row[key] for key in row if not key.startswith("val/")} for row in result[shown][:SHOWN]]
        result = {key: value for key, value in result.items() if key not in ("heads", "points")} | {shown: rows}
    emit(result, as_json)
