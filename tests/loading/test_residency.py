"""Where events go, from sizes alone, and how much memory there is."""

from pathlib import Path

import pytest
import torch

from frz.errors import TrainingError
from frz.loading.residency import SHARE, free_memory, plan_residency

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU with 1000 bytes free."""
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1000, 2000))


@pytest.mark.parametrize(
    ("n_bytes", "expected"), [(0, "ram"), (int(1000 * SHARE), "ram"), (int(1000 * SHARE) + 1, "mapped")]
)
def test_on_a_cpu_events_are_in_memory_while_they_fit(n_bytes: int, expected: str) -> None:
    plan = plan_residency(n_bytes, 10, CPU, free=1000)
    assert plan.mode == expected
    assert str(plan).startswith(f"residency: {expected}; takes ")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("n_bytes", "expected"), [(700, "device"), (701, "ram"), (7000, "ram"), (7001, "mapped")])
def test_a_gpu_goes_first(n_bytes: int, expected: str) -> None:
    plan = plan_residency(n_bytes, 10, GPU, free=10_000)
    assert plan.mode == expected
    assert ("device would take" in plan.why) == (n_bytes > 700)


@pytest.mark.parametrize("mode", ["device", "ram", "mapped"])
def test_what_was_asked_for_is_taken(mode: str) -> None:
    plan = plan_residency(500, 100, CPU, mode, free=1000)
    on_cpu = "which is ram, for the device is the CPU; " if mode == "device" else ""
    assert plan == (mode, f"as asked, {on_cpu}{250 if mode == 'mapped' else 500} B of 1 kB free memory")


def test_what_cannot_fit_is_refused_with_what_does() -> None:
    with pytest.raises(TrainingError, match=r"ram takes 7 kB of 5 kB free memory; take --residency mapped"):
        plan_residency(7000, 100, CPU, "ram", free=5000)


def test_a_buffer_that_cannot_fit_says_how_much_smaller_it_should_be() -> None:
    with pytest.raises(TrainingError, match=r"lower loading.shuffle_blocks 8-fold") as caught:
        plan_residency(10**6, 20_000, CPU, free=10_000)
    assert plan_residency(10**6, 20_000 // 8, CPU, free=10_000).mode == "mapped"
    assert "\n" not in str(caught.value)


def test_a_small_data_set_is_mapped_in_its_own_size() -> None:
    assert plan_residency(100, 10**9, CPU, "mapped", free=1000).mode == "mapped"


def machine(folder: Path, cgroup: str, files: dict[str, str]) -> tuple[Path, Path]:
    proc, groups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    5000 kB\nHugePages_Total: 0\n")
    (proc / "self/cgroup").write_text(cgroup)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    return proc, groups


LIMIT = {"memory.max": "2000000\n", "memory.current": "1500000\n", "memory.stat": "anon 7\ninactive_file 400000\n"}
V1 = {"limit_in_bytes": "3000\n", "usage_in_bytes": "1000\n", "stat": "total_inactive_file 500\n"}


@pytest.mark.parametrize(
    ("cgroup", "files", "free"),
    [
        ("0::/\n", {}, 5000 * 1024),
        ("0::/a/b\n", {f"a/b/{name}": text for name, text in LIMIT.items()}, 900_000),
        ("0::/a/b\n", {"a/b/memory.max": "max\n"} | {f"a/{name}": text for name, text in LIMIT.items()}, 900_000),
        ("0::/a\n", {"a/memory.max": "max\n"}, 5000 * 1024),
        ("2:cpu:/\n4:memory:/x\n", {f"memory/x/memory.{name}": text for name, text in V1.items()}, 2500),
        ("0::/a\n", {"a/memory.max": "10\n", "a/memory.current": "20\n", "a/memory.stat": ""}, 0),
    ],
)
def test_free_memory_respects_control_groups(tmp_path: Path, cgroup: str, files: dict[str, str], free: int) -> None:
    assert free_memory(*machine(tmp_path, cgroup, files)) == free


def test_this_machine_has_memory() -> None:
    assert free_memory() > 1 << 20
