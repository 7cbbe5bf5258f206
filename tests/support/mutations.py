"""Damage for the fuzzing tests: bytes and tables changed at random, the same way for the same generator."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD: list[Any] = [None, True, -1, 0, 2**40, 2**70, -0.0, 1e308, float("nan"), float("inf"), "", "x" * 300, "../x"]
ODD += ["\n", "\ud800", "fp32", [], [[]], [3], {}, {"a": 1}, [{}] * 3, {"file": []}]


def damaged_bytes(data: bytes, chance: random.Random) -> bytes:
    """`data` cut, grown, zeroed, or with some bytes changed."""
    changed = bytearray(data)
    at = chance.randrange(len(changed) + 1)
    way = chance.randrange(6)
    if way == 0:
        return bytes(changed[:at])
    if way == 1:
        changed[at:at] = chance.randbytes(chance.randrange(1, 64))
    elif way == 2:
        changed[at : at + chance.randrange(1, 64)] = b""
    elif way == 3:
        length = len(changed[at : at + 16])
        changed[at : at + length] = chance.choice((b"\x00", b"\xff")) * length
    else:  # most of what matters lies at the start
        for _ in range(chance.choice((1, 4, 32))):
            changed[chance.randrange(min(len(changed), chance.choice((64, 512, len(changed)))))] = chance.randrange(256)
    return bytes(changed)


def damaged_graph(data: bytes, chance: random.Random) -> bytes:
    """An ONNX file that is still one, but whose nodes, attributes, sizes or weights are not what they were."""
    import onnx

    model = onnx.load_from_string(data)
    nodes, constants = list(model.graph.node), list(model.graph.initializer)
    for _ in range(chance.randrange(1, 4)):
        node, way = chance.choice(nodes), chance.randrange(6)
        if way == 0:
            node.op_type = chance.choice((*[other.op_type for other in nodes], "Conv", "Loop", "Nonsense"))
        elif way == 1 and node.input:
            node.input[chance.randrange(len(node.input))] = chance.choice(nodes).output[0]
        elif way == 2 and node.attribute:
            attribute = chance.choice(list(node.attribute))
            attribute.i = chance.choice((-1, 0, 2**40))
            del attribute.ints[: chance.randrange(2)]
            attribute.ints.extend([chance.choice((-1, 0, 3, 2**40))] * chance.randrange(3))
        elif way == 3 and constants:
            tensor = chance.choice(constants)
            del tensor.dims[:]
            tensor.dims.extend([chance.choice((-1, 0, 1, 7, 2**40)) for _ in range(chance.randrange(4))])
        elif way == 4 and (heavy := [tensor for tensor in constants if tensor.raw_data]):
            tensor = chance.choice(heavy)
            tensor.raw_data = damaged_bytes(tensor.raw_data, chance)
        else:
            port = chance.choice([*model.graph.input, *model.graph.output])
            for size in port.type.tensor_type.shape.dim[:2]:
                size.dim_value = chance.choice((-1, 0, 5, 2**40))
    return bytes(model.SerializeToString())


def damaged_table(table: Any, chance: random.Random) -> Any:
    """A copy of a nested table with one to three of its values replaced, left out, moved or nested deeply."""
    changed = copy.deepcopy(table)
    for _ in range(chance.randrange(1, 4)):
        places = list(_places(changed))
        if not places:
            return changed
        holder, key = chance.choice(places)
        way = chance.randrange(8)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = copy.deepcopy(chance.choice(places)[0])
        elif way == 2:
            for _ in range(chance.choice((5, 200))):
                holder[key] = [holder[key]]
        elif way == 3 and isinstance(holder, dict):
            holder[chance.choice(("", "a\nb", "x" * 100, "../x"))] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (dictionary or list, key) inside a nested table."""
    if isinstance(value, (dict, list)):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inner)
