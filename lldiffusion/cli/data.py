"""`lldiff data`: check a data set before training on it, and simulate one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from lldiffusion.atomic import write_text
from lldiffusion.errors import LLDiffusionError, require

from .options import AsJson

if TYPE_CHECKING:
    from lldiffusion.data.check import DataReport, Match

T = TypeVar("T")
app = typer.Typer(add_completion=False)
_SHOWN = 10  # names listed on the screen; the JSON file has all


@app.callback()
def data() -> None:
    """Check folders of training and test images, or simulate low-light pairs."""


@app.command("check")
def check(
    folder: Path = typer.Argument(..., help="Pairs in any known layout, or a folder of single pictures."),
    against: Path | None = typer.Option(None, help="Test data that must share no photograph with FOLDER."),
    max_shift: float = typer.Option(1.0, min=0.0, help="Pixels that the two pictures of a pair may be apart."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Also write everything that was measured to this JSON."),
    as_json: AsJson = False,
) -> None:
    """Report counts, sizes, brightness, misaligned pairs, duplicates and overlap with test data.

    Exit code 2 when files are missing or damaged, or when the test data holds the same photographs.
    """
    require("skimage", "eval", "checking data")
    from lldiffusion.data.check import check_data

    if out is not None and not out.resolve().parent.is_dir():
        raise LLDiffusionError(f"cannot write '{out}': there is no folder '{out.parent}'; make it first")
    report = check_data(folder, against, max_shift, _tracker("reading"))
    if out is not None:
        write_text(out, _to_json(report) + "\n")
    if as_json:
        typer.echo(_to_json(report))
    else:
        _show(report)
    _fail_on_faults(report)


@app.command("simulate")
def simulate(
    normal: Path = typer.Argument(..., help="Folder of normal-light photographs."),
    out: Path = typer.Argument(..., help="Folder to make; gets low/ and normal/ with equal names."),
    seed: int = typer.Option(0, min=0, help="The same seed makes the same pictures."),
    count: int | None = typer.Option(None, min=1, help="Pairs to make, cycling through the photographs [one of each]."),
) -> None:
    """Make pairs of low and normal-light pictures from normal-light ones."""
    from lldiffusion.data.simulated_set import make_pairs

    try:
        made = make_pairs(normal, out, seed, count, _tracker("simulating"))
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"interrupted: '{out}' is incomplete; remove it and start again") from interrupt
    typer.echo(f"wrote {made} pairs to {out}/low and {out}/normal")


def _tracker(what: str) -> Callable[[Sequence[T]], Iterable[T]]:
    """A progress bar with the time left, on stderr where that is a terminal, for a loop."""
    from lldiffusion.progress import progress_bar

    def track(items: Sequence[T]) -> Iterable[T]:
        with progress_bar(transient=True) as bar:
            yield from bar.track(items, description=what)

    return track


def _to_json(report: DataReport) -> str:
    return json.dumps(report.as_dict(), indent=1)


def _show(report: DataReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(report.root), show_header=False, title_justify="left")
    for row in _rows(report):
        table.add_row(*row)
    Console().print(table)
    for line in _lists(report):
        typer.echo(line)


def _rows(report: DataReport) -> list[tuple[str, str]]:
    import numpy as np

    sizes = Counter(f"{s.size[0]}x{s.size[1]}" for s in report.seen).most_common()
    more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    rows = [
        ("pairs" if report.paired else "pictures", str(len(report.seen))),
        ("sizes", ", ".join(f"{size} ({count})" for size, count in sizes[:3]) + more),
    ]
    for side in report.seen[0].brightness if report.seen else ():
        levels = [seen.brightness[side] for seen in report.seen]
        name = "brightness" if side == "any" else f"brightness, {side}"
        rows.append((name, f"{np.mean(levels):.3f} ({min(levels):.3f} to {max(levels):.3f})"))
    if report.paired and report.seen:
        distances = [s.alignment.distance for s in report.seen if s.alignment and s.alignment.reliable] or [0.0]
        rows.append(("shift in pixels", f"median {np.median(distances):.2f}, largest {max(distances):.2f}"))
        rows.append((f"misaligned by over {report.max_shift:g} px", str(len(report.misaligned))))
        rows.append(("alignment unclear", str(len(report.unclear))))
    rows += [("duplicates", str(len(report.duplicates))), ("missing or damaged", str(len(report.problems)))]
    if report.against:
        same = len(report.overlaps) - len(report.identical)
        rows.append(
            (f"also in {report.against}", f"{len(report.identical)} photographs; {same} more of the same scenes")
        )
    return rows


def _lists(report: DataReport) -> list[str]:
    """The names behind the table's counts."""
    shifts = [f"{s.item.name} ({s.alignment.distance:.1f} px)" for s in report.misaligned if s.alignment]
    scenes = [match for match in report.overlaps if match.likeness == "same scene"]
    named = [
        ("misaligned", shifts),
        ("alignment unclear (wrong partner, or too dark to tell)", [s.item.name for s in report.unclear]),
        ("duplicates", _couples(report.duplicates)),
        ("warning: scenes that are tested on too, photographed again", _couples(scenes)),
    ]
    return [f"{title}: {_shorten(names)}" for title, names in named if names]


def _couples(matches: list[Match]) -> list[str]:
    return [f"{match.name} = {match.other}" for match in matches]


def _shorten(names: list[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(names) - _SHOWN} more (--json lists all)" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more


def _fail_on_faults(report: DataReport) -> None:
    faults = []
    if report.problems:
        faults.append(f"missing or damaged:\n  {_shorten(report.problems, separator=chr(10) + '  ')}")
    if report.identical:
        names = _shorten(_couples(report.identical))
        faults.append(f"overlap: '{report.against}' tests on photographs of this folder, leave them out: {names}")
    if faults:
        raise LLDiffusionError("\n".join(faults))
