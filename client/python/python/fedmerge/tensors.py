"""Tensors of a checkpoint as arrays of numpy or of PyTorch, and back to bytes: without a copy wherever the form allows it.

Neither package is imported before somebody asks for its arrays.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from .checkpoint import Buffer, Checkpoint, Part, write
from .errors import CheckpointError, MissingPackageError

logger = logging.getLogger("fedmerge")

NUMPY_TYPES: Mapping[str, str] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
"""numpy's names of the types that it has."""

TORCH_TYPES: Mapping[str, str] = {
    **NUMPY_TYPES,
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
}
"""PyTorch's names of all types."""

OF_NUMPY = {name: dtype for dtype, name in NUMPY_TYPES.items()} | {"bfloat16": "BF16"}
OF_TORCH = {name: dtype for dtype, name in TORCH_TYPES.items()}

_told: set[str] = set()


def package(name: str, needed_for: str) -> Any:
    """A package that this one works with but does not need."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = f"pip install {name}"
        raise MissingPackageError(f"{needed_for} needs the package {name}", hint=hint) from error


def usual_framework() -> str:
    """`torch` in a process that has imported it, or else `numpy`."""
    return "torch" if "torch" in sys.modules else "numpy"


def read(checkpoint: Checkpoint, framework: str = "auto") -> dict[str, Any]:
    """All tensors, as arrays of the framework that share the mapped pages.

    numpy has no bfloat16: such tensors are copied to float32, which is exact.
    """
    framework = usual_framework() if framework == "auto" else framework
    if framework == "torch":
        return {name: _to_torch(checkpoint, name) for name in checkpoint}
    if framework == "numpy":
        return {name: _to_numpy(checkpoint, name) for name in checkpoint}
    raise ValueError(f'tensors come as "numpy", "torch" or "auto", not as {framework!r}')


def _flat(checkpoint: Checkpoint, name: str, numpy_type: str) -> Any:
    """The elements of a tensor in one row."""
    np = package("numpy", "reading tensors")
    content = checkpoint.buffer(name)
    if not len(content):
        return np.empty(0, dtype=numpy_type)
    flat = np.frombuffer(content, dtype=numpy_type)
    # Files of other tools may place a tensor anywhere; both frameworks want it at a multiple of its elements' size.
    return flat if flat.flags.aligned else flat.copy()


def _to_numpy(checkpoint: Checkpoint, name: str) -> Any:
    spec = checkpoint[name]
    if spec.dtype == "BF16":
        np = package("numpy", "reading tensors")
        tell_once("bf16", "numpy has no bfloat16: the base's tensors of that type are read as float32")
        # A bfloat16 is the upper half of a float32.
        wide = _flat(checkpoint, name, "uint16").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(spec.shape)
    if spec.dtype not in NUMPY_TYPES:
        why = f"is of type {spec.dtype}, which numpy does not have"
        raise CheckpointError(f"tensor {name} {why}", tensor=name, hint='read it with task.base("torch")')
    return _flat(checkpoint, name, NUMPY_TYPES[spec.dtype]).reshape(spec.shape)


def _to_torch(checkpoint: Checkpoint, name: str) -> Any:
    torch = package("torch", "reading tensors as PyTorch's")
    spec = checkpoint[name]
    kind = getattr(torch, TORCH_TYPES[spec.dtype], None)
    if kind is None:
        why = f"is of type {spec.dtype}, which this version of PyTorch does not have"
        raise CheckpointError(f"tensor {name} {why}", tensor=name)
    carrier = NUMPY_TYPES.get(spec.dtype) or {1: "int8", 2: "int16"}[kind.itemsize]
    tensor = torch.from_numpy(_flat(checkpoint, name, carrier))
    return tensor.view(kind).reshape(spec.shape)


def is_torch(value: Any) -> bool:
    """Whether a value is a tensor of PyTorch; does not import it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def describe(name: str, value: Any) -> tuple[str, tuple[int, ...]]:
    """The type, by its name in a file, and the shape of an array of any framework."""
    if is_torch(value):
        kind = str(value.dtype).removeprefix("torch.")
        dtype = OF_TORCH.get(kind)
    elif hasattr(value, "__array__") and hasattr(value, "dtype") and hasattr(value, "shape"):
        kind = str(value.dtype).lstrip("<>=|")
        np = package("numpy", "writing tensors")
        kind = kind if kind == "bfloat16" else np.dtype(value.dtype).newbyteorder("=").name
        dtype = OF_NUMPY.get(kind)
    else:
        what = type(value).__name__
        raise CheckpointError(f"tensor {name} is a {what}, not an array of numpy or PyTorch", tensor=name)
    if dtype is None:
        raise CheckpointError(f"tensor {name} is of type {kind}, which a checkpoint cannot hold", tensor=name)
    return dtype, tuple(int(extent) for extent in value.shape)


def to_bytes(name: str, value: Any, dtype: str) -> Buffer:
    """The bytes of an array as a checkpoint has them, in place where its form and type allow that."""
    return _torch_bytes(name, value, dtype) if is_torch(value) else _numpy_bytes(value, dtype)


def _torch_bytes(name: str, value: Any, dtype: str) -> Buffer:
    torch = package("torch", "writing tensors of PyTorch")
    if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
        why = "has no plain values: it is sparse, quantized, or on no device"
        raise CheckpointError(f"tensor {name} {why}", tensor=name)
    if not value.numel():
        return b""
    # A copy only where there must be one: from another device, of another type, or not in one piece.
    plain = value.detach().to("cpu", getattr(torch, TORCH_TYPES[dtype])).contiguous()
    plain = plain.resolve_conj().resolve_neg()
    content: memoryview = plain.reshape(-1).view(torch.uint8).numpy().data
    return content


def _numpy_bytes(value: Any, dtype: str) -> Buffer:
    np = package("numpy", "writing tensors")
    array = np.asarray(value)
    if dtype == "BF16":
        array = array if array.dtype.name == "bfloat16" else _rounded_to_bf16(np, array)
    else:
        array = array.astype(NUMPY_TYPES[dtype], order="C", copy=False)
    content: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return content


def _rounded_to_bf16(np: Any, array: Any) -> Any:
    """Round to nearest, ties to even; NaN stays NaN."""
    wide = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(wide.view(np.float32)), np.uint16(0x7FC0), rounded)


def save(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes arrays as a checkpoint, each in its own type: a base for a new federation, for one."""
    parts = []
    for name, value in state.items():
        dtype, shape = describe(name, value)
        parts.append(Part(name, dtype, shape, partial(to_bytes, name, value, dtype)))
    write(path, parts)


def tell_once(key: str, message: str) -> None:
    """Says something to the log the first time only: what is true of every round is news in one."""
    if key not in _told:
        _told.add(key)
        logger.info(message)
