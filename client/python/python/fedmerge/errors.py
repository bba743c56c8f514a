"""What can go wrong, as exceptions that programs can tell apart.

Every exception of this package is a `FedmergeError`. Its `reason` is one of the closed set of words that the client, the server
and the site's log use too; `hint` says what to do next, where there is something to do; `exit_code` is what `fedmerge` would
end with.
"""

from __future__ import annotations

from typing import ClassVar


class FedmergeError(Exception):
    """Anything that this package refuses or cannot do."""

    reason: str = "bug"
    exit_code: int = 70

    def __init__(self, message: str, *, hint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class NotConnectedError(FedmergeError):
    """There is no client to connect to: neither a command's environment nor a directory."""

    reason = "not-connected"
    exit_code = 78


class ClosedError(FedmergeError):
    """The federation was left already."""

    reason = "closed"
    exit_code = 64


class ForkedProcessError(FedmergeError):
    """A process forked from the one that connected wants to speak for it."""

    reason = "forked"
    exit_code = 64


class MissingPackageError(FedmergeError, ImportError):
    """An adapter's package is not installed."""

    reason = "missing-package"
    exit_code = 78


# --- the client's own failures, by exit code -----------------------------------------------------------------------


class ClientError(FedmergeError):
    """The client cannot go on; its message and hint are those that `fedmerge client run` prints."""

    reason = "client"


class UsageError(ClientError):
    """A call that makes no sense."""

    reason = "usage"
    exit_code = 64


class BadDataError(ClientError):
    """A file or an answer is not what it should be."""

    reason = "bad-data"
    exit_code = 65


class UnavailableError(ClientError):
    """The server, the disk or the machine cannot do it."""

    reason = "unavailable"
    exit_code = 69


class InternalError(ClientError):
    """A bug of fedmerge."""

    reason = "bug"
    exit_code = 70


class TemporaryError(ClientError):
    """Not now: trying again may help. Another process that uses the client's directory is one."""

    reason = "temporary"
    exit_code = 75


class NotPermittedError(ClientError):
    """The server, or the site's own policy, does not allow it."""

    reason = "not-permitted"
    exit_code = 77


class BadConfigurationError(ClientError):
    """The client's directory or settings cannot be used: not enrolled, for one."""

    reason = "bad-configuration"
    exit_code = 78


def client_error(exit_code: int, message: str, hint: str | None) -> ClientError:
    """The exception of a failure of the client, chosen by its exit code."""
    kinds: tuple[type[ClientError], ...] = (
        UsageError,
        BadDataError,
        UnavailableError,
        InternalError,
        TemporaryError,
        NotPermittedError,
        BadConfigurationError,
    )
    for kind in kinds:
        if kind.exit_code == exit_code:
            return kind(message, hint=hint)
    return InternalError(message, hint=hint)


# --- what a script does wrong with a task ---------------------------------------------------------------------------


class TaskError(FedmergeError):
    """A task is used as it cannot be."""

    reason = "trainer-failed"
    exit_code = 64


class NotSubmittedError(TaskError):
    """The script went on without `task.submit(…)` or `task.decline(…)`."""


class AlreadySubmittedError(TaskError):
    """The task was submitted or declined before."""


class WrongTaskError(TaskError):
    """A task that asks for a training is answered with a measurement, or the other way round."""


class InvalidClaimError(TaskError, ValueError):
    """A count of examples or a metric that cannot be true; nothing has left."""

    reason = "examples"
    exit_code = 65


# --- tensors ----------------------------------------------------------------------------------------------------------


class CheckpointError(FedmergeError, ValueError):
    """A checkpoint, or a state that should become one, that cannot be used. `tensor` names the tensor, where one is at fault."""

    reason = "bad-checkpoint"
    exit_code = 65

    def __init__(self, message: str, *, tensor: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.tensor = tensor


class SchemaError(CheckpointError):
    """A state whose tensors are not those of the base: missing, extra, or of another shape or type."""


# --- what became of an update ---------------------------------------------------------------------------------------


class OutcomeError(FedmergeError):
    """The update of a round does not count. `reason` is the server's or the site's own word for why."""

    exit_code = 65
    outcome: ClassVar[str] = ""

    def __init__(self, message: str, *, round_number: int, reason: str) -> None:
        super().__init__(message, reason=reason)
        self.round = round_number


class RejectedError(OutcomeError):
    """The server rejected the update."""

    outcome = "rejected"


class DeclinedError(OutcomeError):
    """This client gave its invitation back: by the script's word, the site's policy, or because the checkpoint is of no use."""

    outcome = "declined"


class WithdrawnError(OutcomeError):
    """The round was over before the update was in."""

    outcome = "withdrawn"
