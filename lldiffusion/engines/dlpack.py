"""DLPack: arrays handed over and taken without a copy (dmlc/dlpack, structures of dlpack.h, version 0)."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

from lldiffusion.errors import LLDiffusionError

CUDA = 2  # DLDeviceType kDLCUDA
KINDS = {"float32": (2, 32), "float16": (2, 16), "bfloat16": (4, 16)}  # (DLDataTypeCode, bits)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))
_DESTRUCTOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_python = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR)(("PyCapsule_New", _python))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _python))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _python))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_SetName", _python))
FRESH, USED = b"dltensor", b"used_dltensor"  # a consumer renames the capsule that it takes; it must outlive both

_exported: dict[int, tuple[Any, ...]] = {}  # address of a managed tensor -> what must live as long as it


@dataclass(frozen=True)
class ImportedTensor:
    """A tensor taken from a capsule; its memory is given back when `owner` goes."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    device: tuple[int, int]  # (type, index)
    owner: Any


def export_capsule(pointer: int, shape: tuple[int, ...], dtype: str, device: tuple[int, int], owner: Any) -> Any:
    """A capsule of a contiguous array; `owner` is kept until the consumer lets go of it."""
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    code, bits = KINDS[dtype]
    tensor = _Tensor(pointer, *device, len(shape), code, bits, 1, sizes, None, 0)
    managed = _Managed(tensor, None, _release_exported)
    address = ctypes.addressof(managed)
    _exported[address] = (managed, sizes, owner)
    return _new(address, FRESH, _release_unclaimed)


@_DELETER
def _release_exported(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


@_DESTRUCTOR
def _release_unclaimed(capsule: int) -> None:
    """A capsule that nobody took."""
    if _is_valid(capsule, FRESH):
        _exported.pop(_pointer(capsule, FRESH), None)


class _Owner:
    """Calls a producer's deleter when it goes."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.contents.deleter:
            self._managed.contents.deleter(self._managed)


def import_capsule(capsule: Any) -> ImportedTensor:
    """Take the tensor of a capsule.  Raises LLDiffusionError when it is not contiguous float32, float16 or bfloat16."""
    if not _is_valid(id(capsule), FRESH):
        raise LLDiffusionError("this DLPack capsule was taken before, or is of a version that is not known here")
    managed = ctypes.cast(_pointer(id(capsule), FRESH), ctypes.POINTER(_Managed))
    tensor = managed.contents.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    kinds = {kind: name for name, kind in KINDS.items()}
    dtype = kinds.get((tensor.code, tensor.bits))
    if dtype is None or tensor.lanes != 1 or not _contiguous(tensor, shape):
        raise LLDiffusionError("an array on the GPU must be contiguous float32, float16 or bfloat16")
    _rename(id(capsule), USED)
    pointer = (tensor.data or 0) + tensor.byte_offset
    return ImportedTensor(pointer, shape, dtype, (tensor.device_type, tensor.device_id), _Owner(managed))


def _contiguous(tensor: Any, shape: tuple[int, ...]) -> bool:
    if not tensor.strides:
        return True
    wanted = (math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return all(tensor.strides[i] == stride or shape[i] == 1 for i, stride in enumerate(wanted))
