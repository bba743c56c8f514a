"""Flower: an existing client takes part as it is.

    fedmerge.flower.run(FlowerClient(net, trainloader, testloader))       # a NumPyClient
    fedmerge.flower.run(client_fn, node_config={"partition-id": 0})       # a function that makes one
    fedmerge.flower.run(app, run_config={"local-epochs": 1})              # a ClientApp with @app.train()

Flower hands over a list of arrays, and a checkpoint has names. `names` gives the names in the list's order; without it, they are
those of the client's own PyTorch module, or numbers, as `init` writes them.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import functions, tensors
from .claims import Measurement
from .errors import CheckpointError, SchemaError
from .flower_clients import Player, Setting, player
from .task import Task

if TYPE_CHECKING:
    from .process import Stay

Config = Mapping[str, Any] | Callable[[int], Mapping[str, Any]]
"""What a client is told each round: fixed, or made for the round."""


def run(
    client: Any,
    dir: str | os.PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    fit_config: Config | None = None,
    evaluate_config: Config | None = None,
    node_config: Mapping[str, Any] | None = None,
    run_config: Mapping[str, Any] | None = None,
    stay: Stay = "while-it-lasts",
) -> None:
    """Takes part with a client of Flower's until the federation ends; see `fedmerge.run`.

    `client` is a `NumPyClient` or `Client`, a `client_fn(context)`, or a `ClientApp`. Each round its `fit` is called, with a config
    that has `server_round` and what `fit_config` says; where it has an `evaluate`, that measures models for the federation's gate,
    and its loss is the metric `loss`.
    """
    play = player(client, Setting(dict(node_config or {}), dict(run_config or {})))
    now = _Round()

    def train(task: Task) -> None:
        now.number = task.round
        order = _order(task.checkpoint(), names, play)
        arrays = _arrays(task.base("numpy"), order)
        trained, count, metrics = play.fit(order, arrays, _config(fit_config, task.round, play))
        state = _named(order, trained)
        task.submit(state, num_examples=count, metrics=_numbers(metrics))

    def evaluate(model: Mapping[str, Any]) -> Measurement:
        order = _order(model, names, play)
        config = _config(evaluate_config, now.number, play)
        loss, count, metrics = play.evaluate(order, _arrays(model, order), config)
        found = _numbers(metrics) if loss is None else {"loss": float(loss), **_numbers(metrics)}
        return Measurement(count, found)

    measures = evaluate if play.evaluates else None
    functions.run(dir, train=train, evaluate=measures, tensors="numpy", stay=stay)


def init(client: Any, path: str | os.PathLike[str], *, names: Sequence[str] | None = None) -> None:
    """Writes what `client.get_parameters({})` answers as a checkpoint: the base of a new federation."""
    arrays = client.get_parameters({})
    if not arrays:
        raise CheckpointError("the client has no parameters: its get_parameters answers nothing")
    order = list(names) if names is not None else [str(number) for number in range(len(arrays))]
    tensors.save(_named(order, arrays), path)


class _Round:
    """The last round that was trained in: what an evaluation is told, too."""

    number = 0


def _config(wish: Config | None, number: int, play: Player) -> dict[str, Any]:
    own = wish(number) if callable(wish) else (wish or {})
    return {play.round_key: number, **own}


def _order(base: Mapping[str, Any], names: Sequence[str] | None, play: Player) -> list[str]:
    if names is None:
        names = list(base) if play.is_named else _natural_order(base, play)
    if len(set(names)) != len(names) or set(names) != set(base):
        strange = next((name for name in names if name not in base), None) or next(iter(set(base) - set(names)), names[0])
        raise SchemaError(f"names and the base's tensors are not the same: {strange}", tensor=strange)
    return list(names)


def _natural_order(base: Mapping[str, Any], play: Player) -> Sequence[str]:
    if len(base) == 1 or all(name.isdecimal() for name in base):
        return sorted(base, key=lambda name: int(name) if name.isdecimal() else 0)
    for value in play.belongings():
        state = getattr(value, "state_dict", None)
        if callable(state) and set(found := state()) == set(base):
            return list(found)
    hint = "say it: fedmerge.flower.run(client, names=list(model.state_dict()))"
    raise CheckpointError("nobody says in which order the client takes the base's tensors", hint=hint)


def _arrays(base: Mapping[str, Any], order: Sequence[str]) -> list[Any]:
    return [base[name] for name in order]


def _named(order: Sequence[str], arrays: Sequence[Any]) -> dict[str, Any]:
    if len(arrays) != len(order):
        raise SchemaError(f"the client has {len(arrays)} arrays; the base has {len(order)} tensors")
    return dict(zip(order, arrays, strict=True))


def _numbers(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Flower's metrics may be words or bytes; the federation's are numbers."""
    found = metrics or {}
    words = [name for name, value in found.items() if not isinstance(value, numbers.Real)]
    if words:
        tensors.tell_once(f"words {words}", f"metrics that are no numbers stay here: {', '.join(words)}")
    return {name: float(value) for name, value in found.items() if isinstance(value, numbers.Real)}
