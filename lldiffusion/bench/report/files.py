"""The files of a report, beside the record they show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lldiffusion.atomic import new_path, write_text
from lldiffusion.errors import LLDiffusionError

from ..record import BenchResult
from .page import to_html
from .pictures import BeforeAfter
from .plots import plots
from .text import to_csv, to_markdown

NAME = "bench"


def write_report(result: BenchResult, folder: Path, comparisons: Sequence[BeforeAfter] = ()) -> list[Path]:
    """Write bench.csv, bench.md, bench.html and plots/*.png, each under its name only when it is whole.

    Args:
        folder: made when it is missing; plots of an earlier report in it are replaced.
        comparisons: for the before/after sliders, from `compare_pictures`.
    Returns the paths, the page first.
    Raises LLDiffusionError when the folder is a file, or a package of the extra `bench` is missing: nothing that needs
    it is written then, the rest is.
    """
    if folder.exists() and not folder.is_dir():
        raise LLDiffusionError(f"'{folder}' is a file: name a folder for the report")
    texts = {folder / f"{NAME}.csv": to_csv(result), folder / f"{NAME}.md": to_markdown(result)}
    for path, text in texts.items():
        write_text(path, text)
    drawn = plots(result)
    page = folder / f"{NAME}.html"
    write_text(page, to_html(result, drawn, comparisons))
    with new_path(folder / "plots") as temporary:
        temporary.mkdir()
        for plot in drawn:
            (temporary / f"{plot.name}.png").write_bytes(plot.png)
    return [page, *texts, folder / "plots"]
