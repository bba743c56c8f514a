"""scikit-learn: linear models, by what they have learnt (`coef_` and `intercept_`).

scikit-learn computes in float64, and the federation merges float32: a model gets float64 copies of the base's values, and what is
submitted is rounded once.

    model = SGDClassifier()
    with fedmerge.connect() as federation:
        for task in federation:
            fedmerge.sklearn.load(task, model, classes=range(10))
            model.partial_fit(x, y)
            fedmerge.sklearn.submit(task, model, num_examples=len(x))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_classifier

from . import tensors
from .errors import CheckpointError, SchemaError
from .task import Task

_LEARNT = ("coef_", "intercept_")


def load(task: Task, model: BaseEstimator, *, classes: Iterable[Any] | None = None) -> None:
    """Gives a model the base's coefficients, as if it had learnt them itself: for `partial_fit`, or `warm_start`, or `predict`.

    A classifier needs all `classes` of the federation, in order: the clients' data need not have each.
    """
    base = task.base("numpy")
    if set(base) != set(_LEARNT):
        hint = "start the federation from a linear model: fedmerge.sklearn.init('base.safetensors', features=…)"
        raise CheckpointError(f"the base is no linear model of scikit-learn; it holds {', '.join(base)}", hint=hint)
    coef, intercept = (np.array(base[name], dtype=np.float64) for name in _LEARNT)
    if is_classifier(model):
        known = getattr(model, "classes_", None) if classes is None else np.array(list(classes))
        if known is None:
            raise SchemaError("the model does not know its classes yet: load(task, model, classes=…)")
        rows = 1 if len(known) == 2 else len(known)
        if coef.shape[0] != rows:
            raise SchemaError(f"tensor coef_ has {coef.shape[0]} rows; {len(known)} classes need {rows}", tensor="coef_")
        model.classes_ = known
    model.coef_, model.intercept_ = coef, intercept
    model.n_features_in_ = coef.shape[-1]
    if not hasattr(model, "t_") and hasattr(model, "partial_fit"):
        # Where `partial_fit` goes on; a model that has learnt before has it.
        model.t_, model.n_iter_ = 1.0, 0


def submit(task: Task, model: BaseEstimator, *, num_examples: int, metrics: Mapping[str, Any] | None = None) -> bool:
    """Submits what a model has learnt. See `Task.submit`."""
    return task.submit(state(model), num_examples=num_examples, metrics=metrics)


def state(model: BaseEstimator) -> dict[str, Any]:
    """What a model has learnt, in float32."""
    for name in _LEARNT:
        if not hasattr(model, name):
            raise SchemaError(f"the model has no {name}: it is not linear, or has not learnt yet", tensor=name)
    return {name: np.asarray(np.atleast_1d(getattr(model, name)), dtype=np.float32) for name in _LEARNT}


def init(path: str | os.PathLike[str], *, features: int, classes: int | None = None, targets: int | None = None) -> None:
    """Writes a model of zeros: the base of a new federation. `classes` for a classifier; `targets` for a regression of several."""
    shape: tuple[int, ...]
    if classes is not None:
        rows = 1 if classes == 2 else classes
        shape = (rows, features)
    else:
        rows = targets or 1
        shape = (features,) if targets is None else (targets, features)
    zeros: dict[str, Any] = {"coef_": np.zeros(shape, np.float32), "intercept_": np.zeros(rows, np.float32)}
    tensors.save(zeros, path)
