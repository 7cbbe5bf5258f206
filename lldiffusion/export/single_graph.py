"""One graph of a whole model: picture in, picture out, for hosts that have no loop of ours.

    image -> planes -> thumbnail -> level
                  \\-> padded -> features, colour map -> step 1 ... step n -> cropped -> enhanced

Every size that depends on the picture is computed inside from its shape.  Three inputs have defaults, as ONNX knows
them: initializers that are also inputs, so that a host that does not know of them sees one input.

    exposure (1,)            stops added to the model's choice; 0
    window   (1, 4)          top, left, bottom, right of `image` as fractions of a whole picture; all of it
    level    (1, P, 8, 12)   the level of the whole picture, for tiles; LOWEST: made from `image`

The thumbnail repeats `engines.level.thumbnail_of` with two matrix products: shares of areas, counted in whole numbers,
    share[k, p] = relu(min((k + 1) size, (p + 1) parts) - max(k size, p parts)) / size        of pixel p in part k
which float32 holds exactly up to pictures of 174,000 pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.bundle import LEVEL
from lldiffusion.engines.level import COLUMNS, ROWS
from lldiffusion.engines.sampler import Step

from .graph_writer import GraphWriter
from .single_noise import modulo, write_noise

if TYPE_CHECKING:
    import onnx

LAYOUTS = ("nchw-float", "nhwc-uint8")
LOWEST = -1000.0  # log2 gain that no picture has: "make your own level"
FLOAT, UINT8, INT64 = 1, 2, 7  # onnx.TensorProto.DataType
IR = {17: 8, 18: 8, 19: 9, 20: 9}  # the file format's version that runtimes of the opset's time read


@dataclass(frozen=True)
class Size:
    """Names of sizes of the picture, each (1,) int64 or float32, and of the places of its padded pixels."""

    batch: str
    sides: tuple[str, str]  # height and width of the picture
    real_sides: tuple[str, str]  # the same as float32
    ratio: str  # (2,) float32: padded sides as multiples of the picture's
    places: tuple[str, str]  # 0, 1, 2, ... of padded rows and columns


def compose(
    graphs: dict[str, onnx.ModelProto],
    steps: tuple[Step, ...],
    multiple: int,
    layout: str,
    opset: int,
    explicit: bool = False,
    recurrent: bool = False,
) -> onnx.ModelProto:
    """The single graph of a model's graphs (of any precision) and its steps; not checked.

    Args:
        graphs: encoder, color_map, denoiser and, where the model has one, level.
        multiple: the model's `size_multiple`.
        layout: one of LAYOUTS: (N, 3, H, W) float32 in [0, 1] or (N, H, W, 3) uint8, RGB, in and out.
        opset: of all the graphs.
        recurrent: the model starts from nothing instead of noise (a model of video, for pictures).
        explicit: the three inputs have no defaults, and the level is an output: for hosts that override none.
    """
    writer = GraphWriter()
    planes = _planes(writer, layout)
    size = _sizes(writer, planes, multiple)
    low = planes
    for axis in (0, 1):
        low = writer.node("Gather", low, _mirrored(writer, size, axis), axis=2 + axis)
    steady = _steady(writer, graphs, planes, low, size)
    x = previous = _start(writer, size, low, recurrent)
    for i, step in enumerate(steps):
        numbers = {name: _number(writer, getattr(step, name)) for name in ("t", "k_x", "k_p", "a", "b", "c")}
        given = steady | numbers | {"x_t": x, "x0_previous": previous}
        made = writer.graft(graphs["denoiser"].graph, given, f"step_{i}/", "denoiser/")
        x, previous = made["x_next"], made["x0"]
    single = _model(writer, _pixels(writer, previous, size, layout), layout, opset, LEVEL in graphs)
    if explicit:
        _make_explicit(single)
    return single


def _number(writer: GraphWriter, value: float) -> str:
    return writer.constant(np.array([value], np.float32), f"number_{value!r}")


def _planes(writer: GraphWriter, layout: str) -> str:
    """`image` as (N, 3, H, W) float32 in [-1, 1]."""
    if layout == "nhwc-uint8":
        values = writer.node("Transpose", writer.node("Cast", "image", to=FLOAT), perm=[0, 3, 1, 2])
        doubled = writer.node("Mul", values, writer.real(2 / 255))
    else:
        doubled = writer.node("Mul", "image", writer.real(2.0))
    return writer.node("Sub", doubled, writer.real(1.0), name="planes")


def _pixels(writer: GraphWriter, x0: str, size: Size, layout: str) -> str:
    """x0 cropped to the picture, in the layout of `image`: the output."""
    cropped = writer.node(
        "Slice", x0, writer.whole(0, 0), writer.node("Concat", *size.sides, axis=0), writer.whole(2, 3)
    )
    raised = writer.node("Add", cropped, writer.real(1.0))
    zero, one = writer.real(0.0), writer.real(1.0)
    if layout == "nchw-float":
        return writer.node("Clip", writer.node("Mul", raised, writer.real(0.5)), zero, one, name="enhanced")
    shown = writer.node("Clip", writer.node("Mul", raised, writer.real(127.5)), zero, writer.real(255.0))
    whole = writer.node("Floor", writer.node("Add", shown, writer.real(0.5)))
    pixels = writer.node("Transpose", whole, perm=[0, 2, 3, 1])
    return writer.node("Cast", pixels, to=UINT8, name="enhanced")


def _sizes(writer: GraphWriter, planes: str, multiple: int) -> Size:
    shape = writer.node("Shape", planes)
    batch, height, width = (writer.node("Gather", shape, writer.whole(axis), axis=0) for axis in (0, 2, 3))
    m, above = writer.whole(multiple), writer.whole(multiple - 1)
    padded, places, ratios, real = [], [], [], []
    for side in (height, width):
        up = writer.node("Mul", writer.node("Div", writer.node("Add", side, above), m), m)
        padded.append(writer.node("Max", up, writer.whole(2 * multiple)))
        scalar = writer.node("Squeeze", padded[-1], writer.whole(0))
        first, one = (writer.constant(np.array(value, np.int64)) for value in (0, 1))
        places.append(writer.node("Range", first, scalar, one))
        real.append(writer.node("Cast", side, to=FLOAT))
        ratios.append(writer.node("Div", writer.node("Cast", padded[-1], to=FLOAT), real[-1]))
    ratio = writer.node("Concat", *ratios, axis=0)
    return Size(batch, (height, width), (real[0], real[1]), ratio, (places[0], places[1]))


def _mirrored(writer: GraphWriter, size: Size, axis: int) -> str:
    """Which row (column) of the picture each padded one shows: 0, 1, ..., n - 1, n - 2, ..., 1, 0, 1, ..."""
    one = writer.whole(1)
    last = writer.node("Sub", size.sides[axis], one)
    period = writer.node("Max", writer.node("Add", last, last), one)
    place = modulo(writer, size.places[axis], period)
    return writer.node("Min", place, writer.node("Sub", period, place))


def _start(writer: GraphWriter, size: Size, low: str, zeros: bool) -> str:
    """x_T (N, 3, H, W) of the padded size, the same for every picture."""
    if zeros:
        return writer.node("Expand", writer.real(0.0), writer.node("Shape", low))
    ones = writer.node("Concat", size.batch, writer.whole(1, 1, 1), axis=0)
    return writer.node("Expand", write_noise(writer, *size.places), ones)


def _steady(
    writer: GraphWriter, graphs: dict[str, onnx.ModelProto], planes: str, low: str, size: Size
) -> dict[str, str]:
    """Inputs of the denoiser that stay the same from step to step."""
    found = {"low": low}
    found |= writer.graft(graphs["color_map"].graph, {"low": low}, "color_map/")
    found |= writer.graft(graphs["encoder"].graph, {"low": low}, "encoder/")
    if LEVEL not in graphs:
        return found
    writer.constant(np.zeros(1, np.float32), "exposure")
    writer.constant(np.array([[0, 0, 1, 1]], np.float32), "window")
    made = writer.graft(graphs[LEVEL].graph, {"thumbnail": _thumbnail(writer, planes, size)}, "level/")["level"]
    own = writer.node("Identity", made, name="level_of_image")
    writer.constant(np.full(_shape_of(graphs[LEVEL])[1:], LOWEST, np.float32)[None], "level")
    given = writer.node("Greater", "level", writer.real(LOWEST / 2))
    window = _padded_window(writer, size)
    return found | {"level": writer.node("Where", given, "level", own), "window": window, "exposure": "exposure"}


def _shape_of(level: onnx.ModelProto) -> list[int]:
    """(N, P, 8, 12), N being 0, of the level graph's output."""
    return [dim.dim_value for dim in level.graph.output[0].type.tensor_type.shape.dim]


def _padded_window(writer: GraphWriter, size: Size) -> str:
    """(N, 4): `window` grown by the padding."""
    axis = writer.whole(1)
    start, end = (
        writer.node("Slice", "window", writer.whole(first), writer.whole(first + 2), axis) for first in (0, 2)
    )
    reach = writer.node("Mul", writer.node("Sub", end, start), size.ratio)
    grown = writer.node("Concat", start, writer.node("Add", start, reach), axis=1)
    return writer.node("Expand", grown, writer.node("Concat", size.batch, writer.whole(1), axis=0))


def _thumbnail(writer: GraphWriter, planes: str, size: Size) -> str:
    """(N, 3, 64, 96): exact area averages of the picture before it was padded."""
    rows = _shares(writer, size, 0, ROWS)  # (64, H)
    columns = writer.node("Transpose", _shares(writer, size, 1, COLUMNS), perm=[1, 0])  # (W, 96)
    return writer.node("MatMul", writer.node("MatMul", rows, planes), columns, name="thumbnail")


def _shares(writer: GraphWriter, size: Size, axis: int, parts: int) -> str:
    """(parts, side) float32, see the equation above."""
    part, count = np.arange(parts, dtype=np.float32)[:, None], writer.real(parts)
    side = size.real_sides[axis]
    scalar = writer.node("Squeeze", size.sides[axis], writer.whole(0))
    first, one = (writer.constant(np.array(value, np.int64)) for value in (0, 1))
    pixel = writer.node("Cast", writer.node("Range", first, scalar, one), to=FLOAT)  # (side,)
    starts = writer.node("Mul", writer.constant(part), side)
    ends = writer.node("Mul", writer.constant(part + 1), side)
    before = writer.node("Max", starts, writer.node("Mul", pixel, count))
    after = writer.node("Min", ends, writer.node("Mul", writer.node("Add", pixel, writer.real(1.0)), count))
    return writer.node("Div", writer.node("Relu", writer.node("Sub", after, before)), side)


def _model(writer: GraphWriter, output: str, layout: str, opset: int, leveled: bool) -> onnx.ModelProto:
    from onnx import helper

    nodes, constants = writer.needed([output])
    kind, shape = (UINT8, ["n", "h", "w", 3]) if layout == "nhwc-uint8" else (FLOAT, ["n", 3, "h", "w"])
    inputs = [helper.make_tensor_value_info("image", kind, shape)]
    if leveled:
        inputs += [_default(writer.constants[name]) for name in ("exposure", "window", "level")]
    outputs = [helper.make_tensor_value_info(output, kind, shape)]
    graph = helper.make_graph(nodes, "lldiffusion", inputs, outputs, constants)
    version = helper.make_opsetid("", opset)
    return helper.make_model(graph, opset_imports=[version], ir_version=IR.get(opset, 10))


def _make_explicit(model: onnx.ModelProto) -> None:
    from onnx import helper

    inputs = {port.name for port in model.graph.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name not in inputs]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    level = next(port for port in model.graph.input if port.name == "level")
    shape = ["n", *(dim.dim_value for dim in level.type.tensor_type.shape.dim[1:])]
    model.graph.output.append(helper.make_tensor_value_info("level_of_image", FLOAT, shape))


def defaults(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """What an explicit graph is given for what its host does not say: no exposure, the whole picture, its own level."""
    known = {"exposure": np.zeros(1), "window": np.array([[0, 0, 1, 1]])}
    for port in model.graph.input:
        if port.name == "level":
            planes = [dim.dim_value for dim in port.type.tensor_type.shape.dim[1:]]
            known["level"] = np.full((1, *planes), LOWEST)
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [port.name for port in model.graph.input if port.name in known and port.name not in stored]
    return {name: known[name].astype(np.float32) for name in names}


def _default(tensor: Any) -> Any:
    """The input that an initializer is the default of."""
    from onnx import helper

    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
