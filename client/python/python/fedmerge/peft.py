"""PEFT: adapters in and out. The federation's base is the adapter; the model below it stays where it is, frozen.

That needs a federation whose base is an adapter checkpoint, as `save` writes one. How adapters are merged is the plan's business:
an average of LoRA's two factors apart is not the average of what they do.

    with fedmerge.connect() as federation:
        for task in federation:
            fedmerge.peft.load(task, model)
            train(model)
            fedmerge.peft.submit(task, model, num_examples=len(data))
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from . import tensors
from .errors import CheckpointError, SchemaError
from .task import Task


def load(task: Task, model: PeftModel, adapter: str = "default") -> None:
    """Copies the base, an adapter, into a model that has such an adapter."""
    state = task.base("torch")
    own = _own(model, adapter)
    _check(state, own)
    set_peft_model_state_dict(model, state, adapter_name=adapter)


def submit(
    task: Task, model: PeftModel, *, num_examples: int, metrics: Mapping[str, Any] | None = None, adapter: str = "default"
) -> bool:
    """Submits the adapter of a model after training, and nothing of the model below it. See `Task.submit`."""
    own = _own(model, adapter)
    _check(task.checkpoint(), own)
    return task.submit(own, num_examples=num_examples, metrics=metrics)


def save(model: PeftModel, path: str | os.PathLike[str], adapter: str = "default") -> None:
    """Writes the adapter of a model as a checkpoint: the base of a new federation."""
    tensors.save(_own(model, adapter), path)


def _own(model: PeftModel, adapter: str) -> dict[str, Any]:
    # Embeddings that were resized belong to the model below, which does not travel.
    return dict(get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False))


def _check(base: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    if not set(base) & set(own):
        some = next(iter(base), "nothing")
        hint = "start the federation from an adapter: fedmerge.peft.save(model, 'base.safetensors')"
        raise CheckpointError(f"the base is no checkpoint of this model's adapter; it holds {some}", hint=hint)
    for name in own:
        if name not in base:
            raise SchemaError(f"the adapter has a tensor {name}, which is not in the base", tensor=name)
    for name, found in base.items():
        if name not in own:
            raise SchemaError(f"the base has a tensor {name}, which is not in the adapter", tensor=name)
        if tuple(found.shape) != tuple(own[name].shape):
            what = f"{list(own[name].shape)} here and {list(found.shape)} in the base"
            raise SchemaError(f"tensor {name} has shape {what}: the adapters' ranks differ", tensor=name)
