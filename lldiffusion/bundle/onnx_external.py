"""Which files an ONNX file reads its weights from, found by walking its bytes: nothing is loaded or executed.

Protocol buffers are fields of (number, wire type, value); a value of type 2 is bytes, text or a message.  Only the
fields that can hold a tensor are followed (numbers from onnx/onnx.proto3).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from lldiffusion.errors import LLDiffusionError

# message -> {field number: message}
FOLLOW = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
LENGTHS = {1: 8, 5: 4}  # wire type -> bytes of a fixed-size value
DEEPEST = 64  # nested messages; graphs inside graphs are rare
View = mmap.mmap | bytes


def external_files(path: Path) -> set[str]:
    """The locations of all external data named in an ONNX file.

    Raises LLDiffusionError when the file is not made of readable fields.
    """
    if path.stat().st_size == 0:
        raise LLDiffusionError(f"'{path}' is empty: it is no ONNX file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return set(_locations(data, 0, len(data), "Model", 0))
        except (IndexError, ValueError) as error:
            raise LLDiffusionError(f"'{path}' is no readable ONNX file ({error})") from error


def _locations(data: View, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise ValueError("messages are nested too deeply")
    follow = FOLLOW[message]
    for number, first, last in fields_of(data, start, end):
        child = follow.get(number) if first >= 0 else None
        if child == "Entry":
            key, value = _entry(data, first, last)
            if key == b"location":
                yield value.decode("utf-8", errors="replace")
        elif child is not None:
            yield from _locations(data, first, last, child, depth + 1)


def _entry(data: View, start: int, end: int) -> tuple[bytes, bytes]:
    """A StringStringEntryProto: (key, value)."""
    found = {number: data[first:last] for number, first, last in fields_of(data, start, end) if first >= 0}
    return found.get(1, b""), found.get(2, b"")


def fields_of(data: View, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, first byte, last byte + 1) of every length-delimited field, (number, -1, value) of an integer."""
    while start < end:
        tag, start = (tag, start + 1) if (tag := data[start]) < 0x80 else varint(data, start)  # most are one byte
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, start = (length, start + 1) if (length := data[start]) < 0x80 else varint(data, start)
            if start + length > end:
                raise ValueError("a field is longer than the file")
            yield number, start, start + length
            start += length
        elif kind == 0:
            value, start = varint(data, start)
            yield number, -1, value
        elif kind in LENGTHS:
            start += LENGTHS[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {start}")
    if start != end:
        raise ValueError("it ends in the middle of a field")


def varint(data: View, at: int) -> tuple[int, int]:
    """(value, place behind it)."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number at byte {at} has no end")
