"""The way in by itself: this process is a client, with the directory that `fedmerge client enrol` made.

The client proper is the same as that of `fedmerge client run`, compiled into `_native`. It works on threads of its own, which
need no interpreter: connections, downloads and uploads go on while Python trains.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from . import _native, logs
from .connection import Assignment
from .errors import ClosedError, DeclinedError, ForkedProcessError, RejectedError, WithdrawnError, client_error

_PAUSE_MS = 100
"""So long the client is waited for without looking whether somebody pressed Ctrl-C."""
_FAREWELL_SECONDS = 3.0
"""So long a decline may take to be heard before the client leaves."""

Stay = Literal["while-it-lasts", "always", "one-round"]


class Connection:
    """A client in this process."""

    speaks = True

    def __init__(self, directory: Path, *, evaluates: bool, stay: Stay, identity_wait_seconds: float) -> None:
        logs.start()
        self._process = os.getpid()
        self._interrupted = threading.Event()
        self._declined: Assignment | None = None
        self._submitted: Assignment | None = None
        wait_ms = round(identity_wait_seconds * 1000)
        try:
            self._client = _native.Client(str(directory), evaluates, stay, wait_ms)
        except _native.Failure as failure:
            raise _translated(failure) from None

    def receive(self) -> Assignment | None:
        self._check_process()
        self._interrupted.clear()
        while not self._interrupted.is_set():
            try:
                found = self._client.receive(_PAUSE_MS)
            except _native.Failure as failure:
                raise _translated(failure) from None
            if found is not None:
                return _assignment(found)
            if self._client.has_ended():
                break
        return None

    def interrupt(self) -> None:
        self._interrupted.set()

    def progress(self, task: Assignment, done: float, loss: float | None) -> bool:
        self._check_process()
        return self._client.progress(task.ticket, done, loss)

    def wants(self, task: Assignment) -> bool:
        self._check_process()
        return self._client.is_open(task.ticket)

    def submit(self, task: Assignment, num_examples: int, metrics: Mapping[str, float]) -> bool:
        self._check_process()
        self._submitted = task
        return self._client.finish(task.ticket, num_examples, dict(metrics))

    def measured(self, task: Assignment, num_examples: int | None, metrics: Mapping[str, float]) -> bool:
        self._check_process()
        return self._client.finish(task.ticket, num_examples, dict(metrics))

    def decline(self, task: Assignment, words: str, reason: str) -> None:
        self._check_process()
        if self._client.decline(task.ticket, reason, words) and task.kind == "train":
            self._declined = task

    def outcome(self, task: Assignment, limit_seconds: float | None) -> None:
        self._check_process()
        end = math.inf if limit_seconds is None else time.monotonic() + limit_seconds
        while True:
            found = self._client.outcome(task.round, _PAUSE_MS)
            if found is not None:
                return _judge(task.round, *found)
            if self._client.has_ended():
                raise ClosedError(f"the client left before the outcome of round {task.round} was known")
            if time.monotonic() >= end:
                raise TimeoutError(f"the outcome of round {task.round} is not known yet")

    def close(self, orderly: bool) -> None:
        # A fork has none of the threads that the client consists of: there is nothing to stop, and waiting would be for ever.
        if self._process != os.getpid():
            return
        try:
            if orderly and self._submitted is not None:
                self._await(self._submitted, None)
            if self._declined is not None:
                # Said before the client leaves, or the reason that is heard is that somebody stopped it.
                self._await(self._declined, _FAREWELL_SECONDS)
        finally:
            self._client.stop()
            while not self._client.join(_PAUSE_MS):
                pass
            logs.flush()

    def _await(self, task: Assignment, limit_seconds: float | None) -> None:
        try:
            self.outcome(task, limit_seconds)
        except (RejectedError, DeclinedError, WithdrawnError, ClosedError, TimeoutError):
            # Whatever it is, it is in the log, and nothing is left to be done about it.
            return

    def _check_process(self) -> None:
        if self._process != os.getpid():
            hint = "submit from the process that connected; workers of a data loader need not know of the federation"
            raise ForkedProcessError("this process was forked from the one that connected to the federation", hint=hint)


def _assignment(found: _native.Assignment) -> Assignment:
    return Assignment(
        kind="train" if found.out is not None else "evaluate",
        round=found.round,
        base=Path(found.base),
        out=None if found.out is None else Path(found.out),
        config=json.loads(found.config),
        ticket=found.ticket,
    )


def _judge(number: int, outcome: str, reason: str, detail: str) -> None:
    if outcome == "accepted":
        return
    kind = {"rejected": RejectedError, "declined": DeclinedError}.get(outcome, WithdrawnError)
    raise kind(f"round {number}: {outcome} ({reason}): {detail}", round_number=number, reason=reason)


def _translated(failure: _native.Failure) -> Exception:
    exit_code, message, hint = failure.args
    return client_error(exit_code, message, hint)
