"""How every plot looks: its paper, its colours, its axes in words that people use (200 ms, 1280x720, 1.5 GB)."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lldiffusion.errors import require

from ..record import Measurement
from .units import plain

INK, MUTED, LINE, PAPER = "#1c2126", "#5b6570", "#d9dee4", "#ffffff"
COLOURS = ("#0b63b0", "#c2410c", "#15803c", "#7c3bbd", "#b8255f", "#0e7c86", "#8a6a16", "#6b7280")
MARKERS = "osD^vPX*"
# The colours of what is usually measured, so that a colour means the same from report to report.
KNOWN = {
    "onnxruntime": 0,
    "openvino": 1,
    "eager": 2,
    "eager-cached": 3,
    "compile": 4,
    "tensorrt": 5,
    "cuda-graph": 6,
    "eager-authors": 7,
}
SIZE = (4.4, 3.4)  # inches: fills a column of the page and a telephone with readable letters
DOTS = 180  # an inch
LETTERS, HANDLE = 62, 5  # of a legend's line across the figure; of the coloured mark before a name
MOST_SIZES = 5  # named below an axis
RULES = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "text.parse_math": False,  # a name may hold a dollar
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": PAPER,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}
WORDS: dict[str, Callable[[float], str]] = {
    "seconds": lambda value: f"{value * 1e3:g} ms" if value < 1 else f"{value:g} s",
    "bytes": lambda value: f"{value / 1e6:g} MB" if value < 1e9 else f"{value / 1e9:g} GB",
    "pixels": lambda value: f"{value / 1e6:g} MP",
    "number": lambda value: f"{value:g}",
}


@dataclass(frozen=True)
class Plot:
    """A finished plot; `about` says in words what it shows."""

    name: str  # of the PNG file
    title: str
    about: str
    png: bytes


def draw(name: str, title: str, about: str, paint: Callable[[Any], None], size: tuple[float, float] = SIZE) -> Plot:
    """Run `paint` on empty axes under the report's RULES.  No window is opened and no global figure made.

    Raises LLDiffusionError where matplotlib is missing.
    """
    matplotlib = require("matplotlib", "bench", "drawing the benchmark's plots")
    require("matplotlib.figure", "bench", "drawing the benchmark's plots")
    with matplotlib.rc_context(RULES):
        figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
        figure.suptitle(plain(title, 60), x=0.01, ha="left")
        paint(figure.add_subplot())
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DOTS, metadata={"Software": None})
    return Plot(name, title, about, png.getvalue())


def backend_colours(backends: Iterable[str]) -> dict[str, str]:
    """A colour for each, the same for KNOWN ones in every report; beyond eight they repeat."""
    names = list(dict.fromkeys(backends))
    taken = {KNOWN[name] for name in names if name in KNOWN}
    free = [number for number in range(len(COLOURS)) if number not in taken] or list(range(len(COLOURS)))
    others = [name for name in names if name not in KNOWN]
    numbers = KNOWN | {name: free[place % len(free)] for place, name in enumerate(others)}
    return {name: COLOURS[numbers[name]] for name in names}


def legend(axes: Any) -> None:
    """The legend stands below the axes, where it covers nothing, in as many columns as its names leave room for."""
    _, names = axes.get_legend_handles_labels()
    columns = min(max(LETTERS // (max(map(len, names), default=0) + HANDLE), 1), 3)
    axes.figure.legend(loc="outside lower left", ncols=columns, handlelength=1.6, columnspacing=1.2)


def logarithmic(axis: Any, kind: str, values: Iterable[float]) -> None:
    """Ticks in the WORDS of `kind`: powers of ten, and 2 and 5 of them where those would be few."""
    from matplotlib import ticker

    known = [value for value in values if value > 0 and math.isfinite(value)]
    decades = math.log10(max(known) / min(known)) if known else 0
    axis.set_major_locator(ticker.LogLocator(10, (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: WORDS[kind](value)))
    axis.set_minor_locator(ticker.NullLocator())


def name_sizes(axes: Any, rows: Sequence[Measurement]) -> None:
    """Name the measured sizes below the axis, or megapixels where they are many."""
    sizes = sorted({(m.pixels, m.size) for m in rows})
    if len(sizes) > MOST_SIZES:
        logarithmic(axes.xaxis, "pixels", [pixels for pixels, _ in sizes])
        return
    axes.set_xticks([pixels for pixels, _ in sizes], [size for _, size in sizes])
    axes.minorticks_off()
    axes.margins(x=0.12)
