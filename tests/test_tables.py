"""One reader turns tables into dataclasses, and names every mistake."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from lldiffusion.errors import LLDiffusionError
from lldiffusion.tables import build


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Drawing:
    name: str
    points: tuple[Point, ...] = ()
    size: tuple[int, int] = (1, 1)
    notes: dict[str, str] = field(default_factory=dict)
    layer: int | None = None
    tile: str | int = "auto"
    rest: dict[str, Any] = field(default_factory=dict)


FULL = Drawing("a", (Point(1.0), Point(2.0, 3.0)), (4, 5), {"b": "c"}, 7, 64, {"any": [1, None]})


def test_what_was_written_is_read() -> None:
    assert build(Drawing, asdict(FULL), "") == FULL
    assert build(Drawing, {"name": "a", "layer": None, "points": [{"x": 1}]}, "") == Drawing("a", (Point(1.0),))


MISTAKES: dict[str, tuple[Any, str]] = {
    "no table": ([1], r"file '' must be a section, not \[1\]"),
    "missing": ({}, "file 'name' is missing"),
    "missing inside": ({"name": "a", "points": [{"y": 1}]}, r"file 'points\[0\].x' is missing"),
    "unknown": ({"name": "a", "sise": [1, 1]}, "unknown file key in .top level. 'sise'.*did you mean 'size'"),
    "another type": ({"name": 3}, "file 'name' is 3: expected str"),
    "a truth for a number": ({"name": "a", "layer": True}, "file 'layer' is True: expected int or None"),
    "too many": ({"name": "a", "size": [1, 2, 3]}, r"file 'size' is \[1, 2, 3\]: expected tuple\[int, int\]"),
    "a key of two lines": ({"name": "a", "b\nc": 1}, r"unknown file key in .* 'b\\nc': accepted"),
    "an inner key of two lines": ({"name": "a", "notes": {"b\nc": 1}}, r"file 'notes.b\\nc' is 1: expected str"),
    "deep inside": ({"name": "a", "points": [{"x": 1, "y": "z"}]}, r"file 'points\[0\].y' is 'z': expected float"),
}


@pytest.mark.parametrize(("table", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_place(table: Any, says: str) -> None:
    with pytest.raises(LLDiffusionError, match=says):
        build(Drawing, table, "", "file")


def test_unknown_keys_of_a_later_version_can_be_dropped() -> None:
    table = {"name": "a", "colour": "red", "points": [{"x": 1, "z": 2}]}
    assert build(Drawing, table, "", ignore_unknown=True) == Drawing("a", (Point(1.0),))
