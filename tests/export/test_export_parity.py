"""Parity: a good export passes, a broken one is caught and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lldiffusion.config import ModelConfig, ParityConfig, UNetConfig
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.export.bisect import every_value, first_bad_operator, traced_values
from lldiffusion.export.dark import dark_image, drawn_scene
from lldiffusion.export.graphs import trace
from lldiffusion.export.parity import Judge, Report, compare, worst
from lldiffusion.export.precision import Island, to_half
from lldiffusion.export.profiles import parse_profiles
from lldiffusion.export.sizes import attention_pixels, sizes_to_judge
from support.exported import micro_graphs, micro_model

GRAPHS = ("encoder", "color_map", "denoiser", "level")
PARITY = ParityConfig()


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(micro_model(), [(64, 64), (75, 109)])


@pytest.fixture
def graphs(tmp_path: Path) -> dict[str, Path]:
    """Copies that a test may break."""
    return {name: Path(shutil.copy(micro_graphs() / f"{name}.onnx", tmp_path)) for name in GRAPHS}


def test_float32_graphs_reach_100_db(judge: Judge, graphs: dict[str, Path]) -> None:
    rows = list(judge.rows(OnnxRuntimeEngine(graphs, "fp32"), "fp32"))
    assert {row.graph for row in rows} == {*GRAPHS, "loop"} and {row.size for row in rows} == {"64x64", "109x75"}
    assert all(row.passed and row.psnr > 100 and abs(row.brightness) < 0.01 for row in rows)


def test_float16_graphs_reach_45_db(judge: Judge, graphs: dict[str, Path]) -> None:
    for name in ("encoder", "denoiser"):
        onnx.save(to_half(onnx.load(graphs[name]), "fp16")[0], graphs[name])
    rows = list(judge.rows(OnnxRuntimeEngine(graphs, "fp16"), "fp16"))
    assert all(row.passed and row.psnr > 45 and row.nonfinite == 0 for row in rows)
    assert max(row.psnr for row in rows if row.graph == "loop") < 120  # really float16


def test_a_wrong_coefficient_is_caught_and_named(judge: Judge, graphs: dict[str, Path]) -> None:
    model = onnx.load(graphs["denoiser"])
    node = next(node for node in model.graph.node if "c" in node.input)
    node.input[list(node.input).index("c")] = "b"
    onnx.save(model, graphs["denoiser"])
    rows = list(judge.rows(OnnxRuntimeEngine(graphs, "fp32"), "fp32"))
    failed = [row for row in rows if not row.passed]
    assert {row.graph for row in failed} == {"denoiser", "loop"}
    report = Report(tuple(rows), {"fp32": PARITY.of("fp32")})
    assert not report.passed and "fp32 denoiser at 64x64" in report.failures()[0]
    feeds = judge.feeds("denoiser")
    right = every_value(micro_graphs() / "denoiser.onnx", feeds)
    found = first_bad_operator(graphs["denoiser"], right, feeds, 70)
    assert found is not None and found.node == node.name and found.operator == "Mul"


def test_an_exposure_that_does_nothing_is_caught(judge: Judge, graphs: dict[str, Path]) -> None:
    """The usual exposure is 0, so the loop alone would not notice."""
    model = onnx.load(graphs["denoiser"])
    for node in model.graph.node:
        node.input[:] = ["no_exposure" if name == "exposure" else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "no_exposure"))
    onnx.save(model, graphs["denoiser"])
    rows = list(judge.rows(OnnxRuntimeEngine(graphs, "fp32"), "fp32"))
    assert {row.graph for row in rows if not row.passed} == {"denoiser"}


def test_nan_is_caught_and_its_operator_named(judge: Judge, graphs: dict[str, Path]) -> None:
    model = onnx.load(graphs["denoiser"])
    norm = [node for node in model.graph.node if node.op_type == "LayerNormalization"][3]
    for weight in model.graph.initializer:
        if weight.name == norm.input[1]:
            weight.CopyFrom(numpy_helper.from_array(np.full(weight.dims, np.nan, np.float32), weight.name))
    onnx.save(model, graphs["denoiser"])
    rows = list(judge.rows(OnnxRuntimeEngine(graphs, "fp32"), "fp32"))
    assert all(not row.passed and row.nonfinite for row in rows if row.graph in ("denoiser", "loop"))
    assert "NaN" in Report(tuple(rows), {"fp32": PARITY.of("fp32")}).failures()[0]
    feeds = judge.feeds("denoiser")
    right = every_value(micro_graphs() / "denoiser.onnx", feeds)
    found = first_bad_operator(graphs["denoiser"], right, feeds, 70)
    assert found is not None and found.node == norm.name and found.nonfinite > 0


def test_a_wrong_float32_graph_is_bisected_against_pytorch(judge: Judge, graphs: dict[str, Path]) -> None:
    right = traced_values(trace(micro_model(), "color_map"), judge.feeds("color_map"))
    assert first_bad_operator(graphs["color_map"], right, judge.feeds("color_map"), 70) is None
    model = onnx.load(graphs["color_map"])
    model.graph.node[-2].op_type = "Div"  # 2 c becomes c / 2 or 2 / c
    onnx.save(model, graphs["color_map"])
    found = first_bad_operator(graphs["color_map"], right, judge.feeds("color_map"), 70)
    assert found is not None and found.node == model.graph.node[-2].name and found.operator == "Div"


def test_a_drift_of_the_mean_fails_the_loop_whatever_its_psnr() -> None:
    wanted = np.zeros((1, 3, 64, 64), np.float32)
    shifted = wanted + np.float32(0.5 / 127.5)
    row = compare("fp16", "onnxruntime", "loop", "64x64", shifted, wanted, PARITY.of("fp16"))
    assert row.psnr > 45 and not row.passed and row.brightness == pytest.approx(0.5, abs=1e-3)
    assert compare("fp16", "onnxruntime", "denoiser", "64x64", shifted, wanted, PARITY.of("fp16")).passed


def test_psnr_is_that_of_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(0)
    wanted = rng.uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    given = np.clip(wanted + rng.normal(0, 0.01, wanted.shape), -1, 1).astype(np.float32)
    row = compare("fp16", "onnxruntime", "loop", "32x32", given, wanted, PARITY.of("fp16"))
    assert row.psnr == pytest.approx(peak_signal_noise_ratio(wanted, given, data_range=2.0), abs=1e-3)


def test_an_island_lost_fails_the_report() -> None:
    wrong = {"denoiser.fp16.onnx": ["norm_1 (GroupNormalization): mean and variance over many values"]}
    kept = {"denoiser.fp16.onnx": [vars(Island("norm_1", "GroupNormalization", "norm"))]}
    report = Report((), {}, islands=kept, wrong_islands=wrong)
    assert not report.passed
    assert report.failures() == [
        "denoiser.fp16.onnx: norm_1 (GroupNormalization): mean and variance over many values must stay float32"
    ]
    assert report.to_dict()["passed"] is False


def test_the_table_shows_the_worst_size(judge: Judge, graphs: dict[str, Path]) -> None:
    rows = list(judge.rows(OnnxRuntimeEngine(graphs, "fp32"), "fp32"))
    shown = worst(rows)
    assert [row.graph for row in shown] == ["encoder", "color_map", "level", "denoiser", "loop"]
    assert all(row.psnr == min(r.psnr for r in rows if r.graph == row.graph) for row in shown)


def test_images_are_dark_deterministic_and_padded() -> None:
    image = dark_image(75, 109, 32)
    assert image.shape == (1, 3, 96, 128) and image.dtype == np.float32
    assert image.min() >= -1 and image.max() <= 1 and image.mean() < -0.6
    np.testing.assert_array_equal(image, dark_image(75, 109, 32))
    drawn = drawn_scene(40, 60)
    assert drawn.shape == (40, 60, 3) and 0 <= drawn.min() < drawn.max() <= 1.0


def test_sizes_follow_the_profiles_the_budget_and_the_memory() -> None:
    profiles = parse_profiles(["64x64:608x416:1920x1088"], 32)
    model = ModelConfig(denoiser=UNetConfig(attention_down=(), attention_up=()))
    sizes, notes = sizes_to_judge(profiles, model, 1e-9, 60)
    assert sizes == [(64, 64), (197, 133), (416, 608), (1088, 1920)] and notes == []
    sizes, notes = sizes_to_judge(profiles, model, 1e-4, 60)
    assert sizes[3] == (384, 704) and "largest size 1920x1088 judged at 704x384: the budget of 60 s" in notes[1]
    sizes, _ = sizes_to_judge(profiles, model, 1.0, 60)
    assert sizes == [(64, 64), (197, 133), (128, 128)]  # a machine that is too busy still judges something
    fine = ModelConfig(denoiser=UNetConfig(attention_down=(0,)))
    assert attention_pixels(fine, 12 * 1000**2) == pytest.approx(1000)
