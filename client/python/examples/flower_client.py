"""A NumPyClient of Flower's, as it is: `fedmerge.flower.run` takes the place of `start_client`.

    pip install './client/python[flower]'                      # in the repository, once; `fedmerge` must be on the PATH
    cd client/python/examples
    python flower_client.py --init base.safetensors
    fedmerge server init hub --name lines --base base.safetensors
    fedmerge server run --dir hub &
    export FEDMERGE_TOKEN=$(fedmerge server token create --dir hub --uses 2)
    fedmerge client enrol --server https://localhost:7600 --dir ward-1 --name ward-1
    fedmerge client enrol --server https://localhost:7600 --dir ward-2 --name ward-2
    fedmerge client run --dir ward-1 --train 'python flower_client.py --seed 1' &
    python flower_client.py --seed 2 --dir ward-2

The class is Flower's own kind, and says nothing of this federation.
"""

import argparse

import numpy as np
from flwr.client import NumPyClient

import fedmerge.flower


class FlowerClient(NumPyClient):
    """A line through points, by gradient descent."""

    def __init__(self, seed):
        chance = np.random.default_rng(seed)
        self.x = chance.normal(size=(100, 5))
        self.y = self.x @ np.arange(5.0) + 1.0 + 0.1 * chance.normal(size=100)

    def get_parameters(self, config):
        return [np.zeros(5, np.float32), np.zeros(1, np.float32)]

    def fit(self, parameters, config):
        weight, bias = parameters
        for _ in range(config.get("local_epochs", 20)):
            error = self.x @ weight + bias - self.y
            weight = weight - 0.1 * self.x.T @ error / len(error)
            bias = bias - 0.1 * error.mean()
        return [weight, bias], len(self.y), {"loss": float((error**2).mean())}

    def evaluate(self, parameters, config):
        weight, bias = parameters
        return float(((self.x @ weight + bias - self.y) ** 2).mean()), len(self.y), {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--init", metavar="PATH", help="write the client's first parameters there, and stop")
    parser.add_argument("--dir", help="the directory of an enrolled client; left out in a command of `fedmerge client run`")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    client = FlowerClient(options.seed)
    if options.init:
        fedmerge.flower.init(client, options.init)
    else:
        fedmerge.flower.run(client, options.dir, fit_config={"local_epochs": 10})


if __name__ == "__main__":
    main()
