"""Every command, option, target, Python name and file that the README mentions exists."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lldiffusion.cli import VERBS, load_verb

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced code blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shell_lines(program: str) -> list[str]:
    """Lines of the shell blocks that start with `program`, continued lines joined and comments dropped."""
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.split(" ")[0] == program]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `words` (without "lldiff") name, and the words after its name."""
    assert words[0] in VERBS, f"no such command: {words[0]}"
    command, rest = load_verb(words[0]), words[1:]
    if hasattr(command, "commands"):
        if rest[:1] not in [[name] for name in command.commands] and hasattr(command, "default"):
            rest = [command.default, *rest]
        assert rest[0] in command.commands, f"no such sub-command: {words[0]} {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def test_every_command_is_shown() -> None:
    assert {line.split()[1] for line in shell_lines("lldiff")} >= set(VERBS)


@pytest.mark.parametrize("line", shell_lines("lldiff"))
def test_command_parses(line: str) -> None:
    command, rest = command_of(shlex.split(line, comments=True)[1:])
    context = command.make_context("lldiff", list(rest), resilient_parsing=True)
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    given = {word.split("=")[0] for word in rest if word.startswith("-")}
    assert given <= known
    assert not context.args, f"left over: {context.args}"


def test_make_targets_exist(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for line in shell_lines("make")}
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_extras_exist(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    mentioned = re.findall(r'"\.\[([a-z,]+)\]"', README)
    assert mentioned
    assert {extra for group in mentioned for extra in group.split(",")} <= set(project["optional-dependencies"])


def test_python_examples_import_what_exists() -> None:
    trees = [ast.parse(block) for block in blocks("python")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert all(hasattr(module, alias.name) for alias in node.names)


def test_linked_files_exist(root: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (root / link.partition("#")[0]).exists()] == []
    pictures = [root / link for link in links if link.endswith((".jpg", ".png"))]
    assert all(picture.stat().st_size < 400_000 for picture in pictures)
