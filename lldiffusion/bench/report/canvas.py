"""One plot, drawn once and written twice: as PNG for documents, as SVG that lives in the page."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lldiffusion.errors import require

from .inline_svg import for_page
from .style import DOTS, RULES, SIZE
from .units import plain

LETTERS, HANDLE = 62, 5  # of a legend's line across the figure; of the coloured mark before a name


@dataclass(frozen=True)
class Plot:
    """A finished plot; `about` says in words what it shows."""

    name: str  # of the PNG file, and of what its SVG calls its parts
    title: str
    about: str
    png: bytes
    svg: str  # one <svg> element that takes the page's colours and width


class Canvas:
    """The axes of a plot, and what its points say when one rests on them."""

    def __init__(self, name: str, figure: Any) -> None:
        self.name, self.figure = name, figure
        self.axes = figure.add_subplot()
        self.tips: list[str] = []

    def tip(self, artist: Any, text: str) -> None:
        """Show `text` over `artist` on the page."""
        artist.set_gid(f"{self.name}-{len(self.tips)}")
        self.tips.append(text)

    def legend(self) -> None:
        """Below the axes, where it grows without covering anything, in as many columns as its names leave room for."""
        _, names = self.axes.get_legend_handles_labels()
        columns = min(max(LETTERS // (max(map(len, names), default=0) + HANDLE), 1), 3)
        self.figure.legend(loc="outside lower left", ncols=columns, handlelength=1.6, columnspacing=1.2)


def draw(name: str, title: str, about: str, paint: Callable[[Canvas], None], size: tuple[float, float] = SIZE) -> Plot:
    """Run `paint` on empty axes under the report's RULES.  No window is opened and no global figure made.

    Raises LLDiffusionError where matplotlib is missing.
    """
    matplotlib = require("matplotlib", "bench", "drawing the benchmark's plots")
    require("matplotlib.figure", "bench", "drawing the benchmark's plots")
    with matplotlib.rc_context(RULES):
        canvas = Canvas(name, matplotlib.figure.Figure(figsize=size, layout="constrained"))
        canvas.figure.suptitle(plain(title, 60), x=0.01, ha="left")
        paint(canvas)
        png, svg = io.BytesIO(), io.StringIO()
        canvas.figure.savefig(png, format="png", dpi=DOTS, metadata={"Software": None})
        canvas.figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(name, title, about, png.getvalue(), for_page(svg.getvalue(), name, f"{title}. {about}", canvas.tips))
