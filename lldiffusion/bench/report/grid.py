"""A table before it has a form: the terminal, Markdown and the page print the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..record import Measurement
from .columns import Column, Value
from .comparison import Comparison, Group, Work, ordered, work_of
from .units import Unit, plain, steps_in_words, unit_for


@dataclass(frozen=True)
class Cell:
    """One value as shown, and what a column is sorted by."""

    text: str
    sort: float | str | None = None  # None: unknown, comes last
    best: bool = False


@dataclass(frozen=True)
class Head:
    """The top of a column."""

    text: str
    unit: str
    about: str
    numeric: bool
    filter: bool = False  # few values that rows may be chosen by
    work: bool = False  # says what was done rather than how it went


@dataclass(frozen=True)
class Grid:
    """A table: what all rows share is said once in `shared`, columns without any value are left out."""

    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()  # of each row: the work it is about, when there are several kinds of work
    anywhere: tuple[bool, ...] = ()  # of each row: it has no network, so it belongs beside any model and steps


FILTERED = ("model", "precision", "size", "steps", "batch")
MOST_CHOICES = 12
WORK = ("model", "size", "steps", "batch")
SETTINGS = (*WORK, "precision", "threads")  # said once where all rows agree


def make_grid(title: str, columns: Sequence[Column], rows: Sequence[Measurement], groups: dict[Work, Group]) -> Grid:
    """The cells of `rows` under `columns`, rows of the same work together."""
    rows = ordered(groups, rows)
    values = {column.key: [column.value(m, groups[work_of(m)]) for m in rows] for column in columns}
    values = {key: entries for key, entries in values.items() if any(map(_is_known, entries))}
    shared = [column for column in columns if column.key in values and _is_shared(column, values[column.key])]
    shown = [column for column in columns if column.key in values and column not in shared]
    units = _units(shown, values)
    best = _fastest(groups) if any(column.key == "p50" for column in shown) else set()
    body = [_cells(column, values[column.key], units[column.key], [id(m) in best for m in rows]) for column in shown]
    return Grid(
        title,
        tuple(_head(column, values[column.key], units[column.key]) for column in shown),
        tuple(zip(*body, strict=True)),
        tuple(_share(column, values[column.key]) for column in shared),
        _notes(rows, shown),
        tuple(map(work_label, rows)) if len(set(map(work_of, rows))) > 1 else (),
        tuple(m.steps == 0 for m in rows),
    )


def _units(columns: Sequence[Column], values: dict[str, list[Value]]) -> dict[str, Unit]:
    """A unit for each column; all times of a table have the same."""
    times = [value for column in columns if column.kind == "seconds" for value in _numbers(values[column.key])]
    units = {}
    for column in columns:
        numbers = times if column.kind == "seconds" else _numbers(values[column.key])
        units[column.key] = Unit() if column.kind == "text" else unit_for(column.kind, numbers)
    return units


def _fastest(groups: dict[Work, Group]) -> set[int]:
    """Of networks, where several were timed."""
    several = [candidate for candidate in groups.values() if len(candidate.rows) > 1 and candidate.work[4] > 0]
    return {id(m) for candidate in several for m in candidate.fastest()}


def work_label(row: Measurement) -> str:
    """What was done, in words."""
    if not row.steps:
        return f"no network, {row.size}"
    batch = f", batch {row.batch}" if row.batch > 1 else ""
    return f"{plain(row.model, 40)}, {row.size}, {steps_in_words(row.steps)}{batch}"


def _is_known(value: Value) -> bool:
    return value is not None and value == value  # NaN is not equal to itself


def _is_shared(column: Column, values: list[Value]) -> bool:
    """A method without a network has no threads or precision of its own: it agrees with all."""
    return column.key in SETTINGS and len({value for value in values if value not in (None, "")}) == 1


def _share(column: Column, values: list[Value]) -> str:
    text = next(_text(column, value, Unit(decimals=0)) for value in values if value not in (None, ""))
    before, after = {"batch": ("batch ", ""), "steps": ("", " steps"), "threads": ("", " threads")}.get(
        column.key, ("", "")
    )
    return f"{before}{text}{after}"


def _head(column: Column, values: list[Value], unit: Unit) -> Head:
    choices = len(set(map(str, values)))
    few = column.key in FILTERED and 1 < choices <= MOST_CHOICES
    return Head(column.head, unit.name, column.about, column.kind != "text", few, column.key in WORK)


def _cells(column: Column, values: list[Value], unit: Unit, best: list[bool]) -> list[Cell]:
    marked = column.key in ("backend", "p50")
    return [
        Cell(_text(column, value, unit), _sort(column, value), marked and fastest)
        for value, fastest in zip(values, best, strict=True)
    ]


def _numbers(values: list[Value]) -> list[float]:
    return [value for value in values if isinstance(value, (int, float))]


def _text(column: Column, value: Value, unit: Unit) -> str:
    if isinstance(value, Comparison):
        if value.itself:
            return "base"
        return "same" if value.level else f"{value.factor:.2f}" + ("" if value.noise is not None else "?")
    if value is None:
        return "-"
    return plain(value, 60) or "-" if isinstance(value, str) else unit(value)


def _sort(column: Column, value: Value) -> float | str | None:
    if isinstance(value, Comparison):
        return value.factor
    if isinstance(value, str):
        return _area(value) if column.key == "size" else plain(value, 60)
    return value if _is_known(value) else None


def _area(size: str) -> float:
    width, _, height = size.partition("x")
    return float(width) * float(height)


def _notes(rows: Sequence[Measurement], shown: Sequence[Column]) -> tuple[str, ...]:
    """What the cells of this table need to be understood."""
    keys = {column.key for column in shown}
    notes = []
    if "p50" in keys:
        notes.append("Marked: the fastest on the same model, size, steps and batch, and those level with it.")
    if "times_authors" in keys or "times_eager" in keys:
        notes.append('"same": the difference is not more than the noise; "?": noise was not measured.')
    if "p50" in keys and any(m.derived for m in rows):
        names = dict.fromkeys(f"{plain(m.backend, 40)} on {work_label(m)}" for m in rows if m.derived)
        notes.append(f"Put together from timed stages, not run whole: {'; '.join(names)}.")
    return tuple(notes)
