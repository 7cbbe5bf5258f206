"""An enhancer for long jobs: one bad frame or too little memory does not end them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from lldiffusion.engines.memory import SMALLEST_TILE, smaller_tile
from lldiffusion.engines.pixels import NotFiniteError
from lldiffusion.errors import LLDiffusionError, is_out_of_memory

from ..frame import Frame
from ..stability.frame_state import StateArrays


class FrameEnhancer(Protocol):
    """What a job asks of an enhancer; `VideoEnhancer` is one."""

    def enhance(self, frame: Frame) -> list[Frame]:
        """Take one frame, return those that are ready; when it raises, nothing has changed."""

    def flush(self) -> list[Frame]:
        """Return the frames that still wait; what was learnt of the shot is kept."""

    def state(self) -> StateArrays:
        """Everything needed to go on bit for bit, after `flush`."""

    def restore(self, state: StateArrays) -> None:
        """Go on from a state."""

    def close(self) -> None:
        """Let go of the engine."""


Tile = str | int  # "auto", "none" or a side in pixels
EnhancerFactory = Callable[[Tile, bool], FrameEnhancer]  # tile; whether it must compute in float32


class FallbackEnhancer:
    """Enhances in the precision asked for; where that fails, in float32, with smaller tiles, or not at all.

    Args:
        open_enhancer: opens the model.
        tile: how large a part of the picture may be enhanced at once.
        say: is told in one line what went wrong, once for each kind.
    """

    def __init__(self, open_enhancer: EnhancerFactory, tile: Tile, say: Callable[[str], None]) -> None:
        self.tile = tile
        self.recomputed = 0  # frames that came out finite in float32 only
        self.substituted = 0  # frames that did not: the last good result stands for them
        self._open_enhancer = open_enhancer
        self._say = say
        self._enhancer = open_enhancer(tile, False)
        self._float32: FrameEnhancer | None = None
        self._last_good: Frame | None = None

    def enhance(self, frame: Frame) -> list[Frame]:
        """As `FrameEnhancer.enhance`; it raises only for what concerns every frame."""
        try:
            ready = self._enhancer.enhance(frame)
        except NotFiniteError:
            ready = self._retry_in_float32(frame)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._shrink_tiles(frame, error)
            return self.enhance(frame)
        self._last_good = ready[-1] if ready else self._last_good
        return ready

    def flush(self) -> list[Frame]:
        """As `FrameEnhancer.flush`."""
        return self._enhancer.flush()

    def state(self) -> StateArrays:
        """As `FrameEnhancer.state`."""
        return self._enhancer.state()

    def restore(self, state: StateArrays) -> None:
        """As `FrameEnhancer.restore`."""
        self._enhancer.restore(state)

    def close(self) -> None:
        """As `FrameEnhancer.close`."""
        self._enhancer.close()
        if self._float32 is not None:
            self._float32.close()

    def lines(self) -> list[str]:
        """What happened to frames whose result was not finite, for the report at the end."""
        lines = []
        if self.recomputed:
            lines.append(f"{self.recomputed} frames computed again in float32: their result was not finite")
        if self.substituted:
            lines.append(f"{self.substituted} frames stood in for: their result was not finite, in float32 neither")
        return lines

    def _retry_in_float32(self, frame: Frame) -> list[Frame]:
        """A frame whose result was not finite, in float32."""
        try:
            if self._float32 is None:
                self._float32 = self._open_enhancer(self.tile, True)
            self._float32.restore(self._enhancer.state())
            ready = self._float32.enhance(frame)
            self._enhancer.restore(self._float32.state())
        except LLDiffusionError:
            return [self._substitute(frame)]
        if self.recomputed == 0:
            self._say(f"the result at {frame.time:.2f} s was not finite: computed again in float32")
        self.recomputed += 1
        return ready

    def _substitute(self, frame: Frame) -> Frame:
        """The last good result, or the frame itself, in the place of a result that is not finite."""
        last = self._last_good
        substitute = last if last is not None and last.pixels.shape == frame.pixels.shape else frame
        if self.substituted == 0:
            what = "the frame as it was" if substitute is frame else "the last good frame"
            self._say(f"the result at {frame.time:.2f} s is not finite, in float32 neither: {what} stands for it")
        self.substituted += 1
        return replace(frame, pixels=substitute.pixels)

    def _shrink_tiles(self, frame: Frame, error: Exception) -> None:
        """Open the model again with smaller tiles, going on from the same state."""
        side = self.tile if isinstance(self.tile, int) else max(frame.pixels.shape[:2])
        smaller = smaller_tile(side, SMALLEST_TILE // 4)
        if smaller is None:
            raise LLDiffusionError(f"not enough memory, even for tiles of {SMALLEST_TILE} pixels ({error})") from error
        if not isinstance(self.tile, int):
            self._say(f"memory ran out at {frame.time:.2f} s: going on with tiles of {smaller} pixels")
        state = self._enhancer.state()
        self.close()
        self.tile = smaller
        self._float32 = None
        self._enhancer = self._open_enhancer(smaller, False)
        self._enhancer.restore(state)
