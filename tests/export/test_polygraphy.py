"""A second opinion from NVIDIA's Polygraphy: it builds our typed graphs into engines, and agrees about parity."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lldiffusion.export.graphs import ports, save
from lldiffusion.export.precision import to_half
from lldiffusion.export.profiles import parse_profile, shape_at
from support.exported import inputs, micro_graphs

os.environ.setdefault("POLYGRAPHY_USE_TENSORRT_RTX", "1")  # read when Polygraphy is imported
pytest.importorskip("polygraphy", reason="pip install polygraphy")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    from polygraphy.logger import G_LOGGER

    monkeypatch.setattr(G_LOGGER, "module_severity", {"": logging.CRITICAL})


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """The micro model's denoiser in float16."""
    save(to_half(onnx.load(micro_graphs() / "denoiser.onnx"), "fp16")[0], tmp_path / "denoiser.fp16.onnx")
    return tmp_path / "denoiser.fp16.onnx"


def test_polygraphy_builds_an_engine_of_a_typed_graph(half: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason='pip install "lldiffusion[rtx]"')
    from polygraphy.backend.trt import CreateConfig, Profile, engine_bytes_from_network, network_from_onnx_path

    chosen, profile = parse_profile("64x64:96x64:128x96", 32), Profile()
    for port in ports(half)[0]:
        sizes = (chosen.smallest, chosen.usual, chosen.largest)
        least, usual, most = (shape_at(port["shape"], size, 32) for size in sizes)
        if least != most:
            profile.add(port["name"], min=least, opt=usual, max=most)
    built = network_from_onnx_path(str(half))
    assert {built[1].get_output(i).name for i in range(built[1].num_outputs)} == {"x_next", "x0"}
    blob = engine_bytes_from_network(built, config=CreateConfig(profiles=[profile], builder_optimization_level=0))
    assert len(bytes(blob)) > 100_000


def compared(graphs: list[Path], feeds: list[dict[str, np.ndarray]], tolerance: float) -> bool:
    """Whether Polygraphy finds the outputs of two graphs alike, run by its own ONNX Runtime runner."""
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.comparator import Comparator, RunResults, SimpleCompareFunc

    results: Any = RunResults()
    for graph, fed in zip(graphs, feeds, strict=True):
        results.extend(Comparator.run([OnnxrtRunner(SessionFromOnnx(str(graph)), name=graph.name)], data_loader=[fed]))
    return bool(Comparator.compare_accuracy(results, compare_func=SimpleCompareFunc(atol=tolerance, rtol=0)))


def test_polygraphy_agrees_about_parity(half: Path, tmp_path: Path) -> None:
    whole = micro_graphs() / "denoiser.onnx"
    given = inputs("pixel", 1, 64, 96, 700.0)
    typed = given | {"feature_0": given["feature_0"].astype(np.float16)}
    assert compared([whole, half], [given, typed], 2e-2)
    assert not compared([whole, half], [given, typed], 1e-7)  # really float16
    model = onnx.load(half)
    node = next(node for node in model.graph.node if "k_p" in node.input)
    node.input[list(node.input).index("k_p")] = "a"
    onnx.save(model, tmp_path / "broken.onnx")
    assert not compared([whole, tmp_path / "broken.onnx"], [given, typed], 2e-2)
