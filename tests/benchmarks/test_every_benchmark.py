"""Every benchmark runs in a tiny form and prints the numbers that benchmarks/README.md tells of; none is judged."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS
from frz import artifacts as names

TINY = ["--artifacts", "TINY", "--backbone", "tiny"]
CASES: dict[str, tuple[list[str], list[str]]] = {
    "catalogue": (
        ["--parts", "50"],
        [
            *("parts", "seconds.open_data_set", "seconds.open_features", "seconds.ls", "seconds.plan_first_extraction"),
            *("seconds.plan_of_what_is_there", "seconds.plan_without_the_last_part"),
        ],
    ),
    "codecs": (
        ["--features", "FEATURES", "--events", "60", "--repetitions", "1"],
        [f"arrays.hit/embedding.float32 fast.{n}" for n in ("bytes", "write_MB_per_s", "read_MB_per_s")],
    ),
    "extract": (
        ["--only", "speed", "--events", "64", "--repeats", "1"],
        ["speed.ratios.extract_over_bare", "speed.ratios.extract_over_padded", "speed.events_per_s.bare"],
    ),
    "kills": (
        ["--n", "1", "--events", "64"],
        ["workers", "kills.group", "finished_with_the_same_content", "left_over"],
    ),
    "loader": (
        ["--events", "400", "--hits", "3", "--repetitions", "1"],
        [
            *(f"ragged.wall.{n}" for n in ("ram_epoch_over_memory", "mapped_over_ram_with_steps", "ram_over_gather")),
            *("dense.processor_time.mapped_over_ram", "memory.ten_times_over_once"),
        ],
    ),
    "muon_resolution": (["--events", "400"], ["tracks", "fitted", "table.all.pt_resolution", "table.all.pt_bias"]),
    "on_the_fly": (
        [*TINY, "--events", "100", "--epochs", "1", "--seeds", "1"],
        [f"{n}.{m}" for n in ("spread_of_seeds", "difference_of_means") for m in ("eta/width", "pt/relative_width")],
    ),
    "stage2": (
        ["--events", "40", "--epochs", "1", "--repetitions", "1"],
        [
            *("cached_over_memory", "cached_over_joint", "cached_over_frozen", "pooled_over_joint"),
            *("processor_time.cached_over_memory", "events_per_s.joint", "per_event.pairs", "loss_difference"),
        ],
    ),
    "sweep": (
        [*TINY, "--only", "probe", "--events", "60", "--heads", "4", "--repetitions", "1"],
        [f"probe.{size}.{n}" for size in (16, 64, 256) for n in ("ratio", "processor_time", "largest_stack")],
    ),
}
"""Arguments for seconds of work, and some numbers (dotted keys) that have to be there."""
SMALLER = {
    "codecs": {"LEAST_BYTES": 0, "RANDOM_EVENTS": 5},
    "stage2": {"BATCH": 10, "POOLED_BATCH": 10, "JOINT_STEPS": 1, "FROZEN_STEPS": 1},
}
ELSEWHERE = {
    "icu_baseline": "test_icu_baseline",
    "reads": "test_store_benchmarks",
    "stores": "test_store_benchmarks",
    "schedules": "test_training_readme: draws a figure",
}


def test_every_benchmark_has_a_case_here(project: Path) -> None:
    assert CASES.keys() | ELSEWHERE.keys() == BENCHMARKS.keys()
    readme = (project / "benchmarks/README.md").read_text()
    assert all(f"| `{name}` |" in readme for name in BENCHMARKS)


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_runs_and_prints_json(
    name: str, tiny: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "kills":
        pytest.importorskip("psutil")
    benchmark = importlib.import_module(BENCHMARKS[name])
    for constant, value in SMALLER.get(name, {}).items():
        monkeypatch.setattr(benchmark, constant, value)
    arguments, keys = CASES[name]
    places = {"TINY": str(tiny), "FEATURES": str(names.features("tiny", tiny).path)}
    chosen = [places.get(word, word) for word in arguments]
    monkeypatch.chdir(project)
    monkeypatch.setattr("sys.argv", ["benchmarks", *chosen, "--json"])
    benchmark.main()
    found = json.loads(capsys.readouterr().out)
    for key in keys:
        assert isinstance(at(found, key), int | float), key


def at(found: Any, key: str) -> Any:
    """The value at a dotted key; names of arrays hold no dot."""
    for word in key.split("."):
        assert word in found, f"{word} of {key} is not among {list(found)}"
        found = found[word]
    return found
