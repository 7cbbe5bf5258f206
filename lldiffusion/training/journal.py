"""What a run shows while it works: a progress bar, and TensorBoard scalars and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lldiffusion.progress import progress_bar

if TYPE_CHECKING:
    from .validate import Validation

SCALARS_EVERY = 20  # steps between TensorBoard scalars
MANY = 0.5  # share of idle channels from which on a run says so


class Journal:
    """Progress and logs of one run; silent in every process but the first."""

    def __init__(self, folder: Path, active: bool) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard")) if active else None
        self.console = Console(stderr=True, quiet=not active)
        self.name, self._score = "", ""

    @contextmanager
    def stage(self, name: str, start: int, total: int) -> Iterator[None]:
        """Show the progress bar of one stage."""
        self.name, self._score = name, ""
        with progress_bar(note=True, console=self.console) as self._bar:
            self._task = self._bar.add_task(f"stage {name}", total=total, completed=start, note="")
            yield

    def step(self, step: int, terms: dict[str, float], rate: float, images_per_second: float) -> None:
        """Record one optimiser step."""
        loss = sum(terms.values())
        note = f"loss {loss:.4f}  {images_per_second:.1f} images/s{self._score}"
        self._bar.update(self._task, completed=step, note=note)
        if self.writer is not None and step % SCALARS_EVERY == 0:
            values = {"loss": loss, "rate": rate, "images_per_second": images_per_second} | terms
            for name, value in values.items():
                self.writer.add_scalar(f"{self.name}/{name}", value, step)

    def validation(self, step: int, result: Validation) -> None:
        """Record one validation: scores, and the low / enhanced / normal grid."""
        self._score = f"  PSNR {result.psnr:.2f} dB"
        text = f"stage {self.name}, step {step}: validation PSNR {result.psnr:.2f} dB (standard), "
        self.console.print(text + f"told the level {result.told:.2f}; brightness error {result.brightness:+.1f}/255")
        if result.idle > MANY:
            self.console.print(f"  {result.idle:.0%} of the denoiser's channels are idle: lower train.lr")
        for folder, (guessed, told) in result.groups.items():
            self.console.print(f"  {folder}: {guessed:.2f} dB, told {told:.2f}")
        if self.writer is not None:
            self.writer.add_scalar(f"{self.name}/validation_psnr", result.psnr, step)
            self.writer.add_scalar(f"{self.name}/validation_brightness", result.brightness, step)
            self.writer.add_image(f"{self.name}/low_enhanced_normal", result.grid, step, dataformats="HWC")

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self.writer is not None:
            self.writer.close()
