"""Checkpoints: what is saved comes back, what does not fit is named, what is frozen stays."""

import copy
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from frz.errors import CheckpointError
from frz.training.checkpoint import freeze, load, load_into, n_trainable, save


def make_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    shared = torch.randn(4, 4)
    return {
        "weight": torch.randn(3, 5),
        "half": torch.randn(7).to(torch.float16),
        "brain": torch.randn(2, 2).to(torch.bfloat16),
        "steps": torch.tensor(17),
        "flags": torch.tensor([True, False]),
        "none": torch.empty(0, 3),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "transposed": torch.randn(3, 4).T,
        "tied": shared,
        "again": shared,
        "row": shared[1],
        "parameter": nn.Parameter(torch.randn(2)),
    }


def test_round_trip(tmp_path: Path) -> None:
    tensors, meta = make_tensors(), {"config": {"lr": 0.1 + 0.2, "name": "käse"}, "epochs": [1, None]}
    save(tmp_path / "a.safetensors", tensors, meta)
    found, found_meta = load(tmp_path / "a.safetensors")
    assert found_meta == meta
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    tensors = make_tensors()
    save(tmp_path / "a", tensors, {"b": 1, "a": 2})
    save(tmp_path / "b", dict(reversed(tensors.items())), {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_loaded_can_be_written_to(tmp_path: Path) -> None:
    save(tmp_path / "a", {"x": torch.zeros(3)}, {})
    load(tmp_path / "a")[0]["x"] += 1
    assert torch.equal(load(tmp_path / "a")[0]["x"], torch.zeros(3))


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path / "a", {}, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.safetensors"
    save(path, make_tensors(), {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: not a whole safetensors file"):
        load(path)


def test_a_flipped_bit_is_found_and_the_tensor_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path, {"encoder.weight": torch.zeros(64)}, {})
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged: wrong checksum of encoder.weight"):
        load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(2)}, tmp_path / "pickled.ckpt")
    (tmp_path / "foreign.safetensors").write_bytes(safetensors.torch.save({"x": torch.zeros(2)}))
    for name, message in [
        ("pickled.ckpt", "not a whole safetensors file"),
        ("foreign.safetensors", "not a checkpoint of frz"),
        ("absent", "no such checkpoint"),
        ("", "is a folder"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path / name)


def make_net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_load_into_fills_weights_and_buffers() -> None:
    torch.manual_seed(0)
    source, target = make_net(), make_net()
    source(torch.randn(8, 3))  # moves the buffers
    assert load_into(target, source.state_dict(), "file").left_out == ()
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_all_that_does_not_fit_is_in_one_line_and_nothing_is_changed() -> None:
    net = make_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tensors = {name: torch.full_like(value, 7) for name, value in before.items()}
    del tensors["0.bias"], tensors["1.running_mean"]
    tensors["old.weight"] = torch.zeros(1)
    tensors["2.weight"] = torch.zeros(3, 4)
    tensors["2.bias"] = torch.zeros(2, dtype=torch.float16)
    with pytest.raises(CheckpointError) as caught:
        load_into(net, tensors, "model.safetensors")
    assert str(caught.value) == (
        "model.safetensors: weights do not fit the model: 2 missing (0.bias, 1.running_mean); "
        "1 unexpected (old.weight); 2 mis-shaped (2.bias: float16 (2,) in the file, float32 (2,) in the model, "
        "2.weight: float32 (3, 4) in the file, float32 (2, 4) in the model); "
        "put a whole checkpoint of this very model there, or name another one"
    )
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_long_lists_are_cut() -> None:
    net = nn.Sequential(*[nn.Linear(1, 1) for _ in range(10)])
    with pytest.raises(CheckpointError, match=r"20 missing \((\d\.(bias|weight), ){7}3\.weight and 12 more\)"):
        load_into(net, {}, "file")


def test_heads_are_left_out_by_name() -> None:
    net = make_net()
    tensors = {**net.state_dict(), "heads.a.weight": torch.zeros(1), "heads.b.weight": torch.zeros(1)}
    assert load_into(net, tensors, "file", ignore_prefixes=("heads.",)).left_out == ("heads.a.weight", "heads.b.weight")
    with pytest.raises(CheckpointError, match=r"2 unexpected \(heads\.a\.weight, heads\.b\.weight\)"):
        load_into(net, tensors, "file")


def test_a_prefix_never_hides_a_gap() -> None:
    net = nn.ModuleDict({"head": nn.Linear(1, 1)})
    with pytest.raises(CheckpointError, match=r"2 missing \(head.bias, head.weight\)"):
        load_into(net, {}, "file", ignore_prefixes=("head.",))


def test_frozen_means_no_gradient_and_no_training_mode() -> None:
    net = make_net()
    assert n_trainable(net) == 3 * 4 + 4 + 2 * 4 + 4 * 2 + 2
    assert freeze(net) == 34
    assert n_trainable(net) == 0
    joint = nn.Sequential(net, nn.Linear(2, 1)).train()
    assert joint.training
    net[1].train()
    assert net.train() is net
    assert not any(part.training for part in net.modules())


def test_training_behind_a_frozen_module_leaves_its_bits() -> None:
    torch.manual_seed(0)
    net, head = make_net(), nn.Linear(2, 1)
    net(torch.randn(16, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    freeze(net)
    joint = nn.Sequential(net, head)
    optimiser = torch.optim.SGD(joint.parameters(), lr=0.1)
    start = head.weight.clone()
    for _ in range(3):
        joint.train()
        loss = joint(torch.randn(16, 3)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert not torch.equal(head.weight, start)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_copy_of_a_frozen_module_is_frozen_on_its_own() -> None:
    net = make_net()
    freeze(net)
    twin = copy.deepcopy(net)
    assert twin.train() is twin
    assert not twin.training
