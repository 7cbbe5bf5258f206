"""Clips from photographs, for models of video: a crop that moves, light that wobbles, noise drawn anew for every frame.

What is real about a clip is its motion and its noise; both are known exactly here, and so is the clean picture behind
every frame.  Samples are functions of (seed, index), as those of `data.dataset`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from lldiffusion.config import DataConfig
from lldiffusion.engines.level import reduce_picture

from .augment import Changes, draw_changes
from .dataset import PairCrops, Pixels, load_bytes, to_tensor, turned
from .illumination import draw_light
from .simulate import LowLight, at_exposure, simulate

STILL = 0.45  # share of the clips in which nothing moves
FASTEST = 6.0  # pixels a frame, of the crop
SHAKE = 1  # pixels, of a hand; in a third of the clips
GUESTS = 0.5  # share of the clips that something crosses
GUEST_FASTEST = 12.0  # pixels a frame, of what crosses
CUTS = 0.1  # share of the clips that jump to another place once, unannounced
WOBBLE = 0.15  # stops, of the exposure from frame to frame; in half of the clips
COARSE = 3  # the thumbnail is made of every third pixel


@dataclass(frozen=True)
class Camera:
    """What darkens a photograph; the same for all frames but for noise and wobble."""

    settings: LowLight
    light: NDArray[np.float32] | None  # (H, W)

    def shoot(self, normal: NDArray[np.uint8], place: tuple[slice, slice], wobble: float, rng: Generator) -> Pixels:
        """`normal` (h, w, 3), the part of the photograph at `place`, as it comes out of the camera, in [0, 1]."""
        stops = max(self.settings.stops[0] + wobble, 0.0)
        light = None if self.light is None else self.light[place]
        return simulate(_unit(normal), rng, replace(self.settings, stops=(stops, stops)), light)


@dataclass(frozen=True)
class Stage:
    """A picture that a clip is made from."""

    low: NDArray[np.uint8]  # (H, W, 3); of a simulated clip the normal picture
    normal: NDArray[np.uint8]
    camera: Camera | None  # None: `low` is dark already
    changes: Changes


class ClipCrops(PairCrops):
    """`length` random clips as dictionaries.

    low, normal: (frames, 3, crop, crop) float32 in [-1, 1]
    thumbnail, normal_thumbnail: (3, 64, 96) of their whole pictures
    window: (frames, 4) top, left, bottom, right of each crop as fractions of the whole picture
    """

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, 2, index])
        stage = self._stage(rng)
        height, width = stage.normal.shape[:2]
        side, count = self.config.crop, self.config.frames
        corners, guest = _walk(height, width, side, count, rng), Guest.draw(height, width, side, rng)
        wobbles = rng.uniform(-WOBBLE, WOBBLE, count) * (rng.random() < 0.5)
        frames = [self._frame(stage, *corner, guest, i, wobbles[i], rng) for i, corner in enumerate(corners)]
        windows = [[y / height, x / width, (y + side) / height, (x + side) / width] for y, x in corners]
        found = {name: torch.stack([frame[i] for frame in frames]) for i, name in enumerate(("low", "normal"))}
        return found | _thumbnails(stage, rng) | {"window": torch.tensor(windows, dtype=torch.float32)}

    def _stage(self, rng: Generator) -> Stage:
        pair, simulated, as_is, part = self._pick(rng)
        turn, flip = int(rng.integers(4)), bool(rng.integers(2))
        normal = _at_least(turned(load_bytes(pair.normal)[part], turn, flip), self.config.crop)
        if simulated and rng.random() < self.config.recolor:
            normal = normal[..., rng.permutation(3)]
        low = normal if simulated else _at_least(turned(load_bytes(pair.low)[part], turn, flip), self.config.crop)
        camera = draw_camera(normal.shape, self.config, rng) if simulated and not as_is else None
        return Stage(low, normal, camera, draw_changes(self.config, as_is, rng))

    def _frame(
        self, stage: Stage, top: int, left: int, guest: Guest | None, number: int, wobble: float, rng: Generator
    ) -> tuple[Tensor, Tensor]:
        side = self.config.crop
        place = (slice(top, top + side), slice(left, left + side))
        low, normal = stage.low[place], stage.normal[place]
        if guest is not None:
            low, normal = guest.cross(low, stage.low, number), guest.cross(normal, stage.normal, number)
        seen = _unit(low) if stage.camera is None else stage.camera.shoot(normal, place, wobble, rng)
        return to_tensor(stage.changes.of_low(seen, rng)), to_tensor(stage.changes.of_normal(_unit(normal)))


@dataclass(frozen=True)
class Guest:
    """A rectangle of another part of the picture that crosses the clip."""

    source: tuple[int, int]  # top, left of what it shows
    size: tuple[int, int]  # rows, columns
    start: NDArray[np.float64]  # (2,) row and column of its corner in the first frame
    speed: NDArray[np.float64]  # (2,) pixels a frame

    @classmethod
    def draw(cls, height: int, width: int, side: int, rng: Generator) -> Guest | None:
        """A guest for crops of `side` pixels of a picture of this size, or None."""
        if rng.random() >= GUESTS:
            return None
        rows, columns = (int(n) for n in rng.integers(8, side // 2, size=2))
        source = (int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)))
        speed = rng.uniform(-GUEST_FASTEST, GUEST_FASTEST, size=2)
        return cls(source, (rows, columns), rng.uniform(-0.2, 1.0, size=2) * side, speed)

    def cross(self, crop: NDArray[Any], picture: NDArray[Any], number: int) -> NDArray[Any]:
        """A copy of `crop` with the guest where it is in frame `number`."""
        top, left = (int(n) for n in np.round(self.start + self.speed * number))
        first, last = np.maximum([top, left], 0), np.minimum([top + self.size[0], left + self.size[1]], crop.shape[:2])
        crop = crop.copy()
        if (last > first).all():
            y, x = first - [top, left] + self.source
            rows, columns = last - first
            crop[first[0] : last[0], first[1] : last[1]] = picture[y : y + rows, x : x + columns]
        return crop


def draw_camera(shape: tuple[int, ...], config: DataConfig, rng: Generator) -> Camera:
    """A camera whose draws are made: simulating with it again changes the noise alone."""
    stops, light = rng.uniform(config.stops[0], config.stops[1]), None
    if rng.random() < config.uneven:
        light, stops = draw_light(shape[0], shape[1], rng), stops / 3
    return Camera(settle(at_exposure(stops), rng), light)


def settle(settings: LowLight, rng: Generator) -> LowLight:
    """The same settings with every range drawn from: (v, v)."""
    drawn: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "jpeg":
            drawn[field.name] = float(rng.random() < value)
        elif field.name in ("shot", "read"):
            drawn[field.name] = (float(np.exp(rng.uniform(*np.log(value)))),) * 2
        else:
            drawn[field.name] = (type(value[0])(rng.uniform(*value)),) * 2
    return LowLight(**drawn)


def _walk(height: int, width: int, side: int, count: int, rng: Generator) -> list[tuple[int, int]]:
    """Top and left of the crop in each frame."""
    room = np.array([height - side, width - side])
    start, speed = rng.uniform(0, room + 1), rng.uniform(-FASTEST, FASTEST, size=2) * (rng.random() >= STILL)
    places = start + speed * np.arange(count)[:, None]
    if rng.random() < 1 / 3:
        places = places + rng.integers(-SHAKE, SHAKE + 1, size=places.shape)
    if rng.random() < CUTS:
        places[rng.integers(1, count) :] += rng.uniform(-0.5, 0.5, size=2) * room
    return [(int(y), int(x)) for y, x in np.clip(places, 0, room)]


def _thumbnails(stage: Stage, rng: Generator) -> dict[str, Tensor]:
    coarse = (slice(None, None, COARSE), slice(None, None, COARSE))
    low = reduce_picture(stage.low) / np.float32(255)
    if stage.camera is not None:
        low = reduce_picture(stage.camera.shoot(stage.normal[coarse], coarse, 0.0, rng))
    normal = reduce_picture(stage.normal) / np.float32(255)
    changed = {"thumbnail": stage.changes.of_light(low), "normal_thumbnail": stage.changes.of_normal(normal)}
    return {name: to_tensor(pixels) for name, pixels in changed.items()}


def _at_least(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) enlarged so that a crop of `side` pixels fits into it; most are large enough."""
    factor = side / min(pixels.shape[:2])
    if factor <= 1:
        return pixels
    size = [max(side, round(length * factor)) for length in pixels.shape[:2]]
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()


def _unit(pixels: NDArray[np.uint8]) -> Pixels:
    return pixels.astype(np.float32) / np.float32(255)
