"""Steps per second of training, from the difference of two runs: what starting takes cancels out."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.config import load_config
from lldiffusion.data.simulate import simulate
from lldiffusion.export.dark import drawn_scene
from lldiffusion.images import Image, write_image
from lldiffusion.training import train

Table = dict[str, Any]
PAIRS = 8
STEPS = (20, 120)  # of the two runs
SMALL_STEPS = (1, 3)
SMALL = (
    *("model.denoiser.channels=16", "model.degrader.channels=8", "model.encoder.channels=[8,8,8,8]"),
    *("model.encoder.ladder=[16,16]", "model.encoder.head_channels=16", "data.crop=64", "train.batch=2"),
    "train.guess_steps=2",
)


def run(plan: Any) -> Table:
    """Measure both presets in each precision that training knows."""
    presets = ("tiny",) if plan.rehearse else ("tiny", "paper")
    precisions = ("no",) if plan.rehearse else ("bf16", "no")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "pairs", 96 if plan.rehearse else 400)
        rows = [measure(plan, folder, preset, precision) for preset in presets for precision in precisions]
    return {"rows": rows}


def write_pairs(folder: Path, height: int) -> None:
    """Drawn scenes and their dark versions: loading and cropping them costs what photographs cost."""
    for number in range(PAIRS):
        normal = np.roll(drawn_scene(height, height * 3 // 2), 20 * number, axis=1)
        low = simulate(normal, np.random.default_rng(number))
        for side, pixels in (("normal", normal), ("low", low)):
            (folder / side).mkdir(parents=True, exist_ok=True)
            write_image(folder / side / f"{number:03d}.png", Image(pixels=pixels, format="png"))


def measure(plan: Any, folder: Path, preset: str, precision: str) -> Table:
    """Steps a second of stage 1."""
    seconds = []
    counts = SMALL_STEPS if plan.rehearse else STEPS
    for count in counts:
        changes = [f'data.pairs=["{folder / "pairs"}"]', "data.validation=1", f"train.joint_steps={count}"]
        changes += [f"train.validate_every={count}", f"train.save_every={count}"]
        changes += [f'train.precision="{precision}"', *(SMALL if plan.rehearse else ())]
        config = load_config(preset, changes)
        start = time.perf_counter()
        train(config, folder / f"{preset}-{precision}-{count}", stage="joint")
        seconds.append(time.perf_counter() - start)
    batch = config.train.batch * config.data.crops_per_image
    rate = (counts[1] - counts[0]) / max(seconds[1] - seconds[0], 1e-9)
    about = {"preset": preset, "precision": precision, "batch": batch, "crop": config.data.crop}
    return about | {"steps per second": rate, "crops per second": rate * batch, "steps timed": counts[1] - counts[0]}
