"""All plots of a report, in the order in which they are shown."""

from __future__ import annotations

from dataclasses import replace

from ..record import Result
from .canvas import Plot
from .latency import latency_plots
from .pareto import front_plots
from .scaling import scaling_plots
from .stages import stage_plots


def plots(result: Result) -> list[Plot]:
    """Those that the result has numbers for.  Raises LLDiffusionError where matplotlib is missing."""
    timed = tuple(m for m in result.measurements if m.p50 > 0)  # a clock too coarse has no place on a logarithmic axis
    result = replace(result, measurements=timed)
    return [*latency_plots(result), *front_plots(result), *stage_plots(result), *scaling_plots(result)]
