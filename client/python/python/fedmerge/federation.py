"""Taking part: `connect`, and the loop over the tasks that come."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from . import command
from .connection import Assignment, Connection
from .errors import ClosedError, NotConnectedError, NotSubmittedError
from .task import Evaluator, Task
from .tensors import logger

if TYPE_CHECKING:
    from .process import Stay


class Federation:
    """A client that takes part: iterate over it, with `for` or `async for`, and answer each task that comes.

    The loop ends when the federation does, or, in a command that `fedmerge client run` started, after its one task.
    """

    def __init__(self, connection: Connection, *, evaluate: Evaluator | None, framework: str) -> None:
        self._connection = connection
        self._evaluator = evaluate
        self._framework = framework
        self._task: Task | None = None
        self._closed = False
        self._process = os.getpid()
        self._coming: asyncio.Future[Assignment | None] | None = None
        # A script that ends without leaving gives its task back.
        _leave_at_exit(self)

    # --- the loop

    def __iter__(self) -> Federation:
        return self

    def __next__(self) -> Task:
        self._settle()
        while (assignment := self._receive()) is not None:
            task = self._take(assignment)
            if task.is_evaluation and self._evaluator is not None:
                self._measure(task, self._evaluator)
            else:
                return task
        raise StopIteration

    def __aiter__(self) -> Federation:
        return self

    async def __anext__(self) -> Task:
        self._settle()
        while (assignment := await self._receive_aside()) is not None:
            task = self._take(assignment)
            if task.is_evaluation and self._evaluator is not None:
                await self._measure_aside(task, self._evaluator)
            else:
                return task
        raise StopAsyncIteration

    def _receive(self) -> Assignment | None:
        if self._closed:
            raise ClosedError("this federation was left; connect again")
        return self._connection.receive()

    async def _receive_aside(self) -> Assignment | None:
        """Waits in another thread. A wait that is cancelled goes on, and the next one takes what it found."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(asyncio.to_thread(self._receive))
        found = await asyncio.shield(self._coming)
        self._coming = None
        return found

    def _take(self, assignment: Assignment) -> Task:
        self._task = Task(self._connection, assignment, self._framework)
        return self._task

    def _settle(self) -> None:
        """A script that forgot its task has a bug that would cost every round: it is told at once."""
        task = self._task
        self._task = None
        # A script may pass over a task that nobody waits for any more.
        if task is None or not task.is_wanted:
            return
        if task.is_evaluation:
            what, hint = "task.evaluate(fn)", "or connect with evaluate=fn"
        else:
            what, hint = "task.submit(…)", "or give the task back: task.decline(reason)"
        words = f"the script did not call {what} in round {task.round}"
        if not command.is_command():
            task.decline(words)
        raise NotSubmittedError(words, hint=hint)

    # --- measuring

    def _measure(self, task: Task, evaluator: Evaluator) -> None:
        try:
            task.evaluate(evaluator)
        except Exception as error:
            self._not_measured(task, error)

    async def _measure_aside(self, task: Task, evaluator: Evaluator) -> None:
        try:
            if inspect.iscoroutinefunction(evaluator):
                found = await evaluator(task.base())
                task.evaluate(lambda _: found, model=())
            else:
                await asyncio.to_thread(task.evaluate, evaluator)
        except Exception as error:
            self._not_measured(task, error)

    def _not_measured(self, task: Task, error: Exception) -> None:
        # A command says it by its end; a client goes on, as with a command that fails.
        if command.is_command():
            raise error
        logger.warning("round %s: the evaluator failed", task.round, exc_info=error)
        if not task.is_done:
            task.fail(error)

    # --- leaving

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave(error)

    async def __aenter__(self) -> Federation:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.interrupt()
        await asyncio.to_thread(self._leave, error)

    def close(self) -> None:
        """Leaves. A task in hand is given back; what was submitted is not waited for."""
        if not self._closed and self._process == os.getpid():
            self._closed = True
            self._connection.interrupt()
            self._connection.close(orderly=False)

    def _leave(self, error: BaseException | None) -> None:
        # A fork that ends says nothing for the process that it was forked from.
        if self._closed or self._process != os.getpid():
            return
        orderly = False
        try:
            if error is None:
                self._settle()
                orderly = True
            elif isinstance(error, Exception) and self._task is not None and not self._task.is_done:
                # Anything else, such as Ctrl-C, is no failure of the script's: the client says that it was stopped.
                self._task.fail(error)
        finally:
            self._closed = True
            self._connection.close(orderly)


def _leave_at_exit(federation: Federation) -> None:
    kept = weakref.ref(federation)
    process = os.getpid()

    def leave() -> None:
        found = kept()
        if found is not None and process == os.getpid() and not command.is_command():
            found.close()

    atexit.register(leave)


def connect(
    dir: str | os.PathLike[str] | None = None,
    *,
    evaluate: Evaluator | None = None,
    tensors: str = "auto",
    stay: Stay = "while-it-lasts",
    identity_wait: float = 30.0,
) -> Federation:
    """Takes part in a federation.

    In a command that `fedmerge client run` started, that is its one task, and nothing else is needed. Elsewhere, `dir` is the
    directory of an enrolled client, and this process is the client.

    `evaluate` measures models for the federation's gate: `fn(tensors)` answers `{"accuracy": 0.9, "num_examples": 100}`. It is
    called between tasks, where the loop waits. `tensors` is how they are given: `"numpy"`, `"torch"` or `"auto"`. `stay` is when
    to leave: `"while-it-lasts"`, `"always"`, or `"one-round"`. `identity_wait` is how long to wait for another process with the
    same certificate to leave, in seconds.
    """
    if command.is_command():
        return Federation(command.Connection(), evaluate=evaluate, framework=tensors)
    if dir is None:
        hint = "start this script by `fedmerge client run --train`, or name a client's directory: fedmerge.connect(dir=…)"
        raise NotConnectedError("nobody says which federation this is", hint=hint)
    # Not needed by a command, which so works where the native part is not built.
    from . import process

    connection = process.Connection(Path(dir), evaluates=evaluate is not None, stay=stay, identity_wait_seconds=identity_wait)
    return Federation(connection, evaluate=evaluate, framework=tensors)
