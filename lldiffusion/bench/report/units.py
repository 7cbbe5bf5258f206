"""Numbers as people read them: three digits, and one unit for a whole column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """How the numbers of one column are written."""

    name: str = ""  # shown in the column's head
    size: float = 1  # of the unit in base units: 1e-3 for ms
    decimals: int | None = None  # None: three significant digits
    signed: bool = False

    def __call__(self, value: float) -> str:
        """The number without its unit; "-" for NaN, "inf" for infinity."""
        if not math.isfinite(value):
            return "-" if math.isnan(value) else f"{value:.0f}"
        scaled = value / self.size
        decimals = _three_digits(scaled) if self.decimals is None else self.decimals
        return f"{scaled:{'+' if self.signed else ''}.{decimals}f}"


def _three_digits(value: float) -> int:
    """Decimals that leave three significant digits: 0.00123, 0.123, 12.3, 1230."""
    return 2 if value == 0 else min(max(2 - math.floor(math.log10(abs(value))), 0), 9)


def _seconds(largest: float) -> Unit:
    return Unit("ms", 1e-3) if largest < 1 else Unit("s")


def _bytes(largest: float) -> Unit:
    return Unit("MiB", 2**20, 0) if largest < 2**30 else Unit("GiB", 2**30, 2)


def _operations(largest: float) -> Unit:
    return Unit("GFLOP", 1e9) if largest < 1e13 else Unit("TFLOP", 1e12)


KINDS: dict[str, Callable[[float], Unit]] = {
    "seconds": _seconds,
    "milliseconds": lambda _: Unit("ms", 1e-3),
    "bytes": _bytes,
    "operations": _operations,
    "count": lambda _: Unit(decimals=0),
    "number": lambda _: Unit(),
    "factor": lambda _: Unit(decimals=2),  # a ratio: 1.53
    "share": lambda _: Unit("%", 0.01, 1),
    "decibel": lambda _: Unit("dB", decimals=2),
    "similarity": lambda _: Unit(decimals=3),
    "levels": lambda _: Unit("1/255", decimals=3, signed=True),
}


def unit_for(kind: str, values: Iterable[float]) -> Unit:
    """The unit of one of KINDS that suits all the values."""
    return KINDS[kind](max((abs(value) for value in values if math.isfinite(value)), default=0))


def with_unit(kind: str, value: float) -> str:
    """A single number with its unit: "512 ms"."""
    unit = unit_for(kind, [value])
    return f"{unit(value)} {unit.name}".rstrip()


def steps_in_words(steps: int) -> str:
    """1 step, 4 steps."""
    return "1 step" if steps == 1 else f"{steps} steps"


def plain(text: str, longest: int = 200) -> str:
    """Text of a record as one printable line: what cannot be printed becomes "�", what is too long is cut."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
