"""Weights of others: wrapped or bare, with prefixes or without, and never by running what lies in a file."""

import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from frz.errors import CheckpointError
from frz.training.checkpoint import save
from frz.training.foreign import matched, read_weights, warm_start


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items()) and one.keys() == other.keys()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model.module."])
def test_every_wrapper_and_prefix_gives_the_same_weights(tmp_path, wrapper, prefix):
    source = net(1).state_dict()
    weights = {prefix + name: value for name, value in source.items()}
    torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path / "a.pt")
    target = net()
    tensors, meta = read_weights(tmp_path / "a.pt")
    report = warm_start(target, tensors, "a.pt", ())
    assert same(target.state_dict(), source)
    assert meta == {}
    assert (len(report.loaded), report.missing, report.unexpected, report.left_out) == (len(source), (), (), ())


def test_safetensors_of_others_and_ours_are_read(tmp_path):
    source = net(1).state_dict()
    safetensors.torch.save_file(source, tmp_path / "a.safetensors")
    save(tmp_path / "b.safetensors", source, {"epoch": 1})
    assert same(read_weights(tmp_path / "a.safetensors")[0], source)
    tensors, meta = read_weights(tmp_path / "b.safetensors")
    assert same(tensors, source)
    assert meta == {"epoch": 1}


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("code in the file was run",)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: torch.save({"state_dict": {"a": Bomb()}}, path), "not a file of tensors alone"),
        (lambda path: path.write_bytes(pickle.dumps(Bomb())), "not a file of tensors alone"),
        (lambda path: path.write_bytes(b"nothing"), "not a file of tensors alone"),
        (lambda path: path.write_bytes(b""), "not a file of tensors alone"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no state dict, neither bare nor under state_dict or"),
        (lambda path: torch.save([torch.zeros(2)], path), "holds no state dict"),
        (lambda path: None, "no such checkpoint"),
    ],
)
@pytest.mark.parametrize("name", ["a.pt", "a.ckpt"])
def test_what_is_no_state_dict_is_refused_and_nothing_is_run(tmp_path, write, message, name):
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / name)


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(CheckpointError, match="not a file of tensors alone"):
        read_weights(tmp_path / "a.safetensors")


def test_the_report_names_each_kind_and_nothing_is_changed():
    target = net()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    tensors = net(1).state_dict()
    del tensors["0.weight"]
    tensors |= {"2.weight": torch.zeros(5, 4), "extra": torch.zeros(1), "cls_head.0.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError) as refused:
        warm_start(target, tensors, "a.pt", ["cls_head."])
    text = str(refused.value)
    assert "1 missing (0.weight); 1 unexpected (extra); 1 mis-shaped (2.weight: float32 (5, 4) in the file, " in text
    assert "float32 (2, 4) in the model)" in text
    assert "cls_head" not in text
    assert "\n" not in text
    assert same(target.state_dict(), before)


def test_old_heads_are_left_out_by_name_whatever_their_prefix_and_shape():
    tensors = {f"module.{name}": value for name, value in net(1).state_dict().items()}
    target = net()
    report = warm_start(target, tensors | {"module.head.weight": torch.zeros(7, 9)}, "a.pt", ["head."])
    assert report.left_out == ("head.weight",)
    assert str(report) == "9 tensors loaded, 1 of heads left out (head.weight)"
    assert same(target.state_dict(), net(1).state_dict())


def test_what_is_kept_is_neither_taken_nor_missed():
    source, target = net(1).state_dict(), net()
    own = {name: value.clone() for name, value in target.state_dict().items()}
    tensors = {name: value for name, value in source.items() if name != "1.weight"} | {"2.weight": torch.zeros(9, 9)}
    report = warm_start(target, tensors, "a.pt", (), ["1.", "2."])
    assert report.loaded == ("0.bias", "0.weight")
    expected = {name: source[name] if name.startswith("0.") else value for name, value in own.items()}
    assert same(target.state_dict(), expected)


def test_nothing_known_is_refused():
    with pytest.raises(CheckpointError, match="no tensor of it is known"):
        warm_start(net(), {}, "a.pt", (), ["0.", "1.", "2."])


def test_half_precision_is_widened():
    target = net()
    tensors = {
        name: value.half() if value.is_floating_point() else value for name, value in net(1).state_dict().items()
    }
    warm_start(target, tensors, "a.pt", ())
    assert target.state_dict()["0.weight"].dtype == torch.float32
    assert torch.equal(target.state_dict()["0.weight"], net(1).state_dict()["0.weight"].half().float())


def test_two_tensors_of_one_name_are_not_mixed_up():
    found = matched({"a": torch.zeros(1)}, {"a": torch.ones(1), "module.a": torch.zeros(1)})
    assert set(found) == {"a", "module.a"}
    assert found["a"] == 1


def test_weights_that_are_not_finite_are_refused():
    target = net()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    bad = torch.full_like(before["2.weight"], float("nan"))
    with pytest.raises(CheckpointError, match=r"a.pt: holds weights that are not finite: 2.weight; "):
        warm_start(target, net(1).state_dict() | {"2.weight": bad}, "a.pt", ())
    assert same(target.state_dict(), before)
