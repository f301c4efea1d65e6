"""Results come out whole: JSON that every parser reads, tables that are not cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frz_cli.output import emit, fail


def shown(result: Any, capsys: pytest.CaptureFixture[str], as_json: bool = False) -> str:
    emit(result, as_json)
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_json_holds_no_nan_and_no_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    result = {
        "a": float("nan"),
        "b": [np.float32("inf"), np.int64(3), np.bool_(True)],
        "c": {"path": Path("x/y"), 3: np.array([1.5, np.nan])},
        "d": (1, None),
    }
    text = shown(result, capsys, as_json=True)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 3, True],
        "c": {"path": "x/y", "3": [1.5, None]},
        "d": [1, None],
    }


def test_a_mapping_is_keys_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"rate": 1234567.8, "huge": 1.23456e30, "most": float("inf")}
    numbers = {"events": 12345, "loss": 0.123456, **rates}
    out = shown({**numbers, "done": True, "left": None, "bad": float("nan")}, capsys)
    assert [line.split() for line in out.splitlines()] == [
        ["events", "12,345"],
        ["loss", "0.1235"],
        ["rate", "1,234,568"],
        ["huge", "1.235e+30"],
        ["most", "inf"],
        ["done", "yes"],
        ["left", "-"],
        ["bad", "nan"],
    ]


def test_rows_are_a_table_with_a_column_for_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown([{"name": "a", "n": 1}, {"name": "b", "size": [2, 3]}], capsys)
    assert [line.split() for line in out.splitlines()] == [
        ["name", "n", "size"],
        ["a", "1", "-"],
        ["b", "-", "2,", "3"],
    ]


def test_what_is_nested_comes_below_under_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    card = {"data": {"name": "muon"}, "epochs": 3}
    result = {"path": "x", "card": card, "splits": {"train": {"n": 8}, "val": {"n": 1}}}
    assert [line.split() for line in shown(result, capsys).splitlines()] == [
        ["path", "x"],
        ["card"],
        ["epochs", "3"],
        ["card.data"],
        ["name", "muon"],
        ["splits"],
        ["n"],
        ["train", "8"],
        ["val", "1"],
    ]


@pytest.mark.parametrize(
    "result", [{}, [], {"rows": []}, {"a": {}}, [{}], {"a": [[1, 2], [3]]}, {"a": [{"b": {"c": 1}}]}]
)
def test_odd_shapes_can_be_shown(result: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown(result, capsys)
    assert json.loads(shown(result, capsys, as_json=True)) == result


def test_long_values_are_not_cut_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a" * 75
    assert path in shown({"path": path}, capsys)
    assert "[bold]" in shown({"text": "[bold]"}, capsys)


def test_an_error_is_one_plain_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    fail("x: y")
    assert capsys.readouterr() == ("", "error: x: y\n")


def test_a_table_that_is_wider_than_long_is_turned(capsys):
    numbers = {f"quantity_{i}": float(i) for i in range(12)}
    emit({"metrics": {"head": numbers, "training_mean": numbers}}, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.split()[0].startswith("quantity_") for line in lines if line.split()) == 12
