"""Schedules and solver coefficients against diffusers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lldiffusion.config import DiffusionConfig, SamplingConfig
from lldiffusion.engines.sampler import plan
from lldiffusion.errors import LLDiffusionError
from lldiffusion.schedule import make_schedule, timesteps

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def diffusers() -> Any:
    """The oracle; it takes seconds to import, which every worker would pay while it collects."""
    return pytest.importorskip("diffusers")


NAMES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def _theirs(config: DiffusionConfig, **extra: object) -> dict[str, object]:
    betas = {"linear": "linear", "cosine": "squaredcos_cap_v2"}[config.schedule]
    return {
        "beta_schedule": betas,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "prediction_type": NAMES[config.prediction],
        "rescale_betas_zero_snr": config.zero_terminal_snr,
    } | extra


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("zero", [False, True])
def test_alpha_bar_agrees(diffusers: Any, schedule: str, zero: bool) -> None:
    config = DiffusionConfig(schedule=schedule, zero_terminal_snr=zero, prediction="v")
    theirs = diffusers.DDIMScheduler(**_theirs(config))
    np.testing.assert_allclose(make_schedule(config).alpha_bar, theirs.alphas_cumprod.numpy(), atol=1e-5)


def test_the_papers_timesteps() -> None:
    assert timesteps(1000, 25, "leading").tolist() == list(range(960, -1, -40))
    assert timesteps(1000, 4, "trailing").tolist() == [999, 749, 499, 249]
    with pytest.raises(LLDiffusionError, match="1001 steps"):
        timesteps(1000, 1001, "leading")


def _model(x: np.ndarray, t: int, rng_seed: int = 3) -> np.ndarray:
    """Any smooth function of x and t will do for comparing solvers."""
    noise = np.random.default_rng(rng_seed).standard_normal(x.shape)
    return 0.3 * np.tanh(x) + 0.1 * noise * np.cos(t / 300)


def _ours(config: DiffusionConfig, sampling: SamplingConfig, x: np.ndarray) -> np.ndarray:
    previous = np.zeros_like(x)
    for s in plan(make_schedule(config), sampling):
        x0 = s.k_x * x + s.k_p * _model(x, s.t)
        x0 = x0.clip(-1, 1) if sampling.clip else x0
        x, previous = s.a * x + s.b * x0 + s.c * previous, x0
    return x


def _run(scheduler: object, steps: int, x: np.ndarray, **extra: object) -> np.ndarray:
    scheduler.set_timesteps(steps)  # type: ignore[attr-defined]
    sample = torch.from_numpy(x)
    for t in scheduler.timesteps:  # type: ignore[attr-defined]
        prediction = torch.from_numpy(_model(sample.numpy(), int(t)))
        sample = scheduler.step(prediction, t, sample, **extra).prev_sample  # type: ignore[attr-defined]
    return sample.numpy()


@pytest.fixture
def start() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 8, 8))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_agrees(diffusers: Any, prediction: str, spacing: str, clip: bool, start: np.ndarray) -> None:
    config = DiffusionConfig(prediction=prediction)
    sampling = SamplingConfig(steps=10, spacing=spacing, clip=clip)
    extra = {"clip_sample": clip, "timestep_spacing": spacing, "set_alpha_to_one": True}
    theirs = _run(diffusers.DDIMScheduler(**_theirs(config, **extra)), 10, start, use_clipped_model_output=clip)
    ours = _ours(config, sampling, start)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_ddim_agrees_at_zero_terminal_snr(diffusers: Any, prediction: str, start: np.ndarray) -> None:
    config = DiffusionConfig(prediction=prediction, zero_terminal_snr=True)
    extra = {"clip_sample": False, "timestep_spacing": "trailing"}
    theirs = _run(diffusers.DDIMScheduler(**_theirs(config, **extra)), 4, start)
    np.testing.assert_allclose(_ours(config, SamplingConfig(steps=4, spacing="trailing"), start), theirs, atol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("steps", [5, 20])
def test_dpm_solver_agrees(diffusers: Any, prediction: str, steps: int, start: np.ndarray) -> None:
    config = DiffusionConfig(prediction=prediction)
    extra = {"timestep_spacing": "trailing", "final_sigmas_type": "zero", "euler_at_final": True}
    theirs = _run(diffusers.DPMSolverMultistepScheduler(**_theirs(config, **extra)), steps, start)
    ours = _ours(config, SamplingConfig(sampler="dpm++", steps=steps, spacing="trailing"), start)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_euler_is_ddim_in_other_coordinates(diffusers: Any, start: np.ndarray) -> None:
    """diffusers' Euler works on x / alpha; the results must still agree."""
    config = DiffusionConfig(prediction="eps")
    scheduler = diffusers.EulerDiscreteScheduler(**_theirs(config, timestep_spacing="trailing"))
    scheduler.set_timesteps(10)
    x = torch.from_numpy(start) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        prediction = torch.from_numpy(_model(scaled.numpy(), int(t)))
        x = scheduler.step(prediction, t, x).prev_sample
    alpha = make_schedule(config).alpha_bar[999] ** 0.5
    begin = start * scheduler.init_noise_sigma.item() * alpha  # the same point in our coordinates
    ours = _ours(config, SamplingConfig(sampler="euler", steps=10, spacing="trailing"), begin)
    np.testing.assert_allclose(ours, x.numpy(), rtol=1e-3, atol=1e-3)


def test_one_step_lands_on_x0(start: np.ndarray) -> None:
    config = replace(DiffusionConfig(), prediction="x0", zero_terminal_snr=True)
    (step,) = plan(make_schedule(config), SamplingConfig(steps=1, spacing="trailing"))
    assert (step.t, step.k_x, step.k_p, step.a, step.b, step.c) == (999, 0.0, 1.0, 0.0, 1.0, 0.0)
