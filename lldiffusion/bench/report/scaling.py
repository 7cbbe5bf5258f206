"""How time and memory grow, with the exponents that were fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..record import Result, Scaling
from .axes import label_bytes, label_numbers, label_pixels, label_seconds
from .canvas import Canvas, Plot, draw
from .style import COLOURS, MARKERS, looks
from .tables import value_kind
from .units import plain, with_unit

WORDS = {"seconds": "time", "host_memory": "memory", "device_memory": "GPU memory"}


def scaling_plots(result: Result) -> list[Plot]:
    """One for each quantity against each cause."""
    groups: dict[tuple[str, str], list[Scaling]] = {}
    for fit in result.scaling:
        points = tuple((x, y) for x, y in fit.points if x > 0 and y > 0)  # others have no place on these axes
        if points:
            groups.setdefault((fit.of, fit.against), []).append(replace(fit, points=points))
    return [_plot(number, of, against, fits) for number, ((of, against), fits) in enumerate(groups.items())]


def _plot(number: int, of: str, against: str, fits: Sequence[Scaling]) -> Plot:
    words = f"{WORDS.get(of, of.replace('_', ' ')).capitalize()} against {against}"
    about = "Both axes are logarithmic: the slope is the exponent. Grey is exponent 1, linear."
    return draw(f"scaling-{number}", words, about, lambda canvas: _paint(canvas, fits))


def _paint(canvas: Canvas, fits: Sequence[Scaling]) -> None:
    look = looks([fit.backend for fit in fits])
    shapes = dict(zip(dict.fromkeys(fit.model for fit in fits), MARKERS * len(fits)))
    for fit in fits:
        colour = look[fit.backend].colour
        xs, ys = zip(*fit.points)
        label = plain(f"{fit.model} {fit.backend}", 30) + f": {fit.exponent:.2f}"
        canvas.axes.plot(xs, ys, shapes[fit.model], color=colour, label=label)
        canvas.axes.plot(*fitted_line(fit, fit.exponent), color=colour, linewidth=1.2)
        canvas.axes.plot(*fitted_line(fit, 1), color=COLOURS["muted"][0], linewidth=0.8, linestyle=":", zorder=1)
        for x, y in fit.points:
            (dot,) = canvas.axes.plot(x, y, shapes[fit.model], color=colour)
            canvas.tip(dot, plain(f"{label}, {fit.against} {x:g}: {with_unit(value_kind(fit), y)}"))
    _label(canvas, fits)
    canvas.legend()


def fitted_line(fit: Scaling, exponent: float) -> tuple[list[float], list[float]]:
    """From the middle of the fitted points (the larger half) to both of its ends, with this slope."""
    points = fit.points[len(fit.points) // 2 :]
    x0, y0 = (math.exp(sum(map(math.log, values)) / len(points)) for values in zip(*points))
    ends = [points[0][0], points[-1][0]]
    return ends, [y0 * (x / x0) ** exponent for x in ends]


def _label(canvas: Canvas, fits: Sequence[Scaling]) -> None:
    xs = [x for fit in fits for x, _ in fit.points]
    ys = [y for fit in fits for _, y in fit.points]
    canvas.axes.set(xscale="log", yscale="log", xlabel="" if fits[0].against == "pixels" else fits[0].against)
    (label_pixels if fits[0].against == "pixels" else label_numbers)(canvas.axes.xaxis, xs)
    (label_bytes if value_kind(fits[0]) == "bytes" else label_seconds)(canvas.axes.yaxis, ys)
