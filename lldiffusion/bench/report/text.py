"""The report as Markdown, for a README, an issue or a pull request, and as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from ..record import BenchResult, Measurement
from .columns import EVERY, Column
from .comparison import Speedup, Workload, facts, verdicts, work_of, workloads
from .tables import Cell, Grid, tables
from .units import plain

FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet would compute a cell that starts so


def to_csv(result: BenchResult) -> str:
    """A head line and one for each measurement, in base units (seconds, bytes); empty where nothing was measured."""
    loads = workloads(result.measurements)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(column.key for column in EVERY), "derived", "note"])
    for row in result.measurements:
        values = [_value(column, row, loads[work_of(row)]) for column in EVERY]
        writer.writerow([*values, int(row.derived), _words(row.note)])
    return out.getvalue()


def _value(column: Column, row: Measurement, load: Workload) -> str | float:
    value = column.value(row, load)
    if isinstance(value, Speedup):
        return value.factor
    if value is None or value != value:
        return ""
    return _words(value) if isinstance(value, str) else value


def _words(text: str) -> str:
    line = plain(text, 400)
    return f"'{line}" if line.startswith(FORMULA) else line


def to_markdown(result: BenchResult) -> str:
    """Verdicts, tables, machine, policy and notes."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: BenchResult) -> Iterator[str]:
    yield from ("# Benchmark", "")
    for verdict in verdicts(result):
        yield f"- **{_escape(verdict.model)}**: {_escape(verdict.sentence)}"
    for grid in tables(result):
        yield from ("", f"## {_escape(' · '.join((grid.title, *grid.shared)))}", "")
        yield from _table(grid)
        yield from (line for note in grid.notes for line in ("", _escape(note)))
    yield from ("", "## How it was measured", "")
    yield from (f"- {name}: {_escape(value)}" for name, value in facts(result))
    yield from (f"- {_escape(plain(sentence, 400))}" for sentence in (*result.policy, *result.notes))


def _table(grid: Grid) -> Iterator[str]:
    """A table in GitHub's Markdown; the best of its kind is bold."""
    heads = [_escape(f"{head.text}, {head.unit}" if head.unit else head.text) for head in grid.heads]
    rules = ["---:" if head.numeric else "---" for head in grid.heads]
    for cells in (heads, rules, *([_cell(cell) for cell in row] for row in grid.rows)):
        yield f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    return f"**{text}**" if cell.best else text


def _escape(text: str) -> str:
    """The text, with nothing in it that is markup, HTML or the end of a cell."""
    return re.sub(r"([\\`*_\[\]<>|#~&$@])", r"\\\1", text)
