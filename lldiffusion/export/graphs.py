"""The ONNX graphs of a model: encoder, colour map, one whole step of the loop, and the level where it has one.

    level:      thumbnail -> level                                         once per image
    encoder:    low -> feature_0 .. feature_{k-1}                          once per image, or tile
    color_map:  low -> color_map                                           once per image, or tile
    denoiser:   x_t, low, color_map, feature_i, t, k_x, k_p, a, b, c, x0_previous -> x_next, x0
                with a level also level, window, exposure

The thumbnail (N, 3, 64, 96) is the whole image reduced, the level (N, 6 or 9, 8, 12) log2 gain and a tint; the window
(N, 4) says which part of the whole image `low` is, the exposure (1,) is in stops (see `lldiffusion.model.level`).

Batch, height and width are dynamic, height and width as multiples of `size_multiple`.  Nothing in a graph depends on
the step: the timestep and the five coefficients (see `engines.sampler`) come in as inputs.

The first convolution's share of y, C(y) and brightened y does not depend on the step either.  It stays in the
denoiser: it is a few per cent of a step's multiplications in the model `tiny` and 0.3 % in `paper`, handing it over
instead would cost reading as many bytes again, and y is needed all the same (both ways were measured).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lldiffusion.bundle import LEVEL, graphs_of
from lldiffusion.engines.level import COLUMNS, ROWS
from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.model import LLDiffusion
from lldiffusion.versions import __version__

from .simplify import simplify

if TYPE_CHECKING:
    import onnx

COEFFICIENTS = ("k_x", "k_p", "a", "b", "c")
OPSETS = (18, 22)  # lowest and highest accepted: from 23 on attention is one node that TensorRT for RTX rejects
LARGEST_FILE = 2_000_000_000  # bytes: a protocol buffer holds 2 GiB, larger weights go beside the file
EXAMPLE = (2, 2, 3)  # batch, height and width in multiples: all different from 1, or tracing takes them for constants


class Step(nn.Module):
    """One step: x0 = k_x x_t + k_p pred (clipped when the model says so); x_next = a x_t + b x0 + c x0_previous."""

    def __init__(self, model: LLDiffusion) -> None:
        super().__init__()
        self.denoiser = model.denoiser
        self.clip = model.config.sampling.clip
        self.recurrent = model.config.model.recurrent

    def forward(
        self,
        x_t: Tensor,  # (N, 3, H, W), as are low, color_map and x0_previous
        low: Tensor,
        color_map: Tensor,
        features: list[Tensor],  # coarse to fine
        t: Tensor,  # (1,), as are the coefficients
        k_x: Tensor,
        k_p: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        x0_previous: Tensor,
        level: Tensor | None = None,  # (N, P, 8, 12), as what follows of a model with a level
        window: Tensor | None = None,  # (N, 4)
        exposure: Tensor | float = 0.0,  # (1,), in stops
    ) -> tuple[Tensor, Tensor]:
        prediction = self.denoiser(x_t, low, color_map, t, tuple(features), level, window, exposure)
        if self.recurrent:  # one step to x0: what follows would be the identity, nine times through memory
            x0 = prediction.clamp(-1, 1)
            return x0, x0
        x0 = k_x * x_t + k_p * prediction
        x0 = x0.clamp(-1, 1) if self.clip else x0
        return a * x_t + b * x0 + c * x0_previous, x0


def write_graphs(
    model: LLDiffusion,
    folder: Path,
    opset: int = 21,
    metadata: dict[str, str] | None = None,
    progress: Callable[[str], None] = lambda graph: None,
) -> dict[str, Path]:
    """Write `encoder.onnx`, `color_map.onnx`, `denoiser.onnx` (and `level.onnx`), float32; returns graph -> file.

    `model` must have its spectral norm folded.  `progress` is called with a graph's name when it is written.
    Raises LLDiffusionError for an opset outside 18..22.
    """
    require("onnxscript", "export", "exporting")
    check_opset(opset)
    paths = {}
    for graph in graphs_of(model.config):
        paths[graph] = folder / f"{graph}.onnx"
        write_graph(model, graph, paths[graph], opset, metadata)
        progress(graph)
    return paths


def check_opset(opset: int) -> None:
    """Raise LLDiffusionError for an opset that is not accepted."""
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise LLDiffusionError(f"opset {opset}: {OPSETS[0]} to {OPSETS[1]} are accepted (21 is the tested one)")


def write_graph(
    model: LLDiffusion, graph: str, path: Path, opset: int = 21, metadata: dict[str, str] | None = None
) -> None:
    """Trace one graph, fold its constants, simplify it, check it and write it."""
    about = {"graph": graph, "model": model.config.name, "lldiffusion": __version__} | (metadata or {})
    traced = trace(model, graph, opset).model_proto
    simplify(traced, model.config.model.denoiser.patch)
    _name_sizes(traced.graph, model)
    save(annotate(traced, about), path)


def _name_sizes(graph: onnx.GraphProto, model: LLDiffusion) -> None:
    """Write the outputs' sizes in terms of the inputs' n, h and w, where the tracer left symbols of its own."""
    multiple = model.config.model.size_multiple
    sides, stride = {}, model.config.model.encoder.reduction
    if model.config.model.recurrent:
        sides["color_map"] = multiple // model.config.model.denoiser.patch
    for i, scale in enumerate(model.config.model.encoder.ladder_scales):
        stride //= scale
        sides[f"feature_{i}"] = multiple // stride
    for output in graph.output:
        if output.name == "level":
            output.type.tensor_type.shape.dim[0].dim_param = "n"
            continue
        per = sides.get(output.name, multiple)
        for axis, name in ((0, "n"), (2, f"{per}*h"), (3, f"{per}*w")):
            output.type.tensor_type.shape.dim[axis].dim_param = name.removeprefix("1*")


def trace(model: LLDiffusion, graph: str, opset: int = 21) -> Any:
    """The `torch.onnx.ONNXProgram` of one graph, constants folded."""
    module, arguments, shapes, inputs, outputs = _example(model, graph)
    with quiet(), torch.inference_mode(False), torch.no_grad():
        return torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=opset,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            external_data=False,
            optimize=True,
            verbose=False,
        )


def _example(model: LLDiffusion, graph: str) -> tuple[nn.Module, Any, Any, list[str], list[str]]:
    """(module, example arguments, their dynamic shapes, input names, output names)."""
    multiple, (count, rows, columns) = model.config.model.size_multiple, EXAMPLE
    low = torch.rand(count, 3, rows * multiple, columns * multiple) * 2 - 1
    whole = _shape(low, multiple * rows, multiple)
    if graph == "color_map":
        return model.color_map, (low,), (whole,), ["low"], ["color_map"]
    if graph == LEVEL:
        assert model.level is not None
        thumbnail = torch.rand(count, 3, ROWS, COLUMNS) * 2 - 1
        return model.level, (thumbnail,), ({0: torch.export.Dim("n")},), ["thumbnail"], ["level"]
    with torch.no_grad():
        features, color_map = [f.clone() for f in model.encoder(low)], model.color_map(low)
    names = [f"feature_{i}" for i in range(len(features))]
    if graph == "encoder":
        return model.encoder, (low,), (whole,), ["low"], names
    numbers = ("t", *COEFFICIENTS)
    one = [torch.ones(1) for _ in numbers]  # distinct: the tracer takes one tensor given twice for one input
    arguments: tuple[Any, ...] = (low, low.clone(), color_map, features, *one, low.clone())
    sizes = [_shape(f, multiple * rows, multiple) for f in features]
    small = _shape(color_map, multiple * rows, multiple)
    shapes: tuple[Any, ...] = (whole, whole, small, sizes, *[None] * len(one), whole)
    inputs = ["x_t", "low", "color_map", *names, *numbers, "x0_previous"]
    if model.level is not None:
        with torch.no_grad():
            level = model.level(torch.rand(count, 3, ROWS, COLUMNS) * 2 - 1)
        batch = {0: torch.export.Dim("n")}
        arguments += (level, torch.rand(count, 4), torch.zeros(1))
        shapes += (batch, batch, None)
        inputs += ["level", "window", "exposure"]
    return Step(model), arguments, shapes, inputs, ["x_next", "x0"]


def _shape(tensor: Tensor, height: int, multiple: int) -> dict[int, Any]:
    """Dynamic dimensions of (N, C, H/s, W/s), where the image's height is `height`: n, (multiple / s) h and w."""
    per = multiple * tensor.shape[2] // height
    dims = {name: torch.export.Dim(name) for name in ("n", "h", "w")}
    return {0: dims["n"], 2: per * dims["h"], 3: per * dims["w"]}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Tracing reports every stage, and warns of torchvision's absence."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def annotate(model: onnx.ModelProto, about: dict[str, str]) -> onnx.ModelProto:
    """Add `about` to the file's metadata, replacing keys it has; drop the tracer's notes (paths of this machine)."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    kept = {entry.key: entry.value for entry in model.metadata_props} | about
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "lldiffusion", __version__
    return model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, its weights beside it (NAME.onnx.data) when a single file could not hold them, and check it."""
    import onnx

    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size > LARGEST_FILE:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    else:
        onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)


def ports(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(inputs, outputs) of a graph for the manifest: name, shape (text where dynamic), dtype and range of values."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return [_port(value) for value in graph.input], [_port(value) for value in graph.output]


def _port(value: Any) -> dict[str, Any]:
    import onnx

    dims = value.type.tensor_type.shape.dim
    shape = [dim.dim_param or dim.dim_value for dim in dims]
    dtype = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    dtype = {"float": "float32"}.get(dtype, dtype)
    return {"name": value.name, "shape": shape, "dtype": dtype, "range": RANGES.get(value.name)}


# What the values of a port lie in; None: unbounded.
RANGES: dict[str, list[float]] = {"low": [-1, 1], "color_map": [-1, 1], "thumbnail": [-1, 1], "t": [0, 999]}
