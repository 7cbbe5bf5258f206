"""Plots: what they show is what was measured, as PNG and as SVG that lives in a page."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lldiffusion.bench.record import Machine, Measurement, Result, Scaling
from lldiffusion.bench.report.canvas import Plot
from lldiffusion.bench.report.pareto import front
from lldiffusion.bench.report.plots import plots
from lldiffusion.bench.report.scaling import fitted_line
from lldiffusion.bench.report.stages import parts
from lldiffusion.bench.report.style import COLOURS, KNOWN, looks
from lldiffusion.errors import LLDiffusionError
from support.bench_results import full_result

FULL = full_result()
EMPTY = Result(Machine("Linux", "a CPU", 2, 8 << 30), {}, "", "", "2026-11-24")


@pytest.fixture(scope="module")
def drawn() -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(FULL)}


def texts(svg: str) -> list[str]:
    """What is written in an SVG, tips included."""
    return [part.text or "" for part in ElementTree.fromstring(svg).iter() if part.text and part.text.strip()]


def test_every_kind_is_drawn(drawn: dict[str, Plot]) -> None:
    assert list(drawn) == [
        *("latency-0", "latency-1", "front", "stages-0", "stages-1"),
        *("scaling-0", "scaling-1", "scaling-2", "scaling-3"),
    ]
    for plot in drawn.values():
        picture = Image.open(io.BytesIO(plot.png)).convert("RGB")
        colours = picture.getcolors(1 << 24)
        assert picture.width > 700 and colours is not None and len(colours) > 20


def test_an_svg_reaches_nowhere_and_takes_the_pages_colours(drawn: dict[str, Plot]) -> None:
    identities: list[str] = []
    for plot in drawn.values():
        parts_of = list(ElementTree.fromstring(plot.svg).iter())
        own = [part.attrib["id"] for part in parts_of if "id" in part.attrib]
        references = [part.attrib["href"] for part in parts_of if "href" in part.attrib]
        assert references and {reference.removeprefix("#") for reference in references} <= set(own)
        assert not any(f"#{light.lstrip('#')}" in plot.svg for light, _ in COLOURS.values())
        assert "var(--ink)" in plot.svg and "http" not in plot.svg.replace("http://www.w3.org/2000/svg", "")
        identities += own
    assert len(set(identities)) == len(identities)  # they share one document


def test_drawing_again_gives_the_same(drawn: dict[str, Plot]) -> None:
    paper = tuple(m for m in FULL.measurements if m.model != "tiny")
    again = {plot.title: plot for plot in plots(replace(EMPTY, measurements=paper))}
    stages = next(plot for title, plot in again.items() if "stages" in title)
    assert stages.png == drawn["stages-1"].png
    assert stages.svg == drawn["stages-1"].svg.replace("stages-1", "stages-0")


def test_points_tell_their_numbers(drawn: dict[str, Plot]) -> None:
    row = next(
        m for m in FULL.measurements if (m.model, m.backend, m.size, m.steps) == ("tiny", "openvino", "1280x720", 25)
    )
    expected = (
        f"openvino fp32, 1280x720: p50 {np.median(row.seconds):.2f} s, p95 {np.percentile(row.seconds, 95):.2f} s"
    )
    assert any(text.startswith(expected) for text in texts(drawn["latency-0"].svg))


def test_one_size_is_drawn_as_bars(drawn: dict[str, Plot]) -> None:
    assert "600x400" in drawn["latency-1"].title and "size" in drawn["latency-0"].title
    assert {"eager-authors", "openvino"} <= set(texts(drawn["latency-1"].svg))


def test_the_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    rows = [
        Measurement("m", f"b{i}", "fp32", 8, 8, 1, 1, (float(t),), psnr=float(q))
        for i, (t, q) in enumerate(zip(rng.integers(1, 20, 60), rng.integers(1, 20, 60)))
    ]
    pairs = [(m.p50, m.psnr or 0) for m in rows]
    beaten = [any(t <= m[0] and q >= m[1] and (t, q) != m for t, q in pairs) for m in pairs]
    expected = {pair for pair, worse in zip(pairs, beaten) if not worse}
    found = [(m.p50, m.psnr) for m in front(rows)]
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
    some, others = looks(["mine", "openvino", "eager"]), looks(["yours", "onnxruntime", "openvino"])
    assert some["openvino"] == others["openvino"]
    assert len({look.colour for look in looks([*KNOWN]).values()}) == len(KNOWN)
    assert len({look.colour for look in some.values()}) == 3


HOSTILE = '<script>x</script> $a^$ & "q" \x1b\x00' + "w" * 100


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("change", "least"), [("names", 4), ("zero", 1), ("one", 4), ("sizes", 4)])
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
        assert "<script" not in plot.svg
        ElementTree.fromstring(plot.svg)


def test_nothing_measured_draws_nothing() -> None:
    assert plots(EMPTY) == []


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LLDiffusionError, match=r"matplotlib.*lldiffusion\[bench\]"):
        plots(FULL)
