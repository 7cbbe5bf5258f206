"""Quality against time: what is worth its seconds lies on the Pareto front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..record import Measurement, Result
from .axes import label_seconds
from .canvas import Canvas, Plot, draw
from .style import COLOURS, MARKERS, Look, looks
from .units import plain, steps_in_words, with_unit

LINE, LETTER = 0.06, 0.016  # height of a line and width of a letter, as shares of the axes


def front(rows: Sequence[Measurement]) -> list[Measurement]:
    """Those that nothing beats in both time and PSNR: quickest first, each better than all quicker ones."""
    best: list[Measurement] = []
    for m in sorted(rows, key=lambda m: (m.p50, -_quality(m))):
        if not best or _quality(m) > _quality(best[-1]):
            best.append(m)
    return best


def front_plots(result: Result) -> list[Plot]:
    """PSNR against the truth over time, at the size where most of it was measured."""
    rows = [m for m in result.measurements if m.seconds and m.psnr is not None and m.batch == 1]
    if not rows:
        return []
    size = Counter(m.size for m in rows).most_common(1)[0][0]
    chosen = [m for m in rows if m.size == size]
    about = "PSNR against the normal-light picture over the median time; nothing measured lies above the stairs."
    return [draw("front", f"Quality against time ({size})", about, lambda canvas: _paint(canvas, chosen))]


def _quality(row: Measurement) -> float:
    assert row.psnr is not None
    return row.psnr


def _paint(canvas: Canvas, rows: Sequence[Measurement]) -> None:
    look = looks([m.backend for m in rows])
    shapes = dict(zip(dict.fromkeys(m.model for m in rows), MARKERS * len(rows)))
    best = front(rows)
    times, heights = [m.p50 for m in best], [_quality(m) for m in best]
    canvas.axes.step(times, heights, where="post", color=COLOURS["muted"][0], linewidth=1, zorder=1)
    for m in rows:
        style = {"color": look[m.backend].colour, "marker": shapes[m.model], "alpha": 1 if m in best else 0.45}
        (dot,) = canvas.axes.plot(m.p50, _quality(m), linestyle="none", **style)
        canvas.tip(dot, f"{_label(m)}, {with_unit('seconds', m.p50)}, {_quality(m):.2f} dB")
    canvas.axes.set(xscale="log", ylabel="PSNR in dB")
    canvas.axes.margins(x=0.12, y=0.1)
    label_seconds(canvas.axes.xaxis, [m.p50 for m in rows])
    _name(canvas, best)
    _explain(canvas, look, [model for model in shapes if model], shapes)
    canvas.legend()


def _explain(canvas: Canvas, look: dict[str, Look], models: Sequence[str], shapes: dict[str, str]) -> None:
    """Colours are backends; shapes are models, when there are several."""
    for backend in look:
        canvas.axes.plot([], [], linewidth=5, color=look[backend].colour, label=plain(backend, 20))
    for model in models if len(models) > 1 else ():
        grey = COLOURS["muted"][0]
        canvas.axes.plot([], [], linestyle="none", marker=shapes[model], color=grey, label=plain(model, 20))


def _name(canvas: Canvas, best: Sequence[Measurement]) -> None:
    """Above and to the left of each point of the front, where no other point can be; raised above earlier names."""
    axes = canvas.axes
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + (high - low) * LINE * len(best) / 2)
    to_axes = axes.transData + axes.transAxes.inverted()
    taken: list[tuple[float, float]] = []  # (right end, height) of the names so far, as shares of the axes
    for m in best:
        text = f"{plain(m.model, 12)} {steps_in_words(m.steps)}" if m.steps else plain(m.backend, 16)
        x, y = to_axes.transform((m.p50, _quality(m)))
        end, height = max(x - 0.012, len(text) * LETTER), y + 0.03
        while any(abs(height - other) < LINE and end - len(text) * LETTER < right for right, other in taken):
            height += LINE / 4
        taken.append((end, height))
        line = {"arrowstyle": "-", "color": COLOURS["muted"][0], "linewidth": 0.5} if height > y + 0.04 else None
        place = {"xytext": (end, height), "textcoords": "axes fraction", "ha": "right", "va": "bottom"}
        axes.annotate(text, (m.p50, _quality(m)), fontsize=7.5, arrowprops=line, **place)


def _label(row: Measurement) -> str:
    steps = f", {steps_in_words(row.steps)}" if row.steps else ""
    return plain(f"{row.model} {row.backend} {row.precision}{steps}".strip())
