"""How stable a clip is over time, and how close to a reference; one pass, memory independent of its length.

L_t is the mean BT.601 luma of frame t in 1/255, V_t its pixels in [0, 1], T the number of frames.

- brightness: the mean of L_t over the clip.
- AB(Var): the variance of L_t over the clip, in (1/255)^2; with a reference, also its difference from the reference's.
  Lv, Lu, Wu, Lim, "MBLLEN: Low-light image/video enhancement using CNNs", BMVC 2018, section 4.4 (average brightness
  variance, against unexpected brightness changes and flicker).
- change: mean |L_t+1 - L_t|, in 1/255: the brightness difference of neighbouring frames (after MABD, Jiang, Zheng,
  "Learning to see moving objects in the dark", ICCV 2019, which takes pixels; of means, motion cancels out).
- flicker: mean |d_t+1 - d_t| with d_t = L_t - L_t of the reference, in 1/255: the changes that the scene did not make.
- warping error: mean over t of  sum_p M (V_t - W(V_t+1))^2 / sum_p M,  over the three channels; W fetches through the
  optical flow from t to t+1 of the reference (of the result where there is none), and M leaves out hidden pixels and
  motion boundaries.  Lai et al., "Learning blind video temporal consistency", ECCV 2018, eq. 10; M from Ruder,
  Dosovitskiy, Brox, "Artistic style transfer for videos", GCPR 2016, section 3.2; the flow is OpenCV's DIS.
- static std: the standard deviation over time of each channel of a pixel, in 1/255, averaged over the pixels that stand
  still: those whose luma in the reference has a standard deviation of at most 2/255; without a reference, all of
  them, which is a measure of noise only where nothing moves.
- PSNR, SSIM: of every frame against the reference's, protocol `standard`, averaged over the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video.stability.flicker import FlickerMeter
from lldiffusion.video.stability.flow import Flow, consistent, optical_flow, tone_mapped_luma, warp

from .metrics import luminance
from .protocols import STANDARD

Pixels = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]
STILL = 2 / 255  # standard deviation over time of what counts as standing still
CLIPS = ("result", "reference", "low")


@dataclass(frozen=True)
class ClipScore:
    """The numbers of one clip; the units are above.  None: nothing to measure it with."""

    brightness: float
    ab_var: float
    change: float
    warping_error: float | None
    static_std: float | None
    flicker: float | None = None
    ab_var_difference: float | None = None
    psnr: float | None = None
    ssim: float | None = None


@dataclass(frozen=True)
class FrameScore:
    """One frame: the brightness of every clip, and how close the result is."""

    brightness: dict[str, float]  # clip -> L_t
    psnr: float | None
    ssim: float | None


@dataclass(frozen=True)
class VideoScore:
    """What was found; `clips` has the result and, where they were given, the reference and the low clip."""

    clips: dict[str, ClipScore]
    frames: list[FrameScore]
    static_share: float  # of the pixels that `static_std` is about


class Deviation:
    """Mean and standard deviation over time of every element of an array (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0

    def add(self, values: NDArray[np.floating]) -> None:
        """The next frame's values."""
        self.count += 1
        distance = values - self._mean
        self._mean = self._mean + distance / self.count
        self._squares = self._squares + distance * (values - self._mean)

    @property
    def std(self) -> NDArray[np.float64]:
        """Over the frames so far, the biased estimate."""
        return np.sqrt(np.asarray(self._squares) / max(self.count, 1))


@dataclass
class _Clip:
    """What is gathered of one clip."""

    meter: FlickerMeter = field(default_factory=FlickerMeter)
    pixels: Deviation = field(default_factory=Deviation)
    warping: list[float] = field(default_factory=list)
    last: Pixels | None = None


def measure_video(clips: dict[str, Iterator[Pixels]], advance: Callable[[], None] = lambda: None) -> VideoScore:
    """Measure the clip "result", and "reference" and "low" where they are given, frame by frame together.

    Raises LLDiffusionError when they differ in size or number of frames, or have none.
    """
    gathered = {name: _Clip() for name in clips}
    luma, scores = Deviation(), []
    guide = "reference" if "reference" in clips else "result"
    grey = None
    for frames in together(clips):
        before, grey = grey, tone_mapped_luma(frames[guide])
        seen = None if before is None else _visible(before, grey)
        for name, pixels in frames.items():
            _gather(gathered[name], pixels, seen)
        luma.add(luminance(frames[guide]))
        scores.append(_frame(frames, gathered))
        advance()
    still = luma.std <= STILL if "reference" in clips else np.ones_like(luma.std, bool)
    share = float(still.mean())
    return VideoScore({name: _score(name, gathered, scores, still) for name in clips}, scores, share)


def together(clips: dict[str, Iterator[Pixels]]) -> Iterator[dict[str, Pixels]]:
    """The frames of all clips side by side."""
    size, number = None, 0
    while True:
        frames = {name: next(clip, None) for name, clip in clips.items()}
        here = {name: pixels for name, pixels in frames.items() if pixels is not None}
        if not here and number:
            return
        if len(here) < len(frames):
            ended = " and ".join(name for name, pixels in frames.items() if pixels is None)
            raise LLDiffusionError(
                f"the clips must show the same frames: {ended} ended after {number} frames"
                + (f", {' and '.join(here)} did not" if here else "")
            )
        sizes = {name: f"{pixels.shape[1]}x{pixels.shape[0]}" for name, pixels in here.items()}
        size = size or sizes["result"]
        if set(sizes.values()) != {size}:
            found = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise LLDiffusionError(f"the clips must be equal in size: frame {number} is {found}")
        number += 1
        yield here


def _visible(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> tuple[Flow, NDArray[np.bool_]]:
    """The flow to the next frame, and where what it fetches is the same thing."""
    there = optical_flow(before, now)
    return there, consistent(there, optical_flow(now, before)) & ~boundaries(there)


def boundaries(flow: Flow) -> NDArray[np.bool_]:
    """(H, W): where the motion changes abruptly, |grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002 (Ruder et al. 2016)."""
    slopes = sum(slope**2 for i in (0, 1) for slope in np.gradient(flow[..., i]))
    return np.asarray(slopes > 0.01 * (flow**2).sum(axis=2) + 0.002)


def _gather(clip: _Clip, pixels: Pixels, seen: tuple[Flow, NDArray[np.bool_]] | None) -> None:
    clip.meter.add(float(luminance(pixels).mean()) * 255)
    clip.pixels.add(pixels)
    if seen is not None and clip.last is not None and seen[1].any():
        error = (clip.last - warp(np.ascontiguousarray(pixels), seen[0]))[seen[1]]
        clip.warping.append(float(np.square(error, dtype=np.float64).mean()))
    clip.last = pixels


def _frame(frames: dict[str, Pixels], gathered: dict[str, _Clip]) -> FrameScore:
    brightness = {name: gathered[name].meter.last for name in frames}
    if "reference" not in frames:
        return FrameScore(brightness, None, None)
    close = STANDARD.measure(frames["result"], frames["reference"])
    return FrameScore(brightness, close["psnr"], close["ssim"])


def _score(name: str, gathered: dict[str, _Clip], frames: list[FrameScore], still: NDArray[np.bool_]) -> ClipScore:
    clip = gathered[name]
    own = np.array([frame.brightness[name] for frame in frames])
    score: dict[str, float | None] = {
        "brightness": clip.meter.mean,
        "ab_var": clip.meter.variance,
        "change": clip.meter.change,
        "warping_error": float(np.mean(clip.warping)) if clip.warping else None,
        "static_std": float(clip.pixels.std[still].mean()) * 255 if still.any() else None,
    }
    if "reference" in gathered and name != "reference":
        other = np.array([frame.brightness["reference"] for frame in frames])
        score["flicker"] = float(np.abs(np.diff(own - other)).mean()) if len(own) > 1 else None
        score["ab_var_difference"] = abs(clip.meter.variance - gathered["reference"].meter.variance)
    if "reference" in gathered and name == "result":
        score["psnr"] = float(np.mean([frame.psnr for frame in frames]))
        score["ssim"] = float(np.mean([frame.ssim for frame in frames]))
    return ClipScore(**score)  # type: ignore[arg-type]  # brightness, ab_var and change are never None
