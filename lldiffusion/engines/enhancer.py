"""`Enhancer`: a model that turns dark pictures into bright ones, ready to be embedded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError, choose

from .backends.base import Array, Engine, Floats, Progress
from .level import exposure_for, thumbnail_of
from .pipeline import Pipeline
from .pixels import from_planes, pad_to_multiple, to_planes
from .sampler import Step, exposed, plan_steps
from .select_backend import open_engine
from .shrinking import sample_in_memory

DEFAULT_MODEL = "tiny"  # shipped with the package


class Enhancer:
    """Calls a model on pictures.  Several threads may call one enhancer at the same time; there is no global state.

    Args:
        engine: what runs the network.
        config: the model's configuration, with the sampler and number of steps to use.
        seed: of x_T; the same seed gives the same picture.
        tile: "auto" (tiles from about 4 million pixels on, or when the whole image would not fit in memory), "none", or
            a tile's side in pixels.  Where memory runs out all the same, tiles become smaller, unless it is "none".
        passed_over: why other backends are not used, for `info`.
        why: why this precision is used, for `info`.
        channels: order of the pictures' channels, "rgb" or "bgr" (OpenCV's), in and out.
        exposure: brighter (+) or darker (-) than the model's own choice, in stops: a model with a level (see
            `config.model.level`) is told, the result of any other is multiplied afterwards.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        seed: int = 0,
        tile: str | int = "auto",
        passed_over: dict[str, str] | None = None,
        why: str = "",
        channels: str = "rgb",
        exposure: float = 0.0,
    ) -> None:
        self.bgr = choose(channels, ("rgb", "bgr"), "channel order") == "bgr"
        self.pipeline = Pipeline(engine, config, seed, tile)
        self.config = config
        self.steps = plan_steps(config, exposure)
        if config.model.recurrent and len(self.steps) != 1:
            raise LLDiffusionError(
                f"{len(self.steps)} steps: model '{config.name}' starts from its own last result and has one step; "
                "leave --steps out"
            )
        self.gain = 0.0 if self.pipeline.has_level else exposure  # stops, applied to the result
        self._passed_over = passed_over or {}
        self._why = {"precision because": why} if why else {}

    @classmethod
    def open(
        cls,
        source: str | Path = DEFAULT_MODEL,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        steps: int | None = None,
        sampler: str | None = None,
        seed: int = 0,
        tile: str | int = "auto",
        channels: str = "rgb",
        exposure: float = 0.0,
        many: bool = True,
    ) -> Enhancer:
        """Open a checkpoint folder, a bundle (folder or `.lldiff` file), a single `.onnx` or a shipped model ("tiny").

        A single graph (`lldiff export --single`) holds its steps and its noise: `steps` and `sampler` are refused,
        `seed` does nothing.
        A checkpoint runs on PyTorch.  A bundle runs without it, on the fastest backend that works here ("auto") or on
        `backend` ("tensorrt", "tensorrt-rtx", "onnxruntime", "openvino"); `device` is "cpu", "cuda" or "cuda:N",
        `precision` one that the bundle holds, or "bf16" with OpenVINO ("auto": on a CPU "int8" where the bundle has it
        and the processor VNNI, else float32; on a GPU the bundle's default).
        `many`: several pictures will follow, or a video: "auto" may take a backend that starts more slowly and runs
        faster (OpenVINO's eight bits on CPUs); False: one will, as soon as can be.  `info` says what was taken and why.
        `steps` and `sampler` ("ddim", "dpm++", "euler") default to the model's own.
        `channels="bgr"` takes and returns pictures as OpenCV has them; `exposure` brightens (+) or darkens, in stops.
        Raises LLDiffusionError for an unknown or damaged source, an unusable device or a bad option.
        """
        opened = open_engine(str(source), backend, device, precision, many)
        sampling = opened.config.sampling
        if opened.steps_inside and (steps or sampler):
            raise LLDiffusionError(f"'{source}' holds its steps: they can only be chosen when it is exported")
        sampling = replace(sampling, steps=steps or sampling.steps, sampler=sampler or sampling.sampler)
        config = replace(opened.config, sampling=sampling)
        return cls(
            opened.engine,
            config,
            seed=seed,
            tile=tile,
            passed_over=opened.passed_over,
            why=opened.why,
            channels=channels,
            exposure=exposure,
        )

    @property
    def seed(self) -> int:
        """The seed of x_T."""
        return self.pipeline.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.pipeline.seed = value

    def __call__(
        self,
        pixels: NDArray[Any],
        noise: Floats | None = None,
        progress: Progress | None = None,
        exposure: float | None = None,
    ) -> NDArray[Any]:
        """Enhance (H, W, 3) or a batch (N, H, W, 3), RGB, uint8 or float in [0, 1]; returns the same shape and type.

        Args:
            noise: your own x_T, the same shape as `pixels`, standard normal; default: from the seed.  A recurrent model
                has none; it takes its result of the frame before here, 2 * pixels - 1 (default: zeros).
            progress: called after every step (of every tile).
            exposure: in stops, for this call; default: the enhancer's.
        Any height and width will do: the image is padded by reflection and cropped again.
        Raises LLDiffusionError for a bad array, when the output is not finite, and when memory runs out.
        """
        steps, gain = self._exposed(exposure)
        x_t = None if noise is None else self._noise_planes(noise, pixels.shape)
        x0 = sample_in_memory(self.pipeline, self._ordered(to_planes(pixels)), steps, x_t, progress)
        return from_planes(self._ordered(x0), pixels, gain)

    def exposure_to_match(self, pixels: NDArray[Any], brightness: float) -> float:
        """The exposure in stops at which the result's mean sRGB value is `brightness`, in (0, 1).

        Raises LLDiffusionError when the model has no level, and for a brightness outside (0, 1).
        """
        if not self.pipeline.has_level:
            raise LLDiffusionError(
                f"model '{self.config.name}' has no level to match a brightness with: use an exposure"
            )
        if not 0 < brightness < 1:
            raise LLDiffusionError(f"brightness {brightness}: a mean between 0 (black) and 1 (white) is needed")
        thumbnail = thumbnail_of(self._ordered(to_planes(pixels)))
        level = self.pipeline.engine.level(thumbnail)
        return exposure_for(brightness, thumbnail, self.pipeline.engine.numpy(level))

    def enhance_planes(self, low: Array, noise: Array | None = None) -> Array:
        """x_0 of planes in memory that the engine reads without a copy, as the engine's own array.

        Args:
            low: (N, 3, H, W) float32 RGB in [-1, 1], contiguous, sides multiples of the model's `size_multiple`.
                TensorRT takes GPU arrays of PyTorch, CuPy, PyCUDA and others, and what it returns, they read (DLPack,
                `__cuda_array_interface__`); ONNX Runtime takes DLPack where it runs and returns `OrtValue`s; PyTorch
                takes and returns tensors.  NumPy arrays will always do.
            noise: x_T of the same shape; default: from the seed, which is uploaded.
        Values are not checked.  Raises LLDiffusionError for a shape that does not fit; never makes tiles.
        """
        pipeline, shape = self.pipeline, tuple(low.shape)
        multiple = pipeline.multiple
        if len(shape) != 4 or shape[1] != 3 or any(s % multiple or s < 2 * multiple for s in shape[2:]):
            raise LLDiffusionError(
                f"planes of shape {shape}: (N, 3, H, W) is needed, H and W multiples of {multiple}, "
                f"at least {2 * multiple}"
            )
        level = window = None
        if pipeline.has_level:
            level = pipeline.level(pipeline.engine.numpy(low))
            window = np.array([[0, 0, 1, 1]], np.float32).repeat(shape[0], axis=0)
        x = pipeline.noise(shape) if noise is None else noise
        conditions = pipeline.engine.conditions(low, level, window)
        return pipeline.engine.denoise(conditions, self.steps, x, pipeline.engine.zeros(shape))

    def stream(
        self,
        frames: Iterable[NDArray[Any]],
        times: Iterable[float] | None = None,
        *,
        fps: float = 25.0,
        live: bool = False,
        **options: Any,
    ) -> Iterator[NDArray[Any]]:
        """Enhance the frames of a video, stable over time; yields them in order, in the shape and type they came in.

        Args:
            frames: (H, W, 3), uint8 or float in [0, 1], of one size; read one at a time.
            times: when each is shown, in seconds; default: `fps` a second, evenly; live, when it comes in.
            live: read frames as fast as they come, in a thread, and enhance the newest: who is slower drops frames and
                never falls behind.  What is returned is a `lldiffusion.video.stream.LiveStream`, whose `figures` tell
                how many were dropped, and the latency.
            options: of `lldiffusion.VideoEnhancer` (smoothing, warm_start, batch, ...).
        """
        from lldiffusion.video.stream import stream  # builds on this module

        return stream(self, frames, times, fps, live, **options)

    def evaluations(self, height: int, width: int) -> int:
        """How often `progress` will be called for an image of this size."""
        return len(self.steps) * self.pipeline.tiles((1, 3, height, width))

    def info(self) -> dict[str, str]:
        """What really runs: model, backend, version, device, precision, sampler, steps, seed; why not the others."""
        sampling = self.config.sampling
        about = {"model": self.config.name, "sampler": sampling.sampler, "steps": str(sampling.steps)}
        about |= self.pipeline.engine.info() | {"seed": str(self.seed), "tile": str(self.pipeline.tile)}
        return about | self._why | {f"not {backend}": reason for backend, reason in self._passed_over.items()}

    def close(self) -> None:
        """Let go of the engine; calls that run finish, later ones raise LLDiffusionError."""
        self.pipeline.close()

    def __enter__(self) -> Enhancer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _noise_planes(self, given: Floats, wanted: tuple[int, ...]) -> Floats:
        if given.shape != wanted:
            raise LLDiffusionError(f"noise of shape {given.shape} for an image of shape {wanted}: they must agree")
        batch = given if given.ndim == 4 else given[None]
        planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), dtype=np.float32)
        return pad_to_multiple(self._ordered(planes), self.pipeline.multiple)

    def _ordered(self, planes: Floats) -> Floats:
        """Channels changed between the caller's order and RGB, either way."""
        return np.ascontiguousarray(planes[:, ::-1]) if self.bgr else planes

    def _exposed(self, exposure: float | None) -> tuple[tuple[Step, ...], float]:
        """The steps of a call and the gain of its result in stops."""
        if exposure is None:
            return self.steps, self.gain
        return (exposed(self.steps, exposure), 0.0) if self.pipeline.has_level else (self.steps, exposure)
