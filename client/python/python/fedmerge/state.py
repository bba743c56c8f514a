"""A script's tensors against the base's: what fits, what is kept, and the parts of the checkpoint that goes back.

The federation merges floats (F32, F16, BF16). Every other tensor, such as a counter of batches, goes back as it is in the base, and
the log says so once. Whatever does not fit is refused here, by the tensor's name, before a byte is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .checkpoint import MERGED, Buffer, Checkpoint, Part
from .errors import SchemaError
from .tensors import describe, tell_once, to_bytes

_NAMES_SHOWN = 3


def plain(state: Any) -> Mapping[str, Any]:
    """The tensors by name; of a PyTorch module, those of its state dict."""
    if not isinstance(state, Mapping) and callable(getattr(state, "state_dict", None)):
        state = state.state_dict()
    if not isinstance(state, Mapping):
        what = type(state).__name__
        raise SchemaError(f"a state is a mapping of names to tensors, or a PyTorch module; this is a {what}")
    return state


def parts(base: Checkpoint, state: Mapping[str, Any]) -> list[Part]:
    """What is to be written of a state that was trained from this base.

    Raises `SchemaError`, with the tensor's name, for one that is missing, extra, or of another shape or type.
    """
    _check_names(base, state)
    kept = [name for name in base if not base[name].is_merged]
    if kept:
        merged = len(base) - len(kept)
        tell_once(
            f"kept {kept}",
            f"{merged} tensors of floats are merged; kept as they are in the base, because only F32, F16 and BF16 are merged: "
            + _some([f"{name} ({base[name].dtype})" for name in kept]),
        )
    return [_part(base, name, state[name]) for name in base]


def _check_names(base: Checkpoint, state: Mapping[str, Any]) -> None:
    missing = [name for name in base if name not in state]
    extra = [name for name in state if name not in base]
    if missing:
        near = difflib.get_close_matches(missing[0], [str(name) for name in extra], n=1)
        hint = f"is {near[0]} meant?" if near else "submit every tensor of the base, changed or not"
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SchemaError(f"tensor {missing[0]} of the base is missing{more}", tensor=missing[0], hint=hint)
    if extra:
        more = f", and {len(extra) - 1} more" if len(extra) > 1 else ""
        hint = "submit the tensors of the base and no others; optimizer states stay here"
        raise SchemaError(f"tensor {extra[0]} is not in the base{more}", tensor=str(extra[0]), hint=hint)


def _part(base: Checkpoint, name: str, value: Any) -> Part:
    spec = base[name]
    dtype, shape = describe(name, value)
    if shape != spec.shape:
        raise SchemaError(f"tensor {name} has shape {list(shape)}; in the base it has {list(spec.shape)}", tensor=name)
    if not spec.is_merged:

        def kept() -> Buffer:
            return base.buffer(name)

        return Part(name, spec.dtype, shape, kept)
    if dtype not in MERGED and dtype != "F64":
        raise SchemaError(f"tensor {name} is of type {dtype}; in the base it is a float, {spec.dtype}", tensor=name)
    # Floats go as they are, which loses nothing; of F64, which is not merged, the nearest F32.
    written = dtype if dtype in MERGED else "F32"

    def changed() -> Buffer:
        return to_bytes(name, value, written)

    return Part(name, written, shape, changed)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
