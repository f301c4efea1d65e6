"""The measurements of the store run and compare what they read; speeds are not asserted."""

import json

import pytest

from benchmarks import reads, stores


@pytest.fixture
def printed(monkeypatch, capsys):
    """Run a benchmark with arguments; gives what it prints as JSON."""

    def run(benchmark, *arguments):
        monkeypatch.setattr("sys.argv", ["benchmarks", "--json", *arguments])
        benchmark.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_reads(printed):
    found = printed(reads, "--shrink", "16", "--repetitions", "1")["float16 x 32"]
    assert (found["events"], found["parts"]) == (6144, 6)
    assert found["pieces_per_part"] > 10
    assert set(found["batch"]) == {"64", "256", "1024"}


def test_stores(printed, monkeypatch):
    monkeypatch.setattr(stores, "SECONDS", 0.1)
    found = printed(stores, "--size", "0.01")
    assert {"np.memmap", "frz", "zarr, sharded", "zarr, appended"} <= set(found["over_memmap"])
    assert len(found["over_memmap"]) + len(found["skipped"]) == 8
    assert all(size > 0.9 * found["payload_bytes"] for size in found["bytes"].values())
