"""The report in words: terminal, Markdown, CSV, and what is compared with what."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from lldiffusion.bench.record import BenchResult, Machine, Measurement
from lldiffusion.bench.report.columns import EVERY
from lldiffusion.bench.report.comparison import explained_backends, main_workloads, ordered, verdicts, workloads
from lldiffusion.bench.report.tables import tables
from lldiffusion.bench.report.terminal import show
from lldiffusion.bench.report.text import to_csv, to_markdown
from lldiffusion.bench.report.units import plain, unit_for, with_unit
from support.bench_results import full_result

HOSTILE = 'a|b <script>alert(1)</script> [red]x[/] *y* `z` \x1b[31m "q" $m$ \n=1'
FULL = full_result()
EMPTY = BenchResult(Machine("Linux", "a CPU", 2, 8 << 30), {}, "", "", "2026-11-24")
ROW = Measurement("tiny", "onnxruntime", "fp32", 600, 400, 1, 4, (1.0,), noise=0.02)


def on_terminal(result: BenchResult, width: int = 80) -> str:
    """What `show` prints, without colours."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    show(result, console)
    out: str = console.file.getvalue()  # type: ignore[attr-defined]
    return out


def html_cells(markdown: str) -> list[list[str]]:
    """The cells of every table row, read by a Markdown parser of someone else's."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    rows: list[list[str]] = []
    for token, inline in zip(tokens, [*tokens[1:], None]):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open") and inline is not None:
            rows[-1].append("".join(child.content for child in inline.children or []))
    return rows


def test_csv_has_every_measurement_with_numpys_percentiles() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(FULL))))
    assert len(rows) == len(FULL.measurements)
    for row, measured in zip(rows, FULL.measurements):
        assert (row["model"], row["backend"], row["size"]) == (measured.model, measured.backend, measured.size)
        for share in (50, 90, 95, 99):
            assert float(row[f"p{share}"]) == pytest.approx(np.percentile(measured.seconds, share))
        assert float(row["images_per_second"]) == pytest.approx(1 / np.median(measured.seconds))
        assert row["device_memory"] == ""  # not measured, which is not zero


def test_speed_is_compared_with_the_same_work() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(FULL))))
    by_key = {(r["model"], r["backend"], r["size"], r["steps"]): r for r in rows}
    for (model, backend, size, steps), row in by_key.items():
        base = by_key.get((model, "eager-authors", size, steps))
        if base is None:
            assert row["times_authors"] == "" and backend in ("gamma", "clahe")
        else:
            assert float(row["times_authors"]) == pytest.approx(float(base["p50"]) / float(row["p50"]))


@pytest.mark.parametrize(
    ("seconds", "noise", "shown"),
    [(0.97, 0.05, "same"), (1.04, 0.05, "same"), (0.9, 0.05, "1.11"), (1.2, 0.05, "0.83"), (0.97, None, "1.03?")],
)
def test_a_difference_within_the_noise_is_none(seconds: float, noise: float | None, shown: str) -> None:
    rows = (replace(ROW, backend="eager"), replace(ROW, seconds=(seconds,), noise=noise))
    (speed,) = tables(replace(EMPTY, measurements=rows))
    column = [head.text for head in speed.heads].index("vs eager")
    cells = {row[[head.text for head in speed.heads].index("backend")].text: row[column].text for row in speed.rows}
    assert cells == {"eager": "base", "onnxruntime": shown}


def test_the_fastest_and_those_within_its_noise_are_marked() -> None:
    times = {"a": 1.0, "b": 1.01, "c": 1.1}
    rows = tuple(replace(ROW, backend=name, seconds=(time,)) for name, time in times.items())
    (speed,) = tables(replace(EMPTY, measurements=rows))
    assert [row[0].text for row in speed.rows if row[0].best] == ["a", "b"]
    (verdict,) = verdicts(replace(EMPTY, measurements=rows))
    assert verdict.winner == "a fp32" and verdict.details == ("b fp32 the same within the noise",)


def test_rows_of_the_same_work_stand_together() -> None:
    slow = replace(ROW, seconds=(2.0,), backend="slow")
    classical = replace(ROW, model="classical", backend="gamma", steps=0)
    rows = (classical, replace(ROW, steps=1), replace(ROW, width=64), slow, ROW)
    found = ordered(workloads(rows), rows)
    assert [(m.width, m.steps, m.backend) for m in found] == [
        (64, 4, "onnxruntime"),
        (600, 4, "onnxruntime"),
        (600, 4, "slow"),
        (600, 1, "onnxruntime"),
        (600, 0, "gamma"),
    ]


def test_the_verdict_is_about_the_work_with_most_backends() -> None:
    few = replace(ROW, steps=25, seconds=(5.0,))
    rows = (few, ROW, replace(ROW, backend="eager-authors", seconds=(3.0,)))
    (verdict,) = verdicts(replace(EMPTY, measurements=rows))
    assert verdict.what == "600x400, 4 steps" and verdict.details == ("3.00 times as fast as the authors' way",)
    (chosen,) = main_workloads(rows)
    assert chosen.rows == rows[1:]


def test_known_backends_are_explained() -> None:
    told = dict(explained_backends(FULL))
    assert set(told) == {m.backend for m in FULL.measurements} - {"gamma", "clahe"}
    assert "encoder" in told["eager-authors"] and "ONNX Runtime" in told["onnxruntime"]


def test_markdown_tables_are_whole() -> None:
    rows = html_cells(to_markdown(FULL))
    assert len(rows) == sum(len(grid.rows) + 1 for grid in tables(FULL))
    p50 = f"{np.median(FULL.measurements[0].seconds):.2f}"
    assert any(row[:4] == ["eager-authors", "tiny", "600x400", "25"] and p50 in row for row in rows)
    for grid in tables(FULL):
        assert all(len(row) == len(grid.heads) for row in grid.rows)


def test_what_all_rows_share_is_said_once() -> None:
    speed = tables(FULL)[0]
    assert speed.shared == ("fp32", "batch 1", "2 threads")
    assert {"model", "size", "steps"} <= {head.text for head in speed.heads}
    assert not {"precision", "batch", "threads"} & {head.text for head in speed.heads}


def test_what_was_put_together_is_named() -> None:
    notes = tables(FULL)[0].notes
    assert "Put together from timed stages, not run whole: eager-authors on paper, 600x400, 25 steps." in notes


def test_the_terminal_needs_no_plots() -> None:
    code = "import sys, lldiffusion.bench.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lldiffusion.bench.report.page" in loaded
    assert not {"matplotlib", "jinja2", "skimage", "torch"} & set(loaded)


def test_the_terminal_fits_80_columns() -> None:
    out = on_terminal(FULL)
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for text in ("A made-up CPU", "Rounds are interleaved", "onnxruntime", "paper, 600x400, 25 steps", "attention"):
        assert text in out


@pytest.mark.parametrize("form", [to_markdown, to_csv, on_terminal])
def test_a_hostile_name_stays_text(form: object) -> None:
    rows = tuple(replace(ROW, model=HOSTILE, backend=name, note=HOSTILE) for name in (HOSTILE, "=cmd()"))
    machine = replace(EMPTY.machine, cpu=HOSTILE, conditions={HOSTILE: HOSTILE})
    text = form(replace(EMPTY, machine=machine, measurements=rows, notes=(HOSTILE,), versions={HOSTILE: HOSTILE}))  # type: ignore[operator]
    assert "\x1b" not in text
    if form is to_markdown:
        rendered = MarkdownIt("commonmark").enable("table").render(text)
        assert "<script>" not in rendered and "<em>" not in rendered and "<code>" not in rendered
        assert plain(HOSTILE, 60) in [cell for row in html_cells(text) for cell in row]  # one whole cell
    if form is to_csv:
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert "'=cmd()" in cells and not any(cell.startswith("=") for cell in cells)
    if form is on_terminal:
        wide = on_terminal(replace(EMPTY, measurements=rows), 400)
        row = next(line for line in wide.splitlines() if line.strip().startswith("a|b") and "1.00" in line)
        assert "[red]x[/]" in row and "[red]x[/]" in text.replace("\n", " ")


@pytest.mark.parametrize("result", [EMPTY, replace(EMPTY, measurements=(replace(ROW, seconds=(), psnr=12.0),))])
def test_little_was_measured(result: BenchResult) -> None:
    assert "a CPU" in on_terminal(result) and "a CPU" in to_markdown(result)
    assert len(to_csv(result).splitlines()) == 1 + len(result.measurements)
    assert verdicts(result) == []


def test_all_times_of_a_table_have_one_unit() -> None:
    row = replace(ROW, seconds=(2.0,), limit=0.001)
    (speed,) = tables(replace(EMPTY, measurements=(row,)))
    assert {head.unit for head in speed.heads if head.text in ("p50", "mean", "limit")} == {"s"}
    assert "0.00100" in [cell.text for cell in speed.rows[0]]


def test_numbers_have_three_digits_and_one_unit() -> None:
    assert [unit_for("seconds", [0.5, 2.0])(value) for value in (0.00123, 0.5, 12.34, 1234)] == [
        "0.00123",
        "0.500",
        "12.3",
        "1234",
    ]
    assert with_unit("seconds", 0.0123) == "12.3 ms" and with_unit("bytes", 3 << 30) == "3.00 GiB"
    assert unit_for("levels", [])(0.25) == "+0.250" and unit_for("number", [])(float("nan")) == "-"
    assert plain("a\x00b" + "c" * 300, 10) == "a�bcccccc…"


def test_the_documentation_explains_every_column(root: Path) -> None:
    rows = html_cells((root / "docs" / "bench.md").read_text(encoding="utf-8"))
    assert rows == [["column", "means"], *([column.head, column.about] for column in EVERY)]
