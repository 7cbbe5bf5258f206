"""docs/cli.md from the commands themselves: `python -m lldiffusion.cli.reference > docs/cli.md`.

A test compares the file with this text, so a changed option cannot leave it behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import typer

from . import VERBS, load_verb

HEAD = """# The commands of `lldiff`

Made from the commands by `python -m lldiffusion.cli.reference`; do not change it by hand.
`lldiff VERB --help` says the same in the terminal.  Exit codes: 0 done; 1 some files failed (`enhance`), or checked and
found wanting (`bench compare`, `doctor`); 2 a mistake that the message explains; 130 stopped by Ctrl-C.
Text in square brackets is what happens without the option.
"""


def reference() -> str:
    """The whole page, Markdown."""
    parts = [HEAD, "\n".join(f"- [`lldiff {verb}`](#lldiff-{verb}): {about}" for verb, (_, about) in VERBS.items())]
    for verb in VERBS:
        parts += command(load_verb(verb), f"lldiff {verb}", level=2)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def command(found: Any, name: str, level: int) -> Iterator[str]:
    """The sections of one command, and of the commands below it."""
    yield f"{'#' * level} {name}"
    below = getattr(found, "commands", {})
    usage = [*_usage(found), *(["COMMAND"] if below else [])]
    yield f"```\n{' '.join([name, *usage])}\n```"
    yield inspect.cleandoc(found.help or "")
    hints = get_type_hints(inspect.unwrap(found.callback)) if found.callback else {}
    rows = [row(parameter, hints.get(parameter.name)) for parameter in found.params]
    if rows:
        yield "\n".join(["| option | value | meaning |", "|---|---|---|", *rows])
    for child in sorted(below):
        yield from command(below[child], f"{name} {child}", level + 1)


def _usage(found: Any) -> Iterator[str]:
    """What stands behind the name: arguments in their order, those that may be left out in brackets."""
    for parameter in found.params:
        if parameter.param_type_name == "argument":
            yield _argument(parameter)
    if any(parameter.param_type_name == "option" for parameter in found.params):
        yield "[OPTIONS]"


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def row(parameter: Any, hint: Any) -> str:
    """One line of the table: how it is written, what it takes, what it means."""
    if parameter.param_type_name == "argument":
        written = f"`{_argument(parameter)}`"
    else:
        written = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    cells = [written, _kind(parameter, hint), _meaning(parameter)]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _kind(parameter: Any, hint: Any) -> str:
    """What kind of value: "text", "number 0 to 5", "path"; nothing for a switch."""
    inner = [part for part in (get_args(hint) or [hint]) if part is not NoneType]
    kinds = {str: "text", int: "whole number", float: "number", Path: "path"}
    words = kinds.get((get_args(inner[0]) or inner)[0], "")
    if (least := parameter.min) is not None:
        most = parameter.max
        words += f", {least:g} or more" if most is None else f" {least:g} to {most:g}"
    return words


def _meaning(parameter: Any) -> str:
    """The help text, with the default where it does not say it itself."""
    text = (parameter.help or "").replace("|", "\\|")
    default = parameter.default
    if parameter.required:
        return f"{text} Required."
    if getattr(parameter, "secondary_opts", None):  # --scaling/--no-scaling
        default = "on" if default else "off"
    says_it = text.rstrip(".").endswith("]") or default in (None, []) or isinstance(default, bool)
    return text if says_it else f"{text} [{default}]"


if __name__ == "__main__":
    typer.echo(reference(), nl=False)
