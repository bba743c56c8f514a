"""Hugging Face's `Trainer`: a callback that loads the base, tells the progress, and submits at the end.

    with fedmerge.connect() as federation:
        for task in federation:
            trainer = Trainer(model=model, args=args, train_dataset=data, callbacks=[FederationCallback(task)])
            trainer.train()

A model that `peft` has wrapped is read and written as an adapter (`fedmerge.peft`).
"""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import torch as plain
from .task import Task

_PACE_SECONDS = 1.0
"""The shortest time between two signs of life."""


class FederationCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """One task's part in a training. Make one for each task."""

    def __init__(self, task: Task, *, num_examples: int | None = None, load: bool = True) -> None:
        """`num_examples` is the length of the training set unless given; `load` copies the base into the model at the start."""
        self._task = task
        self._num_examples = num_examples
        self._load = load
        self._metrics: dict[str, float] = {}
        self._loss: float | None = None
        self._told_at = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Loads the base."""
        if self._load:
            _adapter_of(kwargs["model"]).load(self._task, kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tells the progress, and ends a training that nobody waits for any more."""
        now = time.monotonic()
        if not state.is_world_process_zero or now - self._told_at < _PACE_SECONDS:
            return
        self._told_at = now
        if not self._task.progress(state.global_step / max(state.max_steps, 1), self._loss):
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remembers the loss and what was measured."""
        for name, value in (logs or {}).items():
            told = name == "loss" or name.startswith("eval_")
            if told and isinstance(value, int | float) and math.isfinite(value):
                self._metrics[name] = float(value)
        # The mean over the training is told at its end: all there is to tell of one that was too short for more.
        mean = (logs or {}).get("train_loss")
        if isinstance(mean, int | float) and math.isfinite(mean):
            self._metrics.setdefault("loss", float(mean))
        self._loss = self._metrics.get("loss")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Submits."""
        if not state.is_world_process_zero:
            return
        count = self._num_examples
        if count is None:
            count = len(kwargs["train_dataloader"].dataset)
        model = kwargs["model"]
        _adapter_of(model).submit(self._task, model, num_examples=count, metrics=self._metrics)


def _adapter_of(model: Any) -> Any:
    if not hasattr(model, "peft_config"):
        return plain
    from . import peft

    return peft
