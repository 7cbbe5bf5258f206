"""Looking at a data set before training on it: what is there, damaged, misaligned, double, or also tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import read_image

from .alignment import Alignment, measure_alignment
from .fingerprint import Fingerprint, Likeness, find_near, take_fingerprint
from .layouts import find_pairs, find_unpaired, has_pairs, sort_out

Track = Callable[[Sequence["Item"]], Iterable["Item"]]
SIDES = ("low", "normal")
# sides that are compared, the deciding one last; a single picture may be either
_COMPARED = (
    ("low", "low"),
    ("any", "any"),
    ("any", "low"),
    ("low", "any"),
    ("any", "normal"),
    ("normal", "any"),
    ("normal", "normal"),
)


@dataclass(frozen=True)
class Item:
    """A pair, or a single picture of which nobody says whether it is low or normal."""

    name: str
    files: dict[str, Path]  # "low" and "normal", or "any"


@dataclass(frozen=True)
class Seen:
    """What was measured of one item."""

    item: Item
    size: tuple[int, int]  # width, height
    brightness: dict[str, float]  # mean of each side, in [0, 1]
    alignment: Alignment | None
    prints: dict[str, Fingerprint]


@dataclass(frozen=True)
class Match:
    """Two items that show one scene."""

    name: str
    other: str
    likeness: Likeness


@dataclass(frozen=True)
class DataReport:
    """The result of `check_data`."""

    root: Path
    paired: bool
    seen: list[Seen]
    problems: list[str]  # missing partners, unreadable or damaged files, unequal sizes
    duplicates: list[Match]  # inside the data set
    against: Path | None
    overlaps: list[Match]  # with the other data set, the identical ones first
    max_shift: float  # pixels

    @property
    def misaligned(self) -> list[Seen]:
        """Pairs shifted by more than `max_shift`, the farthest first."""
        shifted = [(s.alignment.distance, s) for s in self.seen if s.alignment and s.alignment.reliable]
        return [s for distance, s in sorted(shifted, key=lambda pair: -pair[0]) if distance > self.max_shift]

    @property
    def unclear(self) -> list[Seen]:
        """Pairs too unlike each other to measure a shift: wrong partners, or nothing to see in the low picture."""
        return [s for s in self.seen if s.alignment and not s.alignment.reliable]

    @property
    def identical(self) -> list[Match]:
        """The overlaps that make a test meaningless."""
        return [match for match in self.overlaps if match.likeness == "identical"]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the fingerprints, for JSON."""
        return {
            "root": str(self.root),
            "against": str(self.against) if self.against else None,
            "paired": self.paired,
            "max_shift_pixels": self.max_shift,
            "problems": self.problems,
            "misaligned": [seen.item.name for seen in self.misaligned],
            "unclear": [seen.item.name for seen in self.unclear],
            "duplicates": [vars(match) for match in self.duplicates],
            "overlaps": [vars(match) for match in self.overlaps],
            "images": [_row(seen) for seen in self.seen],
        }


def _row(seen: Seen) -> dict[str, Any]:
    row = {"name": seen.item.name, "width": seen.size[0], "height": seen.size[1], "brightness": seen.brightness}
    if seen.alignment is not None:
        at = seen.alignment
        row["shift_pixels"] = {"down": at.down, "right": at.right, "agreement": round(at.agreement, 4)}
    return row


def check_data(root: Path, against: Path | None = None, max_shift: float = 1.0, track: Track = iter) -> DataReport:
    """Read every picture under `root` (pairs in any layout, or single pictures) and report.

    `against`: another data set, usually the test set, that must share no photograph with this one: normal pictures
    are compared with normal ones and low with low ones.  `max_shift`: pixels.  `track` wraps the loop over the items,
    for a progress bar.  Raises LLDiffusionError when there is nothing to check; damage goes into the report.
    """
    items, problems = find_items(root)
    seen, damaged = _look(items, measure=True, track=track)
    overlaps: list[Match] = []
    if against is not None:
        tests, unusable = find_items(against)
        tested, broken = _look(tests, measure=False, track=track)
        problems += unusable + broken
        overlaps = sorted(find_matches(seen, tested), key=lambda match: (match.likeness, match.name, match.other))
    duplicates = [match for match in find_matches(seen, seen) if match.likeness == "identical"]
    paired = bool(items) and "low" in items[0].files
    return DataReport(root, paired, seen, problems + damaged, duplicates, against, overlaps, max_shift)


def find_items(root: Path) -> tuple[list[Item], list[str]]:
    """The usable items under `root`, and one line for each thing that is wrong with the others."""
    if root.is_dir() and not has_pairs(root) and not _names_a_side(root):
        return [Item(p.relative_to(root).as_posix(), {"any": p}) for p in find_unpaired(root)], []
    usable, problems = sort_out(find_pairs(root))
    return [Item(pair.name, {"low": pair.low, "normal": pair.normal}) for pair in usable], problems


def _names_a_side(root: Path) -> bool:
    """Whether a folder in `root` is called low, normal or high: then pairs are meant, and the rest is missing."""
    return any(child.is_dir() and child.name.lower() in (*SIDES, "high") for child in root.iterdir())


def _look(items: list[Item], measure: bool, track: Track) -> tuple[list[Seen], list[str]]:
    """Read all items; the second list has one line for each damaged file."""
    seen, damaged = [], []
    for item in track(items):
        try:
            seen.append(_look_at(item, measure))
        except LLDiffusionError as error:
            damaged.append(str(error))
    return seen, damaged


def _look_at(item: Item, measure: bool) -> Seen:
    pixels = {side: read_image(path).pixels for side, path in item.files.items()}
    height, width, _ = next(iter(pixels.values())).shape
    return Seen(
        item,
        size=(width, height),
        brightness={side: round(float(values.mean()), 5) for side, values in pixels.items()},
        alignment=measure_alignment(pixels["low"], pixels["normal"]) if measure and "low" in pixels else None,
        prints={side: take_fingerprint(values) for side, values in pixels.items()},
    )


def find_matches(a: list[Seen], b: list[Seen]) -> list[Match]:
    """Items of `a` and of `b` that show one scene; with `a is b` every two once, and none with itself.

    Low pictures of one tripod look alike at equal exposure, so where both sides were compared the normal ones decide.
    """
    found: dict[tuple[int, int], Likeness] = {}
    for side, other in _COMPARED:
        here = [(i, seen.prints[side]) for i, seen in enumerate(a) if side in seen.prints]
        there = [(j, seen.prints[other]) for j, seen in enumerate(b) if other in seen.prints]
        for m, n, likeness in find_near([print_ for _, print_ in here], [print_ for _, print_ in there]):
            i, j = here[m][0], there[n][0]
            if a is not b or (i < j and not _share_a_file(a[i].item, a[j].item)):
                found[i, j] = likeness
    return [Match(a[i].item.name, b[j].item.name, likeness) for (i, j), likeness in found.items()]


def _share_a_file(a: Item, b: Item) -> bool:
    """True of several exposures with one normal picture: they are one scene on purpose."""
    return not set(a.files.values()).isdisjoint(b.files.values())
