"""Flower's kinds of clients behind one door. What is called is their public interface, as Flower's own runtime calls it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flwr.client import Client, ClientApp, NumPyClient
from flwr.common import (
    Array,
    ArrayRecord,
    Code,
    ConfigRecord,
    Context,
    EvaluateIns,
    FitIns,
    Message,
    Metadata,
    RecordDict,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)

from .errors import TaskError

_TTL_SECONDS = 43_200.0
"""How long a message is good, as Flower has it; nothing here waits so long."""

Fitted = tuple[Sequence[Any], int, Mapping[str, Any]]
Evaluated = tuple[float | None, int, Mapping[str, Any]]


@dataclass(frozen=True)
class Setting:
    """What Flower tells a client about its place."""

    node_config: dict[str, Any]
    run_config: dict[str, Any]

    def context(self) -> Context:
        """A context of one client; what the client keeps in its state lasts as long as the context."""
        return Context(run_id=0, node_id=0, node_config=self.node_config, state=RecordDict(), run_config=self.run_config)


class Player(Protocol):
    """What is asked of a client of any kind."""

    round_key: str
    is_named: bool

    @property
    def evaluates(self) -> bool:
        """Whether it measures models."""

    def fit(self, names: Sequence[str], arrays: Sequence[Any], config: dict[str, Any]) -> Fitted:
        """Trains; answers arrays, the count of examples, and metrics."""

    def evaluate(self, names: Sequence[str], arrays: Sequence[Any], config: dict[str, Any]) -> Evaluated:
        """Measures; answers a loss, the count of examples, and metrics."""

    def belongings(self) -> Iterable[Any]:
        """What the client holds, its module among it."""


def player(client: Any, setting: Setting) -> Player:
    """The door to a client."""
    if isinstance(client, ClientApp):
        return _App(client, setting)
    if isinstance(client, (NumPyClient, Client)):
        return _Client(lambda _: client, setting)
    if callable(client):
        return _Client(client, setting)
    raise TaskError(f"a {type(client).__name__} is no client of Flower's: give a NumPyClient, a client_fn or a ClientApp")


class _Client:
    """A `NumPyClient` or `Client`, made anew for each call, as Flower does."""

    round_key = "server_round"
    is_named = False

    def __init__(self, make: Any, setting: Setting) -> None:
        self._make = make
        self._context = setting.context()

    @property
    def evaluates(self) -> bool:
        client = self._client()
        kind = NumPyClient if isinstance(client, NumPyClient) else Client
        return type(client).evaluate is not kind.evaluate

    def fit(self, names: Sequence[str], arrays: Sequence[Any], config: dict[str, Any]) -> Fitted:
        client = self._client()
        if isinstance(client, NumPyClient):
            found: Fitted = client.fit(list(arrays), config)
            return found
        result = client.fit(FitIns(ndarrays_to_parameters(list(arrays)), config))
        _check(result.status)
        return parameters_to_ndarrays(result.parameters), result.num_examples, result.metrics

    def evaluate(self, names: Sequence[str], arrays: Sequence[Any], config: dict[str, Any]) -> Evaluated:
        client = self._client()
        if isinstance(client, NumPyClient):
            found: Evaluated = client.evaluate(list(arrays), config)
            return found
        result = client.evaluate(EvaluateIns(ndarrays_to_parameters(list(arrays)), config))
        _check(result.status)
        return result.loss, result.num_examples, result.metrics

    def belongings(self) -> Iterable[Any]:
        client = self._client()
        # `to_client()` wraps a NumPyClient.
        inner = getattr(client, "numpy_client", client)
        return list(vars(inner).values())

    def _client(self) -> Any:
        client = self._make(self._context)
        if not isinstance(client, (NumPyClient, Client)):
            raise TaskError(f"client_fn made a {type(client).__name__}, which is no client of Flower's")
        return client


class _App:
    """A `ClientApp` whose functions get messages; the names of the records are those of Flower's own strategies."""

    round_key = "server-round"
    is_named = True
    evaluates = True

    def __init__(self, app: ClientApp, setting: Setting) -> None:
        self._app = app
        self._context = setting.context()
        # Flower has no public word for what an app can do; it says so when it is asked for the rest.
        self.evaluates = any(name.startswith("evaluate") for name in getattr(app, "_registered_funcs", {"evaluate": None}))

    def fit(self, names: Sequence[str], arrays: Sequence[Any], config: dict[str, Any]) -> Fitted:
        content = self._ask("train", names, arrays, config)
        trained = _only(content.array_records, "arrays")
        if set(trained) != set(names):
            strange = next(iter(set(trained) ^ set(names)))
            raise TaskError(f"the ClientApp answered other tensors than it was given: {strange}")
        count, metrics = _measured(content)
        return [trained[name].numpy() for name in names], count, metrics

    def evaluate(self, names: Sequence[str], arrays: Sequence[Any], config: dict[str, Any]) -> Evaluated:
        count, metrics = _measured(self._ask("evaluate", names, arrays, config))
        return None, count, metrics

    def belongings(self) -> Iterable[Any]:
        return ()

    def _ask(self, kind: str, names: Sequence[str], arrays: Sequence[Any], config: dict[str, Any]) -> RecordDict:
        record = ArrayRecord({name: Array(array) for name, array in zip(names, arrays, strict=True)})
        content = RecordDict({"arrays": record, "config": ConfigRecord(config)})
        message = Message(content=content, metadata=_envelope(kind, config[self.round_key]))
        reply = self._app(message, self._context)
        if reply.has_error():
            raise TaskError(f"the ClientApp answered an error: {reply.error.reason}")
        found: RecordDict = reply.content
        return found


def _envelope(kind: str, number: int) -> Metadata:
    """What stands on a message. Flower's own constructor fills it in for processes that Flower has started, and for no others."""
    wish = {
        "run_id": 0,
        "message_id": f"{kind}-{number}",
        "src_node_id": 0,
        "dst_node_id": 0,
        "reply_to_message_id": "",
        "group_id": str(number),
        "created_at": time.time(),
        "ttl": _TTL_SECONDS,
        "message_type": kind,
        "src_task_id": 0,
        "dst_task_id": 0,
    }
    # Later versions of Flower ask for more than earlier ones know.
    known = inspect.signature(Metadata).parameters
    return Metadata(**{name: value for name, value in wish.items() if name in known})


def _only(records: Mapping[str, Any], name: str) -> Any:
    if name in records:
        return records[name]
    if len(records) == 1:
        return next(iter(records.values()))
    raise TaskError(f"the ClientApp answered {len(records)} records of this kind, and none is called {name}")


def _measured(content: RecordDict) -> tuple[int, dict[str, Any]]:
    found = dict(_only(content.metric_records, "metrics"))
    if "num-examples" not in found:
        raise TaskError('the ClientApp answered no "num-examples", which is the weight of its update')
    return found.pop("num-examples"), found


def _check(status: Any) -> None:
    if status.code is not Code.OK:
        raise TaskError(f"the client answered {status.code.name}: {status.message}")
