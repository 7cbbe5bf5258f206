"""Deterministic solvers as five numbers a step.

    x0     = k_x * x_t + k_p * prediction          (clipped to [-1, 1] when asked for)
    x_next = a * x_t + b * x0 + c * x0_previous

DDIM, DPM-Solver++(2M) and Euler are all of this form, so every engine runs the same step.  With
alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar) and lambda = log(alpha / sigma), computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lldiffusion.config import Config, SamplingConfig
from lldiffusion.errors import choose
from lldiffusion.schedule import Schedule, make_schedule, timesteps


@dataclass(frozen=True)
class Step:
    """One step of the loop: the timestep and its five coefficients; the exposure of a model that has a level."""

    t: int
    k_x: float
    k_p: float
    a: float
    b: float
    c: float
    exposure: float | None = None  # in stops, added to the level (config.model.level); None: the model has none
    of: int = field(default=0, compare=False)  # how many steps the run has; 0: not known


def plan_steps(config: Config, exposure: float = 0.0) -> tuple[Step, ...]:
    """The steps of a model's own sampling, `exposure` stops brighter where the model has a level."""
    return exposed(
        plan(make_schedule(config.diffusion), config.sampling), None if config.model.level == "none" else exposure
    )


def exposed(steps: tuple[Step, ...], exposure: float | None) -> tuple[Step, ...]:
    """The same steps at another exposure."""
    return tuple(replace(step, exposure=exposure) for step in steps)


def plan(schedule: Schedule, sampling: SamplingConfig, start: float = 1.0) -> tuple[Step, ...]:
    """The steps of a whole run, first to last; the last lands on alpha_bar = 1, that is on x0.

    `start`: the share of the schedule to run, and of the steps, for an x_t that is no pure noise.
    """
    choose(sampling.sampler, SOLVERS, "sampler")
    total, count = (round(number * start) for number in (schedule.timesteps, sampling.steps))
    ts = timesteps(total, max(count, 1), sampling.spacing)
    alpha_bar = np.append(schedule.alpha_bar[ts], 1.0)
    alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    solve, steps = SOLVERS[sampling.sampler], []
    for i, t in enumerate(ts):
        k_x, k_p = to_x0(schedule.prediction, alpha[i], sigma[i])
        a, b, c = solve(alpha, sigma, i)
        steps.append(Step(t=int(t), k_x=k_x, k_p=k_p, a=a, b=b, c=c, of=len(ts)))
    return tuple(steps)


def to_x0(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """(k_x, k_p).  eps: x0 = (x_t - sigma eps) / alpha.  v = alpha eps - sigma x0: x0 = alpha x_t - sigma v."""
    if prediction == "eps":
        return float(1 / alpha), float(-sigma / alpha)
    return (0.0, 1.0) if prediction == "x0" else (float(alpha), float(-sigma))


def ddim(alpha: np.ndarray, sigma: np.ndarray, i: int) -> tuple[float, float, float]:
    """DDIM with eta = 0 (Song et al. 2021, eq. 12): x_next = alpha' x0 + sigma' (x_t - alpha x0) / sigma.

    An Euler step of the probability-flow ODE in sigma / alpha is the same update.
    """
    a = sigma[i + 1] / sigma[i]
    return float(a), float(alpha[i + 1] - alpha[i] * a), 0.0


def dpm_solver_2m(alpha: np.ndarray, sigma: np.ndarray, i: int) -> tuple[float, float, float]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2); first order at the first and at the last step."""
    with np.errstate(divide="ignore"):
        lam = np.log(alpha) - np.log(sigma)
    h = lam[i + 1] - lam[i]
    gain = -alpha[i + 1] * np.expm1(-h)
    if i == 0 or i == len(alpha) - 2 or np.isinf(lam[i - 1]):
        return float(sigma[i + 1] / sigma[i]), float(gain), 0.0
    half = 0.5 * h / (lam[i] - lam[i - 1])  # 1 / (2 r)
    return float(sigma[i + 1] / sigma[i]), float(gain * (1 + half)), float(-gain * half)


def make_noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """x_T from a seed: the same on every backend and machine."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def trial(config: Config, seed: int, shape: tuple[int, ...]) -> tuple[tuple[Step, ...], NDArray[np.float32]]:
    """(steps, x) to judge or calibrate a model with: its own steps from noise.

    A recurrent model has none; it takes its step from nothing and then from its result, so that both ways count.
    """
    steps = plan_steps(config)
    if config.model.recurrent:
        return steps * 2, np.zeros(shape, np.float32)
    return steps, make_noise(seed, shape)


SOLVERS = {"ddim": ddim, "dpm++": dpm_solver_2m, "euler": ddim}
