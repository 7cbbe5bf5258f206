"""Video metrics against their definitions, written out in NumPy, scikit-image and SciPy; and `lldiff eval --video`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.pictures import photograph

pytest.importorskip("cv2")
av = pytest.importorskip("av")

from lldiffusion.cli import run  # noqa: E402
from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.evaluation.video import boundaries, measure_video, together  # noqa: E402
from lldiffusion.video.stability.flow import optical_flow, tone_mapped_luma  # noqa: E402

Clip = list[NDArray[np.float32]]


def moving(count: int = 6, step: int = 2, height: int = 64, width: int = 96) -> Clip:
    """A photograph that moves `step` pixels to the left in every frame."""
    wide = photograph("coffee", height, width + count * step)
    return [np.ascontiguousarray(wide[:, i * step : i * step + width]) for i in range(count)]


def noisy(clip: Clip, sigma: float, lift: float = 0.0, seed: int = 0) -> Clip:
    """The clip with noise in every pixel, and a brightness that changes from frame to frame."""
    rng = np.random.default_rng(seed)
    return [np.clip(f + rng.normal(0, sigma, f.shape) + lift * rng.normal(), 0, 1).astype(np.float32) for f in clip]


def luma(clip: Clip) -> NDArray[np.float64]:
    return np.array([(255.0 * f.astype(np.float64) @ [0.299, 0.587, 0.114]).mean() for f in clip])


def test_brightness_ab_var_change_and_flicker() -> None:
    reference = moving()
    result = noisy(reference, 0.02, 0.03)
    score = measure_video({"result": iter(result), "reference": iter(reference)})
    own, other = luma(result), luma(reference)
    clip = score.clips["result"]
    assert clip.brightness == pytest.approx(own.mean(), rel=1e-5)
    assert clip.ab_var == pytest.approx(own.var(), rel=1e-4)
    assert clip.change == pytest.approx(np.abs(np.diff(own)).mean(), rel=1e-4)
    assert clip.flicker == pytest.approx(np.abs(np.diff(own - other)).mean(), rel=1e-4)
    assert clip.ab_var_difference == pytest.approx(abs(own.var() - other.var()), rel=1e-4)
    assert score.clips["reference"].flicker is None
    np.testing.assert_allclose([frame.brightness["result"] for frame in score.frames], own, rtol=1e-5)


def test_psnr_and_ssim_are_scikit_images_on_8_bit() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    reference = moving(3)
    result = noisy(reference, 0.05)
    score = measure_video({"result": iter(result), "reference": iter(reference)}).clips["result"]
    pairs = [tuple(np.round(f * 255).astype(np.uint8) for f in pair) for pair in zip(reference, result, strict=True)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    assert score.psnr == pytest.approx(np.mean([peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]))
    assert score.ssim == pytest.approx(
        np.mean([structural_similarity(a, b, data_range=255, **options) for a, b in pairs])
    )


def test_static_std_is_numpys_over_the_pixels_that_stand_still() -> None:
    still = [photograph("astronaut", 48, 64)] * 8
    reference = [f.copy() for f in still]
    for i, frame in enumerate(reference):
        frame[:, 32:] *= i / 8  # the right half changes
    result = noisy(reference, 0.03)
    score = measure_video({"result": iter(result), "reference": iter(reference)})
    moved = np.std([f @ [0.299, 0.587, 0.114] for f in reference], axis=0) > 2 / 255
    assert 0.4 < (~moved).mean() < 0.7
    assert score.static_share == pytest.approx((~moved).mean())
    expected = np.std(np.array(result, np.float64), axis=0)[~moved].mean() * 255
    assert score.clips["result"].static_std == pytest.approx(expected, rel=1e-4)
    assert score.clips["reference"].static_std == pytest.approx(0, abs=0.3)


def test_static_std_of_a_clip_alone_is_of_all_pixels() -> None:
    result = noisy([np.full((32, 32, 3), 0.5, np.float32)] * 30, 10 / 255)
    score = measure_video({"result": iter(result)})
    assert score.static_share == 1
    assert score.clips["result"].static_std == pytest.approx(10, rel=0.05)
    assert score.clips["result"].psnr is None


def test_warping_error_against_scipy() -> None:
    from scipy.ndimage import map_coordinates

    reference = moving(3)
    result = noisy(reference, 0.05)
    expected = []
    for t in (0, 1):
        there = optical_flow(tone_mapped_luma(reference[t]), tone_mapped_luma(reference[t + 1]))
        back = optical_flow(tone_mapped_luma(reference[t + 1]), tone_mapped_luma(reference[t]))
        rows, columns = np.mgrid[: there.shape[0], : there.shape[1]]
        places = [rows + there[..., 1], columns + there[..., 0]]
        returned = np.stack([map_coordinates(back[..., i], places, order=1, mode="nearest") for i in (0, 1)], axis=2)
        consistent = ((there + returned) ** 2).sum(2) < 0.01 * ((there**2).sum(2) + (returned**2).sum(2)) + 0.5
        slopes = sum((np.gradient(there[..., i])[axis]) ** 2 for i in (0, 1) for axis in (0, 1))
        mask = consistent & (slopes <= 0.01 * (there**2).sum(2) + 0.002)
        fetched = np.stack(
            [map_coordinates(result[t + 1][..., i], places, order=1, mode="nearest") for i in range(3)], axis=2
        )
        expected.append((((result[t] - fetched) ** 2)[mask]).mean())
    score = measure_video({"result": iter(result), "reference": iter(reference)}).clips["result"]
    assert score.warping_error == pytest.approx(np.mean(expected), rel=0.02)


def test_motion_alone_is_no_warping_error_and_noise_is() -> None:
    reference = moving()
    scores = measure_video({"result": iter(noisy(reference, 0.05)), "reference": iter(reference)}).clips
    plain, noise = scores["reference"].warping_error, scores["result"].warping_error
    assert plain is not None and noise is not None
    unwarped = np.mean([(a - b) ** 2 for a, b in pairwise(reference)])
    assert plain < 0.15 * unwarped
    assert noise > plain + 0.05**2  # two noisy frames, one of them interpolated: between once and twice the variance
    assert noise < plain + 2 * 0.05**2


def test_what_will_be_hidden_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a flow made by hand: a square moves 10 to the right; only a result that is wrong elsewhere is worse."""
    there, back = np.zeros((2, 60, 80, 2), np.float32)
    there[20:40, 20:40, 0], back[20:40, 30:50, 0] = 10, -10
    flows = iter([there, back] * 3)
    monkeypatch.setattr("lldiffusion.evaluation.video.optical_flow", lambda before, now: next(flows))
    plain = [np.full((60, 80, 3), 0.5, np.float32)] * 2
    hidden, seen = plain[0].copy(), plain[0].copy()
    hidden[22:38, 42:49] = 1  # ground that the square covers next
    seen[45:55, 42:49] = 1
    scores = [measure_video({"result": iter([first, plain[1]])}).clips["result"] for first in (plain[0], hidden, seen)]
    assert scores[0].warping_error == scores[1].warping_error == 0
    assert scores[2].warping_error is not None and scores[2].warping_error > 0.001


def test_boundaries_are_where_the_motion_jumps() -> None:
    flow = np.zeros((20, 20, 2), np.float32)
    flow[:, 10:, 0] = 5
    marked = boundaries(flow)
    assert marked[:, 9:11].all()
    assert not marked[:, :9].any()
    assert not marked[:, 11:].any()


def test_equal_clips() -> None:
    clip = moving(3)
    score = measure_video({name: iter(clip) for name in ("result", "reference", "low")}).clips
    assert score["result"].psnr == np.inf
    assert score["result"].flicker == score["low"].flicker == score["low"].ab_var_difference == 0
    assert score["low"].psnr is None


def test_one_frame_has_no_neighbours() -> None:
    score = measure_video({"result": iter(moving(1)), "reference": iter(moving(1))}).clips["result"]
    assert (score.change, score.warping_error, score.flicker, score.ab_var) == (0, None, None, 0)


def test_clips_that_do_not_belong_together() -> None:
    def clips(*lengths: int) -> dict[str, Iterator[NDArray[np.float32]]]:
        return {name: iter(moving(n)) for name, n in zip(("result", "reference", "low"), lengths)}

    with pytest.raises(LLDiffusionError, match="reference ended after 2 frames, result and low did not"):
        measure_video(clips(3, 2, 3))
    with pytest.raises(LLDiffusionError, match="ended after 0 frames"):
        measure_video(clips(0, 0))
    with pytest.raises(LLDiffusionError, match="result 96x64, low 64x96"):
        list(together({"result": iter(moving(1)), "low": iter(moving(1, 2, 96, 64))}))


# -- the command


def write_clip(path: Path, clip: Clip) -> Path:
    """A lossless RGB clip, written with PyAV alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, _ = clip[0].shape
        stream.pix_fmt = "bgr0"
        for pixels in clip:
            frame = av.VideoFrame.from_ndarray(np.round(pixels * 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, reference = tmp_path_factory.mktemp("clips"), moving()
    dim = [(f / 8).astype(np.float32) for f in reference]
    clips = {"reference": reference, "result": noisy(reference, 0.03, 0.02), "low": dim}
    return {name: write_clip(folder / f"{name}.mkv", clip) for name, clip in clips.items()} | {"folder": folder}


def test_eval_video_saves_what_it_measures(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = files["folder"] / "new" / "flicker.json"
    options = ["--reference", str(files["reference"]), "--low", str(files["low"]), "-o", str(out)]
    assert run(["eval", "--video", str(files["result"]), *options]) == 0
    shown = capsys.readouterr().out
    for words in ("AB(Var)", "warping error", "static std", "PSNR", "6 frames", "saved:"):
        assert words in shown
    saved = json.loads(out.read_text())
    assert saved["frames"] == 6
    assert list(saved["clips"]) == ["result", "reference", "low"]
    own = luma([(np.round(f * 255) / 255).astype(np.float32) for f in noisy(moving(), 0.03, 0.02)])
    assert saved["clips"]["result"]["change"] == pytest.approx(np.abs(np.diff(own)).mean(), rel=1e-3)
    assert 20 < saved["clips"]["result"]["psnr"] < 40
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    np.testing.assert_allclose([float(row["brightness_result"]) for row in rows], own, rtol=1e-4)


def test_eval_video_alone_says_what_is_missing(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = files["folder"] / "alone.json"
    arguments = ["eval", "--video", str(files["result"]), "--limit", "3", "-o", str(out)]
    assert run(arguments) == 0
    assert "no --reference" in capsys.readouterr().out
    saved = json.loads(out.read_text())
    assert run([*arguments, "-y", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == saved
    assert saved["frames"] == 3
    assert saved["clips"]["result"]["psnr"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--data FOLDER for images, or --video RESULT"),
        (["--low", "x.mp4"], "only together with --video"),
        (["--video", "RESULT", "--data", "folder"], "--data is of images"),
        (["--video", "RESULT", "--model", "tiny", "--steps", "2"], "--model, --steps are of images"),
        (["--video", "nowhere.mp4"], "nowhere.mp4"),
        (["--video", "README.md"], "README.md"),
        (["--video", "RESULT", "-o", "flicker.txt"], "ends in .json"),
    ],
)
def test_bad_input_is_one_line(
    files: dict[str, Path], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    names = {"RESULT": str(files["result"]), "README.md": str(root / "README.md")}
    assert run(["eval", *(names.get(word, word) for word in arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
