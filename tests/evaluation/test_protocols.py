"""Each named protocol on one fixed pair, against an implementation that shares no code with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import structural_similarity

from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.protocols import PROTOCOLS, get_protocol, truncate_to_uint8
from lldiffusion.images import to_uint8

Floats = np.ndarray


@pytest.fixture(scope="module")
def pair() -> tuple[Floats, Floats]:
    """A prediction that is too dark, tinted and noisy, float32 in [0, 1] between 8-bit steps, and its 8-bit target."""
    target = data.coffee()[100:260, 200:400].astype(np.float32) / 255
    noise = np.random.default_rng(7).normal(0, 0.03, target.shape)
    prediction = np.clip(target**1.5 * [0.9, 0.8, 0.7] + noise, 0, 1)
    return prediction.astype(np.float32), target


def torchmetrics_scores(prediction: Floats, target: Floats) -> dict[str, float]:
    """PSNR and Gaussian SSIM, without the padded borders, of two 8-bit images held as floats in 0..255."""
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    x, y = (torch.from_numpy(np.float64(p)).permute(2, 0, 1)[None] for p in (prediction, target))
    _, similarity = structural_similarity_index_measure(x, y, data_range=255.0, sigma=1.5, return_full_image=True)
    ssim = float(similarity[..., 5:-5, 5:-5].mean())
    return {"psnr": float(peak_signal_noise_ratio(x, y, data_range=255.0)), "ssim": ssim}


def authors_scores(prediction: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    """What the LLDiffusion authors' metric.py does to (3, H, W) float tensors, written from its description."""
    x, y = (p.mul(255 + 1 - 1e-3).to(torch.uint8).permute(1, 2, 0).numpy() for p in (prediction, target))
    error = np.mean((x.astype(np.float64) - y) ** 2)
    return {"psnr": float(10 * np.log10(255**2 / error)), "ssim": float(structural_similarity(x, y, channel_axis=2))}


def planes(pixels: Floats) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_standard(pair: tuple[Floats, Floats]) -> None:
    expected = torchmetrics_scores(*(np.floor(np.float64(p) * 255 + 0.5) for p in pair))
    assert get_protocol("standard").measure(*pair) == pytest.approx(expected, abs=1e-5)


def test_gtmean(pair: tuple[Floats, Floats]) -> None:
    prediction, target = (np.floor(np.float64(p) * 255 + 0.5) for p in pair)

    def grey(p: Floats) -> float:  # as OpenCV's RGB2GRAY
        return float((0.299 * p[..., 0] + 0.587 * p[..., 1] + 0.114 * p[..., 2]).mean())

    corrected = np.floor(np.clip(prediction * grey(target) / grey(prediction), 0, 255) + 0.5)
    expected = torchmetrics_scores(corrected, target)
    assert get_protocol("gtmean").measure(*pair) == pytest.approx(expected, abs=1e-5)
    assert expected["psnr"] > get_protocol("standard").measure(*pair)["psnr"] + 3  # why the name must be printed


def test_lldiffusion(pair: tuple[Floats, Floats]) -> None:
    expected = authors_scores(*map(planes, pair))
    assert get_protocol("lldiffusion").measure(*pair) == pytest.approx(expected, abs=1e-9)


def test_lldiffusion_corrected(pair: tuple[Floats, Floats]) -> None:
    prediction, target = map(planes, pair)
    stored = prediction.mul(255 + 1 - 1e-3).to(torch.uint8) / 255  # the authors measure what they wrote as PNG
    scale = target.mean(dim=(1, 2), keepdim=True) / stored.mean(dim=(1, 2), keepdim=True)
    expected = authors_scores((stored * scale).clip(0, 1), target)
    measured = get_protocol("lldiffusion-corrected").measure(*pair)
    # a float32 mean may move single pixels over an 8-bit step
    assert measured["psnr"] == pytest.approx(expected["psnr"], abs=2e-3)
    assert measured["ssim"] == pytest.approx(expected["ssim"], abs=2e-4)


def test_the_protocols_differ_on_the_same_pair(pair: tuple[Floats, Floats]) -> None:
    assert len({tuple(protocol.measure(*pair).values()) for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)


def test_the_numbers_of_the_fixed_pair_stay(pair: tuple[Floats, Floats]) -> None:
    found = {name: tuple(protocol.measure(*pair).values()) for name, protocol in PROTOCOLS.items()}
    expected = {
        "standard": (15.903, 0.5741),
        "gtmean": (21.360, 0.6175),
        "lldiffusion": (15.881, 0.5804),
        "lldiffusion-corrected": (22.095, 0.6031),
    }
    assert {name: pytest.approx(values, abs=1e-3) for name, values in found.items()} == expected


def test_eight_bit_images_pass_every_quantiser_unchanged() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, -1, 1).repeat(3, axis=2)
    for quantise in (to_uint8, truncate_to_uint8):
        np.testing.assert_array_equal(quantise(levels), levels)
        np.testing.assert_array_equal(quantise(levels / np.float32(255)), levels)
    half = np.full((1, 1, 3), 0.9979, np.float32)  # 254.46 rounds to 254; 255.46 of the truncation becomes 255
    assert (to_uint8(half)[0, 0, 0], truncate_to_uint8(half)[0, 0, 0]) == (254, 255)


def test_a_black_prediction_is_measured_and_stays_black(pair: tuple[Floats, Floats]) -> None:
    black = np.zeros_like(pair[1])
    for protocol in PROTOCOLS.values():
        assert not protocol.prepare(black, pair[1])[0].any()
        assert np.isfinite(protocol.measure(black, pair[1])["psnr"])


def test_lpips_sees_the_corrected_pair(pair: tuple[Floats, Floats]) -> None:
    def mean_error(prediction: Floats, target: Floats) -> float:
        return abs(float(prediction.mean()) - float(target.mean()))

    errors = {name: protocol.measure(*pair, lpips=mean_error)["lpips"] for name, protocol in PROTOCOLS.items()}
    assert errors["gtmean"] < 10 < errors["standard"]  # clipping leaves a part of the error
    assert errors["lldiffusion-corrected"] < 10 < errors["lldiffusion"]


def test_sizes_are_checked(pair: tuple[Floats, Floats]) -> None:
    with pytest.raises(LLDiffusionError, match=r"190x160 and its target 200x160"):
        get_protocol("standard").measure(pair[0][:, :190], pair[1])
    with pytest.raises(LLDiffusionError, match="11 px or more"):
        get_protocol("standard").measure(pair[0][:8], pair[1][:8])


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(LLDiffusionError, match=r"accepted are standard, .*did you mean 'gtmean'"):
        get_protocol("gt-mean")
