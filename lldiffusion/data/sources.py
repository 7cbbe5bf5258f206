"""What is trained on and what is held out: folders of a configuration, and lists that name pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lldiffusion.config import DataConfig
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import list_images

from .layouts import Pair, find_pairs, validate_pairs


@dataclass(frozen=True)
class Source:
    """One folder's samples; `simulated` ones make their low image from the normal one."""

    pairs: tuple[Pair, ...]
    simulated: bool


def find_sources(config: DataConfig) -> tuple[list[Source], list[Pair]]:
    """The training sources of a configuration and its validation pairs.

    Those are named by `data.held_out`, or are the last `data.validation` of the first folder.
    """
    if not config.pairs and not config.normal:
        raise LLDiffusionError('nothing to train on: set data.pairs (or data.normal), e.g. --set data.pairs=["PATH"]')
    keep, held, never = (_read_lists(files) for files in (config.include, config.held_out, config.never))
    sources: list[Source] = []
    held_out: list[Pair] = []
    for folder in config.pairs:
        pairs = validate_pairs(find_pairs(Path(folder), split="train"))
        pairs = [p for p in pairs if _kept(p, folder, keep) and _full(p, folder) not in never]
        if held:
            held_out += [p for p in pairs if _full(p, folder) in held]
            pairs = [p for p in pairs if _full(p, folder) not in held]
        elif not sources and config.validation:
            pairs, held_out = _split(pairs, config.validation, folder)
        sources.append(Source(tuple(pairs), simulated=False))
    for folder in config.normal:
        photos = [Pair(low=path, normal=path, name=path.stem) for path in list_images(Path(folder))]
        sources.append(Source(tuple(photos), simulated=True))
    if held and not held_out:
        raise LLDiffusionError("data.held_out names no pair of data.pairs: write FOLDER/NAME, one a line")
    return sources, held_out


def _read_lists(files: Iterable[str]) -> set[str]:
    return {line.strip() for file in files for line in Path(file).read_text().splitlines() if line.strip()}


def _full(pair: Pair, folder: str) -> str:
    return f"{Path(folder).name}/{pair.name}"


def _kept(pair: Pair, folder: str, keep: set[str]) -> bool:
    """Lists of FOLDER/NAME restrict the folders they name; bare names restrict every other."""
    named = any(entry.startswith(f"{Path(folder).name}/") for entry in keep)
    bare = any("/" not in entry for entry in keep)
    if named:
        return _full(pair, folder) in keep or pair.name in keep
    return pair.name in keep if bare else True


def _split(pairs: list[Pair], count: int, folder: str) -> tuple[list[Pair], list[Pair]]:
    pairs = sorted(pairs, key=lambda pair: pair.name)
    if len(pairs) <= count:
        raise LLDiffusionError(
            f"'{folder}' has {len(pairs)} pairs: data.validation={count} would leave none to train on"
        )
    return pairs[:-count], pairs[-count:]
