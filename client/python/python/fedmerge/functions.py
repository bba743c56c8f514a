"""Taking part with functions instead of a loop: `@fedmerge.train`, `@fedmerge.evaluate`, and `fedmerge.run`."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import command
from .errors import NotSubmittedError, TaskError, WrongTaskError
from .federation import Federation, connect
from .task import Evaluator, Task
from .tensors import logger

if TYPE_CHECKING:
    from .process import Stay

Trainer = Callable[[Task], Any]
"""Trains: submits by itself, or answers `(state, num_examples)` or `(state, num_examples, metrics)`."""

F = TypeVar("F", bound=Callable[..., Any])

_trainer: Trainer | None = None
_evaluator: Evaluator | None = None


def train(function: F) -> F:
    """Makes a function the trainer of `fedmerge.run`. It gets a `Task`; it may be `async`.

    It submits by `task.submit`, or returns `(state, num_examples)` or `(state, num_examples, metrics)`.
    """
    global _trainer
    _trainer = function
    return function


def evaluate(function: F) -> F:
    """Makes a function the evaluator of `fedmerge.run`: it gets tensors, and answers metrics with `num_examples` among them."""
    global _evaluator
    _evaluator = function
    return function


def run(
    dir: str | os.PathLike[str] | None = None,
    *,
    train: Trainer | None = None,
    evaluate: Evaluator | None = None,
    tensors: str = "auto",
    stay: Stay = "while-it-lasts",
) -> None:
    """Takes part with functions until the federation ends: those given, or those with the decorators.

    The same script serves as `--train` and as `--evaluate` of `fedmerge client run`. With `dir`, a trainer that raises costs its
    round, and the client goes on with the next one; in a command, it ends the command, which declines as well.
    """
    trainer, evaluator = train or _trainer, evaluate or _evaluator
    if trainer is None:
        raise TaskError("there is no trainer", hint="put @fedmerge.train before a function, or pass train=…")
    with connect(dir, evaluate=evaluator, tensors=tensors, stay=stay) as federation:
        for task in federation:
            _do(federation, task, trainer)


def _do(federation: Federation, task: Task, trainer: Trainer) -> None:
    if task.is_evaluation:
        raise WrongTaskError("a model is to be measured, and there is no evaluator", hint="put @fedmerge.evaluate before one")
    try:
        _answer(task, _result(trainer, task))
    except Exception as error:
        # A command says it by its end.
        if command.is_command():
            raise
        logger.error("round %s: the trainer failed", task.round, exc_info=error)
        if not task.is_done:
            task.fail(error)


def _result(trainer: Trainer, task: Task) -> Any:
    found = trainer(task)
    if inspect.iscoroutine(found):
        return asyncio.run(found)
    return found


def _answer(task: Task, found: Any) -> None:
    if not task.is_wanted:
        return
    if not isinstance(found, tuple) or len(found) not in (2, 3):
        hint = "return (state, num_examples), or call task.submit(state, num_examples=…)"
        raise NotSubmittedError(f"the trainer neither submitted nor returned an update in round {task.round}", hint=hint)
    state, count, *metrics = found
    task.submit(state, num_examples=count, metrics=metrics[0] if metrics else None)
