#!/usr/bin/env python3
"""A complete trainer for a federation: softmax regression with numpy.

Copy this file and put your own model in `init` and `train`. The rest is the whole contract with fedmerge:

    FEDMERGE_BASE    path of the model to start from (safetensors; read it, never write it)
    FEDMERGE_OUT     path where the fine-tuned model goes (the same tensors, the same shapes)
    FEDMERGE_ROUND   the round, counted from 1
    FEDMERGE_CONFIG  path of a JSON file with all of this and more: federation, client, deadline, ...

and lines of JSON on stdout, each optional:

    {"progress": 0.4, "loss": 0.31}                            signs of life, as often as you like
    {"num_examples": 1280, "metrics": {"accuracy": 0.97}}      once, at the end

A non-zero exit means that this client sits the round out; the last lines on stderr are the reason it gives.

Needs only: pip install numpy safetensors

    # a fresh model, for the federation's plan:  base = "base.safetensors"
    python train_numpy.py --data ward-3.csv --classes 10 --init base.safetensors

    # a client whose data is a CSV file: numbers, the label (0, 1, 2, ...) in the last column
    fedmerge client run --dir ward-3 --train 'python train_numpy.py --data ward-3.csv'

    # the same with a safetensors file: x (n rows of d floats) and y (n labels), as `client train --export` writes it
    fedmerge client run --dir ward-3 --train 'python train_numpy.py --data ward-3.safetensors'

    # a client without data of its own: a small synthetic set, another one for each seed
    fedmerge client run --dir ward-3 --train 'python train_numpy.py --seed 3'
"""

import argparse
import json
import os

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file


def synthetic(seed, examples=300, features=8, classes=3):
    """Overlapping clouds of points. Every client sees the same clouds, but other points of them."""
    centres = np.random.default_rng(0).normal(scale=0.8, size=(classes, features))
    own = np.random.default_rng(seed + 1)
    y = own.integers(classes, size=examples)
    return centres[y] + own.normal(size=(examples, features)), y


def load_data(path):
    """Features and labels from a .safetensors file (x and y) or a .csv file (label last)."""
    try:
        if path.endswith(".safetensors"):
            tensors = load_file(path)
            x, y = tensors["x"], tensors["y"]
        else:
            table = np.loadtxt(path, delimiter=",", ndmin=2)
            x, y = table[:, :-1], table[:, -1]
    except KeyError as missing:
        raise SystemExit(f"{path} has no tensor {missing}; examples are x (n rows of d floats) and y (n labels)")
    except (OSError, ValueError, SafetensorError) as error:
        raise SystemExit(f"{path} cannot be read: {error}")
    if x.ndim != 2 or x.shape[1] == 0 or y.shape != (len(x),) or len(x) == 0:
        raise SystemExit(f"{path}: x is {x.shape} and y is {y.shape}; they must be (n, d) and (n,), n and d at least 1")
    if not np.isfinite(x).all():
        raise SystemExit(f"{path}: row {np.flatnonzero(~np.isfinite(x).all(axis=1))[0]} has a value that is no number")
    if (y != np.floor(y)).any() or y.min() < 0:
        raise SystemExit(f"{path}: labels must be whole numbers from 0 on")
    return x, y


def init(path, features, classes):
    """Writes a fresh model. Its names and shapes are what every client's model must have."""
    weight = np.zeros((features, classes), dtype=np.float32)
    save_file({"weight": weight, "bias": np.zeros(classes, dtype=np.float32)}, path)


def load_model(path, features, labels):
    """Reads a model into arrays of our own, so that training changes them and never the base."""
    try:
        model = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SystemExit(f"the base {path} cannot be read: {error}")
    shapes = {name: tensor.shape for name, tensor in model.items()}
    classes = shapes.get("bias", (0,))[0]
    if shapes != {"weight": (features, classes), "bias": (classes,)} or labels > classes:
        raise SystemExit(
            f"the data has {features} features and labels up to {labels - 1}, which the model does not fit: {shapes}; "
            "make one that does with --init PATH"
        )
    return model


def forward(model, x):
    """Probabilities of each class."""
    scores = x @ model["weight"] + model["bias"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def evaluate(model, x, y):
    """Mean cross-entropy and accuracy."""
    p = forward(model, x)
    loss = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean()
    return {"loss": float(loss), "accuracy": float((p.argmax(axis=1) == y).mean())}


def train(model, x, y, options, rng):
    """Stochastic gradient descent. Replace this function by your own training."""
    for step in range(1, options.steps + 1):
        chosen = rng.integers(len(x), size=min(options.batch, len(x)))
        xb, yb = x[chosen], y[chosen]
        error = forward(model, xb)
        error[np.arange(len(yb)), yb] -= 1.0
        model["weight"] -= options.learning_rate * xb.T @ error / len(yb)
        model["bias"] -= options.learning_rate * error.mean(axis=0)
        if step % 10 == 0 or step == options.steps:
            loss = evaluate(model, x, y)["loss"]
            if not np.isfinite(loss):
                raise SystemExit(f"the loss is {loss} after step {step}: try a smaller --learning-rate")
            say(progress=step / options.steps, loss=loss)


def say(**what):
    """One line of JSON, at once: fedmerge reads it while we work."""
    print(json.dumps(what), flush=True)


def main():
    parser = argparse.ArgumentParser(description="Softmax regression as a fedmerge trainer.")
    parser.add_argument("--data", metavar="PATH", help="a .safetensors (x, y) or a .csv (label last); else synthetic")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic data and of the training, from 0")
    parser.add_argument("--steps", type=int, default=50, help="batches to train on")
    parser.add_argument("--batch", type=int, default=32, help="examples a batch")
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--init", metavar="PATH", help="write a fresh model there, for data like this, and stop")
    parser.add_argument("--classes", type=int, help="with --init: number of labels [default: as in the data]")
    options = parser.parse_args()

    x, y = load_data(options.data) if options.data else synthetic(options.seed)
    x, y = x.astype(np.float32), y.astype(np.int64)
    features, labels = x.shape[1], int(y.max()) + 1
    if options.init:
        init(options.init, features, options.classes or labels)
        return

    try:
        base, out = os.environ["FEDMERGE_BASE"], os.environ["FEDMERGE_OUT"]
        round_number = int(os.environ["FEDMERGE_ROUND"])
    except KeyError as missing:
        raise SystemExit(f"{missing} is not set: run me by `fedmerge client run --train`, or make a model with --init")
    model = load_model(base, features, labels)
    # Another stream of random numbers each round, and the same one when the round is repeated.
    train(model, x, y, options, np.random.default_rng([options.seed, round_number]))
    save_file(model, out)
    say(num_examples=len(x), metrics=evaluate(model, x, y))


if __name__ == "__main__":
    main()
