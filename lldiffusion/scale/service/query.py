"""What a request asks for, from its query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lldiffusion.errors import LLDiffusionError, choose, printable
from lldiffusion.images import FORMATS, Format, check_format

from .refusals import Refusal

EXPOSURE = 5.0  # stops, either way, as `lldiff enhance --exposure`
LARGEST_SEED = 2**32 - 1
CONTAINERS = ("mp4", "mov", "mkv", "webm")  # of clips


@dataclass(frozen=True)
class Wishes:
    """How a picture or a clip shall be enhanced."""

    model: str
    exposure: float = 0.0  # stops
    steps: int | None = None  # None: the model's own
    seed: int = 0
    format: Format | None = None  # None: that of the input
    quality: int | None = None  # of lossy formats, 1 to 100
    container: str = "mp4"  # of a clip


class Query:
    """The parameters of one request.  Every method raises Refusal (400) naming the parameter and what it takes."""

    def __init__(self, given: Mapping[str, str], accepted: Iterable[str]) -> None:
        self._given = given
        for name in given:
            with_status(400, choose, name, accepted, "parameter")

    def number(self, name: str, kind: Callable[[str], Any], least: float, most: float) -> Any:
        """A number within bounds, or None where it is not given."""
        text = self._given.get(name)
        if text is None:
            return None
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            what = "whole number" if kind is int else "number"
            raise Refusal(400, f"{name} '{printable(text):.80}': a {what} from {least:g} to {most:.10g} is needed")
        return value

    def choice(self, name: str, accepted: Iterable[str], default: str | None) -> str | None:
        """One of several words."""
        text = self._given.get(name)
        return default if text is None else str(with_status(400, choose, text, accepted, name))


def picture_wishes(given: Mapping[str, str], models: list[str], max_steps: int) -> Wishes:
    """The query of `/v1/enhance`; Refusal for what is unknown or out of bounds."""
    query = Query(given, ("model", "exposure", "steps", "seed", "format", "quality"))
    format_ = query.choice("format", sorted(set(FORMATS.values()) | {"jpg", "tif"}), None)
    chosen = None if format_ is None else FORMATS[f".{format_}"]
    if chosen is not None:
        with_status(400, check_format, chosen)
    return Wishes(
        **_common(query, models, max_steps), format=chosen, quality=query.number("quality", int, least=1, most=100)
    )


def video_wishes(given: Mapping[str, str], models: list[str], max_steps: int) -> Wishes:
    """The query of `/v1/video`; Refusal for what is unknown or out of bounds."""
    query = Query(given, ("model", "exposure", "steps", "seed", "container"))
    container = query.choice("container", CONTAINERS, "mp4")
    return Wishes(**_common(query, models, max_steps), container=container or "mp4")


def _common(query: Query, models: list[str], max_steps: int) -> dict[str, Any]:
    return {
        "model": query.choice("model", models, models[0]),
        "exposure": query.number("exposure", float, -EXPOSURE, EXPOSURE) or 0.0,
        "steps": query.number("steps", int, 1, max_steps),
        "seed": query.number("seed", int, 0, LARGEST_SEED) or 0,
    }


def with_status(status: int, call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns; its LLDiffusionError becomes an answer of that status."""
    try:
        return call(*arguments)
    except Refusal:
        raise
    except LLDiffusionError as error:
        raise Refusal(status, str(error)) from error
