"""A model that starts from its own last result: carried, dropped at cuts, saved, and never mixed with noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lldiffusion.config import SamplingConfig, load_config
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.base import Array, Conditions
from lldiffusion.engines.sampler import Step
from lldiffusion.engines.samples import mean_and_deviation
from lldiffusion.errors import LLDiffusionError
from lldiffusion.video import Frame, VideoEnhancer
from support.level_engine import LevelEngine, flat

TICK = Fraction(1, 25)
KEPT = 0.5  # share of the last result in the next


class RecursiveMean(LevelEngine):
    """x0 = y + 0.5 (x - y) where there is an x, else y; remembers every x."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        assert not previous.any()
        self.seen.append(np.array(x))
        x0 = conditions.low + np.float32(KEPT) * (x - conditions.low) if x.any() else conditions.low
        return x0, x0


def recurrent(**options: Any) -> tuple[Enhancer, RecursiveMean]:
    engine = RecursiveMean()
    config = load_config("tiny", ["model.recurrent=true"])
    return Enhancer(engine, replace(config, sampling=SamplingConfig("ddim", 1, "trailing", True)), **options), engine


def clip(pictures: list[np.ndarray], start: int = 0) -> Iterator[Frame]:
    return (Frame(picture, start + i, TICK) for i, picture in enumerate(pictures))


def run(video: VideoEnhancer, frames: Iterator[Frame]) -> list[np.ndarray]:
    return [done.pixels for frame in frames for done in video.enhance(frame)] + [d.pixels for d in video.flush()]


def test_each_frame_starts_from_the_result_before_it() -> None:
    enhancer, engine = recurrent()
    pictures = flat([1.0, 1.1, 0.9], 60, 90)  # padded to 64x96
    results = run(VideoEnhancer(enhancer), clip(pictures))
    wanted = pictures[0]
    for picture, result in zip(pictures, results, strict=True):
        wanted = picture + KEPT * (wanted - picture)
        np.testing.assert_allclose(result, wanted, atol=1e-6)
    assert not engine.seen[0].any()
    assert engine.seen[1].shape == (1, 3, 64, 96)
    np.testing.assert_allclose(engine.seen[1][0, :, :60, :90], 2 * results[0].transpose(2, 0, 1) - 1, atol=1e-6)
    np.testing.assert_array_equal(engine.seen[1][:, :, 60:], engine.seen[1][:, :, 58:54:-1])  # by reflection
    np.testing.assert_array_equal(engine.seen[1][:, :, :, 90:], engine.seen[1][:, :, :, 88:82:-1])


def test_a_cut_another_size_and_a_still_picture_start_from_zeros() -> None:
    enhancer, engine = recurrent()
    cut = [picture[:, ::-1].copy() * 4 for picture in flat([1.0, 1.0])]
    run(VideoEnhancer(enhancer), clip([*flat([1.0, 1.0]), *cut, *flat([1.0], 96, 64)]))
    assert [bool(x.any()) for x in engine.seen] == [False, True, False, True, False]
    enhancer(flat([1.0])[0])
    assert not engine.seen[-1].any()
    assert not enhancer.pipeline.noise((2, 3, 64, 96)).any()


def test_tiles_get_their_part_of_it() -> None:
    enhancer, engine = recurrent(tile=128)
    pictures = flat([1.0, 1.1], 160, 224)
    results = run(VideoEnhancer(enhancer), clip(pictures))
    assert len(engine.seen) > 2
    np.testing.assert_allclose(results[1], pictures[1] + KEPT * (pictures[0] - pictures[1]), atol=1e-5)


@pytest.mark.parametrize("refresh", [1, 3])
def test_going_on_from_a_state_is_exact(refresh: int, tmp_path: Any) -> None:
    pictures = [
        p + np.random.default_rng(i).normal(0, 0.01, p.shape).astype(np.float32)
        for i, p in enumerate(flat([1.0] * 6, 60, 90))
    ]
    pictures = [np.clip(picture, 0, 1) for picture in pictures]
    whole = run(VideoEnhancer(recurrent()[0], refresh=refresh), clip(pictures))
    first = VideoEnhancer(recurrent()[0], refresh=refresh)
    run(first, clip(pictures[:4]))
    np.savez(tmp_path / "state.npz", allow_pickle=False, **first.state())
    second = VideoEnhancer(recurrent()[0], refresh=refresh)
    with np.load(tmp_path / "state.npz") as arrays:
        second.restore(dict(arrays))
    for got, wanted in zip(run(second, clip(pictures[4:], 4)), whole[4:], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_what_a_frame_left_is_not_written_over_by_the_next() -> None:
    video = VideoEnhancer(recurrent()[0])
    results = [result.copy() for result in run(video, clip(flat([1.0, 1.2, 0.8])))]
    state = video.state()
    kept = {name: array.copy() for name, array in state.items()}
    held = [done for frame in clip(flat([0.9, 1.0, 1.1, 1.2]), 3) for done in video.enhance(frame)]
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
    assert len({id(frame.pixels) for frame in held}) == 4
    assert [float(f.pixels.mean()) for f in held] == pytest.approx(sorted(float(f.pixels.mean()) for f in held))
    assert len(results) == 3


def test_what_makes_no_sense_with_it_is_refused() -> None:
    enhancer, _ = recurrent()
    with pytest.raises(LLDiffusionError, match="'tiny' starts from its last result anyway"):
        VideoEnhancer(enhancer, warm_start=0.5)
    for several, batch in ((enhancer, 2), ([enhancer, enhancer], None)):
        with pytest.raises(LLDiffusionError, match="one enhancer and a batch of 1"):
            VideoEnhancer(several, batch=batch)
    with pytest.raises(LLDiffusionError, match="has nothing to draw"):
        mean_and_deviation(enhancer, flat([1.0])[0], 3)
    with pytest.raises(LLDiffusionError, match="has one step; leave --steps out"):
        Enhancer(RecursiveMean(), replace(enhancer.config, sampling=SamplingConfig("ddim", 4, "trailing", True)))


def test_the_networks_own_memory_is_used_and_ends_at_a_cut() -> None:
    torch = pytest.importorskip("torch")
    from lldiffusion.engines.backends.torch_eager import TorchEngine
    from lldiffusion.model import LLDiffusion

    torch.manual_seed(0)
    config = load_config("live")
    enhancer = Enhancer(TorchEngine(LLDiffusion(config, with_degrader=False).eval().requires_grad_(False)), config)
    scene = flat([1.0])[0]
    noisy = [np.clip(scene + np.random.default_rng(i).normal(0, 0.02, scene.shape), 0, 1) for i in range(3)]
    frames = [*(picture.astype(np.float32) for picture in noisy), np.ascontiguousarray(scene[:, ::-1]) * 5]
    results = run(VideoEnhancer(enhancer, smoothing=0, refresh=1), clip(frames))
    alone = [run(VideoEnhancer(enhancer, smoothing=0, refresh=1), clip([picture]))[0] for picture in frames]
    same = [bool(np.allclose(got, wanted, atol=1e-6)) for got, wanted in zip(results, alone, strict=True)]
    assert same == [True, False, False, True]
    steadier = np.abs(results[2] - results[1]).mean() / np.abs(alone[2] - alone[1]).mean()
    assert steadier < 0.9  # it keeps some of what it made
