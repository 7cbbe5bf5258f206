"""How much memory there is, and how much an image will take."""

from __future__ import annotations

from pathlib import Path

from lldiffusion.config import ModelConfig

SAFETY = 0.6  # share of the free memory that one image may take
# Peak over the stored skip connections and features, and whole-image arrays alive at once.  With these the estimate
# lies above what was measured on a CPU in float32, bytes a pixel: tiny 645 (1024x1024), 582 (1600x1600), paper 3153.
OVERHEAD = 3.5
IMAGES = 20


def host_memory() -> int:
    """Free bytes of this machine, respecting a container's limit."""
    free = _meminfo()
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free = min(free, limit - used)
    return max(free, 0)


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 8 << 30  # not Linux: assume a small machine
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None


def bytes_per_pixel(model: ModelConfig) -> float:
    """Estimated peak bytes for each pixel of an image enhanced whole, float32."""
    unet, stored = model.denoiser, 0.0
    for level, multiplier in enumerate(unet.multipliers):
        area = (unet.patch * 2**level) ** 2
        stored += unet.channels * multiplier * (unet.blocks + 1) / area
    reach = [2 ** len(model.encoder.channels)]
    for scale in model.encoder.ladder_scales:
        reach.append(reach[-1] // scale)
    stored += sum(c / r**2 for c, r in zip(model.encoder.ladder, reach[1:], strict=True))
    return 4 * (stored * OVERHEAD + 3 * IMAGES)


def tile_side(free: int, model: ModelConfig) -> int:
    """Side of the largest square tile, a multiple of 32, that fits in `free` bytes (at least 256)."""
    side = int((SAFETY * free / bytes_per_pixel(model)) ** 0.5)
    return max(256, side // 32 * 32)
