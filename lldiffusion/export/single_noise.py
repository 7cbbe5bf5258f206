"""x_T made inside a graph: the same on every host, and for every size the top left part of one endless field.

    noise[c, y, x] = (a[c, y mod 61, x mod 67] + b[c, y mod 71, x mod 73]) / sqrt(2)        a, b ~ N(0, 1), constants

The sum repeats only where both do, every 4331 rows and 4891 columns.  A table, two look-ups and one addition are exact
in every runtime; random operators and hashes are not, and differ between hosts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .graph_writer import GraphWriter

PERIODS = ((61, 67), (71, 73))  # rows and columns of the two tables: primes
SEED = 0


def noise_field(height: int, width: int) -> NDArray[np.float32]:
    """(1, 3, height, width): what the graph makes, in NumPy."""
    total = np.zeros((3, height, width), np.float32)
    for table in _tables():
        rows, columns = np.arange(height) % table.shape[1], np.arange(width) % table.shape[2]
        total += table[:, rows][:, :, columns]
    return total[None]


def write_noise(writer: GraphWriter, rows: str, columns: str) -> str:
    """Append what makes the field at `rows` (H,) and `columns` (W,) int64; returns the name of (3, H, W)."""
    parts = []
    for i, table in enumerate(_tables()):
        name = writer.constant(table.astype(np.float16), f"noise_{i}")  # half the bytes, exact as it is
        part = writer.node("Cast", name, to=1)
        for axis, places in ((1, rows), (2, columns)):
            part = writer.node("Gather", part, modulo(writer, places, writer.whole(table.shape[axis])), axis=axis)
        parts.append(part)
    return writer.node("Add", *parts)


def modulo(writer: GraphWriter, value: str, divisor: str) -> str:
    """value mod divisor of whole numbers at least 0, in operators that every runtime has."""
    return writer.node("Sub", value, writer.node("Mul", writer.node("Div", value, divisor), divisor))


def _tables() -> list[NDArray[np.float32]]:
    """The two tables (3, rows, columns), of variance 1/2 each, rounded to float16."""
    rng = np.random.default_rng(SEED)
    drawn = (rng.standard_normal((3, *period)) / np.sqrt(2) for period in PERIODS)
    return [table.astype(np.float16).astype(np.float32) for table in drawn]
