"""A model in one ONNX file (`lldiff export --single`), run by ONNX Runtime as if it were a model of one step.

All steps, the padding and the noise are inside the file.  What is asked of the level stays with the caller: the file
says the level of a reduced picture, and takes one back, so tiles and video agree as those of a bundle do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.bundle.onnx_check import check_graph
from lldiffusion.bundle.onnx_external import external_files
from lldiffusion.config import Config, ModelConfig, config_from_dict
from lldiffusion.errors import DamagedGraphError, LLDiffusionError

from ..memory import is_local
from ..sampler import Step
from .base import Array, Conditions, Floats, Shape
from .onnx_runtime import OnnxRuntimeEngine

MARK = "lldiffusion_single"  # key of the file's metadata: version of what is said there
VERSION = "1"
OWN_LEVEL = "level_of_image"  # a value inside the graph
DITHER = 4  # pixels a side that stand for one of a thumbnail, where pixels have 8 bits


class SingleGraphEngine(OnnxRuntimeEngine):
    """Runs a single file.

    Args:
        path: the .onnx file.
        device: "cpu", "cuda" or "cuda:N".
    Raises LLDiffusionError when the file is damaged, was not written by `lldiff export --single`, or cannot be loaded.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        check_single(path)
        super().__init__({"single": path}, "", device)
        self.about = dict(self._sessions["single"].get_modelmeta().custom_metadata_map)
        self.config = _config(path, self.about)
        self._precision = self.about.get("precision", "fp32")
        self._bytes = self.about.get("layout") == "nhwc-uint8"

    def level(self, thumbnail: Array) -> Array:
        small = self.numpy(thumbnail)
        if self._bytes:
            small = _dithered(small)
        feeds = {"image": self._image(small)}
        return self._sessions["single"].run([OWN_LEVEL], feeds)[0]

    def encode(self, low: Array) -> tuple[Array, ...]:
        """Nothing: features stay inside."""
        return ()

    def color_map(self, low: Array) -> Array:
        """The picture itself: the colour map stays inside."""
        return low

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        given: dict[str, Any] = {"image": self._image(self.numpy(conditions.low))}
        if conditions.level is not None and conditions.window is not None:
            exposure = np.array([step.exposure or 0.0], np.float32)
            given |= {"level": self.numpy(conditions.level), "window": self.numpy(conditions.window)}
            parts = [
                {name: values[i : i + 1] for name, values in given.items()} | {"exposure": exposure}
                for i in range(len(given["image"]))
            ]
        else:
            parts = [given]
        x0 = np.concatenate([self._enhanced(part) for part in parts])  # one by one: the level is a picture's own
        return x0, x0

    def info(self) -> dict[str, str]:
        return super().info() | {"steps": f"{self.about.get('steps', '?')}, inside the file"}

    def tile_side(self, model: ModelConfig, shape: Shape) -> int | None:
        """As of every engine; whole where the network looks at the whole image, whose features it does not give."""
        return super().tile_side(model, shape) if is_local(model) else None

    def _image(self, planes: Floats) -> Array:
        if self._bytes:
            return np.floor(np.clip(planes.transpose(0, 2, 3, 1) + 1, 0, 2) * 127.5 + 0.5).astype(np.uint8)
        return (planes + 1) / 2

    def _enhanced(self, feeds: dict[str, Floats]) -> Floats:
        """x0 (N, 3, H, W) in [-1, 1]."""
        values = {name: self._value("single", name, value) for name, value in feeds.items()}
        pixels = self._run("single", values)[0].numpy()
        if self._bytes:
            return pixels.transpose(0, 3, 1, 2) * np.float32(2 / 255) - 1
        return pixels * 2 - 1

    def _source(self, path: Path) -> bytes:
        """The file, and after it a piece that makes the level an output: messages laid end to end are merged."""
        data = path.read_bytes()
        return data + _output(OWN_LEVEL) if OWN_LEVEL.encode() in data else data

    def _run(self, graph: str, feeds: dict[str, Array]) -> list[Array]:
        session = self._sessions[graph]
        binding = session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(session.get_outputs()[0].name, *self._where)
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # its exceptions have no common base class of their own
            reason = " ".join(str(error).split())[:300]
            raise LLDiffusionError(f"ONNX Runtime failed in the single graph: {reason}; try --tile 512") from error
        return list(binding.get_outputs())


def check_single(path: Path) -> None:
    """Walk the file's bytes before a native library sees them; raises DamagedGraphError."""
    try:
        if list(external_files(path)):
            raise LLDiffusionError(f"'{path}' keeps weights in other files, which a single graph never does: refused")
        check_graph(path.parent, path.name, [], [])
    except LLDiffusionError as error:
        raise DamagedGraphError(str(error)) from error


def _config(path: Path, about: dict[str, str]) -> Config:
    """The model's configuration, sampled in one step: all its steps are one call."""
    if about.get(MARK) != VERSION:
        raise LLDiffusionError(
            f"'{path}' is no graph that runs by itself here (metadata {MARK} is {about.get(MARK, 'missing')!r:.40}): "
            "give one written by  lldiff export MODEL -o x.onnx --single"
        )
    try:
        table = json.loads(about["config"])
        table["sampling"] |= {"steps": 1, "sampler": "ddim"}
    except (KeyError, TypeError, ValueError) as error:
        raise LLDiffusionError(f"'{path}' is damaged: its metadata has no readable config: export it again") from error
    return config_from_dict(table)


def _dithered(planes: Floats) -> Floats:
    """Each pixel as DITHER^2 pixels of 8 bits whose mean is within 1/32 of a level of it."""
    count = DITHER * DITHER
    offsets = ((np.arange(count) + 0.5) / count).reshape(DITHER, DITHER).astype(np.float32)
    levels = ((planes + 1) * 127.5).repeat(DITHER, axis=2).repeat(DITHER, axis=3)
    height, width = planes.shape[2:]
    return np.floor(levels + np.tile(offsets, (height, width))) / np.float32(127.5) - 1


def _output(name: str) -> bytes:
    """ModelProto { graph (7) { output (12) { name (1), type (2) { tensor_type (1) { elem_type (1): float } } } } }."""
    kind = b"\x0a\x02\x08\x01"
    value = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12" + bytes([len(kind)]) + kind
    graph = b"\x62" + bytes([len(value)]) + value
    return b"\x3a" + bytes([len(graph)]) + graph
