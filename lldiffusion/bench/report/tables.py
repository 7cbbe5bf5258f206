"""The tables of a report before they have a form: the terminal, Markdown and the page print the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..record import BenchResult, Ceilings, Measurement, Scaling
from .columns import COST, IDENTITY, QUALITY, SPEED, STAGES, Column, Value
from .comparison import Speedup, Work, Workload, main_workloads, ordered, work_of, workloads
from .units import Unit, plain, steps_in_words, unit_for, with_unit

# Left out of the speed table where it must fit a terminal.
DETAIL = ("p95", "p99", "mean", "samples", "noise", "limit", "overhead")
FILTERED = ("model", "precision", "size", "steps", "batch")
MOST_CHOICES = 12
WORK = ("model", "size", "steps", "batch")
SETTINGS = (*WORK, "precision", "threads")  # said once where all rows agree


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

    def choices(self, head: Head) -> list[str]:
        """The different values of a column, in the order of the rows."""
        column = self.heads.index(head)
        return list(dict.fromkeys(row[column].text for row in self.rows))


def tables(result: BenchResult, brief: bool = False) -> list[Grid]:
    """Speed, quality, cost, stages, scaling and ceilings, as far as measured.

    `brief` leaves DETAIL out, and cost and stages of all but the main work of each model.
    """
    loads, every = workloads(result.measurements), result.measurements
    chosen = [m for load in main_workloads(every) for m in load.rows] if brief else every
    speed = [column for column in SPEED if not (brief and column.key in DETAIL)]
    found = [
        _measured("Speed", speed, [m for m in every if m.seconds], loads),
        _measured("Quality", QUALITY, every, loads),
        _measured("Memory, cold start and work", COST, chosen, loads),
        _measured("Stages of a call", STAGES, chosen, loads),
        _scaling(result.scaling),
        _ceilings(result.ceilings),
    ]
    return [grid for grid in found if grid is not None]


def _measured(
    title: str, columns: Sequence[Column], rows: Sequence[Measurement], loads: dict[Work, Workload]
) -> Grid | None:
    """The rows that have something to say in these columns, those of the same work together; None without any."""
    rows = ordered(loads, [m for m in rows if any(_is_known(c.value(m, loads[work_of(m)])) for c in columns)])
    if not rows:
        return None
    columns = (*IDENTITY, *columns)
    values = {column.key: [column.value(m, loads[work_of(m)]) for m in rows] for column in columns}
    known = [column for column in columns if any(map(_is_known, values[column.key]))]
    shared = [column for column in known if _is_shared(column, values[column.key])]
    shown = [column for column in known if column not in shared]
    units = _units(shown, values)
    best = _fastest(loads) if any(column.key == "p50" for column in shown) else set()
    body = [_cells(column, values[column.key], units[column.key], [id(m) in best for m in rows]) for column in shown]
    return Grid(
        title=title,
        heads=tuple(_head(column, values[column.key], units[column.key]) for column in shown),
        rows=tuple(zip(*body, strict=True)),
        shared=tuple(_share(column, values[column.key]) for column in shared),
        notes=_notes(rows, {column.key for column in shown}),
        sections=tuple(map(work_label, rows)) if len(set(map(work_of, rows))) > 1 else (),
        anywhere=tuple(m.steps == 0 for m in rows),
    )


def _is_known(value: Value) -> bool:
    return value is not None and value == value  # NaN is not equal to itself


def _is_shared(column: Column, values: list[Value]) -> bool:
    """Whether all rows agree; a method without a network has no threads or precision of its own and agrees with all."""
    return column.key in SETTINGS and len({value for value in values if value not in (None, "")}) == 1


def _share(column: Column, values: list[Value]) -> str:
    text = next(_text(value, Unit(decimals=0)) for value in values if value not in (None, ""))
    words = {"batch": f"batch {text}", "steps": f"{text} steps", "threads": f"{text} threads"}
    return words.get(column.key, text)


def _units(columns: Sequence[Column], values: dict[str, list[Value]]) -> dict[str, Unit]:
    """A unit for each column; all times of a table have the same."""
    numbers = {key: [value for value in entries if isinstance(value, (int, float))] for key, entries in values.items()}
    times = [value for column in columns if column.kind == "seconds" for value in numbers[column.key]]
    return {
        column.key: Unit()
        if column.kind == "text"
        else unit_for(column.kind, times if column.kind == "seconds" else numbers[column.key])
        for column in columns
    }


def _fastest(loads: dict[Work, Workload]) -> set[int]:
    """Identities of the fastest rows of networks, where several were timed."""
    several = [load for load in loads.values() if len(load.rows) > 1 and load.work[4] > 0]
    return {id(m) for load in several for m in load.fastest()}


def _head(column: Column, values: list[Value], unit: Unit) -> Head:
    few = column.key in FILTERED and 1 < len(set(map(str, values))) <= MOST_CHOICES
    return Head(column.head, unit.name, column.about, column.kind != "text", few, column.key in WORK)


def _cells(column: Column, values: list[Value], unit: Unit, best: list[bool]) -> list[Cell]:
    marked = column.key in ("backend", "p50")
    return [
        Cell(_text(value, unit), _sort(column, value), marked and fastest)
        for value, fastest in zip(values, best, strict=True)
    ]


def _text(value: Value, unit: Unit) -> str:
    if isinstance(value, Speedup):
        if value.itself:
            return "base"
        return "same" if value.within_noise else f"{value.factor:.2f}" + ("" if value.noise is not None else "?")
    if value is None:
        return "-"
    return plain(value, 60) or "-" if isinstance(value, str) else unit(value)


def _sort(column: Column, value: Value) -> float | str | None:
    if isinstance(value, Speedup):
        return value.factor
    if isinstance(value, str) and column.key == "size":
        width, _, height = value.partition("x")
        return float(width) * float(height)
    if isinstance(value, str):
        return plain(value, 60)
    return value if _is_known(value) else None


def work_label(row: Measurement) -> str:
    """What was done, in words."""
    if not row.steps:
        return f"no network, {row.size}"
    batch = f", batch {row.batch}" if row.batch > 1 else ""
    return f"{plain(row.model, 40)}, {row.size}, {steps_in_words(row.steps)}{batch}"


def _notes(rows: Sequence[Measurement], keys: set[str]) -> tuple[str, ...]:
    """What the cells of this table need to be understood."""
    notes = []
    if "p50" in keys:
        notes.append("Marked: the fastest on the same model, size, steps and batch, and those within its noise.")
    if keys & {"times_authors", "times_eager"}:
        notes.append('"same": the difference is not more than the noise; "?": noise was not measured.')
    if "p50" in keys and any(m.derived for m in rows):
        names = dict.fromkeys(f"{plain(m.backend, 40)} on {work_label(m)}" for m in rows if m.derived)
        notes.append(f"Put together from timed stages, not run whole: {'; '.join(names)}.")
    return tuple(notes)


def _words(text: str, about: str) -> Head:
    return Head(text, "", about, numeric=False)


def _scaling(fits: Sequence[Scaling]) -> Grid | None:
    """How time and memory grow."""
    about = "y = constant x^exponent, fitted to the larger half of the points: 1 is linear, below 1 a fixed cost shows."
    heads = (
        _words("backend", "What runs it."),
        _words("model", "The network."),
        _words("of", "What was measured."),
        _words("against", "What was changed, from the smallest to the largest."),
        _words("grows", "From the value at the smallest to that at the largest."),
        Head("exponent", "", about, numeric=True),
        _words("operator", "Where it leaves linear: the operator that grows faster than the rest."),
    )
    return Grid("Scaling", heads, tuple(map(_fit, fits))) if fits else None


def _fit(fit: Scaling) -> tuple[Cell, ...]:
    ends = (fit.points[0], fit.points[-1]) if fit.points else ()
    megapixels = fit.against == "pixels"
    span = " to ".join(f"{x / 1e6:.2g}M" if megapixels and x >= 1e5 else f"{x:g}" for x, _ in ends)
    growth = " to ".join(with_unit(value_kind(fit), y) for _, y in ends)
    texts = [plain(text, 60) for text in (fit.backend, fit.model, fit.of.replace("_", " "), f"{fit.against} {span}")]
    exponent = Cell(Unit(decimals=2)(fit.exponent), fit.exponent)
    return (*(Cell(text, text) for text in (*texts, growth)), exponent, Cell(plain(fit.note) or "-"))


def value_kind(fit: Scaling) -> str:
    """The kind of unit that what grows is measured in."""
    return "bytes" if "memory" in fit.of else "seconds"


def _ceilings(ceilings: Sequence[Ceilings]) -> Grid | None:
    """What the machine can do at most."""
    heads = (
        _words("device", "Where it was measured."),
        _words("precision", "Of the arithmetic."),
        Head("arithmetic", "GFLOP/s", "Floating-point operations a second; a multiply-add counts two.", numeric=True),
        Head("copying", "GB/s", "Bytes read and written a second by a large copy.", numeric=True),
        _words("how", "What was run."),
    )
    rows = tuple(map(_ceiling, ceilings))
    return Grid("The machine's ceilings, measured in the same run", heads, rows) if ceilings else None


def _ceiling(row: Ceilings) -> tuple[Cell, ...]:
    names = [Cell(plain(text, 60), plain(text, 60)) for text in (row.device, row.precision)]
    rates = [Cell(Unit()(rate / 1e9), rate) for rate in (row.operations, row.bandwidth)]
    return (*names, *rates, Cell(plain(row.how)))
