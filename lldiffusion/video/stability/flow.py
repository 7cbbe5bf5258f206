"""Motion between frames: OpenCV's DIS optical flow (Kroeger et al., ECCV 2016), and where it can be believed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import require
from lldiffusion.photometry import LUMA_BT601

Flow = NDArray[np.float32]  # (H, W, 2): pixel (x, y) of the one frame is at (x + f[..., 0], y + f[..., 1]) in the other
Luma = NDArray[np.uint8]  # (H, W), tone-mapped
_LUMA = np.array(LUMA_BT601, np.float32)
SMALLEST = 32  # pixels a side: with less, OpenCV 5.0's DIS crashes or answers NaN
LOG_STRENGTH = 100.0  # of the tone curve log(1 + a u): the darks get most of the levels
BLUR = 1.0  # standard deviation in pixels: against the noise, which would be taken for motion


def tone_mapped_luma(pixels: NDArray[Any]) -> Luma:
    """(H, W, 3) RGB, uint8 or float in [0, 1], as DIS can compare it: luma, the darks lifted to the whole range."""
    cv2 = require("cv2", "video", "optical flow")
    scale = 1 / 255 if pixels.dtype == np.uint8 else 1
    luma = cv2.GaussianBlur(np.asarray(pixels @ _LUMA * np.float32(scale), np.float32), (0, 0), BLUR)
    lifted = np.log1p(LOG_STRENGTH * np.maximum(luma, 0) / max(float(luma.mean()), 1e-3) * 0.1)
    return np.asarray(lifted * (255 / max(float(lifted.max()), 1e-6)), np.uint8)


def optical_flow(start: Luma, end: Luma) -> Flow:
    """Where every pixel of `start` is in `end`; nowhere else when the pictures are too small to tell."""
    cv2 = require("cv2", "video", "optical flow")
    if min(start.shape) < SMALLEST:
        return np.zeros((*start.shape, 2), np.float32)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(start, end, None)
    return np.asarray(flow, np.float32)


def warp(image: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """`image` (H, W) or (H, W, C) fetched from where `flow` points, bilinearly; its edge repeated outside."""
    cv2 = require("cv2", "video", "optical flow")
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    where = (columns + flow[..., 0], rows + flow[..., 1])
    return np.asarray(cv2.remap(image, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def consistent(forward: Flow, backward: Flow) -> NDArray[np.bool_]:
    """(H, W): whether the flows undo each other, which those of hidden pixels do not.

    |w + w'|^2 < 0.01 (|w|^2 + |w'|^2) + 0.5, w = forward, w' = backward fetched through w: Sundaram, Brox, Keutzer,
    "Dense point trajectories by GPU-accelerated large displacement optical flow", ECCV 2010.
    """
    returned = warp(backward, forward)
    length = (forward**2).sum(axis=2) + (returned**2).sum(axis=2)
    return np.asarray(((forward + returned) ** 2).sum(axis=2) < 0.01 * length + 0.5)
