"""Checks an ONNX file before a native library sees it: ports as in the manifest, weights inside their files.

Native readers trust what they are given: a tensor that is shorter than its shape, or lies beyond the end of its file,
can end the process.  Nothing is loaded here; the bytes are walked as in `onnx_external`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from lldiffusion.errors import LLDiffusionError

from .onnx_external import DEEPEST, FOLLOW, View, fields_of, varint

# Numbers of TensorProto.DataType -> bytes of a value, and the names that the manifest has for them.
SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
NAMES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "double", 16: "bfloat16"}
TAKEN = ("float32", "float16", "bfloat16")  # types of inputs
NEEDED = {  # graph -> inputs and outputs that every engine uses
    "encoder": ("low", "feature_0"),
    "color_map": ("low", "color_map"),
    "level": ("thumbnail", "level"),
    "denoiser": ("x_t", "low", "color_map", "t", "k_x", "k_p", "a", "b", "c", "x0_previous", "x_next", "x0"),
}
POSITIVE = (b"kernel_shape", b"strides", b"dilations", b"group", b"num_groups", b"blocksize")  # attributes, all >= 1


def check_graph(folder: Path, name: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    """Check the file `name` of a bundle folder against the ports that its manifest gives.

    Raises LLDiffusionError when it has others, or holds a tensor whose bytes are not those of its shape.
    """
    path = folder / name
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            found = dict(_ports(data))
            for kind, ports in (("inputs", inputs), ("outputs", outputs)):
                wanted = [(str(port.get("name")), str(port.get("dtype"))) for port in ports]
                if wanted and found.get(kind, []) != wanted:
                    raise ValueError(f"its {kind} are not those of the manifest")
            for message, first, last in _messages(data, 0, len(data), "Model", 0):
                if message == "Tensor":
                    _check_tensor(data, first, last, path)
                elif message == "Attribute":
                    _check_attribute(data, first, last)
        except (IndexError, ValueError, OverflowError) as error:
            raise LLDiffusionError(f"'{path}' is damaged: {error}; copy or export the bundle again") from error


def check_runnable(path: Path, graph: str) -> None:
    """Raises LLDiffusionError when the file of a graph lacks an input or output that every engine hands it or reads."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = dict(_ports(data))  # its bytes were walked when the bundle was opened
    names = {name for ports in found.values() for name, _ in ports}
    if missing := [name for name in NEEDED.get(graph, ()) if name not in names]:
        raise LLDiffusionError(f"'{path}' cannot be run: it has no '{missing[0]}'; export the bundle again")
    if wrong := [f"'{name}' {kind}" for name, kind in found["inputs"] if kind not in TAKEN]:
        raise LLDiffusionError(f"'{path}' cannot be run: its {wrong[0]} is none of {', '.join(TAKEN)}")


def _messages(data: View, start: int, end: int, message: str, depth: int) -> Iterator[tuple[str, int, int]]:
    """Every message that may hold a tensor, outermost first."""
    if depth > DEEPEST:
        raise ValueError("messages are nested too deeply")
    for number, first, last in fields_of(data, start, end):
        child = FOLLOW[message].get(number)
        if child is not None and child != "Entry" and first >= 0:
            yield child, first, last
            yield from _messages(data, first, last, child, depth + 1)


def _ports(data: View) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """("inputs" or "outputs", [(name, type)]) of the main graph."""
    graph = next(((a, b) for number, a, b in fields_of(data, 0, len(data)) if number == 7 and a >= 0), None)
    if graph is None:
        raise ValueError("it holds no graph")
    for kind, number in (("inputs", 11), ("outputs", 12)):
        yield kind, [_port(data, a, b) for found, a, b in fields_of(data, *graph) if found == number and a >= 0]


def _port(data: View, start: int, end: int) -> tuple[str, str]:
    """(name, type) of a ValueInfoProto: name 1, type 2 -> tensor_type 1 -> elem_type 1."""
    name, kind = "", 0
    for number, first, last in fields_of(data, start, end):
        if number == 1 and first >= 0:
            name = data[first:last].decode("utf-8", errors="replace")
        elif number == 2 and first >= 0:
            for _, a, b in (found for found in fields_of(data, first, last) if found[0] == 1 and found[1] >= 0):
                kind = next((value for inner, place, value in fields_of(data, a, b) if inner == 1 and place < 0), 0)
    return name, NAMES.get(kind, str(kind))


def _check_tensor(data: View, start: int, end: int, path: Path) -> None:
    """dims 1, data_type 2, float_data 4, raw_data 9, external_data 13 (key 1, value 2), data_location 14."""
    dims: list[int] = []
    kind = location = 0
    raw: int | None = None
    external: dict[bytes, bytes] = {}
    for number, first, last in fields_of(data, start, end):
        if number == 1:
            dims += [last] if first < 0 else list(_varints(data, first, last))
        elif number == 2 and first < 0:
            kind = last
        elif number == 9 and first >= 0:
            raw = last - first
        elif number == 14 and first < 0:
            location = last
        elif number == 13 and first >= 0:
            entry = {inner: data[a:b] for inner, a, b in fields_of(data, first, last) if a >= 0}
            external[entry.get(1, b"")] = entry.get(2, b"")
    if any(side >> 40 for side in dims) or len(dims) > 16:
        raise ValueError("a tensor has an impossible shape")
    needed = math.prod(dims) * SIZES.get(kind, 1)
    if location == 1:
        _check_external(external, needed, path)
    elif raw is not None and kind in SIZES and raw != needed:
        raise ValueError(f"a tensor of {needed} bytes has {raw}")


def _check_external(external: dict[bytes, bytes], needed: int, path: Path) -> None:
    """A tensor's place must lie inside its file, and be as long as its shape says."""
    location = external.get(b"location", b"").decode("utf-8", errors="replace")
    size = (path.parent / str(PurePosixPath(location))).stat().st_size
    offset = int(external.get(b"offset", b"0"))
    length = int(external.get(b"length", str(needed).encode()))
    if offset < 0 or length != needed or offset + length > size:
        raise ValueError(f"a tensor of {needed} bytes lies at {offset}, {length} long, in '{location}' of {size} bytes")


def _check_attribute(data: View, start: int, end: int) -> None:
    """name 1, i 3, ints 8: sizes by which a library divides, or that it allocates, must be sane."""
    name, values = b"", []
    for number, first, last in fields_of(data, start, end):
        if number == 1 and first >= 0:
            name = data[first:last]
        elif number in (3, 8):
            values += [last] if first < 0 else list(_varints(data, first, last))
    if name in POSITIVE and not all(1 <= value < 1 << 31 for value in values):
        raise ValueError(f"an operator's {name.decode()} is {values[:4]}")


def _varints(data: View, start: int, end: int) -> Iterator[int]:
    while start < end:
        value, start = varint(data, start)
        yield value
