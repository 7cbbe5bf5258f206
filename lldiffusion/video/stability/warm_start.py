"""A warm start: the last result, moved along with the picture, under less noise than a cold start has.

    x_t  =  alpha_t b + sigma_t noise,      t = share T,      b = the last result fetched through the flow

and the steps from t on are run (SDEdit, Meng et al., ICLR 2022, from the frame before).  Where the flow cannot be
believed, b is the network's first guess from pure noise, one evaluation more; when that is most of the picture,
the frame starts cold.  Each frame leans on the one before, so that errors may add up over a shot: off by default.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.engines.pipeline import Guidance
from lldiffusion.engines.pixels import pad_to_multiple
from lldiffusion.engines.sampler import exposed, plan
from lldiffusion.schedule import make_schedule

from .flow import Luma, consistent, optical_flow, tone_mapped_luma, warp
from .frame_state import FrameState

MIN_CONSISTENT = 0.5  # share of the picture whose flow must be consistent


class WarmStart:
    """Renders single frames, each from the one before.

    Args:
        share: of the noise, in (0, 1]; fewer steps are run in proportion.
    """

    def __init__(self, enhancer: Enhancer, share: float) -> None:
        self._enhancer = enhancer
        schedule = make_schedule(enhancer.config.diffusion)
        self._steps = exposed(plan(schedule, enhancer.config.sampling, share), enhancer.steps[0].exposure)
        alpha_bar = schedule.alpha_bar[self._steps[0].t]
        self._alpha = np.float32(alpha_bar**0.5)
        self._sigma = np.float32((1 - alpha_bar) ** 0.5)

    def render(
        self, pixels: NDArray[Any], planes: Floats, guidance: Guidance, before: FrameState | None
    ) -> tuple[Floats, Luma, Floats]:
        """x_0 (1, 3, h, w), and to keep of this frame: its tone-mapped luma, its result (h, w, 3).

        `pixels`: the frame, (h, w, 3); `planes`: the same for the engine; `before`: the state of the shot, None at its
        start.
        """
        pipeline, now = self._enhancer.pipeline, tone_mapped_luma(pixels)
        start = self._start(now, planes, guidance, before)
        if start is None:
            x0 = pipeline.sample(planes, self._enhancer.steps, guidance=guidance)
        else:
            padded = pad_to_multiple(start, pipeline.multiple)
            x = self._alpha * padded + self._sigma * pipeline.noise(padded.shape)
            x0 = pipeline.sample(planes, self._steps, x, guidance)
        return x0, now, np.ascontiguousarray(x0[0].transpose(1, 2, 0))

    def _start(self, now: Luma, planes: Floats, guidance: Guidance, before: FrameState | None) -> Floats | None:
        """b, (1, 3, h, w) in [-1, 1], or None to start cold."""
        if before is None or before.luma is None or before.result is None:
            return None
        flow = optical_flow(now, before.luma)
        known = consistent(flow, optical_flow(before.luma, now))
        if known.mean() < MIN_CONSISTENT:
            return None
        moved = np.ascontiguousarray(warp(before.result, flow).transpose(2, 0, 1)[None])
        if known.all():
            return moved
        guess = replace(self._enhancer.steps[0], a=0.0, b=1.0, c=0.0)  # x_next is x0
        return np.where(known, moved, self._enhancer.pipeline.sample(planes, (guess,), guidance=guidance))
