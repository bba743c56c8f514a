"""A convolutional network with PyTorch: five lines make a training script a client.

    pip install './client/python[torch]'                       # in the repository, once; `fedmerge` must be on the PATH
    cd client/python/examples
    python cnn_torch.py --init base.safetensors
    fedmerge server init hub --name shapes --base base.safetensors
    fedmerge server run --dir hub &
    export FEDMERGE_TOKEN=$(fedmerge server token create --dir hub --uses 2)
    fedmerge client enrol --server https://localhost:7600 --dir ward-1 --name ward-1
    fedmerge client enrol --server https://localhost:7600 --dir ward-2 --name ward-2
    python cnn_torch.py --seed 1 --dir ward-1 &
    python cnn_torch.py --seed 2 --dir ward-2

The running means of the batch normalisation are averaged with the parameters; its counter of batches is not, and the log says so.
"""

import argparse

import torch
from torch import nn

import fedmerge
import fedmerge.torch


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(8 * 6 * 6, 2)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def images(seed, count=256):
    """Bars that lie or stand, at random places, in noise."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(count, 1, 12, 12, generator=generator)
    y = torch.randint(2, (count,), generator=generator)
    for number in range(count):
        place = int(torch.randint(12, (1,), generator=generator))
        if y[number]:
            x[number, 0, :, place] += 1.5
        else:
            x[number, 0, place, :] += 1.5
    return x, y


def train(model, x, y, epochs=4):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return {"loss": loss.item(), "accuracy": (model(x).argmax(1) == y).float().mean().item()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--init", metavar="PATH", help="write a fresh model there, and stop")
    parser.add_argument("--dir", help="the directory of an enrolled client; left out in a command of `fedmerge client run`")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = Net()
    if options.init:
        fedmerge.torch.save(model, options.init)
        return

    x, y = images(options.seed)
    with fedmerge.connect(options.dir) as federation:  # 1
        for task in federation:  # 2
            model.load_state_dict(task.base())  # 3
            metrics = train(model, x, y)
            task.submit(model, num_examples=len(y), metrics=metrics)  # 4, and the import is the fifth


if __name__ == "__main__":
    main()
