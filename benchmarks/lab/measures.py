"""A trained model on the pairs that were held out: the numbers that the laboratory's tables are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from lldiffusion.config import Config
from lldiffusion.data.layouts import Pair
from lldiffusion.evaluation.lpips import Lpips
from lldiffusion.evaluation.measure import EvaluationCase, Instruments, measure
from lldiffusion.evaluation.niqe import NiqeModel
from lldiffusion.evaluation.protocols import GTMEAN, STANDARD
from lldiffusion.evaluation.report import EvaluationReport


def measure_model(
    model: object, config: Config, pairs: Sequence[Pair], niqe: NiqeModel | str, lpips: Lpips | str
) -> dict[str, float | None]:
    """Means over the pairs of `notebook.MEASURES`: 8-bit images, `config`'s own sampler, seed 0, PyTorch on a CPU."""
    from lldiffusion.engines import Enhancer
    from lldiffusion.engines.backends.torch_eager import TorchEngine

    enhancer = Enhancer(TorchEngine(model), config)  # type: ignore[arg-type]
    cases = [EvaluationCase(pair.name, pair.low, pair.normal) for pair in pairs]
    tools = Instruments((STANDARD, GTMEAN), lpips, niqe)
    scores = list(measure(cases, enhancer, tools))
    report = EvaluationReport({"kind": "model", "name": config.name}, "", tools, scores, {})
    places = {name: (name, "standard") for name in ("psnr", "ssim", "lpips")}
    places |= {"gtmean_psnr": ("psnr", "gtmean"), "gtmean_ssim": ("ssim", "gtmean")}
    found = {name: report.mean(*place) for name, place in places.items()}
    found |= {name: report.mean(name) for name in ("brightness", "brightness_abs", "niqe")}
    means = {name: _known(mean.value if mean else None) for name, mean in found.items()}
    return means | {"seconds": round(median(score.seconds for score in report.scores), 4)}


def _known(value: float | None) -> float | None:
    return round(value, 5) if value is not None and math.isfinite(value) else None
