"""The README's numbers table says what the result file says, and nothing else in the README is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import typer

from benchmarks.readme_table import BEGIN, END, insert, main, table
from lldiffusion.bench.record import BenchResult, Ceilings, Machine, Measurement, Scaling, load_result
from lldiffusion.errors import LLDiffusionError

BASE = Measurement(
    *("tiny", "onnxruntime", "fp32", 600, 400, 1, 4, (0.5, 0.51, 0.5, 0.49, 0.5)),
    overhead=0.012,
    limit=0.4,
    host_memory=300 << 20,
    cold_start=(0.9, 0.8),
    psnr=22.5,
    ssim=0.8,
)
ROWS = (
    replace(BASE, backend="gamma", model="classical", steps=0, seconds=(0.001,) * 3, psnr=12.0, ssim=0.5),
    BASE,
    replace(BASE, backend="eager-authors", seconds=(1.0, 1.01, 1.0, 0.99, 1.0)),
    replace(BASE, backend="eager", seconds=(0.5, 0.52, 0.5, 0.49, 0.5)),
    replace(BASE, steps=1, seconds=(0.1, 0.1, 0.1)),
    replace(BASE, steps=1, precision="int8", seconds=(0.1, 0.1, 0.1), psnr=22.1, ssim=0.79),
    replace(BASE, model="paper", steps=25, seconds=(40.0, 41.0, 40.0), derived=True, psnr=None, cold_start=()),
)
RESULT = BenchResult(
    Machine("Linux x86_64", "a CPU", 2, 8 << 30),
    {"torch": "2.13", "onnxruntime": "1.32"},
    "abcdef",
    "lldiff bench tiny paper",
    "2026-11-24T16:00:00+00:00",
    ceilings=(Ceilings("cpu", "fp32", 3e11, 2e10, ""),),
    measurements=ROWS,
    scaling=(Scaling("tiny", "onnxruntime", "pixels", "seconds", ((1.0, 1.0), (2.0, 2.0)), 1.04, "MatMul"),),
)


def test_each_number_is_that_of_the_file() -> None:
    lines = table(RESULT).splitlines()
    assert lines[2].split(" | ") == [
        *("| `tiny`, 600x400, 4", "onnxruntime", "500 ms (506 ms)", "2.00 ×", "same", "1.25 ×", "1.2 %", "300 MiB"),
        "800 ms |",
    ]
    assert lines[3].startswith("| `paper`, 600x400, 25 | onnxruntime | 40.00 s † |")  # three calls have no tail
    assert len({line.count("|") for line in lines[:4]}) == 1
    text = "\n".join(lines[4:])
    assert "gamma 12.00 dB / 0.500" in text and "`tiny` with 4 steps 22.50 dB / 0.800" in text
    assert "`tiny` with one step 22.50 dB / 0.800; `tiny` with one step in int8 22.10 dB / 0.790" in text
    assert "time of `tiny` as pixels^1.04 (MatMul)" in text
    assert "a CPU, 2 cores; ceilings 300 GFLOP/s and 20 GB/s (fp32); torch 2.13, onnxruntime 1.32; 2026-11-24" in text
    assert "commit abcdef: `lldiff bench tiny paper`" in text


def test_only_what_stands_between_the_markers_changes(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "bench.json")
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n", encoding="utf-8")
    main(tmp_path, readme, check=False, show=False)
    text = readme.read_text(encoding="utf-8")
    assert text == f"# Title\n\n{BEGIN}\n{table(RESULT)}\n{END}\n\nrest\n"
    for number, code in ((table(RESULT), 0), ("another", 1)):
        readme.write_text(insert(text, number), encoding="utf-8")
        with pytest.raises(typer.Exit) as left:
            main(tmp_path, readme, check=True, show=False)
        assert left.value.exit_code == code


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_missing_markers_are_named(text: str) -> None:
    with pytest.raises(LLDiffusionError, match="numbers: begin"):
        insert(text, "table")


def test_a_result_without_networks_is_refused() -> None:
    with pytest.raises(LLDiffusionError, match="no timed network"):
        table(replace(RESULT, measurements=ROWS[:1]))


def test_the_projects_readme_says_what_its_result_says(root: Path) -> None:
    result, readme = root / "benchmarks" / "results" / "cpu" / "bench.json", root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not result.is_file() or BEGIN not in text:
        pytest.skip("no result, or a README without its table")
    assert insert(text, table(load_result(result))) == text, "run  python -m benchmarks.readme_table"
