"""What one frame of a video leaves to the next."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.tiles import Features
from lldiffusion.errors import LLDiffusionError

from .flow import Grey
from .smoothing import Means

State = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Memory:
    """Everything that is needed to go on with a shot, and nothing of the clip before."""

    thumbnail: Floats  # of the last frame, see `scenes`
    size: tuple[int, int]  # its height and width
    brightness: float  # its log2 mean
    time: float  # seconds: when the conditions were last computed
    age: int  # frames since then
    means: Means  # smoothed
    features: Features = ()  # as last used, while they are kept for several frames
    low: Grey | None = None  # the last frame as `flow` compares it, and
    result: Floats | None = None  # what became of it, (H, W, 3) in [-1, 1]: for a warm start

    def to_arrays(self) -> State:
        """As named arrays, for a file (`numpy.savez`)."""
        state: State = {"thumbnail": self.thumbnail, "size": np.array(self.size, np.int64)}
        state |= {"brightness": np.array([self.brightness], np.float64)}
        state |= {"time": np.array([self.time], np.float64), "age": np.array([self.age], np.int64)}
        state |= {f"mean_{i}": mean for i, mean in enumerate(self.means)}
        state |= {f"feature_{i}": feature for i, (feature, _) in enumerate(self.features)}
        state["strides"] = np.array([stride for _, stride in self.features], np.int64)
        kept = {"low": self.low, "result": self.result}
        return state | {name: array for name, array in kept.items() if array is not None}

    @classmethod
    def from_arrays(cls, state: State) -> Memory:
        """The inverse.  Raises LLDiffusionError when arrays are missing."""
        try:
            strides = [int(stride) for stride in state["strides"]]
            features = tuple((state[f"feature_{i}"], stride) for i, stride in enumerate(strides))
            means = tuple(state[f"mean_{i}"] for i in range(sum(name.startswith("mean_") for name in state)))
            kept = (state.get("low"), state.get("result"))
            (height, width), brightness = state["size"], float(state["brightness"][0])
            time, age = float(state["time"][0]), int(state["age"][0])
            return cls(state["thumbnail"], (int(height), int(width)), brightness, time, age, means, features, *kept)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            known = ", ".join(field.name for field in fields(cls))
            raise LLDiffusionError(
                f"this is no state of a VideoEnhancer (it lacks or spoils {error}; it should hold {known}): "
                "give what VideoEnhancer.state() returned"
            ) from error
