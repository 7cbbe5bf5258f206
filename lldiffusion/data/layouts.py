"""Where a data set keeps its pairs: folder layouts to a list of (low, normal) files.

`find_pairs` knows, by the folders it meets (the first that fits):

==================  ==========================================================================================
csv                 `pairs.csv` (columns low, normal) naming files in `images/` beside it, or in its own folder
LOL-v1              `our485/{low,high}` (train) and `eval15/{low,high}` (test)
LOL-v2              `{Real_captured,Synthetic}/{Train,Test}/{Low,Normal}`; `low00001.png` goes with `normal00001.png`
VE-LOL              `VE-LOL-L-Cap-Low_{train,test}` beside `VE-LOL-L-Cap-Normal_{train,test}`, or `-Syn-`
any                 `low/` beside `normal/`, `high/` or `gt/`: equal stems, any case, suffixes may differ
==================  ==========================================================================================

Point it at the data set or at any folder in it (one split, one subset).  Nothing is opened but pairs.csv:
`validate_pairs` looks at the files and names everything that is wrong in one error.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.images import image_size, list_images

SPLITS = ("train", "test")
_SPLIT_OF = {"our485": "train", "eval15": "test", "train": "train", "test": "test"}
_LOW = re.compile(r"low|(.+-low)(_.+)?", re.IGNORECASE)  # low, Low, VE-LOL-L-Cap-Low_train
_PARTNERS = ("normal", "high", "gt")
_SIDE = re.compile(r"^(low|normal|high|gt)(?=[\W_]*\d)", re.IGNORECASE)  # low00001 -> 00001
_SHOWN = 20  # problems spelled out in an error; the rest is counted


@dataclass(frozen=True)
class Pair:
    """One scene twice.  `name` is unique in its data set and does not depend on where that lies."""

    low: Path
    normal: Path
    name: str


def find_pairs(root: Path, split: str | None = None) -> list[Pair]:
    """The pairs under `root`; `split` ("train" or "test") keeps one part of a layout that has both.

    Without `split`, the root of LOL-v1 gives its test images too: to train, ask for "train" or point at the part.
    A file without a partner is paired with the path where the partner should be, so that `validate_pairs` can name
    it together with everything else.  Raises LLDiffusionError when no layout fits.
    """
    root = Path(root)
    if split is not None:
        choose(split, SPLITS, "split")
    if not root.is_dir():
        raise LLDiffusionError(f"no data at '{root}': {'it is a file' if root.exists() else 'no such folder'}")
    if (root / "pairs.csv").is_file():
        return _csv_pairs(root / "pairs.csv")
    sides = list(_find_sides(root))
    if not sides:
        raise LLDiffusionError(
            f"no pairs under '{root}': expected low/ beside normal/ or high/, the folders of LOL-v1, LOL-v2 or "
            f"VE-LOL, or images/ with pairs.csv; {_describe(root)}"
        )
    kept = [side for side in sides if split is None or _split_of(side[0], root) in (None, split)]
    if not kept:
        raise LLDiffusionError(f"'{root}' has no {split} part: {', '.join(str(low) for low, _ in sides)}")
    return [pair for low, normal in kept for pair in _match(low, normal, root)]


def has_pairs(root: Path) -> bool:
    """Whether `find_pairs` knows the layout of `root`."""
    return (root / "pairs.csv").is_file() or any(True for _ in _find_sides(root))


def find_unpaired(root: Path) -> list[Path]:
    """Every image under `root`, folders below included, sorted.  Raises LLDiffusionError when there is none."""
    root = Path(root)
    if not root.is_dir():
        raise LLDiffusionError(f"no data at '{root}': {'it is a file' if root.exists() else 'no such folder'}")
    found = [image for folder in _folders(root) for image in list_images(folder)]
    if not found:
        raise LLDiffusionError(f"no images under '{root}'; {_describe(root)}")
    return sorted(found)


def validate_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """The same pairs, all usable: both files exist, have readable headers and equal sizes, and names are unique.

    Raises one LLDiffusionError that names every problem (the first 20 spelled out).  Only headers are read: a file
    damaged further down is found when it is loaded, or by `lldiff data check`.
    """
    pairs = list(pairs)
    _, problems = sort_out(pairs)
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise LLDiffusionError(
            f"{len(problems)} problem{'s' * (len(problems) > 1)} in {len(pairs)} pairs:{shown}{more}"
        )
    return pairs


def sort_out(pairs: list[Pair]) -> tuple[list[Pair], list[str]]:
    """The usable pairs, and one line for each thing that is wrong with the others; see `validate_pairs`."""
    if not pairs:
        return [], ["no pairs: the folders hold no images"]
    empty = {f for f in {p.parent for pair in pairs for p in (pair.low, pair.normal)} if not _has_images(f)}
    problems = [f"'{folder}' {'holds no images' if folder.is_dir() else 'does not exist'}" for folder in sorted(empty)]
    counts = Counter(pair.name for pair in pairs)
    problems += [f"the name '{name}' stands for {count} pairs" for name, count in counts.items() if count > 1]
    usable = []
    for pair in pairs:
        found = _pair_problems(pair, empty)
        problems += found
        if not found and not {pair.low.parent, pair.normal.parent} & empty:
            usable.append(pair)
    return usable, problems


def _pair_problems(pair: Pair, empty: set[Path]) -> list[str]:
    sizes, problems = [], []
    for side, other in ((pair.low, pair.normal), (pair.normal, pair.low)):
        if side.parent in empty:
            continue
        if not side.is_file():
            problems.append(f"'{other}' has no partner '{side}'")
            continue
        try:
            sizes.append(image_size(side))
        except LLDiffusionError as error:
            problems.append(str(error))
    if len(set(sizes)) == 2:
        (width, height), (w, h) = sizes
        problems.append(f"sizes differ: '{pair.low}' {width}x{height}, '{pair.normal}' {w}x{h}")
    return problems


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and bool(list_images(folder))


def _csv_pairs(table: Path) -> list[Pair]:
    """Pairs named by a table; one normal may serve several lows, so a pair is called `low_normal`."""
    folder = table.parent / "images" if (table.parent / "images").is_dir() else table.parent
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"low", "normal"} <= rows[0].keys():
        raise LLDiffusionError(f"'{table}' needs a first line `low,normal` and one pair of file names a line after it")
    if incomplete := [str(i + 2) for i, row in enumerate(rows) if not (row["low"] and row["normal"])]:
        raise LLDiffusionError(f"'{table}' lacks a file name in line {', '.join(incomplete)}")
    pairs = [Pair(folder / row["low"], folder / row["normal"], _csv_name(row)) for row in rows]
    return sorted(pairs, key=lambda pair: pair.name)


def _csv_name(row: dict[str, str]) -> str:
    return "_".join(Path(row[side]).with_suffix("").as_posix() for side in ("low", "normal"))


def _folders(root: Path) -> list[Path]:
    """`root` and every folder below it, hidden ones left out, sorted."""
    below = (p for p in root.rglob("*") if p.is_dir() and not any(q[0] == "." for q in p.relative_to(root).parts))
    return [root, *sorted(below)]


def _find_sides(root: Path) -> Iterator[tuple[Path, Path]]:
    """Every folder of low images with its partner folder."""
    for folder in _folders(root):
        partner = _partner_folder(folder) if _LOW.fullmatch(folder.name) and folder != root else None
        if partner is not None:
            yield folder, partner


def _partner_folder(low: Path) -> Path | None:
    """normal/ (high/, gt/) beside low/ in whatever case; ...-Normal_train beside ...-Low_train."""
    siblings = {p.name.lower(): p for p in low.parent.iterdir() if p.is_dir()}
    head, _, tail = low.name.lower().rpartition("low")
    return next((siblings[name] for side in _PARTNERS if (name := f"{head}{side}{tail}") in siblings), None)


def _split_of(low: Path, root: Path) -> str | None:
    """The split named by the folders between `root` and the images, the nearest first; None where none does."""
    for name in reversed(low.relative_to(root).parts):
        part = name.lower().rpartition("_")[2]
        if part in _SPLIT_OF:
            return _SPLIT_OF[part]
    return None


def _match(low: Path, normal: Path, root: Path) -> list[Pair]:
    """Pairs of two folders by stem, `low00001` and `normal00001` being the same stem."""
    lows, normals = _by_stem(low), _by_stem(normal)
    prefix = low.parent.relative_to(root)
    pairs = []
    for stem in sorted(lows.keys() | normals.keys()):
        a = lows.get(stem) or low / _renamed(normals[stem], low)
        b = normals.get(stem) or normal / _renamed(lows[stem], normal)
        pairs.append(Pair(a, b, (prefix / stem).as_posix()))
    return pairs


def _renamed(image: Path, folder: Path) -> str:
    """The name its partner would have in `folder`: normal00001.png for low00001.png, else the same."""
    side = next((s for s in _PARTNERS if s in folder.name.lower()), "low")
    return _SIDE.sub(side, image.name)


def _by_stem(folder: Path) -> dict[str, Path]:
    """Images by stem without the side's name; two files with one stem are an error that names both."""
    found: dict[str, Path] = {}
    for path in list_images(folder):
        stem = _SIDE.sub("", path.stem)
        if stem in found:
            raise LLDiffusionError(f"two images with one stem: '{found[stem]}' and '{path}'; keep one of them")
        found[stem] = path
    return found


def _describe(root: Path) -> str:
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in root.iterdir())
    if not names:
        return "it is empty"
    return f"it holds {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
