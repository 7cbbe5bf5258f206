"""The data sets of `benchmarks.quality`: NAME=FOLDER, or NAME=FOLDER@FILE with the names to take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lldiffusion.data.layouts import find_pairs, find_unpaired, validate_pairs
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.measure import EvaluationCase


@dataclass(frozen=True)
class DataSet:
    """Pictures of one kind under one name."""

    name: str
    kind: str  # "pairs", "unchanged" or "pictures"
    cases: tuple[EvaluationCase, ...]


def read_sets(given: dict[str, list[str]]) -> list[DataSet]:
    """The data sets of every kind, in the order they were given.

    Raises LLDiffusionError for a wrong spelling, a folder without such pictures, a name given twice, or a file that
    names what is not there.
    """
    sets = [_read(kind, text) for kind, texts in given.items() for text in texts]
    names = [data.name for data in sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LLDiffusionError(f"data set '{twice[0]}' is given twice: every NAME=FOLDER needs a name of its own")
    return sets


def _read(kind: str, text: str) -> DataSet:
    name, equals, place = text.partition("=")
    folder, _, chosen = place.partition("@")
    if not (name and equals and folder):
        raise LLDiffusionError(f"--{kind} '{text}': write NAME=FOLDER, or NAME=FOLDER@FILE with the names to take")
    cases = list(_cases(kind, Path(folder)))
    if chosen:
        cases = _choose(cases, Path(folder), Path(chosen))
    return DataSet(name, kind, tuple(cases))


def _cases(kind: str, folder: Path) -> Iterator[EvaluationCase]:
    if kind == "pairs":
        yield from (EvaluationCase(pair.name, pair.low, pair.normal) for pair in validate_pairs(find_pairs(folder)))
    else:
        found = find_unpaired(folder)
        yield from (EvaluationCase(path.relative_to(folder).with_suffix("").as_posix(), path, None) for path in found)


def _choose(cases: list[EvaluationCase], folder: Path, file: Path) -> list[EvaluationCase]:
    """Those named in a text file, one a line, as NAME or FOLDER/NAME; other folders' names are passed over."""
    if not file.is_file():
        raise LLDiffusionError(f"no file '{file}': after @ stands a text file that names pictures, one a line")
    wanted = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    known = {name: case for case in cases for name in (case.name, f"{folder.name}/{case.name}")}
    missing = [name for name in wanted if name not in known and name.partition("/")[0] in (folder.name, name)]
    found = [known[name] for name in wanted if name in known]
    if missing or not found:
        some = ", ".join(case.name for case in cases[:5])
        raise LLDiffusionError(
            f"'{file}' names {repr(missing[0]) if missing else 'nothing'} of '{folder}': it has {some}, ..."
        )
    return found
