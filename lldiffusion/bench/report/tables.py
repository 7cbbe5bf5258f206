"""The tables of a report, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from ..record import Ceilings, Measurement, Result, Scaling
from .columns import COST, IDENTITY, QUALITY, SPEED, STAGES, Column
from .comparison import Group, Work, group, main_group, models, work_of
from .grid import Cell, Grid, Head, make_grid
from .units import Unit, plain, unit_for, with_unit

# Left out of the speed table where it must fit a terminal.
DETAIL = ("p95", "p99", "mean", "samples", "noise", "limit", "overhead")


def tables(result: Result, brief: bool = False) -> list[Grid]:
    """Speed, quality, cost, stages, scaling and ceilings, as far as measured.

    `brief` leaves DETAIL out, and cost and stages of all but the main work of each model.
    """
    groups = group(result.measurements)
    chosen = _main_rows(groups) if brief else result.measurements
    speed = [column for column in SPEED if not (brief and column.key in DETAIL)]
    found = [
        _grid("Speed", speed, [m for m in result.measurements if m.seconds], groups),
        _grid("Quality", QUALITY, result.measurements, groups),
        _grid("Memory, cold start and work", COST, chosen, groups),
        _grid("Stages of a call", STAGES, chosen, groups),
        _scaling(result.scaling),
        _ceilings(result.ceilings),
    ]
    return [grid for grid in found if grid is not None]


def _main_rows(groups: dict[Work, Group]) -> list[Measurement]:
    chosen = [main_group(groups, model) for model in models(groups)]
    return [m for candidate in chosen if candidate is not None for m in candidate.rows]


def _grid(title: str, columns: Sequence[Column], rows: Sequence[Measurement], groups: dict[Work, Group]) -> Grid | None:
    """The rows that have something to say in these columns."""
    telling = [m for m in rows if any(column.value(m, groups[work_of(m)]) is not None for column in columns)]
    return make_grid(title, (*IDENTITY, *columns), telling, groups) if telling else None


def _scaling(fits: Sequence[Scaling]) -> Grid | None:
    """How time and memory grow."""
    if not fits:
        return None
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
    return Grid("Scaling", heads, tuple(map(_fit, fits)))


def _words(text: str, about: str) -> Head:
    return Head(text, "", about, numeric=False)


def _fit(fit: Scaling) -> tuple[Cell, ...]:
    ends = (fit.points[0], fit.points[-1]) if fit.points else ()
    span = " to ".join(_place(fit, x) for x, _ in ends)
    growth = " to ".join(with_unit(value_kind(fit), y) for _, y in ends)
    texts = [plain(text, 60) for text in (fit.backend, fit.model, fit.of.replace("_", " "), f"{fit.against} {span}")]
    exponent = Cell(Unit(decimals=2)(fit.exponent), fit.exponent)
    return (*(Cell(text, text) for text in (*texts, growth)), exponent, Cell(plain(fit.note) or "-"))


def value_kind(fit: Scaling) -> str:
    """The kind of unit that what grows is measured in."""
    return "bytes" if "memory" in fit.of else "seconds"


def _place(fit: Scaling, x: float) -> str:
    """Pixels as megapixels."""
    return f"{x / 1e6:.2g}M" if fit.against == "pixels" and x >= 1e5 else f"{x:g}"


def _ceilings(ceilings: Sequence[Ceilings]) -> Grid | None:
    """What the machine can do at most."""
    if not ceilings:
        return None
    heads = (
        _words("device", "Where it was measured."),
        _words("precision", "Of the arithmetic."),
        Head("arithmetic", "GFLOP/s", "Floating-point operations a second; a multiply-add counts two.", numeric=True),
        Head("copying", "GB/s", "Bytes read and written a second by a large copy.", numeric=True),
        _words("how", "What was run."),
    )
    return Grid("The machine's ceilings, measured in the same run", heads, tuple(map(_ceiling, ceilings)))


def _ceiling(row: Ceilings) -> tuple[Cell, ...]:
    giga = unit_for("number", [])
    names = [Cell(plain(text, 60), plain(text, 60)) for text in (row.device, row.precision)]
    rates = [Cell(giga(rate / 1e9), rate) for rate in (row.operations, row.bandwidth)]
    return (*names, *rates, Cell(plain(row.how)))
