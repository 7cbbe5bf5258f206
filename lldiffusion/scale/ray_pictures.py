"""Pictures on a Ray cluster: Ray Data hands them to a pool of actors, each with a model of its own.

An actor reads, enhances and writes: Ray carries names, never pixels, and has one operator, since each costs seconds.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from lldiffusion.atomic import scratch
from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError, printable, require
from lldiffusion.images import FORMATS
from lldiffusion.video.jobs.open_model import model_fingerprint

from .cluster import SHARE, joined, places_for_work
from .fetching import here
from .places import Place, place
from .receipts import once, read
from .service.picture import NAME, enhance_bytes
from .service.query import Wishes

Row = dict[str, str]  # source and target; source and error
log = logging.getLogger(__name__)

MOST = 64  # pictures that are handed out together: Ray takes milliseconds to hand out anything
SHARES = 8  # and at least so many of such parts for each actor, so that all end at about the same time
ATTEMPTS = 3  # of the whole, each with what the one before left
RETRIES = 3  # of a picture whose actor died, and starts of an actor: of memory, or with its machine


def enhance_on_ray(
    address: str,
    jobs: list[tuple[Place, Place]],
    engine: dict[str, Any],
    wishes: Wishes,
    max_pixels: int,
    overwrite: bool = False,
    actors: int | None = None,
) -> dict[Place, str]:
    """Enhance every job; returns what went wrong, by input.

    Args:
        address: "local" starts a Ray on this machine, "auto" or an address joins one; this package is installed there.
        engine: options of `Enhancer.open`, `source` among them.
        actors: how many work at the same time; default: one for each CPU, or for each GPU where `device` is "cuda".
    Raises LLDiffusionError where there is no such cluster, and when pictures kill their actors again and again.
    """
    require("ray.data", "ray", "--ray")
    rows = [{"source": str(source), "target": str(target)} for source, target in _absolute(jobs)]
    with joined(address) as ray:
        failed = _finish(ray, rows, (engine, wishes, max_pixels, overwrite), str(engine["device"]), actors)
    return {source: failed[row["source"]] for (source, _), row in zip(jobs, rows) if row["source"] in failed}


def _finish(ray: Any, rows: list[Row], arguments: tuple[Any, ...], device: str, actors: int | None) -> dict[str, str]:
    """What went wrong, by source.  Where Ray gives up, because machines or actors are lost, it is asked again.

    What was committed is not done again; the number of actors is that of the machines that are left.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            return _run(ray, rows, arguments, device, actors)
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            if not left:
                line = f"Ray gave up: {reason}; the same command again goes on where it ended"
                raise LLDiffusionError(line) from error
            log.warning("Ray gave up, and is asked again: %s", reason)
    raise AssertionError


def _run(ray: Any, rows: list[Row], arguments: tuple[Any, ...], device: str, actors: int | None) -> dict[str, str]:
    gpu = device.startswith("cuda")
    found = places_for_work(ray, gpu)
    size = max(1, min(actors or found, found, len(rows)))  # Ray would wait for more than there is room for
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # bounds of retries have no other way
        answers = ray.data.from_items(rows, override_num_blocks=parts(len(rows), size)).map(
            PictureActor,
            fn_constructor_args=arguments,
            compute=ray.data.ActorPoolStrategy(size=size),
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
            **({"num_gpus": 1} if gpu else {"num_cpus": SHARE}),
        )
    return {row["source"]: row["error"] for row in answers.iter_rows() if row["error"]}


def parts(pictures: int, actors: int) -> int:
    """How many parts so many pictures are handed out in; a part that is lost costs the picture that was in work."""
    return -(-pictures // max(1, min(MOST, pictures // (SHARES * actors))))


class PictureActor:
    """One model, in a process of its own."""

    def __init__(self, engine: dict[str, Any], wishes: Wishes, max_pixels: int, overwrite: bool) -> None:
        model = here(engine["source"], lasting=True)
        self._enhancer = Enhancer.open(**engine | {"source": model})
        self._wishes, self._max_pixels, self._overwrite = wishes, max_pixels, overwrite
        self._made = ExitStack()  # goes with the actor
        self._folder = self._made.enter_context(scratch())
        info = self._enhancer.info()
        decide = ("backend", "precision", "sampler", "steps", "seed", "tile")
        self._wish = {"model": model_fingerprint(model), "exposure": wishes.exposure}
        self._wish |= {"quality": wishes.quality, **{name: info.get(name) for name in decide}}

    def __call__(self, row: Row) -> Row:
        """Names in, the name and what went wrong out."""
        try:
            source, target = place(row["source"]), place(row["target"])
            format_ = FORMATS[target.suffix.lower()]
            wishes, suffix = replace(self._wishes, format=format_), source.suffix.lower()[:8]

            def make(body: bytes) -> bytes:
                return enhance_bytes(body, self._enhancer, wishes, self._folder, self._max_pixels, suffix=suffix).body

            once(target, read(source), self._wish | {"format": format_}, make, self._overwrite)
        except LLDiffusionError as error:
            return {"source": row["source"], "error": str(error).replace(f"'{NAME}'", f"'{printable(row['source'])}'")}
        except OSError as error:
            return {"source": row["source"], "error": f"'{printable(row['source'])}': {error.strerror or error}"}
        return {"source": row["source"], "error": ""}


def _absolute(jobs: list[tuple[Place, Place]]) -> list[tuple[Place, Place]]:
    """An actor has a working directory of its own."""
    return [(_whole(source), _whole(target)) for source, target in jobs]


def _whole(path: Place) -> Place:
    return path.absolute() if isinstance(path, Path) else path
