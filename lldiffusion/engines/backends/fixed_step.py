"""A denoiser's graph with one step's numbers written into it, so that a runtime can fold them into its weights.

The timestep reaches every block as a number a channel.  As an input it is a sum over a whole picture in each of them,
which keeps a convolution from its bias and its activation; as a constant it is part of the bias.  Of a last step x_next
is x0, and what would compute it goes.

The file is a protocol buffer: fields of (number, value), walked as in `bundle.onnx_external`; nothing else changes.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lldiffusion.bundle.onnx_external import fields_of
from lldiffusion.errors import DamagedGraphError

from ..sampler import Step

FEW = 4  # steps of a run up to which each has a graph of its own
NUMBERS = ("t", "k_x", "k_p", "a", "b", "c")
GRAPH = 7  # of ModelProto
INITIALIZER, INPUT, OUTPUT = 5, 11, 12  # of GraphProto
FLOAT = 1  # of TensorProto.DataType
Key = tuple[float, ...]
ANY: Key = ()
ANY_STEP = Step(0, 0.0, 1.0, 0.0, 1.0, 0.0)  # of a run that nothing is known of
MOST = 8  # denoisers that an engine keeps; what comes later shares the one that takes any step


def key_of(step: Step) -> Key:
    """What a graph with a step's numbers in it is for: the exposure stays an input."""
    return tuple(float(getattr(step, name)) for name in NUMBERS)


def is_few(step: Step) -> bool:
    """Whether a step belongs to a run of so few that each gets its own graph."""
    return 0 < step.of <= FEW


def is_last(step: Step) -> bool:
    """Whether x_next is x0."""
    return (step.a, step.b, step.c) == (0.0, 1.0, 0.0)


class Denoisers:
    """The names of an engine's denoisers: one for each step of a run of few, one for all others.

    Args:
        add: opens one, given its name and the step that is written into it (None: it takes any).
        alone: whether steps of few have their own.
    """

    def __init__(self, add: Callable[[str, Step | None], None], alone: bool = True) -> None:
        self._add, self._alone = add, alone
        self._names: dict[Key, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._names)

    def name(self, step: Step) -> str:
        """Which one runs a step; it is opened where it is the first of its kind."""
        with self._lock:
            key = key_of(step) if self._alone and is_few(step) else ANY
            if key not in self._names and len(self._names) >= MOST:
                key = ANY
            if key not in self._names:
                name = f"denoiser {len(self._names)}"
                self._add(name, step if key else None)
                self._names[key] = name
            return self._names[key]


def fixed(path: Path, step: Step) -> bytes:
    """The file `path` with the step's numbers as constants, and without x_next where that is x0.

    Raises DamagedGraphError when the file is not made of readable fields.
    """
    data = path.read_bytes()
    try:
        return b"".join(_model(data, step))
    except (IndexError, ValueError) as error:
        raise DamagedGraphError(f"'{path}' is no readable ONNX file ({error})") from error


def _model(data: bytes, step: Step) -> Iterator[bytes]:
    for number, first, last in fields_of(data, 0, len(data)):
        if number == GRAPH and first >= 0:
            yield _bytes(GRAPH, b"".join(_graph(data, first, last, step)))
        else:
            yield _copied(data, number, first, last)


def _graph(data: bytes, start: int, end: int, step: Step) -> Iterator[bytes]:
    numbers = {name.encode(): float(getattr(step, name)) for name in NUMBERS}
    dropped = {b"x_next"} if is_last(step) else set()
    for number, first, last in fields_of(data, start, end):
        name = _name(data, first, last) if number in (INPUT, OUTPUT) and first >= 0 else b""
        if number == INPUT and name in numbers:
            yield _bytes(INITIALIZER, _scalar(name, numbers[name]))
        elif number != OUTPUT or name not in dropped:
            yield _copied(data, number, first, last)


def _name(data: bytes, start: int, end: int) -> bytes:
    """Field 1 of a ValueInfoProto."""
    return next((data[a:b] for number, a, b in fields_of(data, start, end) if number == 1 and a >= 0), b"")


def _scalar(name: bytes, value: float) -> bytes:
    """A TensorProto (1,) float32: dims 1, data_type 2, name 8, raw_data 9."""
    return _whole(1, 1) + _whole(2, FLOAT) + _bytes(8, name) + _bytes(9, struct.pack("<f", value))


def _copied(data: bytes, number: int, first: int, last: int) -> bytes:
    return _whole(number, last) if first < 0 else _bytes(number, data[first:last])


def _whole(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
