"""Eight bits: the rounding is the formula's, runtimes fuse it, and what costs too much stays in float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper

from lldiffusion.config import SamplingConfig, Thresholds
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export import int8
from lldiffusion.export.calibrate import calibration_planes, ranges_of
from lldiffusion.export.engine_builder import BuildOptions, build_engine, installed, open_toolchain
from lldiffusion.export.graphs import ports, save
from lldiffusion.export.int8_layers import layers, values_to_watch
from lldiffusion.export.profiles import parse_profiles
from lldiffusion.export.quantise import channel_scales, quantise, scale_of
from support.exported import micro_graphs, micro_model

# Two convolutions with a ReLU, a residual sum, a nearest Resize beside the sum in a Concat, a last convolution.
TEXT = """<ir_version: 9, opset_import: ["" : 20]>
net (float[n,16,h,w] x) => (float[n,16,h2,w2] y) <float[4] up = {1,1,2,2}> {
  t = Tanh(x)
  a = Conv <pads=[1,1,1,1]> (t, w1, b1)
  r = Relu(a)
  b = Conv <pads=[1,1,1,1]> (r, w2)
  s = Add(t, b)
  u = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (s, , up)
  v = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (b, , up)
  c = Concat <axis=1> (u, v)
  z = Conv (c, w3)
  y = Sigmoid(z)
}"""
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    shapes = {"w1": (16, 16, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "w3": (16, 32, 1, 1)}
    for name, shape in shapes.items():
        values = (RNG.standard_normal(shape) * 0.1).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def run(model: onnx.ModelProto, x: np.ndarray, optimised: Path | None = None) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    result: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]
    return result


@pytest.fixture(scope="module")
def quantised(net: onnx.ModelProto) -> tuple[onnx.ModelProto, np.ndarray]:
    x = RNG.standard_normal((1, 16, 20, 24)).astype(np.float32)
    made = quantise(net, ranges_of(net, [{"x": x}]), layers(net.graph))
    onnx.checker.check_model(made, full_check=True)
    return made, x


def test_zero_is_a_whole_number_and_the_ends_are_reached() -> None:
    for low, high in ((-3.0, 5.0), (0.0, 1.0), (0.2, 4.0), (-2.0, -1.0), (0.0, 0.0)):
        scale, zero = scale_of(low, high)
        assert 0 <= zero <= 255 and (0 - zero) * scale <= min(low, 0) + scale / 2
        assert (255 - zero) * scale >= max(high, 0) - scale / 2


def test_weights_are_rounded_by_channel(quantised: tuple[onnx.ModelProto, np.ndarray], net: onnx.ModelProto) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised[0].graph.initializer}
    wanted = numpy_helper.to_array(next(t for t in net.graph.initializer if t.name == "w1"))
    scales = constants["w1_scales"]
    assert scales.shape == (16,) and np.array_equal(scales, channel_scales(wanted))
    given = constants["w1_int8"] * scales.reshape(-1, 1, 1, 1)
    assert (np.abs(given - wanted) <= scales.reshape(-1, 1, 1, 1) / 2 + 1e-7).all()


def test_it_answers_nearly_the_same(quantised: tuple[onnx.ModelProto, np.ndarray], net: onnx.ModelProto) -> None:
    model, x = quantised
    wanted = run(net, x)
    error = np.abs(run(model, x) - wanted)
    assert 0 < error.max() < 0.05 * np.ptp(wanted)


def test_a_runtime_makes_integer_operators_of_it(quantised: tuple[onnx.ModelProto, np.ndarray], tmp_path: Path) -> None:
    """ONNX Runtime fuses every convolution, the sum, and the concat; nothing between them is float."""
    run(*quantised, optimised=tmp_path / "fused.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert operators.count("QLinearConv") == 3 and "Conv" not in operators
    assert "QLinearAdd" in operators and "QLinearConcat" in operators and "Relu" not in operators


def test_openvino_reads_it(quantised: tuple[onnx.ModelProto, np.ndarray]) -> None:
    openvino = pytest.importorskip("openvino")
    model, x = quantised
    compiled = openvino.compile_model(openvino.Core().read_model(model.SerializeToString()), "CPU")
    assert np.abs(compiled({"x": x})[0] - run(model, x)).max() < 0.1


def test_only_the_chosen_are_rounded(net: onnx.ModelProto) -> None:
    x = RNG.standard_normal((1, 16, 8, 8)).astype(np.float32)
    ranges = ranges_of(net, [{"x": x}])
    assert set(ranges) == set(values_to_watch(net.graph)) >= {"t", "r", "b", "s", "c"}
    made = quantise(net, ranges, layers(net.graph)[:1])
    stored = [tensor.name for tensor in made.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert [name for name in stored if name.endswith("_int8")] == ["w1_int8"]
    untouched = quantise(net, ranges, [])
    assert np.array_equal(run(untouched, x), run(net, x))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two small pictures to calibrate with, and small probes."""
    from lldiffusion.images import Image, write_image

    monkeypatch.setattr(int8, "SIDE", (64, 96))
    monkeypatch.setattr(int8, "PROBES", (11,))
    for i in range(2):
        write_image(tmp_path / f"{i}.png", Image(RNG.random((64, 64, 3), dtype=np.float32) * 0.2))
    return tmp_path


@pytest.mark.slow
def test_layers_that_cost_too_much_stay_float32(small: Path) -> None:
    """All in eight bits reach some PSNR; 2 dB more are reached with some layers left in float32, and not with all."""
    graphs = {path.stem: path for path in micro_graphs().glob("*.onnx")}
    config = replace(micro_model().config, sampling=SamplingConfig("ddim", 1, "trailing", True))
    search = int8._Search(graphs, config, Thresholds(10.0, 50.0), small)
    free = search.run()
    assert {island.reason for islands in free.kept.values() for island in islands} == {int8.THIN}
    loose = psnr_of(search, free)
    search._limit = Thresholds(loose + 2.0, 50.0)
    strict = search.run()
    costly = [island for islands in strict.kept.values() for island in islands if island.reason == int8.COSTLY]
    assert costly and psnr_of(search, strict) >= loose + 2.0 + int8.MARGIN
    search._limit = Thresholds(500.0, 50.0)
    with pytest.raises(LLDiffusionError, match=r"no layer reaches 500 dB \(parity\.int8_psnr\)"):
        search.run()


def test_what_mends_the_drift_is_left_out_not_what_errs_most(monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    graphs = {path.stem: path for path in micro_graphs().glob("*.onnx")}
    search = int8._Search(graphs, micro_model().config, Thresholds(10.0, 1.0), small)
    drifts, errs = [layer.name for layer in search._layers["denoiser"] if not layer.thin][:2]

    def errors(chosen: int8.Chosen) -> tuple[float, float]:
        return 1e-3 + 1e-2 * (errs in chosen["denoiser"]), 0.1 + 0.9 * (drifts in chosen["denoiser"])

    monkeypatch.setattr(search, "_errors", errors)
    kept = {island.node for islands in search.run().kept.values() for island in islands if island.reason == int8.COSTLY}
    assert kept == {drifts}
    search._limit = Thresholds(1e5, 1.0)  # beyond what a float holds
    with pytest.raises(LLDiffusionError, match="no layer reaches 100000 dB"):
        search.run()


def psnr_of(search: int8._Search, made: int8.Quantised) -> float:
    """Of the worse probe, in dB."""
    kept = {graph: {island.node for island in islands} for graph, islands in made.kept.items()}
    chosen = {graph: {layer.name for layer in found} - kept[graph] for graph, found in search._layers.items()}
    return float(10 * np.log10(4 / search._errors(chosen)[0]))


def test_the_shipped_pictures_are_dark_mixed_and_bright() -> None:
    means = [float((planes.mean() + 1) / 2) for planes in calibration_planes()]
    assert min(means) < 0.06 and max(means) > 0.35
    assert sum(0.06 < mean < 0.35 for mean in means) >= 3


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="holds no pictures"):
        calibration_planes(tmp_path)


@pytest.mark.parametrize(("numbers", "largest", "psnr"), [("int8-gpu", 127, 35), ("fp8", 448, 20)])
def test_gpus_get_no_zero_points_and_float_biases(
    net: onnx.ModelProto, numbers: str, largest: float, psnr: float
) -> None:
    x = RNG.standard_normal((1, 16, 8, 8)).astype(np.float32)
    ranges = ranges_of(net, [{"x": x}])
    model = quantise(net, ranges, layers(net.graph, shifts=False), numbers)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            low, high = ranges[node.input[0]]
            assert numpy_helper.to_array(stored[node.input[1]]) == pytest.approx(max(-low, high) / largest, rel=1e-5)
            assert not any(stored[node.input[2]].raw_data)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    assert first.input[2] == "b1" and stored["b1"].data_type == onnx.TensorProto.FLOAT
    exact, made = run(net, x), run(model, x)
    assert 10 * np.log10(1 / np.mean((exact - made) ** 2)) > psnr


@pytest.mark.parametrize("numbers", ["int8-gpu", "fp8"])
def test_tensorrt_for_rtx_builds_them(tmp_path: Path, numbers: str) -> None:
    if not installed("tensorrt-rtx"):
        pytest.skip('no tensorrt_rtx: pip install "lldiffusion[rtx]"')
    graphs = {path.stem: path for path in micro_graphs().glob("*.onnx")}
    made = int8.to_int8(graphs, micro_model().config, Thresholds(20, 5), numbers=numbers)
    save(made.models["denoiser"], tmp_path / "denoiser.onnx")
    inputs = ports(tmp_path / "denoiser.onnx")[0]
    profiles = parse_profiles(["64x64:96x64:128x96"], 32)
    tools = open_toolchain("tensorrt-rtx")
    engine, _ = build_engine(tools, tmp_path / "denoiser.onnx", inputs, profiles, 32, BuildOptions(effort=0))
    assert len(engine) > 100_000
