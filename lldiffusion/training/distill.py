"""Few-step distillation: what a student learns from the many steps of its teacher.

    trajectory    x* = the end of the teacher's path from x_T = noise; the student shall say x* at every point
                  x_t = alpha_t x* + sigma_t noise, which is where DDIM's first step lands when it does.  One student
                  then serves 1, 2 and 4 steps (consistency along the path, Song et al. 2023, with a whole path as
                  target as in Luhman & Luhman 2021).
    progressive   one step of the student lands where several steps of the teacher do (Salimans & Ho 2022, appendix G):
                  x_t is the noised truth, and x* solves  x_next = a x_t + b x*.
    regression    no teacher: the truth itself, from the same starts.  The baseline that the others must beat.

The first two add the distance to the truth, as ReDDiT does (Lan et al., CVPR 2025, arXiv 2410.12346): a teacher's
path ends where the teacher errs, and a student that only imitates can be no better.

Measured on `tiny`, 250 steps (benchmarks/results/distillation.md): at 1 and 2 steps "progressive" is 0.2 dB better than
"trajectory", at half its cost, at 4 steps 0.2 dB worse; "regression" does as well as "progressive", for that teacher's
own first step is its best.  So "auto" is progressive where it can be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.config import Config
from lldiffusion.engines.sampler import ddim, to_x0
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.model import LLDiffusion
from lldiffusion.schedule import Schedule, make_schedule, timesteps

from .losses import Objective, View, conditions

METHODS = ("trajectory", "progressive", "regression")
AUTO = "auto"  # see `Recipe.settled`
STEPS = (1, 2, 4)  # of a student


@dataclass(frozen=True)
class Recipe:
    """How a student is made."""

    steps: int = 1  # of the student, by default
    method: str = AUTO
    teacher_steps: int = 8  # denoiser evaluations of the teacher's path; "regression" has none
    truth: float = 0.5  # weight of the distance to the truth beside that to the teacher; 0: the teacher alone

    def __post_init__(self) -> None:
        choose(self.method, (AUTO, *METHODS), "distillation method")
        if self.steps not in STEPS:
            raise LLDiffusionError(f"--steps {self.steps}: a student takes {', '.join(map(str, STEPS))} steps")
        if self.truth < 0:
            raise LLDiffusionError(f"--truth {self.truth}: a weight of 0 or more is needed")
        if self.taught and self.teacher_steps <= self.steps:
            raise LLDiffusionError(
                f"--teacher-steps {self.teacher_steps}: a student of {self.steps} learns from a teacher that takes more"
            )
        if self.method == "progressive" and self.teacher_steps % self.steps:
            raise LLDiffusionError(
                f"--teacher-steps {self.teacher_steps} is not a multiple of --steps {self.steps}: "
                "with --method progressive, each step of the student replaces as many of the teacher"
            )

    @property
    def taught(self) -> bool:
        """Whether a teacher is asked at all."""
        return self.method != "regression"

    def settled(self, same_schedule: bool) -> Recipe:
        """With "auto" made one of METHODS: progressive needs the teacher's schedule and whole pieces of its path."""
        if self.method != AUTO:
            return self
        fits = same_schedule and self.teacher_steps % self.steps == 0
        return replace(self, method="progressive" if fits else "trajectory")

    def starts(self, total: int) -> list[int]:
        """Timesteps at which the student is trained, ascending: all from which sampling may go on."""
        if self.method == "progressive":
            return sorted(path[0] for path in self._pieces(total))
        counts = [n for n in STEPS if n <= self.steps]
        return sorted({int(t) for n in counts for t in timesteps(total, n, "trailing")})

    def paths(self, teacher: Config) -> list[list[int]]:
        """The teacher's, for `Paths`: a whole one, or a piece for each step of the student, in their order."""
        total = teacher.diffusion.timesteps
        if self.method == "progressive":
            return self._pieces(total)
        return [[*map(int, timesteps(total, self.teacher_steps, teacher.sampling.spacing)), -1]]

    def _pieces(self, total: int) -> list[list[int]]:
        fine, each = [*map(int, timesteps(total, self.teacher_steps, "trailing")), -1], self.teacher_steps // self.steps
        return [fine[i : i + each + 1] for i in range(0, self.teacher_steps, each)]


class Paths(nn.Module):
    """DDIM of a frozen teacher along one or several lists of timesteps of equal length."""

    t: Tensor  # (paths, steps) integers
    numbers: Tensor  # (paths, steps, 4): k_x, k_p, a, b as in `engines.sampler`

    def __init__(self, teacher: LLDiffusion, paths: list[list[int]]) -> None:
        """Each list: the timesteps of a path, descending, then the one where it ends (-1: at x0)."""
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.clip = teacher.config.sampling.clip
        schedule = make_schedule(teacher.config.diffusion)
        self.register_buffer("t", torch.tensor([path[:-1] for path in paths]), persistent=False)
        numbers = torch.tensor([_numbers(schedule, path) for path in paths], dtype=torch.float32)
        self.register_buffer("numbers", numbers, persistent=False)

    @torch.no_grad()
    def walk(self, x: Tensor, low: Tensor, which: Tensor, view: View | None = None) -> Tensor:
        """From x (N, 3, H, W) to the end of path `which` (N,) of each; the level is the normal picture's, by `view`."""
        given, c = conditions(self.teacher, low, view), self.teacher.color_map(low)
        for i in range(self.t.shape[1]):
            prediction = self.teacher.denoiser(x, low, c, self.t[which, i], *given).float()
            k_x, k_p, a, b = self.numbers[which, i].T[:, :, None, None, None]  # each (N, 1, 1, 1)
            x0 = k_x * x + k_p * prediction
            x = a * x + b * (x0.clamp(-1, 1) if self.clip else x0)
        return x


class DistillObjective(Objective):
    """The student and its losses; stands where `Objective` does.

    Args:
        student: starting weights.
        config: of the student; `loss` weighs the terms against the truth, `loss.prediction` that to the teacher.
        teacher: frozen; None for "regression".
        recipe: method and numbers of steps.
        fresh: the student's encoder is not trained yet: it learns too, and DGNET with it, as in stage 1.
    """

    starts: Tensor  # (starts,), ascending
    steps: Tensor  # (starts, 4): k_x, k_p, a, b of the student's own steps, from the last start to the first

    def __init__(
        self, student: LLDiffusion, config: Config, teacher: LLDiffusion | None, recipe: Recipe, fresh: bool = False
    ) -> None:
        super().__init__(student, config, "joint" if fresh else "distill")
        if student.level is not None and not fresh:
            student.level.requires_grad_(False)  # the teacher's, as the encoder is
        self.recipe = recipe
        starts = recipe.starts(config.diffusion.timesteps)
        self.register_buffer("starts", torch.tensor(starts), persistent=False)
        steps = _numbers(make_schedule(config.diffusion), [*reversed(starts), -1])
        self.register_buffer("steps", torch.tensor(steps, dtype=torch.float32), persistent=False)
        self.paths = Paths(teacher, recipe.paths(teacher.config)) if teacher is not None else None

    def forward(
        self, low: Tensor, normal: Tensor, noise: Tensor, t: Tensor, view: View | None = None
    ) -> dict[str, Tensor]:
        """As `Objective.forward`; t (N,), drawn from all of 0..T-1, chooses among the starts."""
        place = t * len(self.starts) // self.process.timesteps
        start = self.starts[place]
        if self.paths is None:
            return super().forward(low, normal, noise, start, view)
        x_t, target = self._goal(low, normal, noise, place, view)
        features, level, window = self._conditions(low, view)
        c = self.model.color_map(low)
        prediction = self.model.denoiser(x_t, low, c, start, features, level, window).float()
        x0 = self.process.to_x0(prediction, x_t, start)
        terms = {"teacher": self.weights.prediction * F.mse_loss(x0, target)}
        if self.joint and self.weights.degradation:
            dark = (self.model.degrade(normal, features).float() + 1) / 2
            terms["degradation"] = self.weights.degradation * F.l1_loss(dark, (low + 1) / 2)
        if self.recipe.truth:
            others = {"truth": F.mse_loss(x0, normal)} | self._image_terms(prediction, x_t, normal, start)
            terms |= {name: self.recipe.truth * value for name, value in others.items()}
        return terms

    @torch.no_grad()
    def _goal(
        self, low: Tensor, normal: Tensor, noise: Tensor, place: Tensor, view: View | None
    ) -> tuple[Tensor, Tensor]:
        """What the student sees, x_t, and what it shall say, x*."""
        assert self.paths is not None
        if self.recipe.method == "trajectory":
            target = self.paths.walk(noise, low, torch.zeros_like(place), view)
            return self.process.add_noise(target, noise, self.starts[place]), target
        which = len(self.starts) - 1 - place  # paths go from the last start to the first
        x_t = self.process.add_noise(normal, noise, self.starts[place])
        _, _, a, b = self.steps[which].T[:, :, None, None, None]
        return x_t, (self.paths.walk(x_t, low, which, view) - a * x_t) / b


def _numbers(schedule: Schedule, path: list[int]) -> list[list[float]]:
    """k_x, k_p, a and b of each step of a path."""
    alpha_bar = np.array([schedule.alpha_bar[t] if t >= 0 else 1.0 for t in path])
    alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    each = range(len(path) - 1)
    return [[*to_x0(schedule.prediction, alpha[i], sigma[i]), *ddim(alpha, sigma, i)[:2]] for i in each]
