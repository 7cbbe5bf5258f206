"""An enhancer for long jobs: one bad frame or too little memory does not end them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from lldiffusion.engines.pixels import NotFiniteError
from lldiffusion.errors import LLDiffusionError

from ..frame import Frame
from .journal import State

SMALLEST_TILE = 128  # pixels; also the step in which tiles shrink


class Work(Protocol):
    """What a job asks of an enhancer; `VideoEnhancer` is one."""

    def enhance(self, frame: Frame) -> list[Frame]:
        """Take one frame, return those that are ready; when it raises, nothing has changed."""

    def flush(self) -> list[Frame]:
        """Return the frames that are still held; what was learnt of the shot is kept."""

    def state(self) -> State:
        """Everything needed to go on bit for bit, after `flush`."""

    def restore(self, state: State) -> None:
        """Go on from a state."""

    def close(self) -> None:
        """Let go of the engine."""


Tile = str | int  # "auto", "none" or a side in pixels
Open = Callable[[Tile, bool], Work]  # tile; whether it must compute in float32


class Careful:
    """Enhances in the precision asked for; where that fails, in float32, with smaller tiles, or not at all.

    Args:
        open_work: opens the model.
        tile: how large a piece of the picture may be enhanced at once.
        say: is told in one line what went wrong, once for each kind.
    """

    def __init__(self, open_work: Open, tile: Tile, say: Callable[[str], None]) -> None:
        self._open, self.tile, self._say = open_work, tile, say
        self._work = open_work(tile, False)
        self._exact: Work | None = None
        self._last: Frame | None = None
        self.recomputed = 0  # frames that came out finite in float32 only
        self.given_up = 0  # frames that did not: the last good result stands for them

    def enhance(self, frame: Frame) -> list[Frame]:
        """As `Work.enhance`; it raises only for what concerns every frame."""
        try:
            ready = self._work.enhance(frame)
        except NotFiniteError:
            ready = self._again(frame)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._shrink(frame, error)
            return self.enhance(frame)
        self._last = ready[-1] if ready else self._last
        return ready

    def flush(self) -> list[Frame]:
        """As `Work.flush`."""
        return self._work.flush()

    def state(self) -> State:
        """As `Work.state`."""
        return self._work.state()

    def restore(self, state: State) -> None:
        """As `Work.restore`."""
        self._work.restore(state)

    def close(self) -> None:
        """As `Work.close`."""
        self._work.close()
        if self._exact is not None:
            self._exact.close()

    def lines(self) -> list[str]:
        """What happened to frames whose result was not finite, for the report at the end."""
        said = [f"{self.recomputed} frames computed again in float32: their result was not finite"]
        said += [f"{self.given_up} frames stood in for: their result was not finite, in float32 neither"]
        return [line for line in said if not line.startswith("0 ")]

    def _again(self, frame: Frame) -> list[Frame]:
        """A frame whose result was not finite, in float32."""
        try:
            if self._exact is None:
                self._exact = self._open(self.tile, True)
            self._exact.restore(self._work.state())
            ready = self._exact.enhance(frame)
            self._work.restore(self._exact.state())
        except LLDiffusionError:
            return [self._stand_in(frame)]
        if self.recomputed == 0:
            self._say(f"the result at {frame.time:.2f} s was not finite: computed again in float32")
        self.recomputed += 1
        return ready

    def _stand_in(self, frame: Frame) -> Frame:
        last = self._last if self._last is not None and self._last.pixels.shape == frame.pixels.shape else frame
        if self.given_up == 0:
            what = "the last good frame" if last is not frame else "the frame as it was"
            self._say(f"the result at {frame.time:.2f} s is not finite, in float32 neither: {what} stands for it")
        self.given_up += 1
        return replace(frame, pixels=last.pixels)

    def _shrink(self, frame: Frame, error: Exception) -> None:
        """Open the model again with smaller tiles, going on from the same state."""
        side = self.tile if isinstance(self.tile, int) else max(frame.pixels.shape[:2])
        smaller = min(side // 2, side - 1) // SMALLEST_TILE * SMALLEST_TILE
        if smaller < SMALLEST_TILE:
            raise LLDiffusionError(f"not enough memory, even for tiles of {SMALLEST_TILE} pixels ({error})") from error
        if not isinstance(self.tile, int):
            self._say(f"memory ran out at {frame.time:.2f} s: going on with tiles of {smaller} pixels")
        state = self._work.state()
        self.close()
        self.tile, self._exact = smaller, None
        self._work = self._open(smaller, False)
        self._work.restore(state)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out: each engine says it in its own way."""
    words = str(error).lower()
    named = type(error).__name__ in ("MemoryError", "OutOfMemoryError")
    return named or any(text in words for text in ("out of memory", "failed to allocate memory", "bad_alloc"))
