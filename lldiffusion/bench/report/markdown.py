"""The report as Markdown, for a README, an issue or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..record import Result
from .grid import Cell, Grid
from .summary import facts, verdicts
from .tables import tables
from .units import plain


def to_markdown(result: Result) -> str:
    """Verdicts, tables, machine, policy and notes."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Result) -> Iterator[str]:
    yield from ("# Benchmark", "")
    for verdict in verdicts(result):
        yield f"- **{_escape(verdict.model)}**: {_escape(verdict.sentence)}"
    for grid in tables(result):
        yield from ("", f"## {_escape(' · '.join((grid.title, *grid.shared)))}", "")
        yield from table_lines(grid)
        yield from (line for note in grid.notes for line in ("", _escape(note)))
    yield from ("", "## How it was measured", "")
    yield from (f"- {name}: {_escape(value)}" for name, value in facts(result))
    yield from (f"- {_escape(plain(sentence, 400))}" for sentence in (*result.policy, *result.notes))


def table_lines(grid: Grid) -> Iterator[str]:
    """A table in GitHub's Markdown; the best of its kind is bold."""
    heads = [_escape(f"{head.text}, {head.unit}" if head.unit else head.text) for head in grid.heads]
    yield _row(heads)
    yield _row(["---:" if head.numeric else "---" for head in grid.heads])
    yield from (_row([_cell(cell) for cell in row]) for row in grid.rows)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    return f"**{text}**" if cell.best else text


def _escape(text: str) -> str:
    """Nothing in it is markup, HTML or the end of a cell."""
    return re.sub(r"([\\`*_\[\]<>|#~&$@])", r"\\\1", text)
