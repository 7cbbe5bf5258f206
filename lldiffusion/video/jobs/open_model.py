"""Opening the model for a video, again in float32 or with smaller tiles when a job asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from lldiffusion.bundle.find import find_model
from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of

from ..enhancer import VideoEnhancer
from .fallback import EnhancerFactory, FrameEnhancer, Tile


class OwningVideoEnhancer(VideoEnhancer):
    """A VideoEnhancer that closes its model with itself."""

    def close(self) -> None:
        """As `VideoEnhancer.close`, the model as well."""
        super().close()
        for enhancer in self._enhancers:
            enhancer.close()


def enhancer_factory(model: str, engine_options: dict[str, Any], video_options: dict[str, Any]) -> EnhancerFactory:
    """What a job opens its model with.

    Args:
        engine_options: of `Enhancer.open`.
        video_options: of `VideoEnhancer`.
    """
    used: dict[str, str] = {}

    def open_enhancer(tile: Tile, float32: bool) -> FrameEnhancer:
        if float32 and used.get("precision") == "fp32":
            raise LLDiffusionError("the model runs in float32 already")
        precision = {"precision": "fp32"} if float32 else {}
        enhancer = Enhancer.open(model, **{**engine_options, "tile": tile, **precision}, many=True)
        if not float32:
            used.update(enhancer.info())
        return OwningVideoEnhancer(enhancer, **video_options)

    return open_enhancer


def model_fingerprint(model: str) -> str:
    """SHA-256 of a model's weights (of a bundle's manifest, which holds the hashes of the rest).

    Raises LLDiffusionError when there is no such model.
    """
    path = find_model(model)
    candidates = [path] if path.is_file() else [path / "manifest.json", path / "model.safetensors"]
    return next((sha256_of(file) for file in candidates if file.is_file()), "")


def is_recurrent(model: str) -> bool:
    """Whether a model starts each frame from its last result, by its configuration; False where that cannot be read.

    Raises LLDiffusionError when there is no such model.
    """
    path = find_model(model)
    for name, *inside in (("config.json",), ("manifest.json", "config")):
        try:
            table = json.loads(_text_in(path, name))
            for key in (*inside, "model", "recurrent"):
                table = table[key]
            return table is True
        except (OSError, ValueError, KeyError, TypeError, BadZipFile):
            continue
    return False


def _text_in(path: Path, name: str) -> bytes:
    """A file of a model's folder, or of its archive."""
    if path.is_dir():
        return (path / name).read_bytes()
    with ZipFile(path) as archive:
        return archive.read(name)
