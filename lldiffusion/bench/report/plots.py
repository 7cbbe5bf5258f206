"""The plots of a report: time against size, quality against time, stages of a call, scaling."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..record import BenchResult, Measurement, Scaling
from .comparison import Workload, main_workloads
from .drawing import COLOURS, MARKERS, MUTED, PAPER, SIZE, Plot, backend_colours, draw, legend, logarithmic, name_sizes
from .tables import value_kind
from .units import plain, steps_in_words, unit_for, with_unit

DASHES = {"fp16": "--", "bf16": ":"}
# What a call is made of, in order, and its colour.
PARTS = {
    "pre": COLOURS[5],
    "level": COLOURS[1],
    "encoder": COLOURS[3],
    "colour map": COLOURS[6],
    "steps": COLOURS[0],
    "post": COLOURS[2],
    "rest": COLOURS[7],
}
BAR = 0.3  # inches of height for each bar beyond six
GROWING = {"seconds": "time", "host_memory": "memory", "device_memory": "GPU memory"}


def plots(result: BenchResult) -> list[Plot]:
    """Those that the result has numbers for.  Raises LLDiffusionError where matplotlib is missing."""
    rows = [m for m in result.measurements if m.p50 > 0]  # a clock too coarse has no place on a logarithmic axis
    loads = list(enumerate(main_workloads(rows)))
    latencies = [_latency(f"latency-{number}", load, rows) for number, load in loads]
    stages = [_stages(f"stages-{number}", load) for number, load in loads]
    return [*(plot for plot in latencies if plot is not None), *_quality(rows), *stages, *_scaling(result.scaling)]


def _backend(row: Measurement) -> str:
    return plain(row.backend if row.precision == "fp32" else f"{row.backend} {row.precision}", 22)


# -- time against size


def _latency(name: str, load: Workload, rows: Sequence[Measurement]) -> Plot | None:
    """The backends of a model over all sizes, at the batch and steps of its main work; None for a single size."""
    model, _, _, batch, steps = load.work
    mine = [m for m in rows if (m.model, m.batch, m.steps) == (model, batch, steps)]
    if len({m.size for m in mine}) == 1:
        return None
    what = steps_in_words(steps) + (f", batch {batch}" if batch > 1 else "")
    about = (
        "Median time of a call for each picture size; a line reaches from each median to its p95; hollow where the "
        "time was put together from stages."
    )
    return draw(name, f"{plain(model, 16)}: time against size ({what})", about, lambda axes: _lines(axes, mine))


def _lines(axes: Any, rows: Sequence[Measurement]) -> None:
    colours = backend_colours(m.backend for m in rows)
    for backend, precision in dict.fromkeys((m.backend, m.precision) for m in rows):
        points = sorted((m for m in rows if (m.backend, m.precision) == (backend, precision)), key=lambda m: m.pixels)
        colour, dashes = colours[backend], DASHES.get(precision, "-")
        pixels, medians = [m.pixels for m in points], [m.p50 for m in points]
        axes.plot(pixels, medians, dashes, color=colour, label=_backend(points[0]))
        axes.vlines(pixels, medians, [m.percentile(95) for m in points], colors=colour, linewidth=3, alpha=0.3)
        for m in points:
            face = PAPER if m.derived else colour
            axes.plot(m.pixels, m.p50, "o", markersize=4, markerfacecolor=face, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="picture")
    name_sizes(axes, rows)
    logarithmic(axes.yaxis, "seconds", [m.p50 for m in rows] + [m.percentile(95) for m in rows])
    legend(axes)


# -- quality against time


def pareto_front(rows: Sequence[Measurement]) -> list[Measurement]:
    """Those that nothing beats in both time and PSNR: quickest first, each better than all quicker ones."""
    best: list[Measurement] = []
    for m in sorted(rows, key=lambda m: (m.p50, -_psnr(m))):
        if not best or _psnr(m) > _psnr(best[-1]):
            best.append(m)
    return best


def _psnr(row: Measurement) -> float:
    assert row.psnr is not None
    return row.psnr


def _quality(rows: Sequence[Measurement]) -> list[Plot]:
    """PSNR against the truth over time, at the size where most of it was measured."""
    rows = [m for m in rows if m.psnr is not None and m.batch == 1]
    if not rows:
        return []
    size = Counter(m.size for m in rows).most_common(1)[0][0]
    chosen = [m for m in rows if m.size == size]
    about = "PSNR against the normal-light picture over the median time; nothing measured lies above the stairs."
    return [draw("front", f"Quality against time ({size})", about, lambda axes: _stairs(axes, chosen))]


def _stairs(axes: Any, rows: Sequence[Measurement]) -> None:
    """Colours are backends; shapes are models, when there are several."""
    colours = backend_colours(m.backend for m in rows)
    shapes = dict(zip(dict.fromkeys(m.model for m in rows), MARKERS * len(rows)))
    best = pareto_front(rows)
    axes.step([m.p50 for m in best], [_psnr(m) for m in best], where="post", color=MUTED, linewidth=1, zorder=1)
    for m in rows:
        pale = 1 if m in best else 0.45
        axes.plot(m.p50, _psnr(m), shapes[m.model], color=colours[m.backend], alpha=pale, linestyle="none")
    axes.set(xscale="log", ylabel="PSNR in dB")
    axes.margins(x=0.2, y=0.1)
    _name_front(axes, best)
    logarithmic(axes.xaxis, "seconds", [m.p50 for m in rows])
    for backend, colour in colours.items():
        axes.plot([], [], linewidth=5, color=colour, label=plain(backend, 20))
    for model in shapes if len(shapes) > 1 else ():
        axes.plot([], [], shapes[model], linestyle="none", color=MUTED, label=plain(model, 20))
    legend(axes)


def _name_front(axes: Any, best: Sequence[Measurement]) -> None:
    """Names stand above and to the left of the points, where no other point can be, each above the one before."""
    low, high = axes.get_ylim()
    line, height = 0.07 * (high - low), low
    for m in best:
        text = f"{plain(m.model, 12)} {steps_in_words(m.steps)} " if m.steps else f"{plain(m.backend, 16)} "
        height = max(_psnr(m) + line / 3, height + line)
        pointer = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "relpos": (1, 0)}
        axes.annotate(text, (m.p50, _psnr(m)), (m.p50, height), ha="right", fontsize=7.5, arrowprops=pointer)
    axes.set_ylim(low, max(high, height + line))


# -- stages of a call


def parts(row: Measurement) -> dict[str, float]:
    """Seconds of each part of a call; `rest` is what the median call took beyond the stages that are known."""
    stages = row.stages
    known = {
        "pre": stages.pre,
        "level": stages.level,
        "encoder": stages.encoder,
        "colour map": stages.color_map,
        "steps": None if stages.step is None else stages.step * row.steps,
        "post": stages.post,
    }
    found = {name: seconds for name, seconds in known.items() if seconds is not None}
    return {**found, "rest": max(row.p50 - sum(found.values()), 0)}


def _stages(name: str, load: Workload) -> Plot:
    model, width, height, _, steps = load.work
    rows = sorted(load.rows, key=lambda m: -m.p50)
    return draw(
        name,
        f"{plain(model, 14)}: stages at {width}x{height}, {steps_in_words(steps)}",
        "Seconds of each stage of a call; decoding is not part of it. ≈: put together from stages. A captured loop has "
        "no stages of its own: all of it is rest.",
        lambda axes: _bars(axes, rows),
        (SIZE[0], SIZE[1] + BAR * max(len(rows) - 6, 0)),
    )


def _bars(axes: Any, rows: Sequence[Measurement]) -> None:
    stages = [parts(m) for m in rows]
    unit = unit_for("seconds", [m.p50 for m in rows])
    ends = [0.0] * len(rows)
    for name, colour in PARTS.items():
        widths = [part.get(name, 0) / unit.size for part in stages]
        if any(widths):
            axes.barh(range(len(rows)), widths, 0.62, ends, color=colour, label=name)
        ends = [end + width for end, width in zip(ends, widths)]
    for place, (end, row) in enumerate(zip(ends, rows)):
        total = "≈ " * row.derived + with_unit("seconds", row.p50)
        axes.annotate(total, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [_backend(m) for m in rows])
    axes.set(xlabel=f"time in {unit.name}", xlim=(0, max(ends) * 1.22 or 1))
    axes.grid(axis="y", visible=False)
    legend(axes)


# -- scaling


def _scaling(fits: Sequence[Scaling]) -> list[Plot]:
    """One for each quantity against each cause."""
    groups: dict[tuple[str, str], list[Scaling]] = {}
    for fit in fits:
        points = tuple((x, y) for x, y in fit.points if x > 0 and y > 0)  # others have no place on these axes
        if points:
            groups.setdefault((fit.of, fit.against), []).append(replace(fit, points=points))
    about = "Both axes are logarithmic: the slope is the exponent. Grey is exponent 1, linear."
    drawn = []
    for number, ((of, cause), members) in enumerate(groups.items()):
        title = f"{GROWING.get(of, of.replace('_', ' ')).capitalize()} against {cause}"
        drawn.append(draw(f"scaling-{number}", title, about, partial(_growth, fits=members)))
    return drawn


def _growth(axes: Any, fits: Sequence[Scaling]) -> None:
    colours = backend_colours(fit.backend for fit in fits)
    shapes = dict(zip(dict.fromkeys(fit.model for fit in fits), MARKERS * len(fits)))
    for fit in fits:
        label = plain(f"{fit.model} {fit.backend}", 30) + f": {fit.exponent:.2f}"
        axes.plot(*zip(*fit.points), shapes[fit.model], color=colours[fit.backend], label=label)
        axes.plot(*fitted_line(fit, fit.exponent), color=colours[fit.backend], linewidth=1.2)
        axes.plot(*fitted_line(fit, 1), color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
    cause = fits[0].against
    axes.set(xscale="log", yscale="log", xlabel="" if cause == "pixels" else cause)
    logarithmic(axes.xaxis, "pixels" if cause == "pixels" else "number", [x for fit in fits for x, _ in fit.points])
    logarithmic(axes.yaxis, value_kind(fits[0]), [y for fit in fits for _, y in fit.points])
    legend(axes)


def fitted_line(fit: Scaling, exponent: float) -> tuple[list[float], list[float]]:
    """(xs, ys): a line of this slope through the middle of the fitted points (the larger half), as long as they are."""
    points = fit.points[len(fit.points) // 2 :]
    x0, y0 = (math.exp(sum(map(math.log, values)) / len(points)) for values in zip(*points))
    ends = [points[0][0], points[-1][0]]
    return ends, [y0 * (x / x0) ** exponent for x in ends]
