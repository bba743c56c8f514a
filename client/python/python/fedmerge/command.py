"""The way in for a command that `fedmerge client run` has started: one task, in the environment, answered on stdout.

Nothing here speaks with the network. A command that ends with another exit code than 0 declines, so everything that goes wrong
ends in an exception, and its words on stderr are the reason that the federation's operator reads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .connection import Assignment
from .errors import BadConfigurationError, ClosedError, ForkedProcessError

BASE, OUT, ROUND, CONFIG = "FEDMERGE_BASE", "FEDMERGE_OUT", "FEDMERGE_ROUND", "FEDMERGE_CONFIG"


def is_command() -> bool:
    """Whether this process is a command of a client's, or is tried as one by hand."""
    return BASE in os.environ


class Connection:
    """The task of the environment."""

    def __init__(self) -> None:
        self._task: Assignment | None = _task()
        self._process = os.getpid()
        self._declined = False
        # Of a job of several processes, as torchrun starts them, the first one speaks for all.
        self.speaks = os.environ.get("RANK", "0") == "0"

    def receive(self) -> Assignment | None:
        self._end_if_declined()
        task, self._task = self._task, None
        return task

    def interrupt(self) -> None:
        """Nothing waits here."""

    def progress(self, task: Assignment, done: float, loss: float | None) -> bool:
        self._say({"progress": done} if loss is None else {"progress": done, "loss": loss})
        return True

    def wants(self, task: Assignment) -> bool:
        # A client that wants no more ends its command.
        self._check_process()
        return True

    def submit(self, task: Assignment, num_examples: int, metrics: Mapping[str, float]) -> bool:
        self._say({"num_examples": num_examples, "metrics": dict(metrics)})
        return True

    def measured(self, task: Assignment, num_examples: int | None, metrics: Mapping[str, float]) -> bool:
        count = {} if num_examples is None else {"num_examples": num_examples}
        self._say({**count, "metrics": dict(metrics)})
        return True

    def decline(self, task: Assignment, words: str, reason: str) -> None:
        self._check_process()
        self._declined = True
        print(words, file=sys.stderr, flush=True)

    def outcome(self, task: Assignment, limit_seconds: float | None) -> None:
        hint = "look at the client's own output, or connect with dir=…"
        raise ClosedError("the client takes the update when this command has ended: its outcome is not known here", hint=hint)

    def close(self, orderly: bool) -> None:
        if orderly:
            self._end_if_declined()

    def _end_if_declined(self) -> None:
        """The exit code is how a command declines."""
        if self._declined:
            raise SystemExit(1)

    def _check_process(self) -> None:
        if self._process != os.getpid():
            hint = "submit from the process that connected; workers of a data loader need not know of the federation"
            raise ForkedProcessError("this process was forked from the one that connected to the federation", hint=hint)

    def _say(self, what: Mapping[str, Any]) -> None:
        self._check_process()
        if not self.speaks:
            return
        # The client reads lines, and a progress bar may have left one unfinished: then ours would be a part of it.
        sys.stdout.write("\n" + json.dumps(what, allow_nan=False) + "\n")
        sys.stdout.flush()


def _task() -> Assignment:
    base = Path(os.environ[BASE])
    out = os.environ.get(OUT)
    number = os.environ.get(ROUND, "1")
    if not number.isdecimal():
        raise BadConfigurationError(f"{ROUND} is {number!r}, which is no round")
    return Assignment(
        kind="evaluate" if out is None else "train",
        round=int(number),
        base=base,
        out=None if out is None else Path(out),
        config=_config(),
    )


def _config() -> dict[str, Any]:
    """What the client says beside; nothing, where a person tries the command by hand."""
    path = os.environ.get(CONFIG)
    if path is None:
        return {}
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadConfigurationError(f"{CONFIG} names {path}, which cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise BadConfigurationError(f"{CONFIG} names {path}, which is no JSON object")
    return config
