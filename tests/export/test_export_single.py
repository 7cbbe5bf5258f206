"""The single graph: equal to the loop at any size, on every runtime here, and open again as a model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.engines.level import reduce_picture
from lldiffusion.engines.pixels import pad_to_multiple
from lldiffusion.engines.sampler import plan_steps
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export.graphs import annotate, save
from lldiffusion.export.single import (
    SingleSettings,
    _planes,
    check_single_export,
    describe_single,
    judge_single,
    make_single,
)
from lldiffusion.export.single_graph import compose
from lldiffusion.export.single_noise import noise_field
from support.exported import micro_graphs, micro_model

SIZES = ((2, 3), (70, 133))
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 60, (64, 128, 3)).astype(np.uint8)  # not padded: a caller's noise would be mirrored


@lru_cache
def single(norm: str = "pixel", precision: str = "fp32", layout: str = "nchw-float", opset: int = 20) -> bytes:
    """The single graph of the micro model, its graphs being of opset 21."""
    folder = micro_graphs(norm)
    graphs = {path.stem: path for path in folder.glob("*.onnx")}
    settings = SingleSettings(precision, layout, opset=opset)
    made = make_single(micro_model(norm), graphs, settings)
    about = describe_single(micro_model(norm), settings, "0" * 64, "micro", None)
    return bytes(annotate(made, about).SerializeToString())


def written(path: Path, layout: str = "nchw-float") -> Path:
    save(onnx.load_from_string(single(layout=layout)), path)
    return path


def run(model: bytes, image: np.ndarray, **more: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    result: np.ndarray = onnxruntime.InferenceSession(model, options).run(None, {"image": image} | more)[0]
    return result


@pytest.mark.parametrize(("precision", "layout"), [("fp32", "nchw-float"), ("fp16", "nhwc-uint8")])
def test_it_answers_like_the_loop(precision: str, layout: str) -> None:
    model = onnx.load_from_string(single("pixel", precision, layout))
    report = judge_single(micro_model(), model, SingleSettings(precision, layout), sizes=SIZES)
    assert report.passed, report.failures()
    assert {row.how for row in report.rows} == {"onnxruntime", "openvino"}


def test_the_papers_parts_too() -> None:
    graphs = {path.stem: onnx.load(path) for path in micro_graphs("group").glob("*.onnx")}  # of opset 21, as GroupNorm
    config = micro_model("group").config
    model = compose(graphs, plan_steps(config), config.model.size_multiple, "nchw-float", 21)
    report = judge_single(micro_model("group"), model, SingleSettings(), sizes=((33, 70),))
    assert report.passed, report.failures()
    assert [port.name for port in model.graph.input] == ["image"]  # it has no level: nothing else is asked


def test_bytes_are_judged_by_what_they_may_be_rounded_from() -> None:
    wanted = np.array([127.499, 127.501, 3.0, 9.0], np.float32).reshape(1, 1, 1, 4) / 127.5 - 1
    given = np.array([128, 127, 3, 11], np.uint8).reshape(1, 1, 4, 1)  # two between bytes, one right, one wrong
    error = np.abs(_planes(given, wanted) - wanted).ravel() * 127.5
    np.testing.assert_allclose(error, [0.001, 0.001, 0, 1.5], atol=1e-4)


@pytest.mark.parametrize("layout", ["nchw-float", "nhwc-uint8"])
def test_a_broken_graph_is_refused(layout: str) -> None:
    model = onnx.load_from_string(single(layout=layout))
    tensor = next(t for t in model.graph.initializer if t.name.startswith("denoiser/") and len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor) * 1.05
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    assert not judge_single(micro_model(), model, SingleSettings(layout=layout), sizes=((40, 40),)).passed


def test_opset_17_answers_the_same() -> None:
    image = RNG.random((2, 3, 40, 51), dtype=np.float32) * 0.2
    old = onnx.load_from_string(single(opset=17))
    assert [entry.version for entry in old.opset_import] == [17]
    assert np.array_equal(run(single(opset=17), image), run(single(), image))


def test_noise_is_normal_and_a_part_of_a_larger_one() -> None:
    large = noise_field(400, 500)
    assert np.array_equal(large[:, :, :70, :90], noise_field(70, 90))
    assert abs(large.mean()) < 0.02
    assert large.std() == pytest.approx(1, abs=0.02)
    columns = np.abs(np.corrcoef(large[0, 0].T)[0, 1:])
    assert columns.max() < 0.7  # a table comes back after 67 or 73 columns, never both


def test_pictures_of_a_batch_do_not_touch() -> None:
    images = RNG.random((2, 3, 40, 70), dtype=np.float32) * np.array([0.1, 0.9], np.float32).reshape(2, 1, 1, 1)
    both = run(single(), images)
    assert np.allclose(both[1:], run(single(), images[1:]), atol=1e-5)


def test_the_padding_and_the_thumbnail_are_the_runtimes() -> None:
    """Values inside the graph against NumPy: the mirrored picture and the area averages."""
    model = onnx.load_from_string(single())
    padded = next(node.input[0] for node in model.graph.node if node.name.startswith("color_map/"))
    for name in (padded, "thumbnail"):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = RNG.random((5, 211, 3), dtype=np.float32)
    planes = pixels.transpose(2, 0, 1)[None]
    low, thumbnail = session.run([padded, "thumbnail"], {"image": planes})
    assert np.allclose(low, pad_to_multiple(planes * 2 - 1, 32), atol=1e-6)
    assert np.allclose((thumbnail[0].transpose(1, 2, 0) + 1) / 2, reduce_picture(pixels), atol=1e-6)


@pytest.mark.parametrize("layout", ["nchw-float", "nhwc-uint8"])
def test_it_opens_as_a_model(tmp_path: Path, layout: str) -> None:
    """Whole, in tiles, brighter: as the graphs of a bundle do, but for the noise."""
    graphs = OnnxRuntimeEngine({path.stem: path for path in micro_graphs().glob("*.onnx")}, "fp32")
    loop = Enhancer(graphs, micro_model().config, tile="none")
    noise = np.ascontiguousarray(noise_field(64, 128)[0].transpose(1, 2, 0))
    with Enhancer.open(written(tmp_path / "x.onnx", layout), device="cpu") as enhancer:
        assert np.abs(enhancer(PICTURE).astype(int) - loop(PICTURE, noise=noise)).max() <= 2
        brighter = loop(PICTURE, noise=noise, exposure=1.0)
        assert np.abs(enhancer(PICTURE, exposure=1.0).astype(int) - brighter).max() <= 2
        match = enhancer.exposure_to_match(PICTURE, 0.5)
        assert match == pytest.approx(loop.exposure_to_match(PICTURE, 0.5), abs=0.01)
        assert enhancer.info()["steps"] == "3, inside the file"


def test_level_and_window_of_a_tile_are_taken(tmp_path: Path) -> None:
    """The right half of a picture, told its place and the level of the whole: the loop that is told them agrees."""
    path, model = written(tmp_path / "x.onnx"), micro_model()
    image = np.linspace(0.01, 0.3, 128, dtype=np.float32)[None, None, None].repeat(64, 2).repeat(3, 1)
    with Enhancer.open(path, device="cpu") as enhancer:
        level = np.asarray(enhancer.pipeline.level(image * 2 - 1))
    half, window = np.ascontiguousarray(image[..., 64:]), np.array([[0, 0.5, 1, 1]], np.float32)
    graphs = OnnxRuntimeEngine({path.stem: path for path in micro_graphs().glob("*.onnx")}, "fp32")
    told = run(path.read_bytes(), half, level=level, window=window, exposure=np.ones(1, np.float32))
    steps = plan_steps(model.config, exposure=1.0)
    wanted = graphs.sample(half * 2 - 1, steps, noise_field(64, 64), level=level, window=window)
    assert np.allclose(told, np.clip((wanted + 1) / 2, 0, 1), atol=1e-4)
    assert not np.allclose(told, run(path.read_bytes(), half), atol=1e-2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "bf16"}, "accepted are fp32, fp16, int8"),
        ({"layout": "nchw"}, "accepted are nchw-float, nhwc-uint8"),
        ({"opset": 16}, "17 to 20"),
    ],
)
def test_bad_settings(change: dict[str, object], words: str) -> None:
    with pytest.raises(LLDiffusionError, match=words):
        SingleSettings(**change)  # type: ignore[arg-type]


def test_bad_outputs(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match=r"ends in \.onnx"):
        check_single_export(tmp_path / "x.lldiff", SingleSettings())
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(LLDiffusionError, match="exists already"):
        check_single_export(tmp_path / "x.onnx", SingleSettings())


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match=r"runs by itself.*--single"):
        Enhancer.open(micro_graphs() / "denoiser.onnx")
    path = written(tmp_path / "x.onnx")
    with pytest.raises(LLDiffusionError, match="holds its steps"):
        Enhancer.open(path, steps=2)
    with pytest.raises(LLDiffusionError, match="accepted are auto, onnxruntime"):
        Enhancer.open(path, backend="openvino")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LLDiffusionError, match=r"x\.onnx"):
        Enhancer.open(path)
