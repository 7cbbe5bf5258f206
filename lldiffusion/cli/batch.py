"""Which pictures a command works on, and where each result goes: everything that can be known beforehand."""

from __future__ import annotations

import glob
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from lldiffusion.atomic import scratch
from lldiffusion.errors import LLDiffusionError, choose, printable
from lldiffusion.images import FORMATS, IMAGE_SUFFIXES, LOSSY, READ_ONLY, check_format, image_format
from lldiffusion.scale.places import Place, Remote, existing, is_remote, place, same
from lldiffusion.scale.shard import WHOLE, Shard

NAMED = 5  # files that a sentence names; the rest is counted
# The first suffix of each format.
SUFFIX_OF: dict[str, str] = {format_: suffix for suffix, format_ in reversed(FORMATS.items())}

AnyPlace = TypeVar("AnyPlace", bound=Place)


@dataclass
class Batch:
    """The work, in order, and what is left out of it."""

    jobs: list[tuple[Place, Place]] = field(default_factory=list)  # (input, output)
    existing: list[Place] = field(default_factory=list)  # inputs whose output is there already, with --skip-existing
    passed_over: list[Place] = field(default_factory=list)  # files in a folder, or of a glob, that are no pictures
    found: int = 0  # pictures of the whole job: of all its parts, and those whose output is there already


def plan_batch(
    inputs: list[str],
    out: str,
    format_: str | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    shard: Shard = WHOLE,
) -> Batch:
    """Find the pictures and give each an output.

    Args:
        inputs: files, folders (searched to the bottom) and globs, here or at addresses.
        out: a folder, or a file when there is one input; "results/" is a folder whatever its name.
        format_: of outputs in a folder; default: that of each input.
        shard: the part of the pictures that is wanted, whatever is there already.
    Raises LLDiffusionError for inputs without a picture, two inputs with one output, and outputs that cannot be
    written or are there already.
    """
    target, single = place(out), _is_file(out, format_)
    batch = Batch()
    for text in inputs:
        for path, name in _expand(text, None if single else target, batch.passed_over):
            batch.jobs.append((path, target if single else _renamed(target / name, format_)))
    if single and len(batch.jobs) > 1:
        raise LLDiffusionError(f"{len(batch.jobs)} inputs and one output file '{out}': name a folder with -o")
    batch.found = len(batch.jobs)
    batch.jobs, batch.existing = share_of(batch.jobs, shard, skip_existing)
    refuse_existing([output for _, output in batch.jobs], overwrite)
    return batch


def _is_file(out: str, format_: str | None) -> bool:
    """Whether `out` is one picture; LLDiffusionError when it can be neither that nor a folder."""
    path = place(out)
    suffix = path.suffix.lower()
    if out.endswith("/") or path.is_dir():
        return False
    if suffix in FORMATS:
        if format_ is not None and FORMATS[suffix] != format_:
            raise LLDiffusionError(f"-o '{printable(out)}' and --format {format_} say different things: give one")
        return True
    if path.is_file() or re.fullmatch(r"\.[a-z][a-z0-9]{1,4}", suffix):
        raise LLDiffusionError(
            f"cannot write '{printable(out)}': accepted suffixes are {', '.join(FORMATS)}; "
            f"a folder of that name is written '{printable(out)}/'"
        )
    return False


def _renamed(output: Place, format_: str | None) -> Place:
    """The output with the usual suffix of a format, unless it has one of that format's; what is only read gets one."""
    format_ = format_ or READ_ONLY.get(output.suffix.lower())
    if format_ is None or FORMATS.get(output.suffix.lower()) == format_:
        return output
    return output.with_suffix(SUFFIX_OF[format_])


def share_of(
    jobs: list[tuple[AnyPlace, AnyPlace]], shard: Shard, skip_existing: bool
) -> tuple[list[tuple[AnyPlace, AnyPlace]], list[AnyPlace]]:
    """(the jobs that are this shard's to do, the inputs left out because their output is there already).

    Raises LLDiffusionError as `_refuse_collisions` does, whatever the shard.
    """
    _refuse_collisions(jobs)
    mine = shard.part(jobs)
    there = existing([output for _, output in mine]) if skip_existing else set()
    return [job for job in mine if job[1] not in there], [path for path, output in mine if output in there]


def _refuse_collisions(jobs: Sequence[tuple[Place, Place]]) -> None:
    """Raises LLDiffusionError for two inputs with one output, and for an output that is an input."""
    counts = Counter(output for _, output in jobs)
    twice = {printable(output) for output, count in counts.items() if count > 1}
    if twice:
        raise LLDiffusionError(
            f"several inputs would be written to {', '.join(sorted(twice))}: enhance them separately"
        )
    replaced = [printable(path) for path, output in jobs if same(output, path)]
    if replaced:
        raise LLDiffusionError(
            f"the output would replace the input {', '.join(replaced[:3])}: name another folder with -o"
        )


def refuse_existing(outputs: list[Place], overwrite: bool) -> None:
    """Raises LLDiffusionError naming outputs that would be replaced unasked."""
    found = set() if overwrite else existing(outputs)
    if there := [output for output in outputs if output in found]:
        raise LLDiffusionError(f"already there: {name_some(there)}; replace with -y, or name another folder")


def name_some(paths: Sequence[Place]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(map(printable, paths[:NAMED])) + more


def _expand(text: str, folder: Place | None, passed_over: list[Place]) -> Sequence[tuple[Place, PurePath]]:
    """Pictures that one argument names, each with its name below the output folder; other files are passed over."""
    if is_remote(text):
        return _expand_remote(Remote.of(text), folder, passed_over)
    path, folder = Path(text), folder if isinstance(folder, Path) else None
    if path.is_dir():
        below = [p for p in sorted(path.rglob("*")) if not left_out(p, path, folder) and p.is_file()]
        found = [p for p in below if p.suffix.lower() in IMAGE_SUFFIXES]
        passed_over += [p for p in below if p.suffix.lower() not in IMAGE_SUFFIXES]
        if not found:
            held = f"; it holds {name_some(below)}" if below else ""
            raise LLDiffusionError(
                f"no image in folder '{printable(text)}': accepted are {', '.join(IMAGE_SUFFIXES)}{held}"
            )
        return [(p, p.relative_to(path)) for p in found]
    if path.exists():
        return [(path, _name_of_result(path))]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    files = [match for match in matches if match.is_file()]
    found = [match for match in files if match.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise LLDiffusionError(f"no image '{printable(text)}': give an image, a folder, or a quoted glob that matches")
    passed_over += [match for match in files if match not in found]
    return [(match, Path(match.name)) for match in found]


def _expand_remote(given: Remote, folder: Place | None, passed_over: list[Place]) -> Sequence[tuple[Place, PurePath]]:
    """The same of an address."""
    inside = f"{folder.path}/" if isinstance(folder, Remote) and folder != given else None
    if given.is_dir():
        named = [(file, name) for file, name in given.files() if inside is None or not file.path.startswith(inside)]
    else:
        named = [(file, PurePosixPath(file.name)) for file in given.matches()]
    found = [(file, name) for file, name in named if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        held = f"; there are {name_some([file for file, _ in named])}" if named else ""
        raise LLDiffusionError(f"no image at '{printable(given)}': accepted are {', '.join(IMAGE_SUFFIXES)}{held}")
    passed_over += [file for file, _ in named if file.suffix.lower() not in IMAGE_SUFFIXES]
    return found


def _name_of_result(path: Path) -> Path:
    """The input's name, with a suffix where it has none of a picture's; LLDiffusionError where it is no picture."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Path(path.name)
    return Path(path.name + SUFFIX_OF[image_format(path)])


def left_out(path: Path, root: Path, out: Path | None) -> bool:
    """Hidden files and folders (macOS's `._a.jpg` is no picture), and an output folder inside the input."""
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        return True
    return out is not None and out.is_dir() and not out.samefile(root) and path.resolve().is_relative_to(out.resolve())


def choose_format(given: str | None) -> str | None:
    """The value of --format: a format's name, "jpg" and "tif" among them."""
    if given is None:
        return None
    return FORMATS.get(f".{given.lower()}") or choose(given, SUFFIX_OF, "format")


def check_outputs(quality: int | None, outputs: Sequence[Place]) -> None:
    """Raises LLDiffusionError when --quality would change nothing, or all outputs need packages that are not here."""
    formats = {FORMATS[output.suffix.lower()] for output in outputs}
    lacking = [error for error in map(_lacking, formats) if error is not None]
    if lacking and len(lacking) == len(formats):  # one picture of a folder never stops the others
        raise lacking[0]
    if quality is not None and outputs and not any(FORMATS[output.suffix.lower()] in LOSSY for output in outputs):
        raise LLDiffusionError(
            "--quality is for JPEG and WebP, AVIF, HEIC and JPEG XL, and no output is one: add e.g. --format jpeg"
        )


def _lacking(format_: str) -> LLDiffusionError | None:
    try:
        check_format(format_)
    except LLDiffusionError as error:
        return error
    return None


@contextmanager
def through_pipes(inputs: list[str], out: str, format_: str | None) -> Iterator[tuple[list[str], str]]:
    """The inputs and the output as files: `-` is a picture on standard input, or one for standard output.

    What is written for standard output goes there when the block ends well; its format is the input's by default.
    """
    if "-" not in (*inputs, out):
        yield inputs, out
        return
    if len(inputs) > 1:
        raise LLDiffusionError("- is one picture on a pipe: give it alone, or files as inputs and a folder as -o")
    with scratch() as folder:
        source, target = Path(inputs[0]), Path(out)
        if inputs[0] == "-":
            source = folder / "stdin"
            source.write_bytes(sys.stdin.buffer.read())
        if out == "-":
            if sys.stdout.isatty():
                raise LLDiffusionError("standard output is a terminal: pipe it into a program, or name a file with -o")
            target = folder / f"stdout{SUFFIX_OF[format_ or image_format(source)]}"
        elif not _is_file(out, format_):
            raise LLDiffusionError(f"a picture on a pipe has no name: give a file as -o, not '{printable(out)}'")
        yield [str(source)], str(target)
        if out == "-" and target.exists():
            sys.stdout.buffer.write(target.read_bytes())
            sys.stdout.buffer.flush()
