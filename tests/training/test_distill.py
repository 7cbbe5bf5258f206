"""Distillation: the teacher's path is the engine's, and students come closer to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.config import load_config
from support.pictures import dark, photograph, write_pairs

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from torch import nn  # noqa: E402

from lldiffusion.engines import Enhancer  # noqa: E402
from lldiffusion.engines.backends.torch_eager import TorchEngine  # noqa: E402
from lldiffusion.engines.sampler import plan, plan_steps  # noqa: E402
from lldiffusion.model import load_model  # noqa: E402
from lldiffusion.model.blocks import ResBlock  # noqa: E402
from lldiffusion.model.checkpoint import save_checkpoint  # noqa: E402
from lldiffusion.schedule import make_schedule  # noqa: E402
from lldiffusion.training.distill import DistillObjective, Paths, Recipe  # noqa: E402
from lldiffusion.training.distill_run import distill, plan_distillation  # noqa: E402
from support.micro import EPS, MICRO, micro_model, settings  # noqa: E402


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs", height=64, width=64)


def _timely_teacher(folder: Path) -> str:
    """One whose answer depends on t above all: few and many steps then end far apart, in a way that is soon learnt."""
    model = micro_model("model.level=false", "model.denoiser.norm=pixel", "model.denoiser.activation=silu")
    model.denoiser.net.conv_in.weight[:, :12] *= 0.05  # x_t, four pixels of three channels
    for block in model.denoiser.net.modules():
        if isinstance(block, ResBlock) and block.time is not None:
            block.time.weight *= 20
    save_checkpoint(folder / "teacher", model.config, model.state_dict())
    return str(folder / "teacher")


def _images(count: int = 2) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(1)
    normal = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    return (normal + 1) * 0.05 - 1, normal, torch.randn(count, 3, 32, 32, generator=generator)


@pytest.mark.parametrize("kind", [[], EPS, ["sampling.spacing=leading"], ["diffusion.prediction=v", *EPS[2:]]])
def test_the_teachers_path_is_the_engines_loop(kind: list[str]) -> None:
    model = micro_model("model.level=false", *kind)
    low, _, noise = _images()
    sampling = replace(model.config.sampling, steps=8)
    steps = plan_steps(replace(model.config, sampling=sampling))
    expected = TorchEngine(model).sample(low.numpy(), steps, noise.numpy())
    paths = Paths(model, Recipe().paths(model.config))
    ours = paths.walk(noise, low, torch.zeros(2, dtype=torch.int64))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_auto_is_progressive_where_it_can_be() -> None:
    assert Recipe(steps=4).settled(same_schedule=True).method == "progressive"
    assert Recipe(steps=4).settled(same_schedule=False).method == "trajectory"
    assert Recipe(steps=4, teacher_steps=6).settled(same_schedule=True).method == "trajectory"
    assert Recipe(method="regression").settled(same_schedule=True).method == "regression"


def test_starts_are_where_sampling_goes_on() -> None:
    assert Recipe(steps=1).starts(1000) == [999]
    assert Recipe(steps=2).starts(1000) == [499, 999]
    assert Recipe(steps=4).starts(1000) == [249, 499, 749, 999]
    assert Recipe(steps=2, method="progressive").starts(1000) == [499, 999]
    assert Recipe(steps=2, method="progressive").paths(load_config("tiny"))[1] == [499, 374, 249, 124, -1]


class _Says(nn.Module):
    """A denoiser that says what it is told, and remembers where it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answer, self.seen = nn.Parameter(torch.zeros(())), list[Any]()

    def forward(self, x: Any, y: Any, c: Any, t: Any, features: Any, *light: Any) -> Any:
        self.seen.append((x, t))
        return self.answer.expand_as(x)


def _asked(recipe: Recipe, t: list[int]) -> tuple[DistillObjective, dict[str, Any], Any, Any]:
    """The objective, its terms for a student that says 0 everywhere, and what the student saw."""
    student, teacher = micro_model("model.level=false"), micro_model("model.level=false")
    says = _Says()
    student.denoiser = says  # type: ignore[assignment]
    objective = DistillObjective(student, student.config, teacher if recipe.taught else None, recipe)
    terms = objective(*_images(len(t)), torch.tensor(t))
    return objective, terms, *says.seen[0]


def test_a_trajectory_student_is_asked_for_the_end_of_the_path() -> None:
    objective, terms, x_t, t = _asked(Recipe(steps=2, method="trajectory", truth=0.0), [0, 999])
    assert t.tolist() == [499, 999]  # the drawn t only chooses
    low, _, noise = _images()
    end = torch.from_numpy(
        TorchEngine(micro_model("model.level=false")).sample(
            low.numpy(),
            plan_steps(load_config("tiny", [*MICRO, "model.level=false", "sampling.steps=8"])),
            noise.numpy(),
        )
    )
    alpha = make_schedule(objective.model.config.diffusion).alpha_bar[499] ** 0.5
    torch.testing.assert_close(x_t[0], (alpha * end + (1 - alpha**2) ** 0.5 * noise)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x_t[1], noise[1])
    assert set(terms) == {"teacher"}
    assert terms["teacher"].item() == pytest.approx(float(end.square().mean()), rel=1e-3)


def test_a_progressive_student_lands_where_the_teacher_does() -> None:
    """One step of the student with the target as x0, by the engine's own numbers, is two of the teacher."""
    recipe = Recipe(steps=2, method="progressive", teacher_steps=4)
    objective, _, x_t, _ = _asked(recipe, [999, 0])
    low, normal, noise = _images()
    place = torch.tensor([1, 0])
    seen, target = objective._goal(low, normal, noise, place, None)
    assert torch.equal(seen, x_t)
    config = objective.model.config
    schedule = make_schedule(config.diffusion)
    coarse = plan(schedule, replace(config.sampling, steps=2))
    fine = plan(schedule, replace(config.sampling, steps=4))
    for i, whole in enumerate(coarse):
        lands = whole.a * seen[i] + whole.b * target[i]
        halves = fine[2 * i : 2 * i + 2]
        engine = TorchEngine(micro_model("model.level=false"))
        expected = engine.sample(low[i : i + 1].numpy(), halves, seen[i : i + 1].numpy())
        np.testing.assert_allclose(lands.numpy(), expected[0], atol=2e-4)


def test_regression_asks_no_teacher_and_truth_adds_its_terms() -> None:
    objective, terms, x_t, t = _asked(Recipe(method="regression"), [5, 10])
    _, normal, noise = _images()
    assert objective.paths is None
    assert t.tolist() == [999, 999]
    assert torch.allclose(x_t, noise, atol=1e-6)
    assert terms["prediction"].item() == pytest.approx(float(normal.square().mean()), rel=1e-5)
    _, half, _, _ = _asked(Recipe(method="trajectory", truth=0.5), [5, 10])
    _, whole, _, _ = _asked(Recipe(method="trajectory", truth=1.0), [5, 10])
    assert set(half) == {"teacher", "truth", "l1", "ssim", "aligned"}
    assert half["truth"].item() == pytest.approx(0.5 * float(normal.square().mean()), rel=1e-5)
    assert all(half[n].item() == pytest.approx(whole[n].item() / 2, rel=1e-5) for n in whole if n != "teacher")


@pytest.mark.parametrize("method", ["trajectory", "progressive"])
def test_a_student_comes_closer_to_its_teacher(pairs: Path, tmp_path: Path, method: str) -> None:
    teacher = _timely_teacher(tmp_path)
    speed = ["train.enhance_lr=5e-4", "train.ema=0.8", "train.save_every=1000"]
    overrides = settings(pairs, "train.enhance_steps=30", *speed)
    recipe = Recipe(steps=2, method=method, truth=0.0)
    student = distill(plan_distillation(teacher, tmp_path / "student", recipe, overrides=overrides))
    picture, errors = dark(photograph(height=64, width=64)), {}
    many = _enhanced(teacher, picture, 8)
    for steps in (2, 1) if method == "trajectory" else (2,):
        for model in (teacher, student):
            errors[str(model)] = float(np.mean((_enhanced(model, picture, steps) - many) ** 2))
        assert errors[str(student)] < 0.5 * errors[teacher], f"{steps} steps: {errors}"


def _enhanced(model: str | Path, picture: Any, steps: int) -> Any:
    loaded = load_model(model)
    config = loaded.config
    return Enhancer(TorchEngine(loaded), replace(config, sampling=replace(config.sampling, steps=steps)))(picture)
