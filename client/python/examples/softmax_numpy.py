"""Softmax regression with numpy: the whole of a federation on one machine.

    pip install ./client/python                                # in the repository, once; `fedmerge` must be on the PATH
    cd client/python/examples
    python softmax_numpy.py --init base.safetensors
    fedmerge server init hub --name digits --base base.safetensors
    fedmerge server run --dir hub &
    export FEDMERGE_TOKEN=$(fedmerge server token create --dir hub --uses 2)
    fedmerge client enrol --server https://localhost:7600 --dir ward-1 --name ward-1
    fedmerge client enrol --server https://localhost:7600 --dir ward-2 --name ward-2

Two clients, each with points of its own, in either way: as a command of the client, or as a client by itself.

    fedmerge client run --dir ward-1 --train 'python softmax_numpy.py --seed 1' &
    python softmax_numpy.py --seed 2 --dir ward-2
"""

import argparse

import numpy as np

import fedmerge

FEATURES, CLASSES = 8, 3


def points(seed, count=300):
    """Overlapping clouds. Every client sees the same clouds, but other points of them."""
    centres = np.random.default_rng(0).normal(scale=0.8, size=(CLASSES, FEATURES))
    own = np.random.default_rng(seed)
    y = own.integers(CLASSES, size=count)
    return (centres[y] + own.normal(size=(count, FEATURES))).astype(np.float32), y


def probabilities(model, x):
    """Of each class, for each row."""
    scores = x @ model["weight"] + model["bias"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def train(model, x, y, steps=50, rate=0.5):
    """Gradient descent, in place."""
    for _ in range(steps):
        error = probabilities(model, x)
        error[np.arange(len(y)), y] -= 1.0
        model["weight"] -= rate * x.T @ error / len(y)
        model["bias"] -= rate * error.mean(axis=0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--init", metavar="PATH", help="write a model of zeros there, and stop")
    parser.add_argument("--dir", help="the directory of an enrolled client; left out in a command of `fedmerge client run`")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.init:
        zeros = {"weight": np.zeros((FEATURES, CLASSES), np.float32), "bias": np.zeros(CLASSES, np.float32)}
        fedmerge.save(zeros, options.init)
        return

    x, y = points(options.seed)
    with fedmerge.connect(options.dir) as federation:
        for task in federation:
            model = task.base("numpy")
            train(model, x, y)
            accuracy = (probabilities(model, x).argmax(axis=1) == y).mean()
            task.submit(model, num_examples=len(y), metrics={"accuracy": accuracy})


if __name__ == "__main__":
    main()
