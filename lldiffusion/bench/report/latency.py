"""Time of a call against the size of the picture, or as bars where one size was measured."""

from __future__ import annotations

from collections.abc import Sequence

from ..record import Measurement, Result
from .axes import label_seconds, label_sizes
from .canvas import Canvas, Plot, draw
from .comparison import group, main_group, models
from .style import COLOURS, DASHES, looks
from .units import plain, steps_in_words, unit_for, with_unit


def latency_plots(result: Result) -> list[Plot]:
    """One for each model: its backends over all sizes, at the batch and steps of its main work."""
    groups = group(result.measurements)
    plots = []
    for number, model in enumerate(models(groups)):
        chosen = main_group(groups, model)
        assert chosen is not None
        _, _, _, batch, steps = chosen.work
        rows = [m for m in result.measurements if (m.model, m.batch, m.steps) == (model, batch, steps) and m.seconds]
        plots.append(_plot(f"latency-{number}", plain(model, 16), rows))
    return plots


def _plot(name: str, model: str, rows: Sequence[Measurement]) -> Plot:
    what = steps_in_words(rows[0].steps) + (f", batch {rows[0].batch}" if rows[0].batch > 1 else "")
    reach = "a line reaches from each median to its p95; hollow where the time was put together from stages."
    if len({m.size for m in rows}) == 1:
        about = f"Median time of a call; {reach}"
        return draw(name, f"{model}: time at {rows[0].size} ({what})", about, lambda canvas: _bars(canvas, rows))
    about = f"Median time of a call for each picture size; {reach}"
    return draw(name, f"{model}: time against size ({what})", about, lambda canvas: _paint(canvas, rows))


def _bars(canvas: Canvas, rows: Sequence[Measurement]) -> None:
    look, axes = looks([m.backend for m in rows]), canvas.axes
    ordered = sorted(rows, key=lambda m: -m.p50)
    unit = unit_for("seconds", [m.p50 for m in rows])
    for place, m in enumerate(ordered):
        colour, reach = look[m.backend].colour, m.percentile(95) / unit.size
        (bar,) = axes.barh(place, m.p50 / unit.size, 0.6, color="none" if m.derived else colour, edgecolor=colour)
        canvas.tip(bar, _tip(m))
        axes.plot([m.p50 / unit.size, reach], [place, place], color=COLOURS["ink"][0], linewidth=1)
        words = with_unit("seconds", m.p50)
        axes.annotate(words, (reach, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    names = [plain(m.backend if m.precision == "fp32" else f"{m.backend} {m.precision}", 22) for m in ordered]
    axes.set_yticks(range(len(ordered)), names)
    axes.set(xlabel=f"time in {unit.name}", xlim=(0, max(m.percentile(95) for m in rows) / unit.size * 1.22 or 1))
    axes.grid(axis="y", visible=False)


def _paint(canvas: Canvas, rows: Sequence[Measurement]) -> None:
    look = looks([m.backend for m in rows])
    kinds = list(dict.fromkeys((m.backend, m.precision) for m in rows))
    for backend, precision in kinds:
        points = sorted((m for m in rows if (m.backend, m.precision) == (backend, precision)), key=lambda m: m.pixels)
        style = {"color": look[backend].colour, "marker": look[backend].marker, "ls": DASHES.get(precision, "-")}
        name = plain(backend if precision == "fp32" else f"{backend} {precision}", 22)
        canvas.axes.plot([m.pixels for m in points], [m.p50 for m in points], label=name, **style)
        for m in points:
            _point(canvas, m, look[backend].colour)
    canvas.axes.set(xscale="log", yscale="log", xlabel="picture")
    label_sizes(canvas.axes, rows)
    label_seconds(canvas.axes.yaxis, [m.p50 for m in rows] + [m.percentile(95) for m in rows])
    canvas.legend()


def _point(canvas: Canvas, row: Measurement, colour: str) -> None:
    """The reach to p95; a hollow middle where the time was put together from stages."""
    canvas.axes.plot([row.pixels] * 2, [row.p50, row.percentile(95)], color=colour, linewidth=3, alpha=0.3)
    face = COLOURS["paper"][0] if row.derived else colour
    (dot,) = canvas.axes.plot(row.pixels, row.p50, "o", markersize=3, markerfacecolor=face, color=colour)
    canvas.tip(dot, _tip(row))


def _tip(row: Measurement) -> str:
    times = ", ".join(f"p{share} {with_unit('seconds', row.percentile(share))}" for share in (50, 95, 99))
    return plain(f"{row.backend} {row.precision}, {row.size}: {times}")
