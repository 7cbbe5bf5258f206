"""The latency table of docs/embedding.md, from the result file of `benchmarks.video_speed`.

python -m benchmarks.latency_table                 # rewrites what stands between the markers
"""

from __future__ import annotations

from pathlib import Path

import typer

from lldiffusion.atomic import write_text
from lldiffusion.errors import LLDiffusionError

from .program import run_program
from .readme_table import ROOT, insert
from .result_file import read_result
from .video_run import CAMERA, Speed
from .video_speed import latency_lines

BEGIN = "<!-- latency: begin, made by  python -m benchmarks.latency_table -->"
END = "<!-- latency: end -->"
RESULT, PAGE = ROOT / "benchmarks" / "results" / "video_speed.json", ROOT / "docs" / "embedding.md"


def table(result: Path) -> str:
    """Markdown: a row for each model, precision and size, and where it was measured.

    Raises LLDiffusionError where there is no such result.
    """
    document = read_result(result, ("rows", "machine"))
    if document is None:
        raise LLDiffusionError(
            f"no result '{result}': measure with  python -m benchmarks.video_speed -o {result.parent}"
        )
    machine = document["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores"
    said = f"A camera of {CAMERA} pictures a second, `Enhancer.stream(camera, live=True)`, on {where}:"
    return "\n".join([said, "", *latency_lines([Speed(**row) for row in document["rows"]])])


def main(
    result: Path = typer.Option(RESULT, help="video_speed.json."),
    page: Path = typer.Option(PAGE, help="The file to change."),
) -> None:
    """Write the latency table into the documentation."""
    made = table(result)
    write_text(page, insert(page.read_text(encoding="utf-8"), made, BEGIN, END))
    typer.echo(f"written: {page}")


if __name__ == "__main__":
    run_program(main)
