"""The paper's network, at its real size: traced, typed, and built into an engine."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from lldiffusion.config import load_config
from lldiffusion.export.engine_builder import BuildOptions, build_engine, installed, open_toolchain
from lldiffusion.export.graphs import ports, save, write_graph
from lldiffusion.export.precision import to_half
from lldiffusion.export.profiles import parse_profiles
from lldiffusion.model import LLDiffusion, fold_spectral_norm


@pytest.mark.slow
@pytest.mark.skipif(not installed("tensorrt-rtx"), reason='no tensorrt_rtx: pip install "lldiffusion[rtx]"')
def test_the_denoiser_of_the_paper_becomes_a_float16_engine(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LLDiffusion(load_config("paper"), with_degrader=False).eval().requires_grad_(False)
    fold_spectral_norm(model)
    write_graph(model, "denoiser", tmp_path / "denoiser.onnx")
    graph = tmp_path / "denoiser.fp16.onnx"
    save(to_half(onnx.load(tmp_path / "denoiser.onnx"), "fp16")[0], graph)
    profiles = parse_profiles(["64x64:608x416:1920x1088"], 32)
    blob, about = build_engine(
        open_toolchain("tensorrt-rtx"), graph, ports(graph)[0], profiles, 32, BuildOptions(effort=0)
    )
    assert len(blob) > 30e6
    assert set(about["convolutions"]) == {"HALF"} and about["inputs"]["x_t"] == "FLOAT"
