"""Adapters, as commands of a client's: each reads a base and answers with a checkpoint that its package understands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import Environment


def said(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"')]


# --- scikit-learn


def clouds(seed: int, classes: int = 3) -> tuple[Any, Any]:
    chance = np.random.default_rng(seed)
    y = chance.integers(classes, size=120)
    return np.eye(4)[y] * 2 + chance.normal(size=(120, 4)), y


@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_model_goes_on_from_the_base(command: Environment, tmp_path: Path, classes: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    import fedmerge.sklearn

    fedmerge.sklearn.init(tmp_path / "zeros", features=4, classes=classes)
    x, y = clouds(1, classes)
    model, base = linear_model.SGDClassifier(random_state=1), load_file(tmp_path / "zeros")
    for _ in range(2):
        out = command(base)
        for task in fedmerge.connect():
            fedmerge.sklearn.load(task, model, classes=range(classes))
            np.testing.assert_array_equal(model.coef_, base["coef_"])
            model.partial_fit(x, y)
            fedmerge.sklearn.submit(task, model, num_examples=len(x))
        base = load_file(out)
        assert base["coef_"].shape == model.coef_.shape
        np.testing.assert_allclose(base["coef_"], model.coef_, rtol=1e-6)
    assert model.score(x, y) > 0.7


def test_a_linear_model_that_does_not_fit_is_refused_by_name(command: Environment, small: dict[str, Any]) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    import fedmerge.sklearn

    command(small)
    with pytest.raises(fedmerge.CheckpointError, match="no linear model"):
        fedmerge.sklearn.load(next(fedmerge.connect()), linear_model.SGDClassifier())
    command({"coef_": np.zeros((3, 4), np.float32), "intercept_": np.zeros(3, np.float32)})
    task = next(fedmerge.connect())
    with pytest.raises(fedmerge.SchemaError, match="4 classes"):
        fedmerge.sklearn.load(task, linear_model.SGDClassifier(), classes=range(4))
    with pytest.raises(fedmerge.SchemaError, match="coef_"):
        fedmerge.sklearn.submit(task, linear_model.SGDClassifier(), num_examples=1)


# --- Flower


def test_a_numpy_client_of_flowers_trains_and_measures(command: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    flwr = pytest.importorskip("flwr.client")
    import fedmerge.flower

    told = []

    class FlowerClient(flwr.NumPyClient):  # type: ignore[name-defined, misc]
        def fit(self, parameters: Any, config: Any) -> Any:
            told.append(config)
            return [array + 1.0 for array in parameters], 10, {"loss": 0.5, "site": "ward-3"}

        def evaluate(self, parameters: Any, config: Any) -> Any:
            told.append(config)
            return float(parameters[0].sum()), 4, {"accuracy": 0.25}

    base = {"0": np.zeros(2, np.float32), "10": np.zeros(3, np.float32), "9": np.ones(1, np.float32)}
    out = command(base)
    fedmerge.flower.run(FlowerClient(), fit_config={"local_epochs": 1})
    assert load_file(out)["9"] == 2.0
    command(base, measures=True)
    fedmerge.flower.run(FlowerClient().to_client(), evaluate_config=lambda number: {"of": number})
    assert told == [{"server_round": 3, "local_epochs": 1}, {"server_round": 0, "of": 0}]
    assert said(capsys) == [
        {"num_examples": 10, "metrics": {"loss": 0.5}},
        {"num_examples": 4, "metrics": {"loss": 0.0, "accuracy": 0.25}},
    ]


def test_the_order_of_arrays_is_that_of_the_clients_module_or_is_asked_for(command: Environment) -> None:
    flwr, torch = pytest.importorskip("flwr.client"), pytest.importorskip("torch")
    import fedmerge.flower

    class FlowerClient(flwr.NumPyClient):  # type: ignore[name-defined, misc]
        def __init__(self, net: Any) -> None:
            self.net = net

        def fit(self, parameters: Any, config: Any) -> Any:
            return [array + number for number, array in enumerate(parameters)], 1, {}

    net = torch.nn.ModuleDict({"z": torch.nn.Linear(2, 2), "a": torch.nn.Linear(2, 2)})
    out = command({name: torch.zeros_like(value) for name, value in net.state_dict().items()})
    fedmerge.flower.run(lambda context: FlowerClient(net).to_client())
    assert [load_file(out)[name].flat[0] for name in ("z.weight", "z.bias", "a.weight", "a.bias")] == [0, 1, 2, 3]
    with pytest.raises(fedmerge.CheckpointError, match="order") as caught:
        fedmerge.flower.run(FlowerClient(None))
    assert "names=" in (caught.value.hint or "")
    with pytest.raises(fedmerge.SchemaError, match="b"):
        fedmerge.flower.run(FlowerClient(None), names=["b"])


def test_a_client_app_of_flowers_trains_and_measures(command: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("flwr.client")
    from flwr.client import ClientApp
    from flwr.common import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.common import Message as Letter

    import fedmerge.flower

    app = ClientApp()

    @app.train()
    def train(message: Any, context: Any) -> Any:
        arrays = {name: Array(array.numpy() + context.run_config["lr"]) for name, array in message.content["arrays"].items()}
        metrics = MetricRecord({"num-examples": 6, "round": message.content["config"]["server-round"]})
        return Letter(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Any, context: Any) -> Any:
        return Letter(RecordDict({"metrics": MetricRecord({"num-examples": 2, "loss": 0.5})}), reply_to=message)

    base = {"b": np.zeros(2, np.float32), "a": np.zeros((2, 2), np.float32)}
    out = command(base)
    fedmerge.flower.run(app, run_config={"lr": 0.5})
    assert (load_file(out)["a"] == 0.5).all()
    command(base, measures=True)
    fedmerge.flower.run(app)
    assert said(capsys) == [{"num_examples": 6, "metrics": {"round": 3.0}}, {"num_examples": 2, "metrics": {"loss": 0.5}}]


def test_a_client_that_answers_other_arrays_is_refused(command: Environment, small: dict[str, Any], tmp_path: Path) -> None:
    flwr = pytest.importorskip("flwr.client")
    import fedmerge.flower

    class FlowerClient(flwr.NumPyClient):  # type: ignore[name-defined, misc]
        def get_parameters(self, config: Any) -> Any:
            return [np.ones(2, np.float32), np.ones(3, np.float32)]

        def fit(self, parameters: Any, config: Any) -> Any:
            return parameters[:1], 1, {}

    fedmerge.flower.init(FlowerClient(), tmp_path / "base")
    command(load_file(tmp_path / "base"))
    with pytest.raises(fedmerge.SchemaError, match="1 arrays"):
        fedmerge.flower.run(FlowerClient())
    with pytest.raises(fedmerge.TaskError, match="no client of Flower's"):
        fedmerge.flower.run(3)


# --- Hugging Face


def tiny(transformers: Any) -> Any:
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    return transformers.BertForSequenceClassification(config)


def trainer(transformers: Any, model: Any, callback: Any, place: Path) -> Any:
    data = [{"input_ids": [1, 2, number % 20], "labels": number % 2} for number in range(24)]
    arguments = transformers.TrainingArguments(
        output_dir=str(place),
        num_train_epochs=1,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    return transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=[callback])


def test_a_trainer_of_transformers_loads_the_base_and_submits(
    command: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    import fedmerge.transformers

    base = {name: value.clone() for name, value in tiny(transformers).state_dict().items()}
    out, model = command(base), tiny(transformers)
    for task in fedmerge.connect():
        trainer(transformers, model, fedmerge.transformers.FederationCallback(task), tmp_path).train()
    written = load_file(out)
    np.testing.assert_array_equal(written["classifier.weight"], model.classifier.weight.detach().numpy())
    assert not np.array_equal(written["classifier.weight"], base["classifier.weight"].numpy())
    assert np.abs(written["classifier.weight"] - base["classifier.weight"].numpy()).max() < 0.01
    *progress, result = said(capsys)
    assert result["num_examples"] == 24
    assert result["metrics"]["loss"] > 0
    assert all("progress" in line for line in progress if "train_runtime" not in line)


def test_an_adapter_of_peft_travels_and_the_model_below_it_does_not(command: Environment, tmp_path: Path) -> None:
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    pytest.importorskip("accelerate")
    import torch

    import fedmerge.peft
    import fedmerge.transformers

    def adapted(rank: int) -> Any:
        torch.manual_seed(1)
        config = peft.LoraConfig(task_type="SEQ_CLS", r=rank, target_modules=["query", "value"])
        return peft.get_peft_model(tiny(transformers), config)

    model = adapted(4)
    fedmerge.peft.save(model, tmp_path / "base")
    base = load_file(tmp_path / "base")
    assert any("lora_A" in name for name in base)
    assert not any("word_embeddings" in name for name in base)
    base = {name: value + 0.5 for name, value in base.items()}
    out = command(base)
    for task in fedmerge.connect():
        trainer(transformers, model, fedmerge.transformers.FederationCallback(task), tmp_path).train()
    written = load_file(out)
    name = next(name for name in base if "lora_B" in name)
    assert np.abs(written[name] - base[name]).max() < 0.01
    command(base)
    with pytest.raises(fedmerge.SchemaError, match="ranks differ") as caught:
        fedmerge.peft.load(next(fedmerge.connect()), adapted(8))
    assert "lora" in (caught.value.tensor or "")
    command({"weight": np.zeros(3, np.float32)})
    with pytest.raises(fedmerge.CheckpointError, match="no checkpoint of this model's adapter"):
        fedmerge.peft.load(next(fedmerge.connect()), model)
