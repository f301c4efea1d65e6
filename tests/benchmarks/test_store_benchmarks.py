"""The measurements of the store run and compare what they read; speeds are not asserted."""

import json


def test_reads(fresh_python, project):
    done = fresh_python("-m", "benchmarks", "reads", "--json", "--shrink", "16", "--repetitions", "1", cwd=project)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["float16 x 32"]
    assert (found["events"], found["parts"]) == (6144, 6)
    assert found["pieces_per_part"] > 10
    assert set(found["batch"]) == {"64", "256", "1024"}


def test_stores(fresh_python, project):
    done = fresh_python("-m", "benchmarks", "stores", "--json", "--size", "0.01", cwd=project)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"np.memmap", "frz", "zarr, sharded", "zarr, appended"} <= set(found["over_memmap"])
    assert len(found["over_memmap"]) + len(found["skipped"]) == 8
    assert all(size > 0.9 * found["payload_bytes"] for size in found["bytes"].values())
