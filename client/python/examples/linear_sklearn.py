"""A linear classifier of scikit-learn, with functions instead of a loop; the same script trains and measures.

    pip install './client/python[sklearn]'                     # in the repository, once; `fedmerge` must be on the PATH
    cd client/python/examples
    python linear_sklearn.py --init base.safetensors
    fedmerge server init hub --name digits --base base.safetensors
    fedmerge server run --dir hub &
    export FEDMERGE_TOKEN=$(fedmerge server token create --dir hub --uses 2)
    fedmerge client enrol --server https://localhost:7600 --dir ward-1 --name ward-1
    fedmerge client enrol --server https://localhost:7600 --dir ward-2 --name ward-2
    fedmerge client run --dir ward-1 --train 'python linear_sklearn.py --part 0' --evaluate 'python linear_sklearn.py --part 0' &
    python linear_sklearn.py --part 1 --dir ward-2

The data is scikit-learn's own 1,797 handwritten digits; each part trains on a half, without a fifth that it only measures on.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

import fedmerge
import fedmerge.sklearn

parser = argparse.ArgumentParser()
parser.add_argument("--init", metavar="PATH", help="write a model of zeros there, and stop")
parser.add_argument("--dir", help="the directory of an enrolled client; left out in a command of `fedmerge client run`")
parser.add_argument("--part", type=int, default=0, choices=[0, 1])
options = parser.parse_args()

x, y = load_digits(return_X_y=True)
x, y = x[options.part :: 2] / 16.0, y[options.part :: 2]
held_out = np.arange(len(x)) % 5 == 0


@fedmerge.train
def train(task):
    model = SGDClassifier(loss="log_loss", alpha=1e-4, random_state=task.round)
    fedmerge.sklearn.load(task, model, classes=range(10))
    model.partial_fit(x[~held_out], y[~held_out])
    fedmerge.sklearn.submit(task, model, num_examples=int((~held_out).sum()))


@fedmerge.evaluate
def evaluate(model):
    scores = x[held_out] @ model["coef_"].T + model["intercept_"]
    return {"accuracy": (scores.argmax(axis=1) == y[held_out]).mean(), "num_examples": int(held_out.sum())}


if options.init:
    fedmerge.sklearn.init(options.init, features=64, classes=10)
else:
    fedmerge.run(options.dir, tensors="numpy")
