"""Safetensors files: mapped into memory to be read, written straight from buffers.

Nothing here copies a tensor that needs no other form. A file that is read is mapped privately: what a script writes into an
array of it stays in that script's memory, and the file is what it was. A file that is written appears under its name when it is
complete, or not at all.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CheckpointError

Buffer = bytes | bytearray | memoryview

MAX_HEADER_BYTES = 100_000_000
"""Longest header that is read, as in the safetensors library."""

BYTES_OF: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "C64": 8,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
"""Bytes of one element, by the type's name in a file."""

MERGED = frozenset({"F32", "F16", "BF16"})
"""Types whose tensors the federation merges. It keeps all others as they are in the base."""


@dataclass(frozen=True)
class Spec:
    """One tensor of a file: its type, its shape, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def is_merged(self) -> bool:
        """Whether the federation merges tensors of this type."""
        return self.dtype in MERGED

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class Checkpoint(Mapping[str, Spec]):
    """A safetensors file that is mapped, with its tensors in the order of the file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < 8:
                    raise CheckpointError(f"{self.path} is no safetensors file: it has {size} bytes")
                # Private: an array of it may be written to without changing the file that others read.
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror or error}") from error
        self.metadata, self._specs = _read_header(self.path, self._map)

    def __getitem__(self, name: str) -> Spec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def buffer(self, name: str) -> memoryview:
        """The bytes of a tensor, in place. They live as long as anything that was made of them."""
        spec = self._specs[name]
        return memoryview(self._map)[spec.begin : spec.end]


def _read_header(path: Path, mapped: mmap.mmap) -> tuple[dict[str, str], dict[str, Spec]]:
    length = int.from_bytes(mapped[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(mapped) - 8):
        raise CheckpointError(f"{path} is no safetensors file: its header would have {length} bytes")
    try:
        header = json.loads(mapped[8 : 8 + length])
    except ValueError as error:
        raise CheckpointError(f"{path} is no safetensors file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is no safetensors file: its header is no object")
    metadata = header.pop("__metadata__", None) or {}
    specs = {name: _read_spec(path, name, entry, 8 + length, len(mapped)) for name, entry in header.items()}
    return metadata, dict(sorted(specs.items(), key=lambda item: item[1].begin))


def _read_spec(path: Path, name: str, entry: Any, data: int, size: int) -> Spec:
    def wrong(why: str) -> CheckpointError:
        return CheckpointError(f"{path}: tensor {name} {why}", tensor=name)

    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise wrong("has no type, shape and place") from error
    if dtype not in BYTES_OF:
        raise wrong(f"is of type {dtype}, which is not known here")
    numbers = (*shape, begin, end)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise wrong("has a shape or a place that is no count")
    elements = 1
    for extent in shape:
        elements *= extent
    if end - begin != elements * BYTES_OF[dtype] or data + end > size:
        raise wrong(f"does not fit: {dtype} {list(shape)} at bytes {begin} to {end} of {size - data}")
    return Spec(dtype, shape, data + begin, data + end)


@dataclass(frozen=True)
class Part:
    """One tensor to be written. `bytes_of` makes its bytes when it is its turn, so that only one copy is alive at a time."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes_of: Callable[[], Buffer]

    @property
    def size(self) -> int:
        """Its length, bytes."""
        elements = BYTES_OF[self.dtype]
        for extent in self.shape:
            elements *= extent
        return elements


def write(path: str | os.PathLike[str], parts: Sequence[Part], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a file of these tensors, which appears under its name when it is complete."""
    target = Path(path)
    # As the safetensors library has them: wide types first, so that every tensor is aligned.
    ordered = sorted(parts, key=lambda part: (-BYTES_OF[part.dtype], part.name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for part in ordered:
        header[part.name] = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [place, place + part.size]}
        place += part.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # Of this process alone: two that write the same file by mistake do not mix their bytes.
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(draft, "wb", buffering=0) as file:
            _write_all(file.fileno(), len(text).to_bytes(8, "little") + text)
            for part in ordered:
                content = memoryview(part.bytes_of())
                if content.nbytes != part.size:
                    why = f"has {content.nbytes} bytes instead of {part.size}"
                    raise CheckpointError(f"tensor {part.name} {why}", tensor=part.name)
                _write_all(file.fileno(), content)
        os.replace(draft, target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _write_all(file: int, content: Buffer) -> None:
    """Linux writes at most 2 GiB at a time."""
    rest = memoryview(content).cast("B") if len(content) else memoryview(b"")
    while len(rest):
        rest = rest[os.write(file, rest) :]
