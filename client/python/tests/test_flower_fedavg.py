"""A client of Flower's own quickstart, unchanged: what a federation makes of its updates is what Flower makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub import Hub, ended

pytest.importorskip("flwr.client")
torch = pytest.importorskip("torch")

from flwr.server.strategy.aggregate import aggregate  # noqa: E402

ROUNDS = 3

# The shape of Flower's PyTorch quickstart: a module, `get_weights`, `set_weights`, and a NumPyClient around them. Nothing in it knows
# of fedmerge, and the test below calls the same class by itself.
CLIENT = """
from collections import OrderedDict

import torch
from flwr.client import NumPyClient


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 4, 3)
        self.fc1 = torch.nn.Linear(4 * 6 * 6, 16)
        self.fc2 = torch.nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.conv1(x)).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


def get_weights(net):
    return [val.cpu().numpy() for _, val in net.state_dict().items()]


def set_weights(net, parameters):
    params_dict = zip(net.state_dict().keys(), parameters)
    state_dict = OrderedDict({k: torch.tensor(v) for k, v in params_dict})
    net.load_state_dict(state_dict, strict=True)


def train(net, trainloader, epochs, lr):
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    running_loss = 0.0
    for _ in range(epochs):
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
    return running_loss / len(trainloader)


def test(net, testloader):
    correct, loss, count = 0, 0.0, 0
    with torch.no_grad():
        for images, labels in testloader:
            outputs = net(images)
            loss += torch.nn.functional.cross_entropy(outputs, labels).item()
            correct += (outputs.argmax(1) == labels).sum().item()
            count += len(labels)
    return loss / len(testloader), correct / count


class FlowerClient(NumPyClient):
    def __init__(self, net, trainloader, valloader, local_epochs):
        self.net = net
        self.trainloader = trainloader
        self.valloader = valloader
        self.local_epochs = local_epochs

    def fit(self, parameters, config):
        set_weights(self.net, parameters)
        train_loss = train(self.net, self.trainloader, self.local_epochs, lr=0.05)
        return get_weights(self.net), sum(len(y) for _, y in self.trainloader), {"train_loss": train_loss}

    def evaluate(self, parameters, config):
        set_weights(self.net, parameters)
        loss, accuracy = test(self.net, self.valloader)
        return loss, sum(len(y) for _, y in self.valloader), {"accuracy": accuracy}


def data(seed, batches):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(8, 1, 8, 8, generator=generator), torch.randint(10, (8,), generator=generator))
        for _ in range(batches)
    ]


def client(number):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return FlowerClient(Net(), data(number, 3 + number), data(100 + number, 2), local_epochs=1)
"""

BY_ITSELF = "import sys\nimport fedmerge.flower\nfedmerge.flower.run(client(int(sys.argv[2])), sys.argv[1])\n"
AS_COMMAND = "import sys\nimport fedmerge.flower\nfedmerge.flower.run(client(int(sys.argv[1])))\n"


def test_three_rounds_of_a_quickstart_s_client_are_flowers_own_fedavg(federation: Callable[..., Hub], tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    exec(CLIENT, space)
    net = space["client"](0).net
    hub = federation({name: value.clone() for name, value in net.state_dict().items()}, rounds=ROUNDS)
    script = tmp_path / "client_app.py"
    script.write_text(CLIENT + AS_COMMAND)
    alone = hub.start_script(CLIENT + BY_ITSELF, str(hub.client("ward-1")), "1")
    command = hub.start_command("ward-2", f"{script} 2", "--evaluate", f"python3 {script} 2")
    ended(alone)
    ended(command)

    names = list(net.state_dict())
    clients = [space["client"](1), space["client"](2)]
    parameters = space["get_weights"](net)
    for number in range(1, ROUNDS + 1):
        results = []
        for client in clients:
            trained, count, _ = client.fit([array.copy() for array in parameters], {"server_round": number})
            results.append(([array.copy() for array in trained], count))
        assert [count for _, count in results] == [32, 40]
        parameters = aggregate(results)
        ours = load_file(hub.model(number))
        worst = max(float(np.abs(ours[name] - flowers).max()) for name, flowers in zip(names, parameters, strict=True))
        print(f"round {number}: the largest difference to Flower's own aggregate is {worst:.1e}")
        assert worst <= 1e-6
        # Each round is compared for itself: training makes more of the last bit of its start than a merge does.
        parameters = [ours[name] for name in names]
