"""How the plots look: one colour for each backend in every plot, and the same plots in light, dark and print.

A plot is drawn in the colours of light mode.  On the page each of them becomes a CSS variable of the same name, so
that the reader's mode decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# name: (light, dark).  No two are equal in light mode: there they stand for their names.
COLOURS = {
    "ink": ("#1c2126", "#e6e9ec"),
    "muted": ("#5b6570", "#9aa5b1"),
    "line": ("#d9dee4", "#343b43"),
    "paper": ("#fefefe", "#1b2026"),
    "c0": ("#0b63b0", "#5eb0ff"),
    "c1": ("#c2410c", "#ff9a5c"),
    "c2": ("#15803c", "#5bd087"),
    "c3": ("#7c3bbd", "#c39bff"),
    "c4": ("#b8255f", "#ff86b0"),
    "c5": ("#0e7c86", "#4ed3de"),
    "c6": ("#8a6a16", "#dcb64f"),
    "c7": ("#6b7280", "#a8b0bc"),
}
SERIES = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
MARKERS = "osD^vPX*"
# Those that are usually measured, so that a colour means the same from report to report.
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
DASHES = {"fp16": "--", "bf16": ":"}
SIZE = (4.4, 3.4)  # inches: fills a column of the page and a telephone with readable letters
DOTS = 180  # an inch, of the PNGs
RULES = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "text.parse_math": False,  # a name may hold a dollar
    "text.color": COLOURS["ink"][0],
    "axes.edgecolor": COLOURS["line"][0],
    "axes.labelcolor": COLOURS["muted"][0],
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "axes.facecolor": COLOURS["paper"][0],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"][0],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["line"][0],
    "ytick.color": COLOURS["line"][0],
    "xtick.labelcolor": COLOURS["muted"][0],
    "ytick.labelcolor": COLOURS["muted"][0],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": COLOURS["paper"][0],
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "svg.hashsalt": "lldiffusion",
}


@dataclass(frozen=True)
class Look:
    """Of one backend."""

    colour: str  # of light mode
    marker: str


def looks(backends: Sequence[str]) -> dict[str, Look]:
    """A colour and a marker for each, the same for KNOWN ones in every report; beyond eight they repeat."""
    taken = {KNOWN[name] for name in backends if name in KNOWN}
    free = [number for number in range(len(SERIES)) if number not in taken] or list(range(len(SERIES)))
    found = {}
    unknown = 0
    for name in dict.fromkeys(backends):
        if name in KNOWN:
            number = KNOWN[name]
        else:
            number, unknown = free[unknown % len(free)], unknown + 1
        found[name] = Look(COLOURS[SERIES[number]][0], MARKERS[number])
    return found
