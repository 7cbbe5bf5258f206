"""The numbers table of the project's README, from a result file.

python -m benchmarks.readme_table                 # rewrites what stands between the markers
python -m benchmarks.readme_table --check         # exit code 1 when the README says something else
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from lldiffusion.atomic import write_text
from lldiffusion.bench.quality import CLASSICAL
from lldiffusion.bench.record import BenchResult, Measurement, Scaling, load_result
from lldiffusion.bench.statistics import differ
from lldiffusion.errors import LLDiffusionError

from .program import run_program

BEGIN = "<!-- numbers: begin, made by  python -m benchmarks.readme_table -->"
END = "<!-- numbers: end -->"
ROOT = Path(__file__).resolve().parent.parent
TAIL = 5  # calls
AUTHORS, EAGER = "eager-authors", "eager"
HEADS = (
    *("model, picture, steps", "backend", "time (p90)", "authors' way", "tuned eager", "over limit"),
    *("around the engine", "memory", "first picture"),
)
Work = tuple[str, str, int]  # model, size, steps


def table(result: BenchResult) -> str:
    """Markdown: a row for each model and size, then quality, scaling and the machine in a sentence each."""
    rows = ["| " + " | ".join(HEADS) + " |", "|---|---|" + "---:|" * (len(HEADS) - 2)]
    rows += [f"| {' | '.join(cells)} |" for cells in _rows(result)]
    if len(rows) == 2:
        raise LLDiffusionError("this result holds no timed network in batches of one: measure with  lldiff bench")
    return "\n".join([*rows, "", *_sentences(result)])


def _rows(result: BenchResult) -> Iterator[tuple[str, ...]]:
    for (model, size, steps), rows in works(result).items():
        best = min(rows, key=lambda row: row.p50)
        others = {row.backend: row for row in rows}
        cold = _cold(result, best)
        yield (
            f"`{model}`, {size}, {steps}",
            best.backend + ("" if best.precision == "fp32" else f" {best.precision}"),
            _time(best) + " †" * best.derived,
            _against(best, others.get(AUTHORS)),
            _against(best, others.get(EAGER)),
            "" if best.over_limit is None else f"{best.over_limit:.2f} ×",
            "" if best.overhead is None else f"{100 * best.overhead:.1f} %",
            "" if best.host_memory is None else f"{best.host_memory / 2**20:.0f} MiB",
            "" if cold is None else _seconds(cold),
        )


def works(result: BenchResult) -> dict[Work, list[Measurement]]:
    """Timed networks in batches of one, at the number of steps that was asked for first for each model and size."""
    found: dict[Work, list[Measurement]] = {}
    first: dict[tuple[str, str], int] = {}
    for row in result.measurements:
        if row.steps and row.batch == 1 and row.seconds:
            own = first.setdefault((row.model, row.size), row.steps)
            if row.steps == own:
                found.setdefault((row.model, row.size, own), []).append(row)
    return found


def _against(best: Measurement, other: Measurement | None) -> str:
    """How much longer the other takes; "same" within the noise."""
    if other is None:
        return ""
    if other is best:
        return "itself"
    known = min(len(best.seconds), len(other.seconds)) >= 3
    if known and not differ(best.seconds, other.seconds):
        return "same"
    return f"{other.p50 / best.p50:.2f} ×" + "" * known


def _cold(result: BenchResult, best: Measurement) -> float | None:
    return min(best.cold_start) if best.cold_start else None


def _time(row: Measurement) -> str:
    """The median, and the 90th percentile where there are calls enough to speak of one."""
    tail = f" ({_seconds(row.percentile(90))})" if len(row.seconds) >= TAIL else ""
    return _seconds(row.p50) + tail


def _seconds(value: float) -> str:
    return f"{1e3 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def _sentences(result: BenchResult) -> Iterator[str]:
    """One paragraph each."""
    if any(row.derived for rows in works(result).values() for row in rows):
        yield "† put together from timed single steps: the whole call would take too long here.\n"
    quality = list(_quality(result))
    if quality:
        heads = "PSNR / SSIM / LPIPS" if any(row.lpips is not None for row in result.measurements) else "PSNR / SSIM"
        yield f"On darkened photographs, {heads} (`standard`): {'; '.join(quality)}.\n"
    grown = [_grown(curve) for curve in result.scaling if curve.against in ("pixels", "batch")]
    if grown:
        yield f"Growth: {'; '.join(grown)}.\n"
    machine, date = result.machine, result.date[:10]
    names = [
        f"{name} {result.versions[name]}" for name in ("torch", "onnxruntime", "openvino") if name in result.versions
    ]
    where = f"{machine.gpu or machine.cpu}, {machine.cores} cores"
    ceilings = [
        f"{c.operations / 1e9:.0f} GFLOP/s and {c.bandwidth / 1e9:.0f} GB/s ({c.precision})" for c in result.ceilings
    ]
    limits = f"; ceilings {', '.join(ceilings)}" if ceilings else ""
    yield f"{where}{limits}; {', '.join(names)}; {date}, commit {result.commit or 'unknown'}: `{result.command}`."


def _quality(result: BenchResult) -> Iterator[str]:
    seen: dict[str, Measurement] = {}
    for row in result.measurements:
        if row.psnr is not None and row.ssim is not None:
            name = row.backend if row.backend in CLASSICAL else _named(row)
            seen.setdefault(name, row)
    for name, row in seen.items():
        perceived = "" if row.lpips is None else f" / {row.lpips:.3f}"
        yield f"{name} {row.psnr:.2f} dB / {row.ssim:.3f}{perceived}"


def _named(row: Measurement) -> str:
    steps = "one step" if row.steps == 1 else f"{row.steps} steps"
    return f"`{row.model}` with {steps}" + ("" if row.precision == "fp32" else f" in {row.precision}")


def _grown(curve: Scaling) -> str:
    what = {"seconds": "time", "host_memory": "memory"}[curve.of]
    note = f" ({curve.note})" if curve.note else ""
    return f"{what} of `{curve.model}` as {curve.against}^{curve.exponent:.2f}{note}"


def insert(text: str, made: str, first: str = BEGIN, last: str = END) -> str:
    """A page with `made` between its markers.

    Raises LLDiffusionError when it has not exactly one pair of them.
    """
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in after:
        raise LLDiffusionError(f"the README needs the two lines, once and in this order:  {first}  and  {last}")
    return f"{before}{first}\n{made}\n{last}{after}"


def main(
    result: Path = typer.Argument(ROOT / "benchmarks" / "results" / "cpu", help="bench.json, or its folder."),
    readme: Path = typer.Option(ROOT / "README.md", help="The file to change."),
    check: bool = typer.Option(False, help="Change nothing; exit code 1 when the table is another."),
    show: bool = typer.Option(False, help="Print the table and change nothing."),
) -> None:
    """Write the numbers table into the README."""
    made = table(load_result(result))
    if show:
        typer.echo(made)
        return
    if not readme.is_file():
        raise LLDiffusionError(f"no README '{readme}': name it with --readme")
    old = readme.read_text(encoding="utf-8")
    new = insert(old, made)
    if check:
        raise typer.Exit(int(old != new))
    write_text(readme, new)
    typer.echo(f"written: {readme}")


if __name__ == "__main__":
    run_program(main)
