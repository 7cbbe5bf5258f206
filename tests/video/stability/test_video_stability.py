"""Stable over time: seconds not frames, cuts, one noise field, warm starts, batches, and going on bit for bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video import Frame, VideoEnhancer
from lldiffusion.video.stability.flicker import FlickerMeter
from lldiffusion.video.stability.smoothing import exponential_smoothing
from support.level_engine import flat, level_enhancer

TICK = Fraction(1, 1000)


def frames(pictures: list[np.ndarray], times: list[float] | None = None) -> list[Frame]:
    times = times or [i / 25 for i in range(len(pictures))]
    return [
        Frame(picture, round(time / TICK), TICK, origin=i) for i, (picture, time) in enumerate(zip(pictures, times))
    ]


def run(video: VideoEnhancer, given: list[Frame]) -> list[Frame]:
    return [done for frame in given for done in video.enhance(frame)] + video.flush()


def wobble(count: int, seed: int = 0, size: float = 0.1) -> list[float]:
    """Exposures that differ from frame to frame, as factors."""
    return [float(2**stops) for stops in np.random.default_rng(seed).normal(0, size, count)]


def test_frame_by_frame_is_what_the_enhancer_makes_of_pictures() -> None:
    enhancer, _ = level_enhancer(steps=3)
    pictures = flat(wobble(4))
    done = run(VideoEnhancer(enhancer, smoothing=0), frames(pictures))
    for frame, picture in zip(done, pictures, strict=True):
        np.testing.assert_allclose(frame.pixels, enhancer(picture), atol=1e-6)
    assert [frame.origin for frame in done] == [0, 1, 2, 3]
    assert [frame.pts for frame in done] == [0, 40, 80, 120]


def test_the_first_frame_of_a_smoothed_video_is_the_picture() -> None:
    enhancer, _ = level_enhancer()
    picture = flat([1.0])[0]
    np.testing.assert_allclose(run(VideoEnhancer(enhancer), frames([picture]))[0].pixels, enhancer(picture), atol=1e-6)


def test_the_level_follows_exponentially_in_seconds() -> None:
    """Against the textbook: a step of the input is 1 - 1/e done after one time constant, whatever the frame rate."""
    expected = (np.log2(0.06) + np.log2(1.3) * (1 - np.exp(-1.0))) / 2
    for times in ([0, 0.5], [0, 0.1, 0.5], list(np.linspace(0, 0.5, 14)), [0, 0.001, 0.4, 0.41, 0.5]):
        enhancer, engine = level_enhancer()
        run(VideoEnhancer(enhancer, smoothing=0.5), frames(flat([1.0] + [1.3] * (len(times) - 1)), list(times)))
        assert engine.levels[-1] == pytest.approx(expected, abs=1e-4)


def test_a_wobbling_exposure_flickers_less() -> None:
    given = frames(flat(wobble(40)))
    changes = []
    for smoothing in (0.0, 0.5):
        meter = FlickerMeter()
        for frame in run(VideoEnhancer(level_enhancer()[0], smoothing=smoothing), given):
            meter.add(float(frame.pixels.mean()))
        changes.append(meter.change)
    assert changes[1] < changes[0] / 4


def test_a_smoothed_picture_is_as_bright_as_the_smoothed_level() -> None:
    enhancer, engine = level_enhancer()
    done = run(VideoEnhancer(enhancer, smoothing=0.3), frames(flat(wobble(10))))
    np.testing.assert_allclose([frame.pixels.mean() for frame in done], np.exp2(engine.levels), atol=1e-4)


def test_a_feature_keeps_its_places() -> None:
    """Only the mean of a map is smoothed: a spot that moves leaves nothing behind."""
    enhancer, engine = level_enhancer(level="none")
    pictures = flat([1.0, 1.0])
    pictures[0][:8, :8] += 0.02
    pictures[1][-8:, -8:] += 0.02
    seen: list[np.ndarray] = []
    step = engine.step

    def spy(x: Any, conditions: Any, s: Any, previous: Any) -> Any:
        seen.append(conditions.features[0][0, 0])
        return step(x, conditions, s, previous)

    engine.step = spy  # type: ignore[method-assign,assignment]
    run(VideoEnhancer(enhancer, smoothing=10), frames(pictures))
    np.testing.assert_allclose(seen[1][0, 0], seen[1][1, 0], atol=1e-6)  # where the spot was
    assert seen[1][-1, -1] - seen[1][-1, -2] > seen[0][-1, -1] - seen[0][-1, -2] + 0.015  # where it is


def test_a_cut_starts_anew_and_a_gap_in_time_does_not_matter() -> None:
    enhancer, engine = level_enhancer()
    other = [np.ascontiguousarray(picture[:, ::-1]) * 3 for picture in flat([1.0, 1.2])]
    run(VideoEnhancer(enhancer, smoothing=1e5), frames([*flat([1.0, 1.2]), *other]))
    low = np.log2(0.06) / 2
    np.testing.assert_allclose(engine.levels, [low, low, low + np.log2(3) / 2, low + np.log2(3) / 2], atol=1e-4)


def test_frames_of_another_size_are_another_shot() -> None:
    enhancer, engine = level_enhancer()
    given = frames([*flat([1.0]), *flat([1.2], 96, 64), *flat([1.0])])
    for batch in (1, 4):
        done = run(VideoEnhancer(enhancer, smoothing=1e5, batch=batch), given)
        assert [frame.pixels.shape for frame in done] == [frame.pixels.shape for frame in given]
    low = np.log2(0.06) / 2
    np.testing.assert_allclose(engine.levels[:3], [low, low + np.log2(1.2) / 2, low], atol=1e-4)


def test_a_shot_does_not_depend_on_what_came_before() -> None:
    enhancer, _ = level_enhancer()
    second = [picture[:, ::-1].copy() * 4 for picture in flat(wobble(3))]
    alone = run(VideoEnhancer(enhancer), frames(second))
    after = run(VideoEnhancer(enhancer), frames([*flat(wobble(5)), *second]))[5:]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(alone, after, strict=True))


@pytest.mark.parametrize("options", [{}, {"refresh": 3}, {"warm_start": 0.6}, {"batch": 2}])
def test_a_restored_state_continues_bit_for_bit(options: dict[str, Any]) -> None:
    given = frames(flat(wobble(10)))
    whole = VideoEnhancer(level_enhancer(steps=2)[0], **options)
    first, saved = run(whole, given[:5]), whole.state()
    saved = {name: array.copy() for name, array in saved.items()}
    rest = run(whole, given[5:])
    other = VideoEnhancer(level_enhancer(steps=2)[0], **options)
    other.restore(saved)
    again = run(other, given[5:])
    assert len(first) == 5
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(rest, again, strict=True))


def test_states_go_through_a_file_and_others_are_refused(tmp_path: Any) -> None:
    video = VideoEnhancer(level_enhancer()[0], refresh=2, warm_start=0.5)
    assert video.state() == {}
    run(video, frames(flat([1.0, 1.1])))
    np.savez(tmp_path / "state.npz", **video.state())  # type: ignore[arg-type]
    with np.load(tmp_path / "state.npz") as loaded:
        video.restore(dict(loaded))
    with pytest.raises(LLDiffusionError, match="no state of a VideoEnhancer"):
        video.restore({"mean_0": np.zeros(1)})
    waiting = VideoEnhancer(level_enhancer()[0], batch=3)
    waiting.enhance(frames(flat([1.0]))[0])
    with pytest.raises(RuntimeError, match="flush"):
        waiting.state()


def test_reset_forgets() -> None:
    given = frames(flat([1.0, 1.3]))
    video = VideoEnhancer(level_enhancer()[0], smoothing=10)
    video.enhance(given[0])
    video.reset()
    fresh = VideoEnhancer(level_enhancer()[0], smoothing=10).enhance(given[1])
    assert np.array_equal(video.enhance(given[1])[0].pixels, fresh[0].pixels)


def test_a_batch_gives_what_single_frames_give() -> None:
    given = frames(flat(wobble(7)))
    single = run(VideoEnhancer(level_enhancer()[0], refresh=2), given)
    enhancer, engine = level_enhancer()
    video = VideoEnhancer(enhancer, refresh=2, batch=3)
    assert [len(video.enhance(frame)) for frame in given] == [0, 0, 3, 0, 0, 3, 0]
    assert len(video.flush()) == 1
    video.reset()
    for one, other in zip(single, run(video, given), strict=True):
        np.testing.assert_allclose(one.pixels, other.pixels, atol=1e-6)
    assert set(engine.batches) == {1, 3}


def test_several_enhancers_share_a_batch() -> None:
    given = frames(flat(wobble(6)))
    pairs = [level_enhancer() for _ in range(3)]
    video = VideoEnhancer([enhancer for enhancer, _ in pairs])
    shared = run(video, given)
    video.close()
    single = run(VideoEnhancer(level_enhancer()[0]), given)
    for one, other in zip(single, shared, strict=True):
        np.testing.assert_allclose(one.pixels, other.pixels, atol=1e-6)
    assert [engine.encoded for _, engine in pairs] == [2, 2, 2]


def test_features_are_computed_every_kth_frame_and_at_cuts() -> None:
    enhancer, engine = level_enhancer()
    video = VideoEnhancer(enhancer, refresh=4)
    run(video, frames(flat([1.0] * 6)))
    assert engine.encoded == 2
    run(video, frames(flat([9.0] * 2)))
    assert engine.encoded == 3


@pytest.mark.parametrize("batch", [1, 3])
def test_between_refreshes_an_exposure_that_wobbles_is_evened_out_too(batch: int) -> None:
    enhancer, engine = level_enhancer()
    done = run(VideoEnhancer(enhancer, refresh=100, batch=batch), frames(flat(wobble(6))))
    assert engine.encoded == 1
    np.testing.assert_allclose([frame.pixels.mean() for frame in done], done[0].pixels.mean(), atol=1e-4)


def test_a_frame_that_fails_changes_nothing() -> None:
    given = frames(flat(wobble(3)))
    enhancer, engine = level_enhancer()
    video = VideoEnhancer(enhancer, warm_start=0.5, refresh=2)
    video.enhance(given[0])
    before = video.state()
    engine.broken = True
    with pytest.raises(LLDiffusionError, match="NaN or infinity"):
        video.enhance(given[1])
    after = video.state()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    engine.broken = False
    assert len(video.enhance(given[1])) == 1


@pytest.mark.parametrize("broken", ["encode", "level"])
def test_conditions_that_are_not_finite_are_named(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enhancer, engine = level_enhancer()
    video = VideoEnhancer(enhancer, refresh=2)
    right = getattr(engine, broken)
    monkeypatch.setattr(engine, broken, lambda given: np.full_like(np.asarray(right(given)), np.nan))
    with pytest.raises(LLDiffusionError, match="NaN or infinity"):
        video.enhance(frames(flat([1.0]))[0])
    assert video.state() == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"smoothing": -1}, "smoothing -1"),
        ({"smoothing": float("nan")}, "smoothing nan"),
        ({"refresh": 0}, "refresh 0"),
        ({"warm_start": 1.5}, "warm start 1.5"),
        ({"batch": 0}, "batch of 0"),
        ({"warm_start": 0.5, "batch": 2}, "batch of 1"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(LLDiffusionError, match=words):
        VideoEnhancer(level_enhancer()[0], **options)
    with pytest.raises(LLDiffusionError, match="no enhancer"):
        VideoEnhancer([])


def test_tiles_are_lit_by_the_smoothed_level() -> None:
    enhancer, engine = level_enhancer(tile=128)
    run(VideoEnhancer(enhancer, smoothing=1e5), frames(flat([1.0, 1.3], 160, 192)))
    assert len(engine.levels) > 2
    wanted, own = np.log2(0.06) / 2, np.log2([0.06, 0.06 * 1.3])  # of the first frame for both; the frames' own means
    np.testing.assert_allclose(engine.gains, np.repeat(wanted - own, len(engine.gains) // 2), atol=1e-3)


def test_time_does_not_run_backwards() -> None:
    one, two = (np.zeros((1, 1, 1, 1), np.float32),), (np.ones((1, 1, 1, 1), np.float32),)
    assert exponential_smoothing(one, two, -3.0, 0.5)[0] == 0
    assert exponential_smoothing(one, two, 0.0, 0.5)[0] == 0
    assert exponential_smoothing(one, two, 0.0, 0.0)[0] == 1
    assert exponential_smoothing(one, two, 1e9, 0.5)[0] == 1


def test_a_warm_start_steps_from_the_last_result() -> None:
    """One step whose prediction is x itself: what comes out is alpha_t b + sigma_t noise, b the last result."""
    pytest.importorskip("cv2")
    from lldiffusion.schedule import make_schedule

    enhancer, engine = level_enhancer()
    picture = flat([1.0], 64, 96)[0]
    video = VideoEnhancer(enhancer, warm_start=0.5)
    first = video.enhance(frames([picture])[0])[0].pixels
    engine.step = lambda x, conditions, step, previous: (x, x)  # type: ignore[method-assign]
    second = video.enhance(frames([picture] * 2)[1])[0].pixels
    alpha_bar = make_schedule(enhancer.config.diffusion).alpha_bar[499]
    noise = enhancer.pipeline.noise((1, 3, 64, 96))[0].transpose(1, 2, 0)
    expected = alpha_bar**0.5 * (2 * first - 1) + (1 - alpha_bar) ** 0.5 * noise
    np.testing.assert_allclose(second, np.clip((expected + 1) / 2, 0, 1), atol=1e-4)
