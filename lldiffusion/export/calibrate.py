"""The range of every value that is rounded to eight bits: from dark, unevenly lit and bright pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lldiffusion.config import Config
from lldiffusion.data.illumination import draw_light
from lldiffusion.data.simulate import LowLight, at_exposure, simulate
from lldiffusion.engines.backends.base import Conditions, Engine, Floats
from lldiffusion.engines.backends.feeds import condition_inputs, step_inputs
from lldiffusion.engines.level import thumbnail_of
from lldiffusion.engines.pixels import pad_to_multiple, to_planes
from lldiffusion.engines.sampler import trial
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import list_images, read_image

from .dark import drawn_scene
from .int8_layers import values_to_watch
from .nodes import copied
from .quantise import Ranges
from .session import cpu_session

if TYPE_CHECKING:
    import onnx

SIDE = (192, 256)  # rows and columns of a calibration picture
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")  # of scikit-image: public domain or CC0, in its package
MOST = 32  # pictures read of a folder
Feeds = dict[str, Floats]


def calibration_planes(folder: Path | None = None) -> list[Floats]:
    """Planes (1, 3, H, W) in [-1, 1] to calibrate with: of a folder's dark pictures, or the shipped set.

    The shipped set is made by the simulator from free photographs: each dark, unevenly lit, and as it is.
    Raises LLDiffusionError when the folder holds no picture that can be read.
    """
    if folder is None:
        return [to_planes(pixels) for pixels in _shipped()]
    files = check_calibration(folder)
    every = max(1, len(files) // MOST)
    return [to_planes(_part(read_image(file).pixels)) for file in files[::every][:MOST]]


def check_calibration(folder: Path) -> list[Path]:
    """The pictures of a folder to calibrate with, before hours of work need them; raises LLDiffusionError for none."""
    if files := list_images(folder) if folder.is_dir() else []:
        return files
    what = "holds no pictures" if folder.is_dir() else "is no folder"
    raise LLDiffusionError(f"'{folder}' {what}: --calibrate needs a folder of dark pictures")


def _shipped() -> Iterator[Floats]:
    rng = np.random.default_rng(0)
    for photo in _photographs():
        part = _part(photo)
        height, width = part.shape[:2]
        yield simulate(part, rng)
        yield simulate(part, rng, at_exposure(2.0), draw_light(height, width, rng))
        yield simulate(part, rng, LowLight(), draw_light(height, width, rng))
        yield part


def _photographs() -> Iterator[Floats]:
    """(H, W, 3) float32 in [0, 1]; without scikit-image drawn ones."""
    try:
        from skimage import data
    except ImportError:
        yield from (drawn_scene(*SIDE), drawn_scene(*SIDE)[::-1, ::-1])
        return
    for name in PHOTOGRAPHS:
        yield getattr(data, name)().astype(np.float32) / 255


def _part(pixels: Floats) -> Floats:
    """The middle of a picture, SIDE at most, from every second or third pixel where it is large."""
    step = max(1, min(pixels.shape[0] // SIDE[0], pixels.shape[1] // SIDE[1]))
    small = pixels[::step, ::step]
    top, left = (max(0, (have - want) // 2) for have, want in zip(small.shape[:2], SIDE, strict=True))
    return np.ascontiguousarray(small[top : top + SIDE[0], left : left + SIDE[1]], dtype=np.float32)


def feeds_of(engine: Engine, planes: list[Floats], config: Config) -> dict[str, list[Feeds]]:
    """Inputs of "encoder" and "denoiser" on the way of the float32 loop, for every picture and step."""
    multiple, leveled = config.model.size_multiple, config.model.level != "none"
    found: dict[str, list[Feeds]] = {"encoder": [], "denoiser": []}
    for i, picture in enumerate(planes):
        low = pad_to_multiple(picture, multiple)
        level = window = None
        if leveled:
            level, window = engine.numpy(engine.level(thumbnail_of(picture))), np.array([[0, 0, 1, 1]], np.float32)
        made = engine.conditions(low, level, window)
        features = tuple(engine.numpy(feature) for feature in made.features)
        conditions = Conditions(low, engine.numpy(made.color_map), features, level, window)
        found["encoder"].append({"low": low})
        (steps, x), previous = trial(config, i, low.shape), np.zeros_like(low)
        for step in steps:
            pictures = {"x_t": x, "x0_previous": previous}
            found["denoiser"].append(pictures | condition_inputs(conditions) | step_inputs(step))
            x, previous = (engine.numpy(made) for made in engine.step(x, conditions, step, previous))
    return found


def ranges_of(model: onnx.ModelProto, feeds: list[Feeds]) -> Ranges:
    """(smallest, largest) of every value that `quantise` rounds, over all feeds."""
    session, names = _watched(model)
    found: Ranges = {}
    for given in feeds:
        ends = session.run([f"{name}_{end}" for name in names for end in ("least", "most")], given)
        for i, name in enumerate(names):
            low, high = float(ends[2 * i]), float(ends[2 * i + 1])
            before = found.get(name, (low, high))
            found[name] = min(before[0], low), max(before[1], high)
    return found


def _watched(model: onnx.ModelProto) -> tuple[Any, list[str]]:
    """A session of the graph with the ends of the watched values as outputs; their names."""
    from onnx import TensorProto, helper

    copy = copied(model)
    names = values_to_watch(model.graph)
    for name in names:
        for operator, end in (("ReduceMin", "least"), ("ReduceMax", "most")):
            copy.graph.node.append(helper.make_node(operator, [name], [f"{name}_{end}"], keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(f"{name}_{end}", TensorProto.FLOAT, []))
    return cpu_session(copy.SerializeToString(), "calibrating"), names
