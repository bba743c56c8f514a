"""One task of a client: a base to train from, or a model to measure."""

from __future__ import annotations

import datetime
import math
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import claims, state, tensors
from .checkpoint import Checkpoint, Part, write
from .claims import Measurement
from .connection import Assignment, Connection
from .errors import AlreadySubmittedError, CheckpointError, FedmergeError, InvalidClaimError, WrongTaskError
from .tensors import logger

MEASURED_PREFIX = "base_"
"""What stands before a metric that was measured on the base, among the metrics of an update."""

_MAX_WORDS = 1_800
"""Room for the words of a failure, characters, as for those of a command."""

Evaluator = Callable[[Any], Any]
"""Measures tensors: answers metrics, with `num_examples` among them or beside them."""


class Task:
    """What the federation asks of this client now.

    Read the base, train, and answer with `submit`; or give the task back with `decline`.
    """

    def __init__(self, connection: Connection, assignment: Assignment, framework: str = "auto") -> None:
        self._connection = connection
        self._assignment = assignment
        self._framework = framework
        self._mapped: Checkpoint | None = None
        self._is_done = False
        self._measured: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<fedmerge.Task {self._assignment.kind} round={self.round} version={self.version}>"

    @property
    def round(self) -> int:
        """The round, counted from 1."""
        return self._assignment.round

    @property
    def is_evaluation(self) -> bool:
        """Whether a model is to be measured (`evaluate`) rather than trained (`submit`)."""
        return self._assignment.kind == "evaluate"

    @property
    def is_done(self) -> bool:
        """Whether it was answered or given back."""
        return self._is_done

    @property
    def config(self) -> Mapping[str, Any]:
        """All that the client says of the task: federation, client, base, deadline, encodings."""
        return self._assignment.config

    @property
    def version(self) -> int | None:
        """The base's version, counted from 0; none where a command is tried by hand."""
        version: int | None = self.config.get("base", {}).get("version")
        return version

    @property
    def deadline(self) -> datetime.datetime | None:
        """When the round closes, on the server's clock; none where nobody says."""
        ms = self.config.get("deadline_ms")
        return None if ms is None else datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)

    @property
    def base_path(self) -> Path:
        """The base's file. It is shared: read it, never write it."""
        return self._assignment.base

    def checkpoint(self) -> Checkpoint:
        """The base's tensors by name, with types and shapes, without their values."""
        if self._mapped is None:
            self._mapped = Checkpoint(self.base_path)
        return self._mapped

    def base(self, framework: str | None = None) -> dict[str, Any]:
        """The base's tensors by name, for `load_state_dict` and its like.

        They are mapped from the file, not copied. They may be written to: the file stays what it is. `framework` is `"numpy"`,
        `"torch"`, or `"auto"`: torch in a process that has imported it, or else numpy.
        """
        # Mapped anew each time: what was written into the arrays of before is not in these.
        return tensors.read(Checkpoint(self.base_path), framework or self._framework)

    def progress(self, done: float, loss: Any = None) -> bool:
        """Says how far the training is, 0 to 1, and its loss. Answers whether the round still waits for it."""
        share = min(max(claims.as_number(done), 0.0), 1.0)
        last = None if loss is None else claims.as_number(loss)
        # A loss that has become no number is the trainer's business; as a sign of life it says nothing.
        if last is not None and not math.isfinite(last):
            last = None
        return self._connection.progress(self._assignment, share, last)

    def submit(self, trained: Any, *, num_examples: int, metrics: Mapping[str, Any] | None = None) -> bool:
        """Submits what was learnt: the whole state after training, by the base's names, or a PyTorch module.

        `num_examples` is what the update weighs. Answers whether the round still waited for it: where not, nothing is sent and
        nothing is lost but the work. What does not fit the base is a `SchemaError` that names the tensor; the task stays open.
        """
        if self.is_evaluation:
            raise WrongTaskError("this task measures a model: answer it with task.evaluate(fn)")
        self._check_open()
        count = claims.examples(num_examples)
        told = {**self._measured, **claims.metrics(metrics)}
        parts = state.parts(self.checkpoint(), state.plain(trained))
        is_wanted = self._connection.wants(self._assignment) and self._write(parts)
        self._is_done = True
        if is_wanted and self._connection.submit(self._assignment, count, told):
            return True
        logger.warning("round %s: over before this update was submitted; nothing is sent", self.round)
        return False

    def _write(self, parts: list[Part]) -> bool:
        """Writes the checkpoint; answers whether it is still wanted: a client that wants it no more takes its place away."""
        if not self._connection.speaks or self._assignment.out is None:
            return True
        try:
            write(self._assignment.out, parts, self.checkpoint().metadata)
        except CheckpointError:
            if self._connection.wants(self._assignment):
                raise
            return False
        return True

    def decline(self, reason: str) -> None:
        """Gives the task back. The reason is read by the federation's operator: it leaves the site."""
        self._check_open()
        self._is_done = True
        self._connection.decline(self._assignment, reason, "")

    def fail(self, error: BaseException) -> None:
        """Gives the task back because of an exception. Its own words leave the site; where it was raised does not."""
        self._check_open()
        self._is_done = True
        reason = error.reason if isinstance(error, FedmergeError) and not self.is_evaluation else ""
        words = "".join(traceback.format_exception_only(error)).strip()
        self._connection.decline(self._assignment, words[:_MAX_WORDS], reason)

    @property
    def is_wanted(self) -> bool:
        """Whether the round still waits for an answer."""
        return not self._is_done and self._connection.wants(self._assignment)

    def evaluate(self, fn: Evaluator, model: Any = None) -> Measurement:
        """Measures the task's model on data of this site: `fn(tensors)` answers metrics and the number of examples.

        Where the task is an evaluation, that is its answer. Where it is a training, the base is measured: its metrics go with
        the update, with `base_` before their names.
        """
        self._check_open()
        found = claims.measurement(fn(self.base() if model is None else model))
        if self.is_evaluation:
            self._is_done = True
            self._connection.measured(self._assignment, found.num_examples, found.metrics)
        else:
            told = {f"{MEASURED_PREFIX}{name}": value for name, value in found.metrics.items()}
            self._measured = claims.metrics(told)
        return found

    def outcome(self, timeout: float | None = None) -> None:
        """Waits until the update counts. Where it does not, that is a `RejectedError`, `DeclinedError` or `WithdrawnError`."""
        if not self._is_done or self.is_evaluation:
            raise InvalidClaimError("an outcome is that of an update: submit one first", reason="trainer-failed")
        self._connection.outcome(self._assignment, timeout)

    def _check_open(self) -> None:
        if self._is_done:
            raise AlreadySubmittedError(f"the task of round {self.round} was answered before; each is answered once")
