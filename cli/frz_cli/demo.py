"""`frz demo`: the whole path on a simulated muon spectrometer."""

from frz_cli import options
from frz_cli.output import emit


def demo(
    artifacts: options.Artifacts = None,
    overrides: options.SetBelow = None,
    as_json: options.Json = False,
) -> None:
    """The whole path on simulated muons, in minutes.

    Simulates, trains a backbone, extracts, trains a head and reports.
    """
    from frz.artifacts import root
    from frz.config import override
    from frz.evaluation.demo import demo as run

    emit(run(root(artifacts), override({}, overrides or ())), as_json)
