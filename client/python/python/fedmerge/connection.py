"""The two ways to a client, behind one door: what a federation asks of either.

`command.Connection` speaks with the client that started this process; `process.Connection` is a client itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Assignment:
    """What a client is asked to do, as the connection tells it."""

    kind: Literal["train", "evaluate"]
    """A training from a base, or a measurement of a model."""
    round: int
    """The round, counted from 1."""
    base: Path
    """The model."""
    out: Path | None
    """Where the fine-tuned checkpoint goes; none for a measurement."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What `FEDMERGE_CONFIG` holds."""
    ticket: int = 0
    """The connection's number for it."""


class Connection(Protocol):
    """A way to a client. `receive` alone waits; it lets other threads of Python run meanwhile."""

    @property
    def speaks(self) -> bool:
        """Whether this process answers: of a job of several, one does."""

    def receive(self) -> Assignment | None:
        """The next thing to do; none when the federation is over, or this process's one task is done."""

    def interrupt(self) -> None:
        """Ends a `receive` that another thread waits in; it answers none."""

    def progress(self, task: Assignment, done: float, loss: float | None) -> bool:
        """Tells a sign of life; answers whether the task is still wanted."""

    def wants(self, task: Assignment) -> bool:
        """Whether the task is still wanted."""

    def submit(self, task: Assignment, num_examples: int, metrics: Mapping[str, float]) -> bool:
        """Gives what lies at `task.out` to the client; answers whether the task was still wanted."""

    def measured(self, task: Assignment, num_examples: int | None, metrics: Mapping[str, float]) -> bool:
        """Answers a measurement; answers whether it was still wanted."""

    def decline(self, task: Assignment, words: str, reason: str) -> None:
        """Gives the task back. The reason is a word of the closed set; empty for a failure of the script's."""

    def outcome(self, task: Assignment, limit_seconds: float | None) -> None:
        """Waits until it is known what became of the update. Raises what speaks against it."""

    def close(self, orderly: bool) -> None:
        """Leaves. In order, what was submitted is delivered before; otherwise the task in hand is given back."""
