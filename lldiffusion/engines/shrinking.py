"""When memory runs out in the middle of a picture: smaller tiles, and in the end one line."""

from __future__ import annotations

from lldiffusion.errors import LLDiffusionError, is_out_of_memory

from .backends.base import Floats, Progress
from .memory import SMALLEST_TILE, smaller_tile
from .pipeline import Pipeline
from .sampler import Step


class OutOfMemoryError(LLDiffusionError):
    """Memory ran out, with the smallest tiles too or where tiles are forbidden."""


def sample_in_memory(
    pipeline: Pipeline, planes: Floats, steps: tuple[Step, ...], x: Floats | None, progress: Progress | None
) -> Floats:
    """`Pipeline.sample`, begun again with tiles of half the side as often as an allocation fails.

    Raises OutOfMemoryError when not even tiles of 128 pixels, or of twice the model's least, can be had.
    """
    most: int | None = None
    while True:
        try:
            return pipeline.sample(planes, steps, x, progress=progress, most=most)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            shape, reason = pipeline.padded_shape(planes.shape), str(error) or "the system gives no more"
        most = smaller_tile(most or pipeline.tile_side(shape) or max(shape[2:]), pipeline.multiple)
        if pipeline.tile == "none" or most is None:
            raise OutOfMemoryError(_advice(pipeline, shape, reason))


def _advice(pipeline: Pipeline, shape: tuple[int, ...], reason: str) -> str:
    size = f"{shape[3]}x{shape[2]}"
    if pipeline.tile == "none":
        return f"not enough memory for {size} as a whole ({reason}): leave --tile none out"
    least = max(SMALLEST_TILE, 4 * pipeline.multiple)
    return f"not enough memory for {size}, even in tiles of {least} pixels ({reason}): free some, or make it smaller"
