"""Take part in a federation of models from Python.

    import fedmerge

    with fedmerge.connect() as federation:          # inside a command of `fedmerge client run`, or with dir=… by itself
        for task in federation:                     # waits until invited; ends when the federation ends
            model.load_state_dict(task.base())      # tensors, mapped from the file
            metrics = train(model)
            task.submit(model.state_dict(), num_examples=len(data), metrics=metrics)

Adapters: `fedmerge.torch`, `fedmerge.transformers`, `fedmerge.peft`, `fedmerge.sklearn`, `fedmerge.flower`; each is imported by name and
needs its package, which this one does not.
"""

from __future__ import annotations

from .claims import Measurement
from .errors import (
    AlreadySubmittedError,
    BadConfigurationError,
    BadDataError,
    CheckpointError,
    ClientError,
    ClosedError,
    DeclinedError,
    FedmergeError,
    ForkedProcessError,
    InternalError,
    InvalidClaimError,
    MissingPackageError,
    NotConnectedError,
    NotPermittedError,
    NotSubmittedError,
    OutcomeError,
    RejectedError,
    SchemaError,
    TaskError,
    TemporaryError,
    UnavailableError,
    UsageError,
    WithdrawnError,
    WrongTaskError,
)
from .federation import Federation, connect
from .functions import evaluate, run, train
from .task import Task
from .tensors import save

__version__ = "0.1.0"

__all__ = [
    "AlreadySubmittedError",
    "BadConfigurationError",
    "BadDataError",
    "CheckpointError",
    "ClientError",
    "ClosedError",
    "DeclinedError",
    "Federation",
    "FedmergeError",
    "ForkedProcessError",
    "InternalError",
    "InvalidClaimError",
    "Measurement",
    "MissingPackageError",
    "NotConnectedError",
    "NotPermittedError",
    "NotSubmittedError",
    "OutcomeError",
    "RejectedError",
    "SchemaError",
    "Task",
    "TaskError",
    "TemporaryError",
    "UnavailableError",
    "UsageError",
    "WithdrawnError",
    "WrongTaskError",
    "connect",
    "evaluate",
    "run",
    "save",
    "train",
]
