"""`lldiff bench`: engines against the eager model and the machine's limits; `compare` and `report` of result files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from lldiffusion.errors import LLDiffusionError

from .options import AsJson, Device, Overwrite, echo_json

if TYPE_CHECKING:
    from lldiffusion.bench.compare import Change, Comparison
    from lldiffusion.bench.record import BenchResult
    from lldiffusion.bench.settings import Settings

RESULT = "bench.json"


class MeasureByDefault(TyperGroup):
    """`lldiff bench MODEL` is `lldiff bench run MODEL`: only the other verbs are named."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    add_completion=False,
    cls=MeasureByDefault,
    help="`lldiff bench [MODEL]...` measures (as `bench run`, whose help lists the options); or one of these:",
)


@app.command()
def run(
    models: list[str] = typer.Argument(
        None, metavar="[MODEL]...", help="Bundles, checkpoints, shipped models, or presets (random weights) [tiny]."
    ),
    backends: str = typer.Option("all", help="Comma-separated, with :precision where wanted: onnxruntime,eager."),
    sizes: str = typer.Option("600x400,720p,1080p", help="WIDTHxHEIGHT, 720p, 1080p, 1440p or 4k; comma-separated."),
    steps: str = typer.Option("25,4,1", help="Denoiser evaluations, comma-separated; the model's own come on top."),
    batch: str = typer.Option("1", help="Pictures in a call, comma-separated."),
    budget: float = typer.Option(600, help="Seconds in all, about; what does not fit is left out, and said so."),
    threads: int = typer.Option(0, help="Of every engine [all processors this process may use]."),
    device: Device = "auto",
    data: Path | None = typer.Option(None, help="Pairs to judge quality on [four free photographs, darkened]."),
    pictures: int = typer.Option(4, min=0, help="Pairs to judge on, at most; 0: none."),
    scaling: bool = typer.Option(True, help="Also measure how time and memory grow."),
    out: Path = typer.Option(Path("bench"), "-o", "--out", help="Folder for bench.json, tables, plots and the report."),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure time, memory and quality of every backend side by side.  Ctrl-C keeps what was measured."""
    _check_out(out, overwrite)
    from lldiffusion.bench.pictures import parse_sizes
    from lldiffusion.bench.settings import Settings

    settings = Settings(
        models=tuple(models or ["tiny"]),
        backends=backends,
        device=device,
        sizes=tuple(parse_sizes(sizes)),
        steps=_numbers(steps, "--steps"),
        batches=_numbers(batch, "--batch"),
        budget=budget,
        threads=threads,
        data=data,
        pictures=pictures,
        scaling=scaling,
    )
    out.mkdir(parents=True, exist_ok=True)  # now: a bad path should not cost a long run
    result = _measure(settings)
    result.save(out / RESULT)
    if as_json:
        echo_json(result.to_dict())
    else:
        _show(result)
    saved = [out / RESULT, *_report(result, out, pictures > 0 and result.complete)]
    typer.echo(f"saved: {', '.join(map(str, saved))}", err=as_json)
    if not result.complete:
        raise KeyboardInterrupt(f"stopped: {len(result.measurements)} measurements are kept in {out / RESULT}")


@app.command()
def compare(
    old: Path = typer.Argument(..., help="bench.json, or its folder."),
    new: Path = typer.Argument(..., help="bench.json, or its folder."),
    threshold: float = typer.Option(0.1, help="Share by which a median must move to count, if noise is below it."),
    as_json: AsJson = False,
) -> None:
    """Compare two runs; exit code 1 when anything became slower, or its pictures worse, beyond the noise."""
    from lldiffusion.bench.compare import compare as compare_results
    from lldiffusion.bench.record import load_result

    comparison = compare_results(load_result(old), load_result(new), threshold)
    if as_json:
        echo_json(comparison.to_dict())
    else:
        _show_comparison(comparison)
    if comparison.regressions:
        raise typer.Exit(1)


@app.command()
def report(
    result: Path = typer.Argument(..., help="bench.json, or its folder."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder to write to [that of the file]."),
    pictures: bool = typer.Option(True, help="With before/after pictures of the model in the package."),
) -> None:
    """Make the tables, plots and the HTML page again from a result file."""
    from lldiffusion.bench.record import load_result

    loaded = load_result(result)
    folder = out or (result if result.is_dir() else result.parent)
    typer.echo(f"saved: {', '.join(map(str, _report(loaded, folder, pictures)))}")


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise LLDiffusionError(f"output '{out}' is a file: name a folder with -o")
    if (out / RESULT).exists() and not overwrite:
        raise LLDiffusionError(f"'{out / RESULT}' exists already: name another folder with -o, or replace it with -y")


def _numbers(text: str, option: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise LLDiffusionError(f"{option} '{text}': give whole numbers with commas, such as 25,4,1")
    return tuple(dict.fromkeys(map(int, parts)))


def _measure(settings: Settings) -> BenchResult:
    from lldiffusion.bench.benchmark import benchmark

    with _progress() as progress:
        return benchmark(settings, progress)


def _show(result: BenchResult) -> None:
    from rich.console import Console

    from lldiffusion.bench.report import show

    show(result, Console())


def _report(result: BenchResult, folder: Path, pictures: bool) -> list[Path]:
    """Tables, plots and the page; what is missing for them is said, and costs nothing that was measured."""
    from lldiffusion.bench.report import compare_pictures, write_report

    try:
        return write_report(result, folder, _comparisons(compare_pictures) if pictures else ())
    except LLDiffusionError as error:
        typer.echo(f"no report: {error}", err=True)
        return []


def _comparisons(compare_pictures: Callable[..., Any]) -> Any:
    from lldiffusion.data.photographs import dark_photographs
    from lldiffusion.engines import Enhancer

    with Enhancer.open() as enhancer:
        return compare_pictures(dark_photographs(), enhancer)


def _show_comparison(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from lldiffusion.bench.report.tables import work_label

    table = Table(Column("backend", no_wrap=True), box=None, header_style="bold")
    for head in ("old ms", "new ms", "change", "counts from"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict")
    work = None
    for change in comparison.changes:
        row = change.new
        if work != (work := work_label(row)):
            table.add_row(f"[dim]{escape(work)}[/dim]")
        table.add_row(*_cells(change))
    console = Console()
    console.print(table)
    for note in comparison.notes:
        console.print(f"note: {note}", markup=False)
    worse = len(comparison.regressions)
    console.print(f"{worse} of {len(comparison.changes)} became slower or worse" if worse else "nothing became slower")


def _cells(change: Change) -> tuple[str, ...]:
    """One line of the comparison; without times where there are none."""
    from rich.markup import escape

    row = change.new
    name = escape(row.backend if row.precision == "fp32" else f"{row.backend}:{row.precision}")
    if not row.seconds or not change.old.seconds:
        return (name, "", "", "", "", change.verdict)
    moved, needed = f"{100 * (change.ratio - 1):+.1f} %", f"{100 * change.needed:.0f} %"
    colour = {"slower": "red", "worse pictures": "red", "faster": "green"}.get(change.verdict, "default")
    verdict = f"[{colour}]{change.verdict}[/{colour}]"
    return (name, f"{1e3 * change.old.p50:.4g}", f"{1e3 * row.p50:.4g}", moved, needed, verdict)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar over the budget: the time left is known, since the run keeps to it."""
    from lldiffusion.progress import progress_bar

    with progress_bar("percent", note=True, transient=True) as bar:
        task = bar.add_task("bench", total=1.0, note="")
        yield lambda text, share: bar.update(task, completed=share, note=text)
