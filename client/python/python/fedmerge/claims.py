"""What a script may claim about its work: counts of examples and metrics. Judged before anything leaves."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import InvalidClaimError

MAX_METRICS = 64
"""Most metrics of one update, as the server allows."""
MAX_METRIC_NAME_BYTES = 128
"""Longest name of a metric, as the server allows."""


class Measurement(NamedTuple):
    """What a model is worth on some data."""

    num_examples: int | None
    """Examples that it was measured on."""
    metrics: dict[str, float]
    """Values by name."""


def examples(count: Any) -> int:
    """A count of examples: a whole number of at least 1."""
    whole = isinstance(count, numbers.Integral) or (isinstance(count, numbers.Real) and float(count).is_integer())
    if isinstance(count, bool) or not whole or int(count) < 1:
        hint = "it is the weight of the update: len(dataset), for one"
        raise InvalidClaimError(f"num_examples is {count!r}; it must be a whole number of at least 1", hint=hint)
    return int(count)


def metrics(found: Mapping[str, Any] | None) -> dict[str, float]:
    """Metrics as numbers, each finite."""
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InvalidClaimError(f"metrics are a mapping of names to numbers, not a {type(found).__name__}", reason="metrics")
    if len(found) > MAX_METRICS:
        raise InvalidClaimError(f"there are {len(found)} metrics; at most {MAX_METRICS} are taken", reason="metrics")
    return {_name(name): _value(name, value) for name, value in found.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name.encode()) <= MAX_METRIC_NAME_BYTES:
        why = f"a metric's name is a string of at most {MAX_METRIC_NAME_BYTES} bytes"
        raise InvalidClaimError(f"{why}, not {name!r}", reason="metrics")
    return name


def _value(name: str, value: Any) -> float:
    try:
        number = as_number(value)
    except (TypeError, ValueError) as error:
        raise InvalidClaimError(f"the metric {name} is no number but a {type(value).__name__}", reason="metrics") from error
    if not math.isfinite(number):
        raise InvalidClaimError(f"the metric {name} is {number}, which is not a finite number", reason="metrics")
    return number


def as_number(value: Any) -> float:
    """A number; a tensor of one element is one, too, of whatever framework and with or without a gradient."""
    return float(value.detach() if hasattr(value, "detach") else value)


def measurement(found: Any) -> Measurement:
    """What an evaluating function may answer, as one thing.

    That is metrics alone, where `num_examples` may be one of them; or a pair of count and metrics, in either order.
    """
    if isinstance(found, Mapping):
        rest = dict(found)
        count = rest.pop("num_examples", None)
    elif isinstance(found, tuple) and len(found) == 2:
        count, rest = reversed(found) if isinstance(found[0], Mapping) else found
    else:
        hint = 'return {"accuracy": 0.9, "num_examples": 100}, or (100, {"accuracy": 0.9})'
        raise InvalidClaimError(f"an evaluation answers metrics, not a {type(found).__name__}", reason="metrics", hint=hint)
    return Measurement(None if count is None else examples(count), metrics(rest))
