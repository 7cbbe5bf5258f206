"""What a model's pictures are worth, beside gamma, CLAHE and other models: a table for each kind of data.

    python -m benchmarks.quality tiny --results predecessor=FOLDER --pairs LOL=LOL/eval15 --pairs held=pairs@held.txt \\
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

from lldiffusion.engines import Enhancer
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.baselines import as_float
from lldiffusion.evaluation.lpips import lpips_at_hand
from lldiffusion.evaluation.measure import EvaluationCase, Instruments, measure
from lldiffusion.evaluation.metrics import Pixels
from lldiffusion.evaluation.protocols import GTMEAN, STANDARD
from lldiffusion.images import Image, read_image, to_uint8, write_image
from lldiffusion.progress import progress_bar

from ..markdown import table_lines
from ..program import run_program
from ..result_file import write_result
from .data import DataSet, read_sets
from .methods import NamedMethod, classical, finished, of_model
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
    sets: Sequence[DataSet], methods: Sequence[NamedMethod], tools: Instruments, sheet: Sheet, save: Path | None
) -> Iterator[PictureScore]:
    """Every method on every picture; all methods of a picture before the next.

    Args:
        sheet: gets the dark pictures and what the methods made of them.
        save: folder for every result, METHOD/SET/NAME.png; None: none is kept.
    """
    for data, case in ((one, case) for one in sets for case in one.cases):
        pixels = read_image(case.source).pixels
        if data.kind == "pictures":
            sheet.add(to_uint8(pixels))
        for method in methods:
            if method.needs_truth and case.target is None:
                continue
            start = time.perf_counter()
            result = method.run(pixels, data, case)
            seconds = time.perf_counter() - start if method.timed else None
            if data.kind == "pictures":
                sheet.add(to_uint8(result))
            if save is not None:
                _save(save / method.name / data.name / f"{case.name}.png", result)
            numbers = _numbers(data.kind, case, pixels, result, tools)
            yield PictureScore(data.name, method.name, case.name, numbers | {"seconds": seconds})


def _numbers(kind: str, case: EvaluationCase, pixels: Pixels, result: Pixels, tools: Instruments) -> Numbers:
    if kind == "pairs":
        (score,) = measure([case], lambda _: result, tools)
        return pair_numbers(score)
    compare = {"unchanged": unchanged_numbers, "pictures": picture_numbers}[kind]
    return compare(to_uint8(pixels), to_uint8(result))


def _save(path: Path, result: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(as_float(result), format="png"))


def to_markdown(
    sets: Sequence[DataSet], methods: Sequence[str], scores: Sequence[PictureScore], facts: Sequence[str]
) -> str:
    """A table for each data set, what its columns mean, and how it was measured."""
    lines = ["# Quality of the pictures"]
    for data in sets:
        mine = [score for score in scores if score.data == data.name]
        names = [name for name in methods if any(score.method == name for score in mine)]
        columns = [c for c in (*COLUMNS[data.kind], SECONDS) if any(known(mine, name, c.measure) for name in names)]
        rows = [[name, *(_cell(known(mine, name, column.measure), column) for column in columns)] for name in names]
        lines += ["", f"## {data.name} ({len(data.cases)} pictures)", ""]
        lines += [*table_lines(["method", *(column.head for column in columns)], rows), "", ABOUT[data.kind]]
        failures = list(_failures(mine, names))
        lines += ["", *failures] if failures else []
    return "\n".join([*lines, "", "## How it was measured", "", *(f"- {fact}" for fact in facts)]) + "\n"


def _failures(scores: Sequence[PictureScore], methods: Sequence[str]) -> Iterator[str]:
    """The pictures to look at first, a line for each method."""
    for word, limit in (("burnt", BURNT), ("darkened", 0.5)):
        for method in methods:
            mine = [score for score in scores if score.method == method]
            names = [score.picture for score in mine if (score.numbers.get(word) or 0) > limit]
            if names:
                yield f"- {word} by {method}: {', '.join(names)}"


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
    models: list[str] = typer.Argument(None, metavar="[MODEL]...", help="The model to judge, then others [none]."),
    results: list[str] = typer.Option([], help="NAME=FOLDER of finished pictures, SET/PICTURE.png; repeatable."),
    pairs: list[str] = typer.Option([], help="NAME=FOLDER[@FILE] of pairs; repeatable."),
    unchanged: list[str] = typer.Option([], help="NAME=FOLDER[@FILE] of pictures that need nothing; repeatable."),
    pictures: list[str] = typer.Option([], help="NAME=FOLDER[@FILE] of dark pictures without a truth; repeatable."),
    told: bool = typer.Option(False, help="Also each model told the truth's mean brightness (pairs)."),
    steps: int = typer.Option(0, min=0, help="Sampling steps of every model [each model's own]."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    out: Path = typer.Option(Path("quality"), "-o", "--out", help="Folder for quality.json and quality.md."),
    sheet: Path | None = typer.Option(None, help="JPEG to write: every picture of --pictures, a row each."),
    save: Path | None = typer.Option(None, help="Folder for every result, METHOD/SET/PICTURE.png (see --results)."),
) -> None:
    """Measure models and finished pictures beside gamma and CLAHE on folders of pictures."""
    keep_freed_memory()
    sets = read_sets(dict(zip(KINDS, (pairs, unchanged, pictures))))
    if not sets:
        raise LLDiffusionError("nothing to measure: give --pairs, --unchanged or --pictures NAME=FOLDER")
    tools = Instruments((STANDARD, GTMEAN), lpips_at_hand(), "not measured here")
    lpips = tools.lpips if isinstance(tools.lpips, str) else tools.lpips.definition
    with ExitStack() as stack:
        opened = {
            model: stack.enter_context(Enhancer.open(model, steps=steps or None, device=device))
            for model in dict.fromkeys(models or ())
        }
        methods = [*classical(), *map(finished, results)]
        methods += [row for model, enhancer in opened.items() for row in of_model(model, enhancer, told)]
        _refuse_equal_names(methods)
        out.mkdir(parents=True, exist_ok=True)  # now: a bad path should not cost a long run
        shown = Sheet(across=1 + sum(not method.needs_truth for method in methods))
        scores = list(_under_a_bar(measure_all(sets, methods, tools, shown, save), sets, methods))
    names, facts = [method.name for method in methods], [*(method.about for method in methods), f"LPIPS: {lpips}"]
    page = to_markdown(sets, names, scores, facts)
    typer.echo(page)
    typer.echo(f"written: {write_result(out / 'quality.json', to_dict(sets, names, scores, facts), page)}")
    if sheet is not None and shown.write(sheet):
        columns = ["as taken", *(method.name for method in methods if not method.needs_truth)]
        typer.echo(f"written: {sheet}; its columns: {', '.join(columns)}")


def _refuse_equal_names(methods: Sequence[NamedMethod]) -> None:
    names = [method.name for method in methods]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LLDiffusionError(f"two methods are called '{twice[0]}': rename one's folder, or its NAME in --results")


def _under_a_bar(
    scores: Iterator[PictureScore], sets: Sequence[DataSet], methods: Sequence[NamedMethod]
) -> Iterator[PictureScore]:
    """The same scores; a bar tells how far the measuring is."""
    rows = {kind: sum(kind == "pairs" or not method.needs_truth for method in methods) for kind in KINDS}
    with progress_bar(note=True) as bar:
        task = bar.add_task("measuring", total=sum(rows[data.kind] * len(data.cases) for data in sets), note="")
        for score in scores:
            yield score
            bar.update(task, advance=1, note=f"{score.data}, {score.picture}")


if __name__ == "__main__":
    run_program(main)
