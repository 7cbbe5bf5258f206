"""The `lldiff` command itself: version, help, one-line errors, exit codes.  Its verbs have tests of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

import lldiffusion
from lldiffusion import cli
from lldiffusion.cli import VERBS, load_verb, run
from lldiffusion.errors import LLDiffusionError


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb `broken` whose argument says how it ends."""
    failures = {
        "mistake": LLDiffusionError("no such model 'x'"),
        "interrupt": KeyboardInterrupt(),
        "resume": KeyboardInterrupt("resume with  lldiff train --resume runs/1"),
        "disk": OSError(28, "No space left on device", "/tmp/out.png"),
        "bug": ZeroDivisionError("ours"),
    }
    module = ModuleType("lldiffusion.cli.broken")
    module.app = typer.Typer(add_completion=False)  # type: ignore[attr-defined]

    @module.app.command()
    def fail(how: str, times: int = 1) -> None:
        raise failures[how]

    monkeypatch.setitem(sys.modules, "lldiffusion.cli.broken", module)
    monkeypatch.setitem(cli.VERBS, "broken", ("broken", "Fails."))


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; nothing may stand on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.rstrip("\n")


def test_version_comes_from_one_place(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"lldiff {lldiffusion.__version__}\n"
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "lldiffusion.versions.__version__"}


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    out = capsys.readouterr().out
    for verb, (_, help_text) in VERBS.items():
        assert verb in out
        assert help_text in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_page(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: lldiff {verb}" in out
    assert "--install-completion" not in out
    command = load_verb(verb)
    texts = [parameter.help for parameter in command.params if getattr(parameter, "help", None)]
    assert [text for text in texts if "".join(text.split()) not in "".join(out.split())] == []


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["enhnace", "a.png"]) == 2
    assert error_line(capsys) == "error: No such command 'enhnace'. Did you mean 'enhance'? (see  lldiff --help)"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--vers"], "error: No such option: --vers"),
        (["broken"], "error: Missing argument 'how'"),
        (["broken", "bug", "--tmies", "2"], "error: No such option: --tmies"),
        (["broken", "bug", "--times", "two"], "error: Invalid value for '--times'"),
    ],
)
@pytest.mark.usefixtures("broken")
def test_usage_errors_are_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert error_line(capsys).startswith(line)


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        ("mistake", 2, "error: no such model 'x'"),
        (
            "disk",
            2,
            "error: /tmp/out.png: No space left on device; make room on the disk that is written to, and start again",
        ),
        ("interrupt", 130, "interrupted"),
        ("resume", 130, "resume with  lldiff train --resume runs/1"),
    ],
)
@pytest.mark.usefixtures("broken")
def test_failures_are_one_line(how: str, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["broken", how]) == code
    assert error_line(capsys) == line


@pytest.mark.usefixtures("broken")
def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(["broken", "bug"])


def test_installed_script_exits_with_the_code() -> None:
    script = Path(sys.executable).parent / "lldiff"
    done = subprocess.run([script, "enhnace"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("verb", [[], ["enhance"], ["data", "check"]])
def test_h_is_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb, "-h"]) == 0
    short = capsys.readouterr().out
    assert run([*verb, "--help"]) == 0
    assert short == capsys.readouterr().out and "Usage: lldiff" in short


def test_a_shell_completes_verbs_and_their_options() -> None:
    for words, place, found in (("lldiff enh", "1", "enhance"), ("lldiff enhance --over", "2", "--overwrite")):
        asked = {"_LLDIFF_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
        command = [sys.executable, "-m", "lldiffusion"]
        done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [found]
