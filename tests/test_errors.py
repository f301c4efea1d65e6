"""Errors are one line with what, where and the way out, in one tree."""

import inspect
import pickle

import pytest

from frz import errors
from frz.errors import ConfigError, FrzError

KINDS = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, FrzError) and c is not FrzError]


@pytest.mark.parametrize(
    ("where", "way_out", "text"),
    [
        ("", "", "bad"),
        ("f.yaml", "", "f.yaml: bad"),
        ("", "do it", "bad; do it"),
        ("f.yaml", "do it", "f.yaml: bad; do it"),
    ],
)
def test_form_of_a_message(where: str, way_out: str, text: str) -> None:
    assert str(FrzError("bad", where=where, way_out=way_out)) == text


def test_a_message_of_many_lines_becomes_one() -> None:
    assert str(FrzError("first\n   second\n", where="f")) == "f: first second"


@pytest.mark.parametrize("cls", KINDS)
def test_the_tree_is_drawn_whole(cls: type[FrzError]) -> None:
    branch = "├── " if cls.__bases__ == (FrzError,) else "│   └── "
    drawn = (errors.__doc__ or "").replace("└── Cluster", "├── Cluster").splitlines()
    assert any(line.startswith(f"{branch}{cls.__name__} ") for line in drawn)


def test_an_error_crosses_a_process_boundary_whole() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("bad", where="f.yaml", way_out="do it")))
    assert type(error) is ConfigError
    assert str(error) == "f.yaml: bad; do it"
    assert (error.what, error.where, error.way_out) == ("bad", "f.yaml", "do it")
