"""The `lldiff` command.

Convention: each verb of `VERBS` is a module of this package with a `typer.Typer` called `app`.  It is imported
only when the verb is used, so `lldiff --help` needs neither NumPy nor PyTorch.  A verb without sub-commands
registers one function:

    app = typer.Typer(add_completion=False)

    @app.command()
    def enhance(...) -> None:
        \"\"\"Brighten images.\"\"\"

Commands raise `LLDiffusionError` for what the user can fix (one line, exit code 2) and
`KeyboardInterrupt("resume with  ...")` where Ctrl-C deserves more than "interrupted" (exit code 130).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from lldiffusion.errors import LLDiffusionError, is_out_of_memory, no_memory, printable
from lldiffusion.limits import processors, processors_are_limited

# verb: (module, short help), in the order of `lldiff --help`
VERBS = {
    "enhance": ("enhance", "Brighten images: files, folders and globs."),
    "video": ("video", "Brighten videos; sound, timestamps and colours are kept."),
    "serve": ("serve", "Serve models over HTTP, with a page to drop photos on."),
    "train": ("train", "Train both stages on pairs, or resume a run."),
    "distill": ("distill", "Teach a model of few steps what another does in many."),
    "eval": ("evaluate", "Measure a model, or any method's results, under named protocols."),
    "data": ("data", "Check training and test images; simulate low-light pairs."),
    "convert": ("convert", "Convert the authors' checkpoint files."),
    "export": ("export", "Export a model to ONNX graphs, and prove that they agree."),
    "build": ("build", "Build the TensorRT engines of a bundle, where they will run."),
    "bench": ("bench", "Measure backends beside the eager model; compare two runs."),
    "inspect": ("inspect", "Describe a bundle, engine, ONNX file or checkpoint."),
    "doctor": ("doctor", "Show what this machine can run, and the fix for each gap."),
}


class LazyGroup(TyperGroup):
    """A group that lists its verbs from `VERBS` and imports a verb's module when it is invoked."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name else placeholder, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(_fail(str(interrupt) or "interrupted", 130)) from interrupt


def load_verb(verb: str) -> Any:
    """Import the module of `verb` and return its command."""
    app = importlib.import_module(f"lldiffusion.cli.{VERBS[verb][0]}").app
    app.rich_markup_mode = None  # rich would read the brackets of "[the model's own]" as markup
    return typer.main.get_command(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from lldiffusion import __version__

        typer.echo(f"lldiff {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_show_version, is_eager=True),
) -> None:
    """Brighten low-light images with LLDiffusion; train, convert and measure its models."""


def build_app() -> typer.Typer:
    """The root application: a placeholder for every verb, none of them imported."""
    app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
    app.callback()(_root)
    for verb, (_, help_text) in VERBS.items():
        app.command(verb, help=help_text)(lambda: None)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0, 2 for users' mistakes, 130 after Ctrl-C."""
    command = typer.main.get_command(build_app())
    try:
        result = command.main(list(arguments) or ["--help"], prog_name="lldiff", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except LLDiffusionError as error:
        return _fail(f"error: {_one_line(error)}", 2)
    except TyperException as error:
        return _fail(f"error: {_usage_line(error)}", error.exit_code)
    except OSError as error:  # disk full, permission denied: true of the machine, not of this program
        return _fail(f"error: {_one_line(_explained(error))}", 2)
    except (MemoryError, RuntimeError, ImportError) as error:  # PyTorch's, and a library that cannot be mapped
        if not is_out_of_memory(error):
            raise
        return _fail(f"error: {no_memory(error)}", 2)


def main() -> None:
    """Entry point of the `lldiff` script.

    Libraries count the machine's processors: where a container's quota or the scheduler gives us fewer, they are told.
    """
    if processors_are_limited():
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
    sys.exit(run(sys.argv[1:]))


def _usage_line(error: TyperException) -> str:
    """A usage error in one line that ends with the way to the help page."""
    context = getattr(error, "ctx", None)
    hint = f" (see  {context.command_path} --help)" if context else ""
    return " ".join(error.format_message().split()).rstrip(".") + hint


def _explained(error: OSError) -> str:
    """What the system said, of which file where it is known, and what to do about a full disk."""
    from lldiffusion.atomic import FULL

    what = " ".join(map(str, filter(None, [error.filename and f"{error.filename}:", error.strerror or error])))
    return f"{what}; make room on the disk that is written to, and start again" if error.errno in FULL else what


def _one_line(error: object) -> str:
    """A message on one line that every terminal can show, whatever names and values it quotes."""
    return printable(" ".join(line.strip() for line in str(error).splitlines()))


def _fail(message: str, code: int) -> int:
    """Print `message` on stderr and return `code`."""
    typer.echo(message, err=True)
    return code
