"""Narrow convolutions written as wide ones: the same answers, in the shapes that integer kernels like."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from lldiffusion.export.pack import pack, packed_weights
from support.exported import inputs, micro_graphs, session


@pytest.mark.parametrize("side", [3, 5])
def test_packed_weights_see_what_the_kernel_saw(side: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 16, 12), torch.randn(4, 3, side, side)
    wanted = F.pixel_unshuffle(F.conv2d(x, weight, padding=side // 2), 2)
    both, pad = packed_weights(weight.numpy(), 2, 1)
    given = F.conv2d(F.pixel_unshuffle(x, 2), torch.from_numpy(both), padding=pad)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
    wide, pad = packed_weights(weight.numpy(), 2, 2)
    given = F.conv2d(x, torch.from_numpy(wide), stride=2, padding=pad)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("graph", ["denoiser", "encoder"])
def test_packed_graphs_answer_the_same(graph: str) -> None:
    model = onnx.load(micro_graphs() / f"{graph}.onnx")
    names = {node.name for node in model.graph.node if node.op_type == "Conv"}
    pack(model)
    onnx.checker.check_model(model, full_check=True)
    assert {node.name for node in model.graph.node if node.op_type == "Conv"} == names
    given = inputs("pixel", 2, 64, 96, 500.0)
    given = given if graph == "denoiser" else {"low": given["low"]}
    packed = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session(micro_graphs() / f"{graph}.onnx").run(None, given)
    for ours, theirs in zip(packed.run(None, given), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_follows_a_pixel_shuffle_works_on_the_coarse_grid() -> None:
    """Of the traced denoiser: the shuffle comes behind the refinement, and makes three channels instead of six."""
    model = onnx.load(micro_graphs() / "denoiser.onnx")
    pack(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert shapes["denoiser.refine.look.weight_packed"] == (16, 24, 3, 3)
    assert shapes["denoiser.refine.mend.weight_packed"] == (12, 16, 3, 3)
    order = [node.op_type for node in model.graph.node]
    assert order.count("DepthToSpace") == order.count("SpaceToDepth") == 1
    last = max(i for i, kind in enumerate(order) if kind == "Conv")
    assert order.index("DepthToSpace") > last > order.index("SpaceToDepth")


def test_the_wide_kernel_makes_four_pixels_at_once() -> None:
    model = onnx.load(micro_graphs() / "encoder.onnx")
    pack(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert shapes["net.wide.weight_packed"] == (32, 8, 8, 8)
    assert shapes["net.pyramid.1.conv.weight_packed"] == (16, 32, 2, 2)
