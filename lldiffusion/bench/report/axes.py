"""Axes in words that people use: 200 ms, 1280x720, 1.5 GiB."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..record import Measurement

MOST = 5  # sizes named below an axis


def label_seconds(axis: Any, values: Iterable[float]) -> None:
    """A logarithmic axis of times; its ticks are 1, 2, 5 where they would be few."""
    _logarithmic(axis, values, lambda value: f"{value * 1e3:g} ms" if value < 1 else f"{value:g} s")


def label_bytes(axis: Any, values: Iterable[float]) -> None:
    """A logarithmic axis of memory."""
    _logarithmic(axis, values, lambda value: f"{value / 1e6:g} MB" if value < 1e9 else f"{value / 1e9:g} GB")


def label_pixels(axis: Any, values: Iterable[float]) -> None:
    """A logarithmic axis of picture sizes."""
    _logarithmic(axis, values, lambda value: f"{value / 1e6:g} MP")


def label_numbers(axis: Any, values: Iterable[float]) -> None:
    """A logarithmic axis of small whole numbers, each of them named."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.FixedLocator(sorted(set(values))))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def _logarithmic(axis: Any, values: Iterable[float], words: Any) -> None:
    from matplotlib import ticker

    known = [value for value in values if value > 0 and math.isfinite(value)]
    decades = math.log10(max(known) / min(known)) if known else 0
    axis.set_major_locator(ticker.LogLocator(10, (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_locator(ticker.NullLocator())


def label_sizes(axes: Any, rows: Sequence[Measurement]) -> None:
    """Name the measured sizes below the axis, or megapixels where they are many."""
    sizes = sorted({(m.pixels, m.size) for m in rows})
    if len(sizes) > MOST:
        label_pixels(axes.xaxis, [pixels for pixels, _ in sizes])
        return
    from matplotlib import ticker

    axes.xaxis.set_major_locator(ticker.FixedLocator([pixels for pixels, _ in sizes]))
    axes.xaxis.set_major_formatter(ticker.FixedFormatter([size for _, size in sizes]))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.margins(x=0.12)
