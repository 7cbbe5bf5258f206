"""DLPack capsules, exchanged with NumPy and PyTorch in host memory: the structures are the same on a GPU."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack, to_dlpack  # type: ignore[attr-defined]

from lldiffusion.engines import dlpack
from lldiffusion.errors import LLDiffusionError

CPU = (1, 0)


class Producer:
    """What has `__dlpack__` and owns the memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        dtype = str(self.values.dtype)
        return dlpack.export_capsule(self.values.ctypes.data, self.values.shape, dtype, CPU, self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pytorch_and_numpy_take_ours(dtype: type) -> None:
    values: NDArray[Any] = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for taken in (from_dlpack(Producer(values)), torch.from_numpy(np.array(np.from_dlpack(Producer(values))))):
        assert np.array_equal(taken.numpy(), values)
    seen = from_dlpack(Producer(values))
    values[0, 0, 0] = 7
    assert seen[0, 0, 0] == 7  # the same memory


def test_memory_lives_as_long_as_its_user() -> None:
    producer = Producer(np.ones(4, np.float32))
    gone = weakref.ref(producer)
    tensor = from_dlpack(producer)
    del producer
    gc.collect()
    assert gone() is not None
    del tensor
    gc.collect()
    assert gone() is None


def test_a_capsule_that_nobody_takes_is_forgotten() -> None:
    producer = Producer(np.ones(4, np.float32))
    gone, before = weakref.ref(producer), len(dlpack._exported)
    capsule = producer.__dlpack__()
    assert len(dlpack._exported) == before + 1
    del capsule, producer
    gc.collect()
    assert gone() is None
    assert len(dlpack._exported) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_we_take_pytorchs(dtype: torch.dtype) -> None:
    tensor = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4).to(dtype)
    taken = dlpack.import_capsule(to_dlpack(tensor[1:]))
    assert taken.pointer == tensor[1:].data_ptr()
    assert taken.shape == (1, 3, 4)
    assert taken.dtype == str(dtype).removeprefix("torch.")
    assert taken.device == CPU


def test_ours_goes_round() -> None:
    values = np.ones((2, 3), np.float32)
    taken = dlpack.import_capsule(Producer(values).__dlpack__())
    assert (taken.pointer, taken.shape, taken.dtype) == (values.ctypes.data, (2, 3), "float32")
    del taken
    gc.collect()
    assert not dlpack._exported


@pytest.mark.parametrize("tensor", [torch.ones(3, 4).T, torch.ones(3, dtype=torch.float64)])
def test_other_layouts_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(LLDiffusionError, match="contiguous float32"):
        dlpack.import_capsule(to_dlpack(tensor))


def test_a_capsule_is_taken_once() -> None:
    capsule = to_dlpack(torch.ones(3))
    taken = dlpack.import_capsule(capsule)
    with pytest.raises(LLDiffusionError, match="taken before"):
        dlpack.import_capsule(capsule)
    assert taken.shape == (3,)
