"""A single graph in model repositories for NVIDIA's Triton: for its ONNX Runtime backend, and for its TensorRT backend.

REPOSITORY/lldiffusion_onnx/config.pbtxt              requests of one size run as one batch, warm-up, instances
REPOSITORY/lldiffusion_onnx/1/model.onnx
REPOSITORY.tensorrt/lldiffusion_tensorrt/config.pbtxt
REPOSITORY.tensorrt/lldiffusion_tensorrt/1/build.sh   makes model.plan of model.onnx, on the GPU that it is for

The second is a repository of its own because Triton stops at a model without its file.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lldiffusion.atomic import new_path
from lldiffusion.errors import LLDiffusionError, require

BATCH = 8  # pictures that run together at most
DELAY = 2000  # microseconds that a picture waits for others of its size
IMAGE, RESULT = "image", "enhanced"  # names of the graph's input and output
SIDES = {"least": (64, 64), "usual": (720, 1280), "most": (1088, 1920)}  # height and width of TensorRT's profile
UINT8, FLOAT = "TYPE_UINT8", "TYPE_FP32"
TYPES = {1: FLOAT, 2: UINT8}  # of onnx.TensorProto.DataType
CONFIG = """\
name: "{name}"
backend: "{backend}"
default_model_filename: "{file}"
max_batch_size: {batch}
input [ {{ name: "{image}" data_type: {type} dims: [ {dims} ] }} ]
output [ {{ name: "{result}" data_type: {type} dims: [ {dims} ] }} ]
dynamic_batching {{ preferred_batch_size: [ {half}, {batch} ] max_queue_delay_microseconds: {delay} }}
instance_group [ {{ kind: {kind} count: 1 }} ]
model_warmup [
  {{
    name: "small"
    batch_size: 1
    inputs {{ key: "{image}" value {{ data_type: {type} dims: [ {small} ] zero_data: true }} }}
  }}
]
"""
BUILD = """\
#!/bin/sh
# Run where Triton will run: trtexec is in its containers (/usr/src/tensorrt/bin), of the same version as its backend.
cd "$(dirname "$0")" && trtexec --onnx=model.onnx --saveEngine=model.plan \\
    --minShapes={image}:{least} --optShapes={image}:{usual} --maxShapes={image}:{most}
"""


@dataclass(frozen=True)
class Picture:
    """The graph's picture, in and out."""

    type: str  # Triton's name
    channels_last: bool

    def dims(self, height: int, width: int, separator: str = ", ") -> str:
        """Its shape without the batch; -1 for any size."""
        sides = [str(height), str(width)]
        return separator.join([*sides, "3"] if self.channels_last else ["3", *sides])


def write_graph_repositories(graph: Path, repository: Path, overwrite: bool = False) -> list[Path]:
    """Write both models of a file that `lldiff export --single` made; returns their folders.

    Raises LLDiffusionError for another file, and for models that are there already unless they may be replaced.
    """
    picture = read_picture(graph)
    beside = repository.with_name(f"{repository.name}.tensorrt")
    targets = [repository / "lldiffusion_onnx", beside / "lldiffusion_tensorrt"]
    for target in targets:
        if target.exists() and not overwrite:
            raise LLDiffusionError(f"already there: {target}; replace with -y, or name another repository")
    for target, backend, file in zip(targets, ("onnxruntime", "tensorrt"), ("model.onnx", "model.plan")):
        kind = "KIND_AUTO" if backend == "onnxruntime" else "KIND_GPU"
        with new_path(target) as temporary:
            (temporary / "1").mkdir(parents=True)
            shutil.copy(graph, temporary / "1" / "model.onnx")
            (temporary / "config.pbtxt").write_text(
                _config(target.name, backend, file, kind, picture), encoding="utf-8"
            )
            if backend == "tensorrt":
                (temporary / "1" / "build.sh").write_text(_build(picture), encoding="utf-8")
    return targets


def read_picture(graph: Path) -> Picture:
    """What goes in and out of a single graph.  Raises LLDiffusionError for a file that is none."""
    onnx = require("onnx", "export", "reading a graph")
    try:
        model = onnx.load(str(graph), load_external_data=False)
    except Exception as error:  # protobuf's own kinds
        raise LLDiffusionError(f"cannot read '{graph}': it is no ONNX file") from error
    defaults = {each.name for each in model.graph.initializer}
    needed = [each for each in model.graph.input if each.name not in defaults]
    if [each.name for each in needed] != [IMAGE] or RESULT not in [each.name for each in model.graph.output]:
        raise LLDiffusionError(f"'{graph}' is no single graph: make one with  lldiff export MODEL -o X.onnx --single")
    tensor = needed[0].type.tensor_type
    return Picture(TYPES[tensor.elem_type], tensor.shape.dim[3].dim_value == 3)


def _config(name: str, backend: str, file: str, kind: str, picture: Picture) -> str:
    sizes = {"dims": picture.dims(-1, -1), "small": picture.dims(*SIDES["least"])}
    words = {"name": name, "backend": backend, "file": file, "kind": kind, "type": picture.type, "image": IMAGE}
    return CONFIG.format(**words, **sizes, result=RESULT, batch=BATCH, half=BATCH // 2, delay=DELAY)


def _build(picture: Picture) -> str:
    shapes = {name: f"{1 if name != 'most' else BATCH}x{picture.dims(*sides, 'x')}" for name, sides in SIDES.items()}
    return BUILD.format(image=IMAGE, **shapes)
