"""One HTML page that holds everything: styles, script, plots and pictures.

Whatever comes from a record is escaped by the template, and a content security policy lets only the page's own script
run and nothing be fetched: a name that looks like a script stays a name.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from lldiffusion.errors import require

from ..record import Result
from .canvas import Plot
from .comparison import group, main_group, models
from .grid import Grid, Head
from .pictures import BeforeAfter, Version, data_uri
from .style import COLOURS
from .summary import facts, peers, verdicts
from .tables import tables
from .units import plain

LONG = 16  # rows that a table shows without being asked
# Of the page alone: (light, dark).
SURFACES = {"ground": ("#f3f5f7", "#12161a"), "hover": ("#f0f5fb", "#222a33")}
HANDLE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 44 44"><circle cx="22" cy="22" r="17" fill="#fff"'
    ' stroke="#0003"/><path d="M18 15l-7 7 7 7M26 15l7 7-7 7" fill="none" stroke="#1c2126" stroke-width="2.5"'
    ' stroke-linecap="round" stroke-linejoin="round"/></svg>'
)


@dataclass(frozen=True)
class Shown:
    """A version of a photograph as the template wants it."""

    name: str
    source: str
    psnr: str | None


def to_html(result: Result, plots: Sequence[Plot] = (), comparisons: Sequence[BeforeAfter] = ()) -> str:
    """The page.  Raises LLDiffusionError where Jinja2 is missing."""
    jinja2 = require("jinja2", "bench", "the benchmark's HTML report")
    markupsafe = require("markupsafe", "bench", "the benchmark's HTML report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = _file("report.js")
    page: str = environment.from_string(_file("report.html")).render(
        result=result,
        policy=_policy(script),
        style=markupsafe.Markup(_colours() + _file("report.css")),
        script=markupsafe.Markup(script),
        verdicts=verdicts(result),
        comparisons=[_pair(pair) for pair in comparisons],
        plots=[{"svg": markupsafe.Markup(plot.svg), "about": plot.about} for plot in plots],
        tables=tables(result),
        choices=_choices,
        chosen=lambda grid, head: _chosen(grid, head, starting_choice(result)),
        peers=peers(result),
        facts=facts(result),
        plain=plain,
    )
    return page


def _file(name: str) -> str:
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Only this script runs; pictures lie in the page; nothing else is loaded."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _colours() -> str:
    """CSS variables for both modes; what is printed is light."""
    light, dark = (
        "".join(f"--{role}: {pair[mode]}; " for role, pair in {**COLOURS, **SURFACES}.items()) for mode in (0, 1)
    )
    handle = f"--handle: url('data:image/svg+xml,{quote(HANDLE)}'); "
    return f":root {{ {light}{handle}}}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"


def _choices(grid: Grid, column: int) -> list[str]:
    """The different values of a column, in the order of the rows."""
    return list(dict.fromkeys(row[column].text for row in grid.rows))


def starting_choice(result: Result) -> dict[str, str]:
    """What long tables show at first: the main work of the first model, by the heads of its columns."""
    groups = group(result.measurements)
    best = next((main_group(groups, model) for model in models(groups)), None)
    if best is None:
        return {}
    model, width, height, batch, steps = best.work
    return {"model": plain(model, 60), "size": f"{width}x{height}", "steps": str(steps), "batch": str(batch)}


def _chosen(grid: Grid, head: Head, start: dict[str, str]) -> str:
    """The empty choice means all."""
    return start.get(head.text, "") if len(grid.rows) > LONG else ""


def _pair(pair: BeforeAfter) -> dict[str, Any]:
    height, width, _ = pair.after.pixels.shape
    before = [_shown(version) for version in pair.before]
    return {"name": pair.name, "width": width, "height": height, "before": before, "after": _shown(pair.after)}


def _shown(version: Version) -> Shown:
    decibels = None if version.psnr is None else f"{version.psnr:.1f}"
    return Shown(version.name, data_uri(version.pixels), decibels)
