"""Where `auto` would not take the fastest backend: said under the table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from lldiffusion.engines.processor import cpu_precision
from lldiffusion.engines.select_backend import CANDIDATES, openvino_first

from .record import Measurement
from .statistics import differ

# Peers as `auto` takes them, first to last; its PyTorch is the peer `eager`.
AUTO = [{"torch": "eager"}.get(each.backend, each.backend) for each in CANDIDATES]


def remarks_on_auto(measurements: Sequence[Measurement], recurrent: Collection[str] = ()) -> Iterator[str]:
    """One line for each model, size and number of steps at which another backend is faster than auto's.

    recurrent: names of models that start from their own last result, for which `auto` chooses otherwise.
    """
    groups: dict[tuple[str, str, int, int], list[Measurement]] = {}
    for row in measurements:
        if row.seconds and row.backend in AUTO:
            groups.setdefault((row.model, row.size, row.batch, row.steps), []).append(row)
    for (model, size, _, steps), rows in groups.items():
        taken, fastest = _taken(rows, model in recurrent), min(rows, key=lambda row: row.p50)
        if fastest is not taken and differ(taken.seconds, fastest.seconds):
            ours, best = (f"{row.backend} in {row.precision}" for row in (taken, fastest))
            yield (
                f"{model} at {size}, {steps} steps: auto takes {ours}, "
                f"{best} is {taken.p50 / fastest.p50:.2f} times as fast"
            )


def _taken(rows: list[Measurement], recurrent: bool) -> Measurement:
    """The row of the backend and the precision that `auto` opens many pictures with."""
    first = min((row.backend for row in rows), key=AUTO.index)
    if first == "onnxruntime" and openvino_first(tuple(row.precision for row in rows), recurrent):
        first = next((row.backend for row in rows if row.backend == "openvino"), first)
    ours = [row for row in rows if row.backend == first]
    wanted, _ = cpu_precision(tuple(row.precision for row in ours))
    return next((row for row in ours if row.precision == wanted), ours[0])
