"""The network: the authors' golden answers, presets, shapes, and the promises of `tiny`."""

from typing import Any

import numpy as np
import pytest

from lldiffusion.config import load_config

torch = pytest.importorskip("torch")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.model.blocks import Attention, NAFBlock, TimeEmbedding  # noqa: E402
from lldiffusion.model.level import brighten, whole  # noqa: E402
from lldiffusion.model.network import LLDiffusion, fold_spectral_norm, tone  # noqa: E402


@pytest.fixture(scope="module")
def tiny() -> LLDiffusion:
    torch.manual_seed(0)
    return LLDiffusion(load_config("tiny")).eval()


def _images(height: int = 64, width: int = 96) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(1)
    y = torch.rand(2, 3, height, width, generator=generator) * 0.2 - 1
    return torch.randn(2, 3, height, width, generator=generator), y


def _level(y: Any) -> Any:
    return torch.randn(len(y), 9, 8, 12, generator=torch.Generator().manual_seed(3))


def test_tiny_keeps_its_promises(tiny: LLDiffusion) -> None:
    assert sum(p.numel() for p in tiny.parameters()) <= 3_000_000
    kinds = {type(module).__name__ for module in tiny.denoiser.modules()}
    assert not kinds & {"Attention", "ChannelAttention", "PixelNorm", "GroupNorm", "LayerNorm", "InstanceNorm2d"}


def _denoised(model: LLDiffusion, y: Any, level: Any, part: tuple[int, int, int, int]) -> Any:
    """The whole way for one part (top, left, bottom, right) of the picture y."""
    top, left, bottom, right = part
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))[..., top:bottom, left:right]
    height, width = y.shape[2:]
    window = torch.tensor([[top / height, left / width, bottom / height, right / width]])
    y = y[..., top:bottom, left:right]
    return model.denoiser(noise, y, model.color_map(y), 999, model.encoder(y), level, window)


def test_a_tile_with_a_margin_equals_the_whole(tiny: LLDiffusion) -> None:
    """Nothing but the level looks at the whole picture: a hundredth of an 8-bit step beyond 160 pixels."""
    y, margin, side = _images(384, 416)[1][:1], 160, 32
    with torch.no_grad():
        level = tiny.level.level(torch.nn.functional.interpolate(y, (64, 96)), torch.tensor([[-1.2]]))  # type: ignore[union-attr]
        full = _denoised(tiny, y, level, (0, 0, 384, 416))
        tile = _denoised(tiny, y, level, (0, 32, 2 * margin + side, 32 + 2 * margin + side))
    inner = tile[..., margin : margin + side, margin : margin + side]
    expected = full[..., margin : margin + side, 32 + margin : 32 + margin + side]
    assert (inner - expected).abs().max() < 0.01 / 127.5


def test_training_begins_at_the_brightened_picture(tiny: LLDiffusion) -> None:
    """Noise that a one-step network cannot use is not seen at first: shutting it out killed the blocks."""
    x_t, y = _images(64, 64)
    fresh = LLDiffusion(load_config("tiny"), with_degrader=False)
    with torch.no_grad():
        features, c = fresh.encoder(y), fresh.color_map(y)
        first, second = (fresh.denoiser(noise, y, c, 999, features, _level(y)) for noise in (x_t, -x_t))
        base = brighten(y, _level(y), whole(len(y), y))
    assert torch.equal(first, second)
    assert (first - base).abs().mean() < 0.15  # the gain is 1 and the offset 0, but for the blocks' small start


def test_norms_refuse_what_they_cannot_have() -> None:
    with pytest.raises(LLDiffusionError, match="plain U-Net of convolutions"):
        load_config("tiny", ["model.denoiser.attention_down=[3]"])
    with pytest.raises(LLDiffusionError, match="'relu' needs norm = 'none'"):
        load_config("paper", ["model.denoiser.activation=relu"])


def test_tiny_costs_at_most_a_tenth_of_a_megaflop_per_pixel(tiny: LLDiffusion) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    x_t, y = _images(128, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tiny.denoiser(x_t, y, tiny.color_map(y), 500, tiny.encoder(y), _level(y))
    assert counter.get_total_flops() / (2 * 128 * 128) <= 0.1e6


def test_refine_begins_as_nothing_and_needs_a_picture(tiny: LLDiffusion) -> None:
    assert tiny.denoiser.refine is not None
    x0, base = _images()
    assert torch.equal(tiny.denoiser.refine(x0, base), x0)
    with pytest.raises(LLDiffusionError, match="refine"):
        load_config("tiny", ["model.denoiser.gain=false"])


def test_tinys_encoder_keeps_the_brightness_level(tiny: LLDiffusion) -> None:
    """Away from the borders, InstanceNorm would answer the same for every flat image."""
    dark, bright = (torch.full((1, 3, 256, 256), level) for level in (-0.95, -0.5))
    with torch.no_grad():
        for a, b in zip(tiny.encoder(dark), tiny.encoder(bright), strict=True):
            middle = slice(a.shape[2] // 2, a.shape[2] // 2 + 1)
            assert (a - b)[..., middle, middle].abs().mean() > 0.05 * a[..., middle, middle].abs().mean()


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_shapes(preset: str) -> None:
    config = load_config(preset)
    model = LLDiffusion(config).eval()
    x_t, y = _images()
    with torch.no_grad():
        features = model.encoder(y)
        assert [f.shape[1] for f in features] == [*config.model.encoder.ladder]
        level = None if model.level is None else _level(y)
        prediction = model.denoiser(x_t, y, model.color_map(y), torch.tensor([3, 900]), features, level)
        assert prediction.shape == x_t.shape
        assert model.degrade(x_t, features).shape == x_t.shape


def test_every_parameter_of_tiny_gets_a_gradient(tiny: LLDiffusion) -> None:
    assert tiny.denoiser.refine is not None and tiny.level is not None
    torch.nn.init.normal_(tiny.denoiser.refine.mend.weight, std=0.1)  # from zeros nothing reaches what is before them
    x_t, y = _images()
    features = tiny.encoder(y)
    level = tiny.level.level(torch.nn.functional.interpolate(y, (64, 96)), torch.tensor([[-1.2], [-1.0]]))
    prediction = tiny.denoiser(x_t, y, tiny.color_map(y), 500, features, level)
    (prediction.square().mean() + tiny.degrade(x_t, features).square().mean()).backward()
    learnt = [
        (n, p) for n, p in tiny.named_parameters() if not n.startswith(("level.mean.", "level.tones."))
    ]  # those are fitted apart
    assert [n for n, p in learnt if p.grad is None or not p.grad.abs().sum() > 0] == []
    tiny.zero_grad()


def test_color_map_against_its_formula() -> None:
    y = np.random.default_rng(0).random((1, 3, 4, 5), dtype=np.float32) * 2 - 1
    u = (y + 1) / 2
    expected = 2 * np.clip(u / (u.sum(axis=1, keepdims=True) + 1e-4), 0, 1) - 1
    model = LLDiffusion(load_config("tiny"), with_degrader=False)
    np.testing.assert_allclose(model.color_map(torch.from_numpy(y)).numpy(), expected, atol=1e-6)
    black = model.color_map(-torch.ones(1, 3, 2, 2))
    assert torch.equal(black, -torch.ones(1, 3, 2, 2))


def test_tone_keeps_the_ends_and_the_order() -> None:
    y = torch.linspace(-1, 1, 101)
    curve = tone(y, "log")
    assert curve[0] == -1
    assert abs(curve[-1] - 1) < 1e-6
    assert (curve.diff() > 0).all()


def test_attention_against_plain_softmax() -> None:
    attention = Attention(32, "group", 32)
    x = torch.randn(2, 32, 4, 6)
    with torch.no_grad():
        h = attention.norm(x)
        q, k, v = (p(h).flatten(2) for p in (attention.q, attention.k, attention.v))
        weights = torch.softmax(q.transpose(1, 2) @ k / 32**0.5, dim=-1)  # (N, HW, HW)
        expected = x + attention.out((v @ weights.transpose(1, 2)).reshape(x.shape))
        torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_nafnets_block_against_its_formula() -> None:
    """With sums written out; it begins as nothing but its shortcut."""
    torch.manual_seed(0)
    block, given, time = NAFBlock(3, 4, 6, "pixel", 0), torch.randn(2, 3, 5, 7), torch.randn(2, 6)
    assert block.time is not None and block.depthwise.bias is not None
    with torch.no_grad():
        x = block.shortcut(given)
        assert torch.equal(block(given, time), x)
        block.scale1.data, block.scale2.data = torch.rand(2, 1, 4, 1, 1)
        h = block.expand1(block.norm1(x)) + block.time(time * time.sigmoid()).reshape(2, 8, 1, 1)
        padded, taps = torch.nn.functional.pad(h, (1, 1, 1, 1)), block.depthwise.weight[:, 0, :, :, None, None]
        h = sum(taps[:, i, j] * padded[..., i : i + 5, j : j + 7] for i in range(3) for j in range(3))
        h = h + block.depthwise.bias.reshape(8, 1, 1)
        h = h[:, :4] * h[:, 4:]
        x = x + block.scale1 * block.project1(h * block.weigh(h.mean((2, 3), keepdim=True)))
        h = block.expand2(block.norm2(x))
        expected = x + block.scale2 * block.project2(h[:, :4] * h[:, 4:])
        torch.testing.assert_close(block(given, time), expected)


def test_a_denoiser_of_nafnets_blocks_learns() -> None:
    pixel = ["model.level=none", "model.denoiser.norm=pixel", "model.denoiser.activation=silu"]
    config = load_config("tiny", [*pixel, "model.denoiser.block_type=naf", "model.denoiser.channels=16"])
    model, (x_t, y) = LLDiffusion(config, with_degrader=False), _images(32, 32)
    for _ in range(2):  # the scales are 0 at first: what they hide gets its gradient in the second step
        model.zero_grad()
        model.denoiser(x_t, y, model.color_map(y), 500, model.encoder(y)).square().mean().backward()
        for name, parameter in model.denoiser.named_parameters():
            if name.endswith(("scale1", "scale2")):
                parameter.data += 0.1
    blocks = [part for part in model.denoiser.modules() if isinstance(part, NAFBlock)]
    assert len(blocks) == 14
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for block in blocks for p in block.parameters())
    with pytest.raises(LLDiffusionError, match=r"block.*'conv'.*res.*naf"):
        load_config("paper", ["model.denoiser.block_type=conv"])


def test_time_embedding_against_diffusers() -> None:
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    ours = TimeEmbedding(64)
    t = torch.tensor([0, 40, 960])
    phase = t.float()[:, None] * ours.frequencies[None]
    theirs = embeddings.get_timestep_embedding(t, 64, flip_sin_to_cos=False, downscale_freq_shift=1)
    torch.testing.assert_close(torch.cat([phase.sin(), phase.cos()], dim=1), theirs, rtol=1e-4, atol=1e-4)


def test_folding_spectral_norm_changes_nothing() -> None:
    model = LLDiffusion(load_config("paper"), with_degrader=False).eval()
    _, y = _images()
    with torch.no_grad():
        before = model.encoder(y)
        after = fold_spectral_norm(model).encoder(y)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not any("parametrizations" in name for name in model.state_dict())


def test_attention_sees_pooled_keys_and_values() -> None:
    """Averaging over squares changes nothing where the squares are flat, and is counted in fewer operations."""
    torch.manual_seed(0)
    plain, pooled = Attention(8, "pixel", 8), Attention(8, "pixel", 8, pool=2)
    pooled.load_state_dict(plain.state_dict())
    flat = torch.randn(1, 8, 4, 6).repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        assert torch.allclose(plain(flat), pooled(flat), atol=1e-5)
        rough = torch.randn(1, 8, 8, 12)
        assert not torch.allclose(plain(rough), pooled(rough), atol=1e-5)
    with pytest.raises(LLDiffusionError, match="attention_pool"):
        load_config("paper", ["model.denoiser.attention_pool=3"])


def test_a_degrader_that_does_not_fit_is_named_when_it_is_built() -> None:
    config = load_config("tiny", ["model.degrader.multipliers=[1]"])
    LLDiffusion(config, with_degrader=False)
    with pytest.raises(LLDiffusionError, match=r"model\.degrader: feature 1 .* level at 1/4"):
        LLDiffusion(config)
