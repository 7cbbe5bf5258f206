"""Opening the model for a video, again in float32 or with smaller tiles when a job asks for it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of

from ..enhancer import VideoEnhancer
from .fallback import Open, Tile, Work


class OwnedVideo(VideoEnhancer):
    """A VideoEnhancer that closes its model with itself."""

    def close(self) -> None:
        """As `VideoEnhancer.close`, the model as well."""
        super().close()
        for enhancer in self._enhancers:
            enhancer.close()


def opener(model: str, options: dict[str, Any], steady: dict[str, Any]) -> Open:
    """What a job opens its model with.

    Args:
        options: of `Enhancer.open`.
        steady: of `VideoEnhancer`.
    """
    used: dict[str, str] = {}

    def open_work(tile: Tile, exact: bool) -> Work:
        if exact and used.get("precision") == "fp32":
            raise LLDiffusionError("the model runs in float32 already")
        enhancer = Enhancer.open(model, **options | {"tile": tile} | ({"precision": "fp32"} if exact else {}))
        if not exact:
            used.update(enhancer.info())
        return OwnedVideo(enhancer, **steady)

    return open_work


def fingerprint(model: str) -> str:
    """SHA-256 of a model's weights (of a bundle's manifest, which holds the hashes of the rest); "" for no model."""
    shipped = Path(str(resources.files("lldiffusion") / "weights" / model))
    path = Path(model) if Path(model).exists() else shipped
    candidates = [path] if path.is_file() else [path / "manifest.json", path / "model.safetensors"]
    return next((sha256_of(file) for file in candidates if file.is_file()), "")
