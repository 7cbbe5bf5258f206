"""Training a model of video on clips."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")
import torch

from lldiffusion.config import Config, load_config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.model import LLDiffusion, load_model
from lldiffusion.training import train
from lldiffusion.training.clips import ClipObjective
from support.pictures import write_pairs


def _config(pairs: Path, *overrides: str) -> Config:
    small = ["data.crop=64", "data.validation=1", "data.frames=2", "train.warmup=0", "train.guess_steps=2"]
    steps = ["train.joint_steps=2", "train.enhance_steps=1", "train.save_every=2", "train.validate_every=2"]
    return load_config("live", [*small, *steps, f'data.pairs=["{pairs}"]', *overrides])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


def test_both_stages(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model(train(_config(pairs), tmp_path / "run"))
    assert model.config.model.recurrent and model.degrader is None
    assert "validation PSNR" in capsys.readouterr().err


def _clip(frames: int = 3) -> dict[str, torch.Tensor]:
    """A still scene, darkened, with new noise in every frame."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.rand(2, 1, 3, 8, 8, generator=generator).repeat_interleave(8, -1).repeat_interleave(8, -2)
    normal = (normal * 2 - 1).expand(2, frames, 3, 64, 64)
    low = (normal + 1) * 0.06 - 1 + 0.01 * torch.randn(normal.shape, generator=generator)
    small = torch.nn.functional.interpolate(normal[:, 0], (64, 96))
    window = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, frames, 4)
    view = {"thumbnail": (small + 1) * 0.06 - 1, "normal_thumbnail": small, "window": window}
    return {"low": low, "normal": normal} | view


def test_the_loss_falls_and_the_level_stays(pairs: Path) -> None:
    config = _config(pairs)
    torch.manual_seed(0)
    objective = ClipObjective(LLDiffusion(config), config, "joint")
    head = objective.model.level
    assert head is not None
    level = {name: value.clone() for name, value in head.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 3e-3)
    clip, t, losses = _clip(), torch.tensor([999, 999]), []
    view = {name: clip[name] for name in ("thumbnail", "normal_thumbnail", "window")}
    for _ in range(15):
        terms = objective(clip["low"], clip["normal"], clip["normal"], t, view)
        loss = sum(terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert set(terms) == {"prediction", "l1", "ssim", "aligned", "steady", "degradation"}
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(level[name], value) for name, value in head.state_dict().items())


def test_a_later_frame_is_made_from_the_result_before_it(pairs: Path) -> None:
    """The first frame reaches the loss of the last through x_t alone."""
    config = _config(pairs)
    objective = ClipObjective(LLDiffusion(config), config, "joint")
    clip = _clip(2)
    low = clip["low"].clone().requires_grad_(True)
    seen: list[torch.Tensor] = []
    objective.model.denoiser.register_forward_hook(lambda _, __, made: seen.append(made))
    view = {name: clip[name] for name in ("thumbnail", "normal_thumbnail", "window")}
    objective(low, clip["normal"], clip["normal"], torch.tensor([999, 999]), view)
    (gradient,) = torch.autograd.grad(seen[1].sum(), low)
    assert gradient[:, 0].abs().max() > 0


@pytest.mark.parametrize(("preset", "frames"), [("live", 1), ("tiny", 4)])
def test_clips_are_for_models_of_video(preset: str, frames: int, pairs: Path, tmp_path: Path) -> None:
    config = load_config(preset, [f"data.frames={frames}", f'data.pairs=["{pairs}"]'])
    with pytest.raises(LLDiffusionError, match=rf"data\.frames is {frames}"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
