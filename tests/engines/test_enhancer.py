"""The embedded runtime: any size, both types, batches, reproducible, tiles that agree, errors that help."""

from pathlib import Path

import numpy as np
import pytest

from lldiffusion.config import load_config
from lldiffusion.engines import Enhancer
from lldiffusion.engines.level import thumbnail_of
from lldiffusion.engines.memory import MemoryNeed, host_memory, largest_tile_side
from lldiffusion.engines.pixels import expose, from_planes, of_shape, pad_to_multiple, to_planes
from lldiffusion.errors import LLDiffusionError
from support.pictures import SMALL, dark, photograph
from support.untrained import see_all

torch = pytest.importorskip("torch")

from lldiffusion.model import LLDiffusion, save_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model: what it makes is noise, but always the same."""
    torch.manual_seed(0)
    config = load_config("tiny", [*SMALL, "model.rest=0"])  # or what is not lifted stays as it is, whatever the noise
    folder = tmp_path_factory.mktemp("model") / "small"
    save_checkpoint(folder, config, see_all(LLDiffusion(config)).state_dict())
    return folder


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (33, 65), (96, 128), (101, 67)])
def test_any_size_and_type(checkpoint: Path, size: tuple[int, int]) -> None:
    low = np.random.default_rng(0).random((*size, 3), dtype=np.float32) * 0.1
    with Enhancer.open(checkpoint, steps=2) as enhancer:
        floats, bytes_ = enhancer(low), enhancer((low * 255).astype(np.uint8))
    assert floats.shape == bytes_.shape == (*size, 3)
    assert floats.dtype == np.dtype("float32")
    assert bytes_.dtype == np.dtype("uint8")
    assert floats.min() >= 0
    assert floats.max() <= 1


def test_a_batch_gives_what_its_images_give_alone(checkpoint: Path) -> None:
    batch = np.stack([dark(photograph(name, 64, 96)) for name in ("astronaut", "coffee")])
    enhancer = Enhancer.open(checkpoint)
    np.testing.assert_allclose(enhancer(batch), [enhancer(one) for one in batch], atol=2e-4)


def test_seed_noise_and_steps(checkpoint: Path) -> None:
    low = dark(photograph(height=64, width=64))
    one, same, other = (Enhancer.open(checkpoint, seed=seed)(low) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    noise = np.random.default_rng(1).standard_normal((1, 3, 64, 64), dtype=np.float32)  # what seed 1 draws
    np.testing.assert_array_equal(Enhancer.open(checkpoint)(low, noise=noise[0].transpose(1, 2, 0)), one)
    drawn = Enhancer.open(checkpoint, seed=1)
    for shape in ((1, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 96), (1, 3, 64, 64)):  # the last one is kept, not others'
        alone = np.random.default_rng(1).standard_normal((1, *shape[1:]), dtype=np.float32)
        given = drawn.pipeline.noise(shape)
        np.testing.assert_array_equal(given, alone.repeat(shape[0], axis=0))
        given += 1  # is the caller's own
    drawn.seed = 2
    assert not np.array_equal(drawn.pipeline.noise((1, 3, 64, 64)), noise)
    calls: list[int] = []
    enhancer = Enhancer.open(checkpoint, steps=3, sampler="dpm++")
    enhancer(low, progress=lambda: calls.append(1))
    assert len(calls) == 3 == enhancer.evaluations(64, 64)
    assert enhancer.info()["sampler"] == "dpm++"
    assert enhancer.info()["backend"] == "torch"


def test_the_loop_is_the_model_stepped_by_hand(checkpoint: Path) -> None:
    from lldiffusion.engines.sampler import plan
    from lldiffusion.model import load_model
    from lldiffusion.schedule import make_schedule

    low = dark(photograph(height=64, width=96))
    model = load_model(checkpoint)
    y = torch.from_numpy(low).permute(2, 0, 1)[None] * 2 - 1
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(y.shape, dtype=np.float32))
    with torch.no_grad():
        features, c = model.encoder(y), model.color_map(y)
        level = None if model.level is None else model.level(torch.from_numpy(thumbnail_of(y.numpy())))
        for s in plan(make_schedule(model.config.diffusion), model.config.sampling):
            x0 = (s.k_x * x + s.k_p * model.denoiser(x, y, c, s.t, features, level)).clamp(-1, 1)
            x = s.a * x + s.b * x0
    by_hand = ((x[0].permute(1, 2, 0) + 1) / 2).clamp(0, 1).numpy()
    np.testing.assert_allclose(Enhancer.open(checkpoint)(low), by_hand, atol=1e-4)


def test_nan_is_an_error_and_never_a_black_picture(checkpoint: Path) -> None:
    enhancer = Enhancer.open(checkpoint)
    enhancer.pipeline.engine._model.denoiser.net.conv_out.bias.data[0] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(LLDiffusionError, match="NaN or infinity"):
        enhancer(dark(photograph(height=64, width=64)))


def test_bad_arrays(checkpoint: Path) -> None:
    enhancer = Enhancer.open(checkpoint)
    good = np.zeros((64, 64, 3), np.float32)
    for bad, words in (
        (np.zeros((64, 64), np.float32), "shape"),
        (np.zeros((64, 64, 4), np.uint8), "shape"),
        (np.zeros((0, 64, 3), np.uint8), "shape"),
        (good + 2, "0..255"),
        (good + np.nan, "finite"),
        (np.zeros((64, 64, 3), np.int32), "int32"),
        ([1, 2, 3], "list"),
    ):
        with pytest.raises(LLDiffusionError, match=words):
            enhancer(bad)  # type: ignore[arg-type]
    with pytest.raises(LLDiffusionError, match="noise of shape"):
        enhancer(good, noise=np.zeros((32, 32, 3), np.float32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda"}, "cuda"),
        ({"device": "gpu7"}, "gpu7"),
        ({"sampler": "ddmi"}, "did you mean 'ddim'"),
        ({"steps": 5000}, "5000 steps"),
        ({"tile": 100}, "multiple of 32"),
        ({"tile": 64}, "at least 128"),
        ({"backend": "onnx"}, "backend"),
    ],
)
def test_bad_options(checkpoint: Path, options: dict[str, object], words: str) -> None:
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(LLDiffusionError, match=words):
        Enhancer.open(checkpoint, **options)  # type: ignore[arg-type]


def test_padding_reflects_and_goes_round_again_for_small_images() -> None:
    planes = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    padded = pad_to_multiple(planes, 32)
    assert padded.shape == (1, 1, 64, 64)
    assert padded[0, 0, 0, :5].tolist() == [0, 1, 2, 1, 0]
    large = np.random.default_rng(0).random((1, 1, 70, 96), dtype=np.float32)
    np.testing.assert_array_equal(
        pad_to_multiple(large, 32), np.pad(large, ((0, 0), (0, 0), (0, 26), (0, 0)), "reflect")
    )


def test_bytes_survive_the_way_there_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(from_planes(to_planes(every), every), every)


def test_exposure_is_a_gain_in_linear_light() -> None:
    grey = np.full((2, 2, 3), 0.5, np.float32)
    linear = ((0.5 + 0.055) / 1.055) ** 2.4
    brighter = expose(grey, 1.0)[0, 0, 0]
    assert ((brighter + 0.055) / 1.055) ** 2.4 == pytest.approx(2 * linear, rel=1e-4)
    np.testing.assert_array_equal(expose(grey, 0.0), grey)
    assert expose(grey, 5.0).max() == pytest.approx(1.0)


def test_tiles_follow_the_free_memory(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_config("tiny").model
    sides = [largest_tile_side(free, model, MemoryNeed(3.5, 40)) for free in (0, 1 << 30, 4 << 30)]
    assert sides[0] == 256 <= sides[1] < sides[2] and all(side % 32 == 0 for side in sides)
    assert host_memory() > 1 << 28
    enhancer = Enhancer.open(checkpoint)
    assert enhancer.evaluations(512, 512) == len(enhancer.steps)
    monkeypatch.setattr(type(enhancer.pipeline.engine), "free_memory", lambda self: 1 << 20)
    assert enhancer.evaluations(512, 512) > len(enhancer.steps)


def test_an_answer_of_another_shape_is_named() -> None:
    planes = np.zeros((1, 3, 64, 64), np.float32)
    assert of_shape(planes, (1, 3, 64, 64)) is planes
    with pytest.raises(LLDiffusionError, match=r"shape \(0, 3, 64, 64\) to some of shape .*damaged"):
        of_shape(planes[:0], (1, 3, 64, 64))
