"""The single graph for Triton's own backends: its configuration against the graph and Triton's own schema.

Neither backend runs here: its server comes in NVIDIA's containers only.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export.graphs import annotate, save
from lldiffusion.export.single import SingleSettings, describe_single, make_single
from lldiffusion.export.single_graph import LAYOUTS
from lldiffusion.scale.triton_graph import BATCH, read_picture, write_graph_repositories
from support.exported import micro_graphs, micro_model


@lru_cache
def single(layout: str) -> bytes:
    settings = SingleSettings(layout=layout, opset=20)
    graphs = {path.stem: path for path in micro_graphs().glob("*.onnx")}
    made = make_single(micro_model(), graphs, settings)
    return bytes(annotate(made, describe_single(micro_model(), settings, "0" * 64, "m", None)).SerializeToString())


def written(folder: Path, layout: str) -> list[Path]:
    save(onnx.load_from_string(single(layout)), folder / "m.onnx")
    return write_graph_repositories(folder / "m.onnx", folder / "repository")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_said_of_the_graph_is_so(layout: str, tmp_path: Path) -> None:
    """A batch of the shape and type that the configuration names goes in, and the same comes out."""
    onnx_model, tensorrt = written(tmp_path, layout)
    session = onnxruntime.InferenceSession(str(onnx_model / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["image"]  # the others have defaults
    picture = read_picture(onnx_model / "1" / "model.onnx")
    shape = (3, *map(int, picture.dims(64, 96).split(", ")))
    given = np.zeros(shape, {"TYPE_UINT8": np.uint8, "TYPE_FP32": np.float32}[picture.type])
    (result,) = session.run(["enhanced"], {"image": given})
    assert result.shape == shape and result.dtype == given.dtype
    text = (tensorrt / "config.pbtxt").read_text()
    assert f"data_type: {picture.type} dims: [ {picture.dims(-1, -1)} ]" in text
    build = (tensorrt / "1" / "build.sh").read_text()
    assert f"--maxShapes=image:{BATCH}x{picture.dims(1088, 1920, 'x')}" in build
    subprocess.run(["sh", "-n", str(tensorrt / "1" / "build.sh")], check=True)


def test_both_have_repositories_of_their_own(tmp_path: Path) -> None:
    names = [path.relative_to(tmp_path).as_posix() for path in written(tmp_path, "nhwc-uint8")]
    assert names == ["repository/lldiffusion_onnx", "repository.tensorrt/lldiffusion_tensorrt"]
    with pytest.raises(LLDiffusionError, match="already there"):
        write_graph_repositories(tmp_path / "m.onnx", tmp_path / "repository")
    write_graph_repositories(tmp_path / "m.onnx", tmp_path / "repository", overwrite=True)


def test_other_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(LLDiffusionError, match="it is no ONNX file"):
        write_graph_repositories(tmp_path / "x.onnx", tmp_path / "repository")
    with pytest.raises(LLDiffusionError, match="is no single graph"):
        write_graph_repositories(micro_graphs() / "color_map.onnx", tmp_path / "repository")
    assert run(["export", "tiny", "-o", str(tmp_path / "page"), "--web", "--triton", "r", "--runtime", "d"]) == 2
    assert "--triton is for bundles" in capsys.readouterr().err


def test_tensorrt_reads_the_graph(tmp_path: Path) -> None:
    """TensorRT for RTX, which parses without a GPU, stands for the TensorRT of Triton's backend."""
    tensorrt: Any = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT for RTX (extra 'dev')")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    assert parser.parse(single("nhwc-uint8")), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    assert [network.get_input(i).name for i in range(network.num_inputs)] == ["image"]
    assert tuple(network.get_input(0).shape) == (-1, -1, -1, 3)


@pytest.mark.slow
def test_triton_knows_every_word(tmp_path: Path) -> None:
    """Parsed by Triton's own schema, out of the wheel of its client."""
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        tmp_path / "wheel",
        "tritonclient",
    ]
    if subprocess.run(list(map(str, install)), capture_output=True).returncode:
        pytest.skip("tritonclient cannot be installed here")
    text_format = pytest.importorskip("google.protobuf.text_format")
    file = tmp_path / "wheel" / "tritonclient" / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None and spec.loader is not None
    schema: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schema)
    for target, backend in zip(written(tmp_path, "nhwc-uint8"), ("onnxruntime", "tensorrt")):
        config = text_format.Parse((target / "config.pbtxt").read_text(), schema.ModelConfig())
        assert (config.name, config.backend, config.max_batch_size) == (target.name, backend, BATCH)
        assert list(config.input[0].dims) == list(config.output[0].dims) == [-1, -1, 3]
        assert config.input[0].data_type == schema.TYPE_UINT8 == config.model_warmup[0].inputs["image"].data_type
        assert list(config.model_warmup[0].inputs["image"].dims) == [64, 64, 3]
        assert list(config.dynamic_batching.preferred_batch_size) == [BATCH // 2, BATCH]
        assert config.instance_group[0].count == 1
