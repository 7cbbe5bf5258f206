"""Which picture sizes an export is judged at: smallest, middle, odd and largest, as far as this CPU can go."""

from __future__ import annotations

from lldiffusion.config import ModelConfig
from lldiffusion.engines.memory import attention_stride, host_memory, is_local

from .profiles import Profile

ODD = (133, 197)  # width, height: a portrait, and padded to multiples before anything sees it
SHARE = 0.25  # of the free memory that attention's matrix may take (ONNX Runtime stores it whole)
LEAST = 4  # multiples a side, however little time there is
COPIES = 3  # of that matrix alive at once
Size = tuple[int, int]


def sizes_to_judge(
    profiles: tuple[Profile, ...], model: ModelConfig, seconds_per_pixel: float, budget: float
) -> tuple[list[Size], list[str]]:
    """((height, width) of each image, remarks on those made smaller).

    Args:
        seconds_per_pixel: what judging takes, all precisions together.
        budget: seconds for all sizes; half of them go to the largest.
    """
    widest = max((profile.largest for profile in profiles), key=lambda size: size[0] * size[1])
    asked = {
        "smallest": min(profile.smallest for profile in profiles),
        "odd": ODD,
        "middle": profiles[0].usual,
        "largest": widest,
    }
    memory = attention_pixels(model, int(SHARE * host_memory()))
    chosen: dict[Size, None] = {}
    notes = []
    for name, size in asked.items():
        limit = min(memory, (0.5 if name == "largest" else 0.25) * budget / seconds_per_pixel)
        fitting = shrink(size, limit, model.size_multiple) if name not in ("smallest", "odd") else size
        if fitting != size:
            why = "memory for attention" if limit == memory else f"the budget of {budget:g} s"
            notes.append(
                f"{name} size {size[0]}x{size[1]} judged at {fitting[0]}x{fitting[1]}: {why} allows no more here"
            )
        chosen[fitting[1], fitting[0]] = None
    return list(chosen), notes


def shrink(size: Size, pixels: float, multiple: int) -> Size:
    """A size of the same shape with at most `pixels` pixels, in multiples; LEAST of them a side are always judged."""
    scale = min(1.0, (pixels / (size[0] * size[1])) ** 0.5)
    if scale == 1.0:
        return size
    width, height = (max(int(side * scale) // multiple * multiple, min(side, LEAST * multiple)) for side in size)
    return width, height


def attention_pixels(model: ModelConfig, memory: int) -> float:
    """Largest image, in pixels, whose finest attention matrix (pixels / stride^2 squared, float32) fits `memory`."""
    if is_local(model):
        return float("inf")
    return attention_stride(model) ** 2 * (memory / (4 * COPIES)) ** 0.5
