"""What a model's pictures are worth, beside gamma, CLAHE and other models: a table for each kind of data.

    python -m benchmarks.quality tiny PREDECESSOR --pairs LOL=LOL/eval15 --pairs held=pairs@held.txt \\
        --unchanged Kodak=kodak24 --pictures LIME=LIME --pictures DICM=DICM -o benchmarks/results --sheet sheet.jpg

- `--pairs`: dark pictures with their truth.  PSNR, SSIM and, where its weights are at hand, LPIPS, protocol `standard`;
  PSNR under `gtmean`; the error of the mean brightness.
- `--unchanged`: pictures that need nothing.  What comes back, against themselves.
- `--pictures`: dark pictures without a truth.  What burns, what gets darker than it was, what bright grows grey.

A data set is NAME=FOLDER, or NAME=FOLDER@FILE with a text file that names the pairs or pictures to take, one a line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import typer

from lldiffusion.bundle import Bundle
from lldiffusion.bundle.find import find_model
from lldiffusion.engines import DEFAULT_MODEL, Enhancer
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.lpips import lpips_at_hand
from lldiffusion.evaluation.measure import EvaluationCase, Instruments, Method, measure
from lldiffusion.evaluation.protocols import GTMEAN, STANDARD
from lldiffusion.hashing import sha256_of
from lldiffusion.images import read_image, to_uint8
from lldiffusion.progress import progress_bar

from ..markdown import table_lines
from ..program import run_program
from ..result_file import write_result
from .data import DataSet, read_sets
from .scores import BRIGHT, BURNT, EQUAL, Numbers, pair_numbers, picture_numbers, unchanged_numbers
from .sheet import Sheet

KINDS = ("pairs", "unchanged", "pictures")


@dataclass(frozen=True)
class Column:
    """One number about all pictures of a data set."""

    head: str
    digits: int
    measure: str  # of a picture, see `scores`
    sum_up: Callable[[list[float]], float]


def _count_above(limit: float) -> Callable[[list[float]], float]:
    return lambda values: sum(value > limit for value in values)


COLUMNS = {
    "pairs": (
        Column("PSNR, dB", 2, "psnr", fmean),
        Column("SSIM", 3, "ssim", fmean),
        Column("LPIPS", 3, "lpips", fmean),
        Column("PSNR gtmean, dB", 2, "gtmean_psnr", fmean),
        Column("brightness error, /255", 1, "brightness_error", fmean),
    ),
    "unchanged": (
        Column("PSNR to itself, dB", 2, "psnr", fmean),
        Column("worst", 2, "psnr", min),
        Column("contrast", 2, "contrast", fmean),
    ),
    "pictures": (
        Column("newly burnt, %", 2, "burnt", fmean),
        Column("worst", 1, "burnt", max),
        Column(f"pictures above {BURNT} %", 0, "burnt", _count_above(BURNT)),
        Column("darker half, /255", 1, "darker_half", fmean),
        Column("pictures darkened", 0, "darkened", _count_above(0.5)),
        Column("brightest, /255", 1, "brightest", fmean),
        Column("worst", 1, "brightest", min),
    ),
}
SECONDS = Column("s/picture", 2, "seconds", median)
ABOUT = {
    "pairs": "Against the normal-light picture: protocols `standard` and `gtmean`, means over the pairs.",
    "unchanged": "Pictures that need nothing, against themselves; contrast is the standard deviation of the luminance, "
    f"after over before. PSNR counts as {EQUAL:g} dB at most.",
    "pictures": f"Newly burnt: pixels whose brightest channel is {BRIGHT} or more after and was not before. "
    "Darker half: change of the mean luminance of the pixels below the median; darkened where it falls. "
    "Brightest: the same of the brightest twentieth; below 0 it grew grey.",
}


@dataclass(frozen=True)
class PictureScore:
    """One picture by one method."""

    data: str  # set
    method: str
    picture: str
    numbers: Numbers


def measure_all(
    sets: Sequence[DataSet], methods: dict[str, Method], tools: Instruments, sheet: Sheet
) -> Iterator[PictureScore]:
    """Every method on every picture; all methods of a picture before the next.  Dark pictures go on the sheet."""
    for data in sets:
        for case in data.cases:
            if data.kind == "pictures":
                sheet.add(to_uint8(read_image(case.source).pixels))
            for name, method in methods.items():
                numbers = _measure_one(data.kind, case, method, tools, sheet)
                yield PictureScore(data.name, name, case.name, numbers)


def _measure_one(kind: str, case: EvaluationCase, method: Method, tools: Instruments, sheet: Sheet) -> Numbers:
    if kind == "pairs":
        (score,) = measure([case], method, tools)
        return pair_numbers(score)
    pixels = read_image(case.source).pixels
    start = time.perf_counter()
    result = method(pixels)
    seconds = time.perf_counter() - start
    before, after = to_uint8(pixels), to_uint8(result)
    if kind == "unchanged":
        return unchanged_numbers(before, after, seconds)
    sheet.add(after)
    return picture_numbers(before, after, seconds)


def to_markdown(
    sets: Sequence[DataSet], methods: Sequence[str], scores: Sequence[PictureScore], facts: Sequence[str]
) -> str:
    """A table for each data set, what its columns mean, and how it was measured."""
    lines = ["# Quality of the pictures"]
    for data in sets:
        mine = [score for score in scores if score.data == data.name]
        columns = [c for c in (*COLUMNS[data.kind], SECONDS) if any(known(mine, name, c.measure) for name in methods)]
        rows = [[name, *(_cell(known(mine, name, column.measure), column) for column in columns)] for name in methods]
        lines += ["", f"## {data.name} ({len(data.cases)} pictures)", ""]
        lines += [*table_lines(["method", *(column.head for column in columns)], rows), "", ABOUT[data.kind]]
    return "\n".join([*lines, "", "## How it was measured", "", *(f"- {fact}" for fact in facts)]) + "\n"


def known(scores: Sequence[PictureScore], method: str, measure: str) -> list[float]:
    """What was measured of a method's pictures."""
    found = (score.numbers.get(measure) for score in scores if score.method == method)
    return [value for value in found if value is not None]


def _cell(values: list[float], column: Column) -> str:
    return f"{column.sum_up(values):.{column.digits}f}" if values else "-"


def to_dict(
    sets: Sequence[DataSet], methods: Sequence[str], scores: Sequence[PictureScore], facts: Sequence[str]
) -> dict[str, object]:
    """The entries of the JSON file: what was measured, and every picture's numbers."""
    return {
        "facts": list(facts),
        "methods": list(methods),
        "sets": [{"name": data.name, "kind": data.kind, "pictures": len(data.cases)} for data in sets],
        "scores": [vars(score) for score in scores],
    }


def main(
    models: list[str] = typer.Argument(
        None, metavar="[MODEL]...", help=f"The model to judge, then others to compare it with [{DEFAULT_MODEL}]."
    ),
    pairs: list[str] = typer.Option([], help="NAME=FOLDER[@FILE] of pairs; repeatable."),
    unchanged: list[str] = typer.Option([], help="NAME=FOLDER[@FILE] of pictures that need nothing; repeatable."),
    pictures: list[str] = typer.Option([], help="NAME=FOLDER[@FILE] of dark pictures without a truth; repeatable."),
    steps: int = typer.Option(0, min=0, help="Sampling steps of every model [each model's own]."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    out: Path = typer.Option(Path("quality"), "-o", "--out", help="Folder for quality.json and quality.md."),
    sheet: Path | None = typer.Option(None, help="JPEG to write: every picture of --pictures, a row each."),
) -> None:
    """Measure models beside gamma and CLAHE on folders of pictures."""
    from lldiffusion.bench.quality import CLASSICAL

    keep_freed_memory()
    sets = read_sets(dict(zip(KINDS, (pairs, unchanged, pictures))))
    if not sets:
        raise LLDiffusionError("nothing to measure: give --pairs, --unchanged or --pictures NAME=FOLDER")
    out.mkdir(parents=True, exist_ok=True)  # now: a bad path should not cost a long run
    tools = Instruments((STANDARD, GTMEAN), lpips_at_hand(), "not measured here")
    with ExitStack() as stack:
        chosen = list(dict.fromkeys(models or [DEFAULT_MODEL]))
        opened = {
            Path(model).stem: stack.enter_context(Enhancer.open(model, steps=steps or None, device=device))
            for model in chosen
        }
        if len(opened) < len(chosen):
            raise LLDiffusionError(f"models {', '.join(chosen)}: two have the same name, and would share a row")
        methods: dict[str, Method] = {**CLASSICAL, **opened}
        facts = [
            *_about(chosen, opened),
            f"LPIPS: {tools.lpips if isinstance(tools.lpips, str) else tools.lpips.definition}",
        ]
        shown = Sheet(across=1 + len(methods))
        scores = list(_under_a_bar(measure_all(sets, methods, tools, shown), sets, len(methods)))
        page = to_markdown(sets, list(methods), scores, facts)
        written = [write_result(out / "quality.json", to_dict(sets, list(methods), scores, facts), page)]
        if sheet is not None:
            written.append(shown.write(sheet))
            typer.echo(f"columns of {sheet}: {', '.join(('as taken', *methods))}")
    typer.echo(page)
    typer.echo(f"written: {', '.join(map(str, written))}")


def _under_a_bar(scores: Iterator[PictureScore], sets: Sequence[DataSet], methods: int) -> Iterator[PictureScore]:
    """The same scores; a bar tells how far the measuring is."""
    with progress_bar(note=True) as bar:
        task = bar.add_task("measuring", total=methods * sum(len(data.cases) for data in sets), note="")
        for score in scores:
            yield score
            bar.update(task, advance=1, note=f"{score.data}, {score.picture}")


def _about(models: Sequence[str], opened: dict[str, Enhancer]) -> Iterator[str]:
    for model, (name, enhancer) in zip(models, opened.items(), strict=True):
        found = enhancer.info()
        shown = [
            f"{key} {found[key]}" for key in ("backend", "device", "precision", "steps", "sampler") if key in found
        ]
        yield f"{name}: weights sha256 {_weights(model)}, {', '.join(shown)}, seed {enhancer.seed}"


def _weights(model: str) -> str:
    """SHA-256 of a model's weights: names stay while weights change."""
    place = find_model(model)
    if (place / "model.safetensors").is_file():
        return sha256_of(place / "model.safetensors")
    return Bundle.open(place).manifest.weights_sha256


if __name__ == "__main__":
    run_program(main)
