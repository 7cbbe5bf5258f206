"""The models that are served: opened once, asked in many ways."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError, printable

from ..fetching import here, named
from .query import Wishes

WAYS = 8  # enhancers that are kept beside each other: each holds the noise of one picture size


class Shelf:
    """Models by name.

    Args:
        sources: what each model is opened from, by name; a path or an address.
        options: of `Enhancer.open`.
    Raises LLDiffusionError when one cannot be opened.
    """

    def __init__(self, sources: dict[str, str], options: dict[str, Any]) -> None:
        self.sources = {name: here(source, lasting=True) for name, source in sources.items()}
        self.options = options
        with named(*sources.values()):
            self._opened = {name: Enhancer.open(source, **options) for name, source in self.sources.items()}
        self._ways: OrderedDict[tuple[str, int | None, int], Enhancer] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The first is the default."""
        return list(self._opened)

    def enhancer(self, wishes: Wishes) -> Enhancer:
        """The model with the steps and the seed that are wished for; from any thread."""
        way = (wishes.model, wishes.steps, wishes.seed)
        with self._lock:
            found = self._ways.pop(way, None) or _asked(self._opened[wishes.model], wishes)
            self._ways[way] = found
            while len(self._ways) > WAYS:
                self._ways.popitem(last=False)
        return found

    def describe(self) -> list[dict[str, Any]]:
        """Name, steps, sampler, backend, device and precision of every model."""
        wanted = ("sampler", "steps", "backend", "version", "device", "precision")
        about = {name: enhancer.info() for name, enhancer in self._opened.items()}
        return [{"name": name, **{key: info[key] for key in wanted if key in info}} for name, info in about.items()]

    def close(self) -> None:
        """Let go of all of them."""
        for enhancer in self._opened.values():
            enhancer.close()


def _asked(model: Enhancer, wishes: Wishes) -> Enhancer:
    """The same engine with other steps and another seed: nothing is opened again."""
    sampling = model.config.sampling
    config = replace(model.config, sampling=replace(sampling, steps=wishes.steps or sampling.steps))
    return Enhancer(model.pipeline.engine, config, seed=wishes.seed, tile=model.pipeline.tile)


def sources_of(models: list[str]) -> dict[str, str]:
    """Name -> what to open, of arguments MODEL or NAME=MODEL; a path's name is its last part without `.lldiff`."""
    sources: dict[str, str] = {}
    for text in models:
        name, separator, source = text.partition("=")
        if not separator:
            name, source = text.rstrip("/").rpartition("/")[2].removesuffix(".lldiff"), text
        if not (name and source) or name in sources:
            what = "is served twice" if name in sources else "lacks a name or a model"
            raise LLDiffusionError(
                f"model '{printable(text)}' {what}: give each as NAME=MODEL, with names of their own"
            )
        sources[name] = source
    return sources
