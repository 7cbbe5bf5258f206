"""Where the time of a call goes, as stacked bars."""

from __future__ import annotations

from collections.abc import Sequence

from ..record import Measurement, Result
from .canvas import Canvas, Plot, draw
from .comparison import group, main_group, models
from .style import COLOURS, SIZE
from .units import plain, steps_in_words, unit_for, with_unit

# What is drawn, in the order of a call, and its colour.
PARTS = {"pre": "c5", "encoder": "c3", "colour map": "c6", "steps": "c0", "post": "c2", "rest": "c7"}
BAR = 0.3  # inches of height for each bar beyond four


def parts(row: Measurement) -> dict[str, float]:
    """Seconds of each part of a call; `rest` is what the median call took beyond the stages."""
    stages = row.stages
    known = {
        "pre": stages.pre,
        "encoder": stages.encoder,
        "colour map": stages.color_map,
        "steps": None if stages.step is None else stages.step * row.steps,
        "post": stages.post,
    }
    found = {name: seconds for name, seconds in known.items() if seconds is not None}
    return {**found, "rest": max(row.p50 - sum(found.values()), 0)}


def stage_plots(result: Result) -> list[Plot]:
    """One for each model, at its main work."""
    groups = group(result.measurements)
    plots = []
    for number, model in enumerate(models(groups)):
        chosen = main_group(groups, model)
        assert chosen is not None
        rows = [m for m in chosen.rows if m.stages.step is not None]
        if rows:
            plots.append(_plot(f"stages-{number}", sorted(rows, key=lambda m: -m.p50)))
    return plots


def _plot(name: str, rows: Sequence[Measurement]) -> Plot:
    row = rows[0]
    return draw(
        name,
        f"{plain(row.model, 14)}: stages at {row.size}, {steps_in_words(row.steps)}",
        "Seconds of each stage of a call; decoding is not part of it.",
        lambda canvas: _paint(canvas, rows),
        (SIZE[0], SIZE[1] + BAR * max(len(rows) - 6, 0)),
    )


def _paint(canvas: Canvas, rows: Sequence[Measurement]) -> None:
    stages = [parts(m) for m in rows]
    unit = unit_for("seconds", [m.p50 for m in rows])
    starts = [0.0] * len(rows)
    for name, colour in PARTS.items():
        widths = [part.get(name, 0) / unit.size for part in stages]
        if not any(widths):
            continue
        bars = canvas.axes.barh(range(len(rows)), widths, 0.62, starts, color=COLOURS[colour][0], label=name)
        for bar, row, part in zip(bars, rows, stages):
            canvas.tip(bar, f"{_name(row)}, {name}: {with_unit('seconds', part.get(name, 0))}")
        starts = [start + width for start, width in zip(starts, widths)]
    for place, (end, row) in enumerate(zip(starts, rows)):
        total = with_unit("seconds", row.p50)
        canvas.axes.annotate(total, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    canvas.axes.set_yticks(range(len(rows)), [_name(m) for m in rows])
    canvas.axes.set(xlabel=f"time in {unit.name}", xlim=(0, max(starts) * 1.22 or 1))
    canvas.axes.grid(axis="y", visible=False)
    canvas.legend()


def _name(row: Measurement) -> str:
    return plain(f"{row.backend} {row.precision}" if row.precision != "fp32" else row.backend, 22)
