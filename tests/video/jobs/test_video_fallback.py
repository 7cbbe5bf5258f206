"""One bad frame or too little memory does not end a job."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lldiffusion.engines.pixels import NotFiniteError
from lldiffusion.errors import LLDiffusionError
from lldiffusion.video import Frame
from lldiffusion.video.jobs.fallback import FallbackEnhancer
from support.passing import PassThrough


def frame(value: float = 0.5, pts: int = 0) -> Frame:
    return Frame(np.full((256, 300, 3), value, np.float32), pts, Fraction(1, 25))


class Fussy(PassThrough):
    """Not finite at frame 3 unless exact, and perhaps not even then; too large without tiles."""

    def __init__(self, tile: str | int, exact: bool, hopeless: bool, largest: int) -> None:
        super().__init__(memory=0.5)
        self._exact, self._hopeless = exact, hopeless
        self._side = tile if isinstance(tile, int) else 300
        self._largest = largest

    def enhance(self, frame: Frame) -> list[Frame]:
        if self._side > self._largest and frame.pts >= 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if frame.pts == 3 and (self._hopeless or not self._exact):
            raise NotFiniteError("the network produced NaN")
        return super().enhance(frame)


def with_fallback(hopeless: bool = False, largest: int = 10_000) -> tuple[FallbackEnhancer, list[str]]:
    said: list[str] = []
    return FallbackEnhancer(lambda tile, exact: Fussy(tile, exact, hopeless, largest), "auto", said.append), said


def test_a_result_that_is_not_finite_is_computed_again_in_float32() -> None:
    work, said = with_fallback()
    plain = PassThrough(memory=0.5)
    for pts in range(6):
        given = frame(pts / 10, pts)
        assert np.array_equal(work.enhance(given)[0].pixels, plain.enhance(given)[0].pixels)
    assert work.recomputed == 1
    assert said == ["the result at 0.12 s was not finite: computed again in float32"]


def test_a_frame_that_never_gets_finite_is_stood_in_for() -> None:
    work, said = with_fallback(hopeless=True)
    results = [work.enhance(frame(pts / 10, pts))[0] for pts in range(6)]
    assert np.array_equal(results[3].pixels, results[2].pixels)
    assert [result.pts for result in results] == list(range(6))
    assert work.substituted == 1
    assert said == ["the result at 0.12 s is not finite, in float32 neither: the last good frame stands for it"]


def test_too_little_memory_means_smaller_tiles_said_once() -> None:
    work, said = with_fallback(largest=128)
    plain = PassThrough(memory=0.5)
    for pts in range(3):
        assert np.array_equal(
            work.enhance(frame(pts / 10, pts))[0].pixels, plain.enhance(frame(pts / 10, pts))[0].pixels
        )
    assert work.tile == 128
    assert said == ["memory ran out at 0.08 s: going on with tiles of 128 pixels"]


def test_no_tile_is_small_enough() -> None:
    work, _ = with_fallback(largest=64)
    with pytest.raises(LLDiffusionError, match="not enough memory, even for tiles of 128 pixels"):
        work.enhance(frame(pts=2))


def test_another_failure_is_not_swallowed() -> None:
    class Broken(PassThrough):
        def enhance(self, frame: Frame) -> list[Frame]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        FallbackEnhancer(lambda tile, exact: Broken(), "auto", print).enhance(frame())
