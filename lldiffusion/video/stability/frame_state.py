"""What one frame of a video leaves to the next."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.level import lifted
from lldiffusion.engines.pipeline import Guidance
from lldiffusion.engines.tiles import Features
from lldiffusion.errors import LLDiffusionError

from .flow import Luma
from .smoothing import Means

StateArrays = dict[str, NDArray[Any]]  # a FrameState as named arrays, for a file (`numpy.savez`)


@dataclass(frozen=True, eq=False)
class FrameState:
    """Everything that is needed to go on with a shot, and nothing of the clip before."""

    luma_grid: Floats  # of the last frame, see `scenes`
    size: tuple[int, int]  # its height and width
    brightness: float  # its log2 mean
    time: float  # seconds: when the conditions were last computed
    age: int  # frames since then
    means: Means  # of the features, smoothed
    features: Features = ()  # as last used, while they are kept for several frames
    target: Floats | None = None  # level lifted by brightness, smoothed, (1, P, 8, 12); None: the model has no level
    luma: Luma | None = None  # the last frame as `flow` compares it, and
    result: Floats | None = None  # what became of it, (H, W, 3) in [-1, 1]: for a warm start
    last: Floats | None = None  # the same, (1, 3, H, W) and padded: what a recurrent model starts from; float32, since
    # rounding it to half of that takes longer at each frame than writing it once a piece

    @property
    def guidance(self) -> Guidance:
        """The level and features to use for this frame."""
        level = None if self.target is None else lifted(self.target, -self.brightness)
        return Guidance(level, self.features)

    def to_arrays(self) -> StateArrays:
        """As named arrays."""
        arrays: StateArrays = {"luma_grid": self.luma_grid, "size": np.array(self.size, np.int64)}
        arrays |= {"brightness": np.array([self.brightness], np.float64)}
        arrays |= {"time": np.array([self.time], np.float64), "age": np.array([self.age], np.int64)}
        arrays |= {f"mean_{i}": mean for i, mean in enumerate(self.means)}
        arrays |= {f"feature_{i}": feature for i, (feature, _) in enumerate(self.features)}
        arrays["strides"] = np.array([stride for _, stride in self.features], np.int64)
        optional = {"target": self.target, "luma": self.luma, "result": self.result, "last": self.last}
        return arrays | {name: array for name, array in optional.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: StateArrays) -> FrameState:
        """The inverse.  Raises LLDiffusionError when arrays are missing."""
        try:
            strides = [int(stride) for stride in arrays["strides"]]
            height, width = arrays["size"]
            return cls(
                luma_grid=arrays["luma_grid"],
                size=(int(height), int(width)),
                brightness=float(arrays["brightness"][0]),
                time=float(arrays["time"][0]),
                age=int(arrays["age"][0]),
                means=tuple(arrays[f"mean_{i}"] for i in range(sum(name.startswith("mean_") for name in arrays))),
                features=tuple((arrays[f"feature_{i}"], stride) for i, stride in enumerate(strides)),
                target=arrays.get("target"),
                luma=arrays.get("luma"),
                result=arrays.get("result"),
                last=arrays.get("last"),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            known = ", ".join(field.name for field in fields(cls))
            raise LLDiffusionError(
                f"this is no state of a VideoEnhancer (it lacks or spoils {error}; it should hold {known}): "
                "give what VideoEnhancer.state() returned"
            ) from error
