"""Trains one stage: data in, checkpoints out, stoppable and resumable at any step."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from lldiffusion.config import Config
from lldiffusion.data.clips import ClipCrops
from lldiffusion.data.dataset import PairCrops, Source
from lldiffusion.data.layouts import Pair
from lldiffusion.diffusion import draw_timesteps
from lldiffusion.errors import LLDiffusionError
from lldiffusion.interrupts import Interrupts
from lldiffusion.model import LLDiffusion
from lldiffusion.model.plain import PlainUNet

from .ema import EMA
from .journal import Journal
from .losses import Objective
from .rate import learning_rate
from .state import checkpoints, load_state, save_state
from .validate import validate

if TYPE_CHECKING:
    from accelerate import Accelerator

STAGES = ("joint", "enhance")
SLOW = 1 / 32  # of the learning rate, see `model.plain`
PLACES = (*STAGES, "distill")  # a stage's place in this list goes into its random numbers


class Stopped(Exception):
    """Ctrl-C or SIGTERM: the state is saved, and `folder` says where."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


class _Offset(SequentialSampler):
    """Sample numbers from `start` on: a resumed run reads exactly what it would have read."""

    def __init__(self, data: PairCrops, start: int) -> None:
        super().__init__(data)
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source) - self.start


class Trainer:
    """One stage of one run.

    Args:
        config: the resolved configuration.
        stage: "joint", "enhance" or "distill".
        model: its starting weights; for "enhance", those of stage 1.
        sources, held_out: what `find_sources` returned.
        folder: where this stage's checkpoints go.
        accelerator, journal: shared by both stages.
        make_objective: what is minimised, from model, configuration and stage.
    """

    def __init__(
        self,
        config: Config,
        stage: str,
        model: LLDiffusion,
        sources: list[Source],
        held_out: list[Pair],
        folder: Path,
        accelerator: Accelerator,
        journal: Journal,
        make_objective: Callable[[LLDiffusion, Config, str], Objective] = Objective,
    ) -> None:
        self.config = config
        self.stage = stage
        self.sources = sources
        self.held_out = held_out
        self.folder = folder
        self.accelerator = accelerator
        self.journal = journal
        self.total = config.train.joint_steps if stage == "joint" else config.train.enhance_steps
        self.objective = make_objective(model, config, stage).to(accelerator.device)
        self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = EMA(self.objective.model, config.train.ema)
        self.step = 0
        self.best = -math.inf  # PSNR of the validations so far, in dB
        # the first Ctrl-C or SIGTERM asks for a stop after the current step, the next one stops at once
        self._interrupts = Interrupts(signals=(signal.SIGINT, signal.SIGTERM))
        self._prepare()

    def _prepare(self) -> None:
        train = self.config.train
        self.optimizer = torch.optim.AdamW(
            self._groups(), train.lr, (0.9, train.beta2), weight_decay=train.weight_decay, fused=True
        )
        forward = torch.compile(self.objective) if train.compile else self.objective
        self.wrapped, self.optimizer = self.accelerator.prepare(forward, self.optimizer)

    def _groups(self) -> list[dict[str, Any]]:
        """All that is learnt; `pace` is a group's share of the learning rate."""
        nets = [module for module in self.objective.modules() if isinstance(module, PlainUNet)]
        slow = {id(value) for net in nets for value in net.slow_parameters()}
        learnt = [p for p in self.objective.parameters() if p.requires_grad]
        parts = {1.0: [p for p in learnt if id(p) not in slow], SLOW: [p for p in learnt if id(p) in slow]}
        return [{"params": part, "pace": pace} for pace, part in parts.items() if part]

    def resume(self) -> None:
        """Continue from the newest checkpoint in `folder`, if there is one."""
        if found := checkpoints(self.folder):
            notes = load_state(found[-1], self.objective.model, self.optimizer, self.ema)
            self.step, self.best = notes["step"], notes["best"] if notes["best"] is not None else -math.inf

    def run(self) -> Path:
        """Train to the end of the stage; returns the folder of its last checkpoint."""
        with self._interrupts, self.journal.stage(self.stage, self.step, self.total):
            self._since = time.perf_counter()
            for batches in self._batches():
                self._advance(batches)
                done, stopping = self.step == self.total, self._should_stop()
                if self.step % self.config.train.validate_every == 0 or done:
                    self._validate()
                if self.step % self.config.train.save_every == 0 or done or stopping:
                    self._save()
                if stopping and not done:
                    raise Stopped(self.folder)
        if not checkpoints(self.folder):
            self._save()
        return checkpoints(self.folder)[-1]

    def _batches(self) -> Iterator[list[dict[str, Tensor]]]:
        """Lists of `accumulate` batches, one list an optimiser step."""
        train, data = self.config.train, self.config.data
        size = train.batch * data.crops_per_image
        each = size * train.accumulate * self.accelerator.num_processes  # samples an optimiser step, all processes
        crops = ClipCrops if data.frames > 1 else PairCrops
        dataset = crops(self.sources, data, seed=train.seed + PLACES.index(self.stage), length=self.total * each)
        sampler = _Offset(dataset, self.step * each)
        workers: dict[str, Any] = {"num_workers": train.workers, "worker_init_fn": _leave_signals_to_the_trainer}
        workers |= {"multiprocessing_context": "forkserver"} if train.workers else {}  # libvips cannot be forked
        loader = self.accelerator.prepare(DataLoader(dataset, size, sampler=sampler, **workers))
        group: list[dict[str, Tensor]] = []
        for batch in loader:
            group.append(batch)
            if len(group) == train.accumulate:
                yield group
                group = []

    def _advance(self, batches: list[dict[str, Tensor]]) -> None:
        """One optimiser step."""
        sums: dict[str, float] = {}
        rate = learning_rate(self.config.train, self.stage, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["pace"]
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with self.accelerator.no_sync(self.wrapped) if not last else nullcontext():
                terms = self.wrapped(batch["low"], batch["normal"], *self._noise(batch["normal"], number), batch)
                self.accelerator.backward(sum(terms.values()) / len(batches))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item() / len(batches)
        self._check(sums)
        if self.config.train.clip_grad:
            self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.train.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.objective.model)
        self.step += 1
        images, now = len(batches) * len(batches[0]["low"]) * self.accelerator.num_processes, time.perf_counter()
        self.journal.step(self.step, sums, rate, images / (now - self._since))
        self._since = now

    def _should_stop(self) -> bool:
        """Whether any process was asked to stop: all must leave after the same step."""
        if self.accelerator.num_processes == 1:
            return self._interrupts.asked.is_set()
        asked = torch.tensor(float(self._interrupts.asked.is_set()), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum") > 0)

    def _noise(self, normal: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Noise and timesteps as a function of (seed, stage, step, batch, process)."""
        place = (self.config.train.seed, PLACES.index(self.stage), self.step, number, self.accelerator.process_index)
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
        )
        noise = torch.randn(normal.shape, generator=generator)
        total, share = self.config.diffusion.timesteps, self.config.train.final_share
        t = draw_timesteps(len(normal), total, share, generator)
        return noise.to(normal.device), t.to(normal.device)

    def _check(self, sums: dict[str, float]) -> None:
        bad = [name for name, value in sums.items() if not math.isfinite(value)]
        if bad:
            found = checkpoints(self.folder)
            kept = f"the last good checkpoint is '{found[-1]}'" if found else "no checkpoint had been written yet"
            raise LLDiffusionError(
                f"loss '{bad[0]}' became {sums[bad[0]]} at step {self.step + 1} of stage '{self.stage}'; {kept}: "
                f"lower train.lr ({self.config.train.lr}), set train.clip_grad=1.0 or train.precision=no, and resume"
            )

    def _validate(self) -> None:
        if not self.held_out or not self.accelerator.is_main_process:
            return
        model = LLDiffusion(self.config, with_degrader=self.objective.model.degrader is not None)
        model.load_state_dict(self.ema.average)
        result = validate(model.to(self.accelerator.device), self.config, self.held_out)
        self.best = max(self.best, result.psnr)
        self.journal.validation(self.step, result)

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            notes = {"stage": self.stage, "step": self.step, "best": self.best if math.isfinite(self.best) else None}
            save_state(self.folder, self.config, self.objective.model, self.optimizer, self.ema, notes)
        self.accelerator.wait_for_everyone()


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches the whole process group; a loader that died of it would take the saving trainer with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
