"""The measurements as CSV: a line each, in base units (seconds, bytes), empty where nothing was measured."""

from __future__ import annotations

import csv
import io

from ..record import Measurement, Result
from .columns import EVERY, Column
from .comparison import Comparison, Group, group, work_of
from .units import plain

FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet would compute a cell that starts so


def to_csv(result: Result) -> str:
    """A head line, then one line for each measurement."""
    groups = group(result.measurements)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(column.key for column in EVERY), "derived", "note"])
    for row in result.measurements:
        values = [_value(column, row, groups[work_of(row)]) for column in EVERY]
        writer.writerow([*values, int(row.derived), _words(row.note)])
    return out.getvalue()


def _value(column: Column, row: Measurement, work: Group) -> str | float:
    value = column.value(row, work)
    if isinstance(value, Comparison):
        return value.factor
    if value is None or value != value:
        return ""
    return _words(value) if isinstance(value, str) else value


def _words(text: str) -> str:
    line = plain(text, 400)
    return f"'{line}" if line.startswith(FORMULA) else line
