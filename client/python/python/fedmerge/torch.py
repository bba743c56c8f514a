"""PyTorch: a task's base into a module, and a module's state back.

What is averaged: every parameter and every buffer of floats, such as the running means of a batch normalisation. What is kept
as it is in the base: every other tensor, such as `num_batches_tracked`; the log says so once. Modules may be on any device,
wrapped for parallel training or compiled, and may tie weights.

    with fedmerge.connect() as federation:
        for task in federation:
            fedmerge.torch.load(task, model)
            loss = train(model)
            fedmerge.torch.submit(task, model, num_examples=len(data), metrics={"loss": loss})
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from . import tensors
from .errors import SchemaError
from .task import Task

_COMPILED = "_orig_mod"
"""Where a module that is compiled keeps the plain one."""
_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
"""Modules around another one, which they call `module`."""


def load(task: Task, model: torch.nn.Module) -> None:
    """Copies the base's tensors into a module, in place, on whatever device it is."""
    state = task.base("torch")
    own = dict(_unwrapped(model))
    missing = [name for name in own if name not in state]
    aliases = _aliases(own, state)
    strange = [name for name in missing if name not in aliases]
    if strange:
        raise SchemaError(f"the module has a tensor {strange[0]}, which is not in the base", tensor=strange[0])
    for name, value in state.items():
        if name not in own:
            raise SchemaError(f"the base has a tensor {name}, which is not in the module", tensor=name)
        if own[name].shape != value.shape:
            what = f"{list(own[name].shape)} in the module and {list(value.shape)} in the base"
            raise SchemaError(f"tensor {name} has shape {what}", tensor=name)
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def state(task: Task, model: torch.nn.Module | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A module's state under the names of the base, for `task.submit`: without what is only another name of a tied weight."""
    own = dict(_unwrapped(model))
    base = task.checkpoint()
    aliases = _aliases(own, base)
    _tell_buffers(model, base)
    return {name: value for name, value in own.items() if name not in aliases}


def submit(
    task: Task,
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    *,
    num_examples: int,
    metrics: Mapping[str, Any] | None = None,
) -> bool:
    """Submits a module, or a state dict, after training. See `Task.submit`."""
    return task.submit(state(task, model), num_examples=num_examples, metrics=metrics)


def save(model: torch.nn.Module | Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> None:
    """Writes a module's state as a checkpoint: the base of a new federation."""
    tensors.save(dict(_unwrapped(model)), path)


def _unwrapped(model: torch.nn.Module | Mapping[str, torch.Tensor]) -> Iterable[tuple[str, torch.Tensor]]:
    """The tensors by the names that they have without what a parallel training or a compiler puts around a module."""
    if isinstance(model, torch.nn.Module):
        while isinstance(inner := getattr(model, _COMPILED, getattr(model, "module", None)), torch.nn.Module) and (
            hasattr(model, _COMPILED) or isinstance(model, _PARALLEL)
        ):
            model = inner
        model = model.state_dict()
    for name, value in model.items():
        if not isinstance(value, torch.Tensor):
            raise SchemaError(f"{name} is a {type(value).__name__}, not a tensor", tensor=name)
        yield name, value


def _aliases(own: Mapping[str, torch.Tensor], base: Iterable[str]) -> set[str]:
    """Names of the module that the base does not have, for memory that it has under another name: tied weights."""
    in_base = set(base)
    known = {_place(value) for name, value in own.items() if name in in_base}
    return {name for name, value in own.items() if name not in in_base and value.numel() and _place(value) in known}


def _place(value: torch.Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return value.data_ptr(), tuple(value.shape), value.stride()


def _tell_buffers(model: object, base: Iterable[str]) -> None:
    if not isinstance(model, torch.nn.Module):
        return
    names = set(base)
    buffers = [name for name, value in model.named_buffers() if value.is_floating_point() and name in names]
    if buffers:
        more = f" and {len(buffers) - 1} more" if len(buffers) > 1 else ""
        tensors.tell_once(f"buffers {buffers}", f"buffers of floats are averaged as parameters are: {buffers[0]}{more}")
