"""Operations and bytes of a model, counted on PyTorch's meta device (nothing is computed, any size takes a moment).

Counted are convolutions, matrix products and attention: 2 operations a multiply-add; bytes of inputs, weights and
outputs, each once per operator.  Everything between them can be fused into them and is not counted, so the limit

    sum over operators of max(operations / ceiling of operations, bytes / bandwidth)

is one that no engine beats without changing the arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from lldiffusion.config import Config

from .record import Ceilings

WIDTH = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}  # bytes of a number


@dataclass(frozen=True)
class Operator:
    """One call of a heavy operator."""

    operations: float
    numbers: float  # read and written, weights included


@dataclass(frozen=True)
class Cost:
    """Heavy operators of one picture's conditions (`once`) and of one step."""

    once: tuple[Operator, ...]
    step: tuple[Operator, ...]

    def operations(self, steps: int) -> float:
        """Floating-point operations of a whole call."""
        return sum(o.operations for o in self.once) + steps * sum(o.operations for o in self.step)

    def bytes(self, steps: int, precision: str) -> float:
        """Bytes that a whole call reads and writes."""
        numbers = sum(o.numbers for o in self.once) + steps * sum(o.numbers for o in self.step)
        return WIDTH[precision] * numbers

    def limit(self, steps: int, ceilings: Ceilings) -> float:
        """Seconds a call takes at least on a machine with these ceilings."""
        return sum(_seconds(o, ceilings) for o in self.once) + steps * sum(_seconds(o, ceilings) for o in self.step)


def _seconds(operator: Operator, ceilings: Ceilings) -> float:
    moved = operator.numbers * WIDTH[ceilings.precision]
    return max(operator.operations / ceilings.operations, moved / ceilings.bandwidth)


@cache
def count(config_json: str, height: int, width: int, batch: int) -> Cost:
    """Count a model (its configuration as JSON) at a size, padded as it will be."""
    import json

    from lldiffusion.config import config_from_dict

    config = config_from_dict(json.loads(config_json))
    multiple = config.model.size_multiple
    tall, wide = (max(-(-size // multiple), 2) * multiple for size in (height, width))
    return _count(config, tall, wide, batch)


def _count(config: Config, height: int, width: int, batch: int) -> Cost:
    import torch

    from lldiffusion.engines.level import COLUMNS, ROWS
    from lldiffusion.model import LLDiffusion, fold_spectral_norm

    model = fold_spectral_norm(LLDiffusion(config, with_degrader=False)).eval().requires_grad_(False).to("meta")
    y = torch.empty(batch, 3, height, width, device="meta")
    window, zero = torch.empty(batch, 4, device="meta"), torch.zeros(1, device="meta")
    with torch.no_grad():  # inference mode would hide convolutions behind composite operators
        once, features = _heavy_operators(lambda: model.encoder(y))
        mapping, color_map = _heavy_operators(lambda: model.color_map(y))
        once += mapping
        level = None
        if model.level is not None:
            thumbnail = torch.empty(batch, 3, ROWS, COLUMNS, device="meta")
            head, level = _heavy_operators(lambda: model.level(thumbnail))
            once += head
        step, _ = _heavy_operators(lambda: model.denoiser(y, y, color_map, zero, features, level, window))
    return Cost(once, step)


def _heavy_operators(call: Any) -> tuple[tuple[Operator, ...], Any]:
    """The heavy operators that `call` runs, and its answer."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    found: list[Operator] = []
    attention = torch.nn.functional.scaled_dot_product_attention

    class Fused(TorchFunctionMode):
        """Attention as one operator: fused, its matrix is never written."""

        def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            if function is not attention:
                return function(*arguments, **(named or {}))
            query, key, value = arguments
            operations = 2 * math.prod(query.shape) * key.shape[-2] + 2 * math.prod(value.shape) * query.shape[-2]
            found.append(Operator(operations, _numbers((query, key, value, query))))
            return torch.empty_like(query)

    class OperatorRecorder(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            answer = function(*arguments, **(named or {}))
            if function._overloadpacket in flop_registry:
                operations = flop_registry[function._overloadpacket](*arguments, **(named or {}), out_val=answer)
                found.append(Operator(operations, _numbers((arguments, answer))))
            return answer

    with OperatorRecorder(), Fused():
        answer = call()
    return tuple(found), answer


def _numbers(values: Any) -> float:
    """Numbers in all tensors of a nested value."""
    if isinstance(values, (tuple, list)):
        return sum(map(_numbers, values))
    return math.prod(values.shape) if hasattr(values, "shape") else 0
