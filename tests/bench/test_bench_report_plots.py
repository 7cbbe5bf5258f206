"""Plots: what they show is what was measured."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lldiffusion.bench.record import BenchResult, Machine, Measurement, Scaling
from lldiffusion.bench.report import plots as plots_module
from lldiffusion.bench.report.drawing import KNOWN, Plot, backend_colours
from lldiffusion.bench.report.plots import fitted_line, pareto_front, parts, plots
from lldiffusion.errors import LLDiffusionError
from support.bench_results import full_result

FULL = full_result()
EMPTY = BenchResult(Machine("Linux", "a CPU", 2, 8 << 30), {}, "", "", "2026-11-24")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(FULL)}


def test_every_kind_is_drawn(drawn: dict[str, Plot]) -> None:
    assert list(drawn) == [
        *("latency-0", "front", "stages-0", "stages-1"),  # the second model has one size: its stages tell all
        *("scaling-0", "scaling-1", "scaling-2", "scaling-3"),
    ]
    for plot in drawn.values():
        picture = Image.open(io.BytesIO(plot.png)).convert("RGB")
        colours = picture.getcolors(1 << 24)
        assert picture.width > 700 and colours is not None and len(colours) > 20


def test_drawing_again_gives_the_same(drawn: dict[str, Plot]) -> None:
    paper = tuple(m for m in FULL.measurements if m.model != "tiny")
    again = {plot.title: plot for plot in plots(replace(EMPTY, measurements=paper))}
    stages = next(plot for title, plot in again.items() if "stages" in title)
    assert stages.png == drawn["stages-1"].png


def painted(monkeypatch: pytest.MonkeyPatch, result: BenchResult) -> dict[str, Any]:
    """Plot's name -> the axes, when everything was drawn on them."""
    from matplotlib.figure import Figure

    found: dict[str, Any] = {}

    def draw(name: str, title: str, about: str, paint: Callable[[Any], None], size: Any = None) -> Plot:

        found[name] = Figure().add_subplot()
        paint(found[name])
        return Plot(name, title, about, b"")

    monkeypatch.setattr(plots_module, "draw", draw)
    plots(result)
    return found


def test_lines_and_bars_are_the_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = painted(monkeypatch, FULL)
    rows = [m for m in FULL.measurements if (m.model, m.backend, m.steps) == ("tiny", "openvino", 25)]
    (line,) = (line for line in axes["latency-0"].lines if line.get_label() == "openvino")
    assert line.get_xdata().tolist() == [m.pixels for m in rows]
    assert line.get_ydata() == pytest.approx([np.median(m.seconds) for m in rows])
    reached = [(low[1], high[1]) for bars in axes["latency-0"].collections for low, high in bars.get_segments()]
    assert any(pair == pytest.approx(np.percentile(rows[0].seconds, [50, 95])) for pair in reached)
    names = [label.get_text() for label in axes["stages-1"].get_yticklabels()]
    assert {"eager-authors", "openvino"} <= set(names)
    totals = [note.get_text() for note in axes["stages-1"].texts]
    assert totals[names.index("eager-authors")].startswith("≈ ")  # put together from stages
    assert sum(text.startswith("≈") for text in totals) == 1


def test_the_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    rows = [
        Measurement("m", f"b{i}", "fp32", 8, 8, 1, 1, (float(t),), psnr=float(q))
        for i, (t, q) in enumerate(zip(rng.integers(1, 20, 60), rng.integers(1, 20, 60)))
    ]
    pairs = [(m.p50, m.psnr or 0) for m in rows]
    beaten = [any(t <= m[0] and q >= m[1] and (t, q) != m for t, q in pairs) for m in pairs]
    expected = {pair for pair, worse in zip(pairs, beaten) if not worse}
    found = [(m.p50, m.psnr) for m in pareto_front(rows)]
    assert set(found) == expected and found == sorted(found) and len(found) > 2


def test_parts_add_up_to_the_call() -> None:
    for m in FULL.measurements:
        if m.steps:
            assert sum(parts(m).values()) == pytest.approx(max(m.p50, sum(parts(m).values()) - parts(m)["rest"]))
    row = next(m for m in FULL.measurements if m.steps == 25)
    assert row.stages.step is not None and parts(row)["steps"] == pytest.approx(25 * row.stages.step)


def test_the_fitted_line_is_the_fit() -> None:
    xs = np.array([1.0, 2, 4, 8, 16, 32])
    fit = Scaling("m", "b", "pixels", "seconds", tuple(zip(xs.tolist(), (3 * xs**1.5).tolist())), 1.5)
    ends, heights = fitted_line(fit, fit.exponent)
    assert ends == [8, 32] and heights == pytest.approx([3 * 8**1.5, 3 * 32**1.5])


def test_a_backend_keeps_its_colour() -> None:
    some, others = (backend_colours(n) for n in (["mine", "openvino", "eager"], ["yours", "onnxruntime", "openvino"]))
    assert some["openvino"] == others["openvino"]
    assert len(set(backend_colours(KNOWN).values())) == len(KNOWN)
    assert len(set(some.values())) == 3


HOSTILE = '<script>x</script> $a^$ & "q" \x1b\x00' + "w" * 100


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("change", "least"), [("names", 4), ("zero", 1), ("one", 3), ("sizes", 4)])
def test_odd_records_are_drawn(change: str, least: int) -> None:
    rows = FULL.measurements[::17]
    if change == "names":
        rows = tuple(replace(m, model=HOSTILE, backend=HOSTILE) for m in rows)
    elif change == "zero":
        rows = tuple(replace(m, seconds=(0.0,)) for m in rows)
    elif change == "one":
        rows = rows[:1]
    else:
        rows = tuple(replace(rows[0], width=64 * n, height=64) for n in range(1, 9))
    first = FULL.scaling[0]
    fits = [replace(first, model=HOSTILE, points=first.points[:1]), replace(first, points=())]
    fits += [replace(first, of="planets", points=((0.0, 1.0), (2.0, 0.0)))]
    made = plots(replace(EMPTY, measurements=rows, scaling=tuple(fits)))
    assert len(made) == least
    for plot in made:
        assert Image.open(io.BytesIO(plot.png)).width > 700


def test_nothing_measured_draws_nothing() -> None:
    assert plots(EMPTY) == []


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LLDiffusionError, match=r"matplotlib.*lldiffusion\[bench\]"):
        plots(FULL)
