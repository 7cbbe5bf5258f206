"""One part of the work, the same for everybody who names it: for Slurm arrays and indexed jobs of Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lldiffusion.errors import LLDiffusionError, printable

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of "I/N".  Raises LLDiffusionError for anything else."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        index, count = (int(number) for number in found.groups()) if found else (0, 0)
        if index >= count:
            raise LLDiffusionError(
                f"shard '{printable(text):.80}': give I/N, part I of N, I from 0 to N - 1, such as 0/8 or "
                "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
            )
        return cls(index, count)

    def part(self, work: Sequence[T]) -> list[T]:
        """Every `count`-th item: the parts differ by at most one in length, and together they are the whole."""
        return list(work[self.index :: self.count])


WHOLE = Shard()
