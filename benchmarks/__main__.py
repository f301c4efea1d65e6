"""`python -m benchmarks NAME ...` runs the measurement of that name as a program of its own."""

import runpy
import sys
from collections.abc import Mapping

BENCHMARKS: Mapping[str, str] = {
    "catalogue": "benchmarks.catalogue",
    "codecs": "benchmarks.codecs",
    "extract": "benchmarks.extract",
    "icu_baseline": "benchmarks.icu_baseline",
    "kills": "benchmarks.kills",
    "loader": "benchmarks.loader",
    "muon_resolution": "benchmarks.muon_resolution",
    "on_the_fly": "benchmarks.on_the_fly",
    "reads": "benchmarks.reads",
    "schedules": "benchmarks.schedules",
    "stage2": "benchmarks.stage2",
    "sweep": "benchmarks.sweep",
    "stores": "benchmarks.stores",
}
"""Name -> module that is run as `__main__` with the remaining arguments."""


def run(arguments: list[str]) -> None:
    """Run the module that the first argument names; exits with 2 if there is none."""
    name, *rest = arguments or [""]
    if name not in BENCHMARKS:
        print(f"usage: python -m benchmarks {{{','.join(sorted(BENCHMARKS))}}} [--json] ...", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"python -m benchmarks {name}", *rest]
    runpy.run_module(BENCHMARKS[name], run_name="__main__")


if __name__ == "__main__":
    run(sys.argv[1:])
