"""How the programs of this folder end: like `lldiff`, with one line and exit code 2 for what the user can mend."""

from __future__ import annotations

from collections.abc import Callable

import typer

from lldiffusion.errors import LLDiffusionError


def run_program(main: Callable[..., None]) -> None:
    """Run `main`, a function as typer takes it, on the command line."""
    app = typer.Typer(add_completion=False)
    app.command()(main)
    try:
        app()
    except LLDiffusionError as error:
        _stop(str(error), error)
    except OSError as error:  # disk full, permission denied: true of the machine, not of this program
        if error.filename is None:
            raise
        _stop(f"{error.filename}: {error.strerror}", error)


def _stop(text: str, error: Exception) -> None:
    typer.echo(f"error: {text}", err=True)
    raise SystemExit(2) from error
