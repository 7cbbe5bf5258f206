"""The report on a terminal."""

from __future__ import annotations

from itertools import groupby, zip_longest

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from ..record import BenchResult
from .comparison import facts, verdicts
from .tables import Cell, Grid, Head, tables
from .units import plain

WIDEST = 30  # letters of the line that names the work, before it is folded
WORD = 14  # the same of the columns that name a row


def show(result: BenchResult, console: Console) -> None:
    """Print machine, tables and notes; nothing is measured here."""
    for name, value in facts(result):
        console.print(Text.assemble((f"{name} ", "dim"), value))
    for sentence in result.policy:
        console.print(Text(f"- {plain(sentence, 400)}", style="dim"))
    for grid in tables(result, brief=True):
        console.print()
        console.print(Text(" · ".join((grid.title, *grid.shared)), style="bold"))
        console.print(_table(grid))
        for note in grid.notes:
            console.print(Text(note, style="dim"))
    console.print()
    for verdict in verdicts(result):
        console.print(Text.assemble((f"{verdict.model}: ", "bold"), verdict.sentence))
    for note in result.notes:
        console.print(Text(f"note: {plain(note, 400)}"))


def _table(grid: Grid) -> Table:
    """Rows of the same work stand under a line that names it, instead of naming it each."""
    shown = [i for i, head in enumerate(grid.heads) if not (grid.sections and head.work)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    words = [_head(grid.heads[i]) for i in shown]
    tallest = max(text.count("\n") for text in words)
    for i, text in zip(shown, words):
        raised = "\n" * (tallest - text.count("\n")) + text
        numeric = grid.heads[i].numeric
        side: JustifyMethod = "right" if numeric else "left"
        table.add_column(
            raised, justify=side, overflow="fold", no_wrap=numeric, min_width=_width(grid, i) if i < 2 else None
        )
    table.columns[0].min_width = max(min(max(map(len, grid.sections), default=0), WIDEST), _width(grid, 0))
    for section, block in groupby(zip_longest(grid.sections, grid.rows), key=lambda pair: pair[0]):
        table.add_section()
        if section:
            table.add_row(Text(section, style="cyan"))
        for _, row in block:
            table.add_row(*(_cell(row[i]) for i in shown))
    return table


def _width(grid: Grid, column: int) -> int:
    return min(max(len(row[column].text) for row in grid.rows), WORD)


def _head(head: Head) -> str:
    """A word a line above numbers: they are narrow."""
    words = head.text.replace(" ", "\n") if head.numeric else head.text
    return words + (f"\n{head.unit}" if head.unit else "")


def _cell(cell: Cell) -> Text:
    return Text(cell.text, style="bold green" if cell.best else "")
