"""What is compared: models, models told the truth's brightness, methods without a network, finished pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lldiffusion.bench.quality import CLASSICAL
from lldiffusion.bundle import Bundle
from lldiffusion.bundle.find import find_model
from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.measure import EvaluationCase, Method
from lldiffusion.evaluation.metrics import Pixels
from lldiffusion.hashing import sha256_of
from lldiffusion.images import list_images, read_image

from .data import DataSet

Run = Callable[[Pixels, DataSet, EvaluationCase], Pixels]


@dataclass(frozen=True)
class NamedMethod:
    """A row of the tables."""

    name: str
    run: Run  # (the picture, its data set, its name there) -> the result
    about: str  # for the list of how it was measured
    needs_truth: bool = False  # only for pairs
    timed: bool = True


def classical() -> list[NamedMethod]:
    """The methods without a network, as `lldiff bench` has them."""
    return [NamedMethod(name, _alone(method), f"{name}: as in `lldiff bench`") for name, method in CLASSICAL.items()]


def _alone(method: Method) -> Run:
    """A method that needs to know nothing but the pixels."""
    return lambda pixels, data, case: method(pixels)


def of_model(model: str, enhancer: Enhancer, told: bool) -> list[NamedMethod]:
    """The model; with `told` also the model whose result is given the mean brightness of the truth."""
    name, found = Path(model).stem, enhancer.info()
    shown = [f"{key} {found[key]}" for key in ("backend", "device", "precision", "steps", "sampler") if key in found]
    about = f"{name}: weights sha256 {_weights(model)}, {', '.join(shown)}, seed {enhancer.seed}"
    rows = [NamedMethod(name, _alone(enhancer), about)]

    def tell(pixels: Pixels, data: DataSet, case: EvaluationCase) -> Pixels:
        assert case.target is not None
        brightness = float(read_image(case.target).pixels.mean())
        return enhancer(pixels, exposure=enhancer.exposure_to_match(pixels, brightness))

    if told:
        about = f"{name}, told: the exposure at which the result has the truth's mean brightness"
        rows.append(NamedMethod(f"{name}, told", tell, about, needs_truth=True))
    return rows


def _weights(model: str) -> str:
    """SHA-256 of a model's weights: names stay while weights change."""
    place = find_model(model)
    if (place / "model.safetensors").is_file():
        return sha256_of(place / "model.safetensors")
    return Bundle.open(place).manifest.weights_sha256


def finished(text: str) -> NamedMethod:
    """Pictures that were made elsewhere or earlier: NAME=FOLDER, in it SET/NAME.png (any image format).

    Raises LLDiffusionError for another spelling or a folder that does not exist; `run` does for a missing picture.
    """
    name, equals, place = text.partition("=")
    folder = Path(place)
    if not (name and equals and place):
        raise LLDiffusionError(f"--results '{text}': write NAME=FOLDER, a folder with SET/PICTURE.png")
    if not folder.is_dir():
        raise LLDiffusionError(f"--results '{text}': '{folder}' is no folder")

    def look_up(pixels: Pixels, data: DataSet, case: EvaluationCase) -> Pixels:
        place = folder / data.name / case.name
        found = [path for path in list_images(place.parent) if path.stem == place.name] if place.parent.is_dir() else []
        if len(found) != 1:
            raise LLDiffusionError(f"'{place.parent}' has {len(found) or 'no'} pictures '{place.name}': one is needed")
        return read_image(found[0]).pixels

    return NamedMethod(name, look_up, f"{name}: finished pictures", timed=False)
