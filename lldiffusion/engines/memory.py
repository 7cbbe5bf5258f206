"""How much memory there is, and how much an image will take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lldiffusion.config import ModelConfig
from lldiffusion.limits import address_space_free, cgroup_free

SAFETY = 0.6  # share of the free memory that one image may take
WHOLE = 4 << 20  # pixels: larger batches of a local model are cut into tiles, which take no longer and far less memory
TILE = 1280  # side in pixels of those tiles, at most
BESIDE = 3 * 3 * 4  # bytes a pixel that tiles stand beside: noise, sum of the tiles and result, float32
SMALLEST_TILE = 128  # pixels; also the step in which tiles shrink where memory runs out


@dataclass(frozen=True)
class MemoryNeed:
    """What a backend holds at its peak, float32 on a CPU.

    Each backend's own stands beside it, fitted from above to peaks of the resident memory, measured for `tiny` from
    384x256 to 800x1088 and for `paper` from 64x64 to 608x416; tests/engines/test_memory.py measures again.
    """

    stored: float  # times the skip connections and features, which must be stored anyway
    images: float  # arrays of three channels and the image's size
    attention: float = 0.0  # matrices of the finest attention; 0: it never stores one
    plain: float = 1.0  # share of this that a network of convolutions alone holds: no norm keeps its input


def host_memory() -> int:
    """Free bytes of this machine, respecting the limits that containers (cgroup v1 and v2) and shells (ulimit) set."""
    left = [_meminfo(), cgroup_free(), address_space_free()]
    return max(min(free for free in left if free is not None), 0)


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 8 << 30  # not Linux: assume a small machine
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def smaller_tile(side: int, multiple: int) -> int | None:
    """About half a tile's side, which a model of this size multiple takes; None when that is too small to go on."""
    step = max(SMALLEST_TILE, 4 * multiple)
    smaller = min(side // 2, side - 1) // step * step
    return smaller if smaller >= step else None


def peak_bytes(model: ModelConfig, pixels: int, need: MemoryNeed) -> float:
    """Estimated peak for an image of so many pixels enhanced whole."""
    matrix = 0 if is_local(model) else 4 * (pixels / attention_stride(model) ** 2) ** 2  # float32, a row for each place
    return pixels * bytes_per_pixel(model, need) + need.attention * matrix


def bytes_per_pixel(model: ModelConfig, need: MemoryNeed) -> float:
    """The part of the peak that grows with the image, for each pixel."""
    unet, stored = model.denoiser, 0.0
    for level, multiplier in enumerate(unet.multipliers):
        area = (unet.patch * 2**level) ** 2
        stored += unet.channels * multiplier * (unet.blocks + 1) / area
    reach = [model.encoder.reduction]
    for scale in model.encoder.ladder_scales:
        reach.append(reach[-1] // scale)
    stored += sum(c / r**2 for c, r in zip(model.encoder.ladder, reach[1:], strict=True))
    full = 3 * need.images + 3 * unet.refine  # channels as large as the image
    return 4 * (stored * need.stored + full) * (need.plain if is_local(model) else 1)


def is_local(model: ModelConfig) -> bool:
    """Whether nothing but the level looks at the whole image (convolutions alone): tiles then equal the whole."""
    return model.denoiser.norm == "none" and model.encoder.norm == "none"


def attention_stride(model: ModelConfig) -> int:
    """Pixels a side behind one place of the finest attention; the middle attends in every model that is not local."""
    unet = model.denoiser
    return unet.patch * 2 ** min([*unet.attention_down, *unet.attention_up, len(unet.multipliers) - 1])


def largest_tile_side(free: int, model: ModelConfig, need: MemoryNeed) -> int:
    """Side of the largest square tile, a multiple of 32, that fits in `free` bytes (at least 256)."""
    side = 256
    while peak_bytes(model, (side + 32) ** 2, need) < SAFETY * free:
        side += 32
    return side
