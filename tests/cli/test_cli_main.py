"""One line and an exit code for what a user can mend; help without torch; a traceback for our own faults."""

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from frz.config import StrictModel
from frz.errors import StoreError
from frz.evaluation.settings import DemoSettings, EvaluateSettings
from frz.extract import settings as extract
from frz_cli.main import app

Python = Callable[..., "subprocess.CompletedProcess[str]"]
COMMANDS = [
    "demo",
    "data",
    "train-backbone",
    "extract",
    "sweep",
    "train-head",
    "finetune",
    "evaluate",
    "bench",
    "compare",
    "predict",
    "export",
    "ls",
    "show",
    "why",
    "diff",
    "verify",
    "repair",
    "gc",
]


def frz(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def ls_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def listing(folder: Path, pattern: str) -> None:
        del folder, pattern
        raise error

    monkeypatch.setattr("frz.inventory.listing", listing)


def test_help_lists_every_command() -> None:
    result = frz("--help")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert sorted(listed) == sorted(COMMANDS)
    assert "..." not in result.stdout.partition("Commands:")[2]


@pytest.mark.parametrize(
    "command", [[name] for name in COMMANDS if name != "data"] + [["data", "build"], ["data", "show"]]
)
def test_every_command_explains_itself_and_takes_the_common_options(command: list[str]) -> None:
    result = frz(*command, "--help")
    assert result.exit_code == 0
    assert "--artifacts" in result.stdout
    assert "--json" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "named", "way_out"),
    [
        (["extrct"], "no such command 'extrct'", "--help'"),
        (["--jsn"], "no such option: --jsn", "--help'"),
        (["data", "biuld"], "Did you mean 'build'? see", " data --help'"),
        (["ls", "--jsn"], "no such option: --jsn", " ls --help'"),
        (["extract"], "missing option '--ckpt'; see", " extract --help'"),
        (["show"], "missing argument 'NAME'; see", " show --help'"),
        (["extract", "--ckpt"], "option '--ckpt' requires an argument", "--help'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: list[str], named: str, way_out: str) -> None:
    result = frz(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert named in result.stderr
    assert result.stderr.endswith(f"{way_out}\n")
    assert result.stderr.count("\n") == 1


def test_two_questions_at_once_are_refused() -> None:
    result = frz("extract", "--ckpt", "tiny", "--fidelity", "--dry-run")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --fidelity and --dry-run are different questions; ask one of them\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "tiny", "--data", "tiny", "--out", "s3://bucket/rows.parquet"],
        ["evaluate", "tiny", "--set", "report=s3://bucket/report.html"],
        ["export", "datasets/tiny", "s3://bucket/out", "--format", "parquet"],
    ],
)
def test_what_people_take_with_them_is_not_written_to_an_object_store(
    arguments: list[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = frz(*arguments, "--artifacts", str(tiny))
    assert result.exit_code == 2
    assert result.stderr == (
        "error: s3://…: is written to this machine alone; give a local file or folder, and copy it there\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_a_group_alone_shows_its_commands(arguments: list[str]) -> None:
    assert "Commands:" in frz(*arguments).output


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"version of {name}")
    assert frz("--version").stdout == "frz version of frz\n"


@pytest.mark.parametrize(
    ("command", "settings"),
    [("extract", extract.Settings), ("evaluate", EvaluateSettings), ("demo", DemoSettings)],
)
def test_help_lists_every_key_of_set_with_its_default(command: str, settings: type[StrictModel]) -> None:
    listed = " ".join(frz(command, "--help").stdout.partition("Keys of --set:")[2].split())
    for key, field in settings.model_fields.items():
        description = " ".join(str(field.description).split())
        default = "FILE" if field.default is None else "[]" if field.default == () else field.default
        assert f"{key}={default} {description}" in listed


def test_a_mendable_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ls_raises(monkeypatch, StoreError("is damaged", where="x", way_out="build it again"))
    result = frz("ls", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: x: is damaged; build it again\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_disk_is_one_line(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ls_raises(monkeypatch, OSError(number, "cannot write", "/some/file"))
    result = frz("ls")
    assert result.exit_code == 2
    assert result.stderr == "error: /some/file: cannot write; mend that and run the same command again\n"


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ls_raises(monkeypatch, KeyboardInterrupt())
    result = frz("ls")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted; the same command continues\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), OSError(errno.EBADF, "ours")])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    ls_raises(monkeypatch, error)
    assert frz("ls").exception is error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "build", "nothing.yaml"], "error: nothing.yaml: no such config file; have: recipe.yaml"),
        (["train-backbone", "."], "error: .: is a folder, not a config file; have: recipe.yaml"),
        (["data", "build", "recipe.yaml", "--set", "name"], "error: --set: override 'name' is not of the form"),
        (["data", "build", "recipe.yaml"], "error: recipe.yaml: unknown key 'sauce'; did you mean 'source'?"),
        (["data", "show", "tiny"], "error: no data set 'tiny' in artifacts/datasets; make one with 'frz data build'"),
        (["show", "tiny"], "error: artifacts: nothing is called 'tiny'; nothing is here yet"),
    ],
)
def test_a_real_process_ends_with_one_line_and_code_2(
    arguments: list[str], message: str, fresh_python: Python, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "tiny", "sauce": {"kind": "velo"}}))
    done = fresh_python("-m", "frz_cli", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], {"torch", "numpy", "zarr", "rich", "pydantic"})]
    + [([command, "--help"], {"torch", "matplotlib"}) for command in ("extract", "evaluate", "demo")],
)
def test_help_of_a_real_process_needs_no_torch(arguments: list[str], heavy: set[str], fresh_python: Python) -> None:
    code = (
        f"import sys\nsys.argv = ['frz', *{arguments}]\nfrom frz_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print(sorted({heavy} & sys.modules.keys()))"
    )
    done = fresh_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_class_in_the_working_folder_is_found(fresh_python: Python, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise ImportError('mine was read')\n")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "tiny", "source": {"kind": "mine:Source"}}))
    (tmp_path / "yaml.py").write_text("raise ImportError('the working folder shadows a package')\n")
    code = "import sys; sys.path.remove(''); from frz_cli.main import main; main()"
    done = fresh_python("-c", code, "data", "build", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "mine was read" in done.stderr
