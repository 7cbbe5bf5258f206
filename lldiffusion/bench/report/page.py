"""One HTML page that holds everything: styles, script, plots and pictures.

Whatever comes from a record is escaped by the template, and a content security policy lets only the page's own script
run and nothing be fetched: a name that looks like a script stays a name.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from lldiffusion.errors import require

from ..record import BenchResult
from .comparison import explained_backends, facts, main_workloads, verdicts
from .drawing import Plot
from .pictures import BeforeAfter, webp
from .tables import Grid, tables
from .units import plain

LONG = 16  # rows that a table shows without being asked


def to_html(result: BenchResult, plots: Sequence[Plot] = (), comparisons: Sequence[BeforeAfter] = ()) -> str:
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
        style=markupsafe.Markup(_file("report.css")),
        script=markupsafe.Markup(script),
        verdicts=verdicts(result),
        comparisons=comparisons,
        plots=plots,
        tables=[(grid, _start(grid, result)) for grid in tables(result)],
        backends=explained_backends(result),
        facts=facts(result),
        address=_address,
        webp=webp,
        plain=plain,
    )
    return page


def _file(name: str) -> str:
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """The content security policy: only this script runs; pictures lie in the page; nothing else is loaded."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _address(kind: str, content: bytes) -> str:
    """An address that holds all of a picture."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _start(grid: Grid, result: BenchResult) -> dict[str, str]:
    """What a long table shows at first, by the heads of its columns: the main work of the first model."""
    loads = main_workloads(result.measurements)
    if not loads or len(grid.rows) <= LONG:
        return {}
    model, width, height, batch, steps = loads[0].work
    return {"model": plain(model, 60), "size": f"{width}x{height}", "steps": str(steps), "batch": str(batch)}
