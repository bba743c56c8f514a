"""PyTorch: what is averaged and what is kept, tensors of every kind, and modules as people have them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from conftest import Environment

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

import fedmerge  # noqa: E402
import fedmerge.torch  # noqa: E402
from fedmerge import tensors  # noqa: E402


def network() -> Any:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 3))


def given(command: Environment, state: dict[str, Any]) -> tuple[fedmerge.Task, Any]:
    out = command(state)
    return next(fedmerge.connect()), out


def test_the_five_lines_of_the_manual_work(command: Environment) -> None:
    model = network()
    out = command(model.state_dict())
    with fedmerge.connect() as federation:
        for task in federation:
            model.load_state_dict(task.base())
            loss = model(torch.ones(2, 1, 8, 8)).sum()
            loss.backward()
            torch.optim.SGD(model.parameters(), 0.1).step()
            task.progress(torch.tensor(1.0), loss)
            task.submit(model.state_dict(), num_examples=2, metrics={"loss": loss})
    written = load_file(out)
    assert torch.equal(written["0.weight"], model[0].weight)
    assert torch.equal(written["1.running_mean"], model[1].running_mean)


def test_buffers_of_floats_are_averaged_counters_are_kept_and_the_log_says_so(
    command: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    task, out = given(command, model.state_dict())
    fedmerge.torch.load(task, model)
    model(torch.ones(2, 1, 8, 8))
    assert model[1].num_batches_tracked == 1
    tensors._told.clear()
    with caplog.at_level(logging.INFO, "fedmerge"):
        fedmerge.torch.submit(task, model, num_examples=2)
    written = load_file(out)
    assert written["1.num_batches_tracked"] == 0
    assert torch.equal(written["1.running_var"], model[1].running_var)
    assert "1.num_batches_tracked (I64)" in caplog.text
    assert "1.running_mean and 1 more" in caplog.text


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_each_float_comes_back_as_it_was(command: Environment, name: str) -> None:
    kind = getattr(torch, name)
    state = {
        "w": torch.arange(6).reshape(2, 3).to(kind) / 3,
        "scalar": torch.tensor(0.5, dtype=kind),
        "empty": torch.zeros(0, dtype=kind),
    }
    task, out = given(command, state)
    base = task.base("torch")
    assert all(torch.equal(base[name], value) and base[name].dtype == kind for name, value in state.items())
    task.submit(base, num_examples=1)
    written = load_file(out)
    assert all(torch.equal(written[name], value) and written[name].dtype == kind for name, value in state.items())


def test_kinds_that_are_not_merged_come_back_as_they_were(command: Environment) -> None:
    kinds = [
        "bool",
        "uint8",
        "int8",
        "int16",
        "uint16",
        "int32",
        "int64",
        "uint64",
        "float64",
        "complex64",
        "float8_e4m3fn",
        "float8_e5m2",
    ]
    state = {kind: torch.ones(3).to(getattr(torch, kind)) for kind in kinds}
    task, out = given(command, state | {"w": torch.ones(1)})
    base = task.base("torch")
    for kind in kinds:
        assert base[kind].dtype == getattr(torch, kind)
        assert base[kind].view(torch.uint8).tolist() == state[kind].view(torch.uint8).tolist()
    task.submit(base, num_examples=1)
    written = load_file(out)
    assert all(written[kind].view(torch.uint8).tolist() == state[kind].view(torch.uint8).tolist() for kind in kinds)


def test_tensors_in_pieces_and_of_other_floats_are_written_in_their_shape(command: Environment) -> None:
    task, out = given(command, {"w": torch.zeros(3, 2), "v": torch.zeros(3), "d": torch.zeros(2)})
    wide = torch.arange(12.0).reshape(3, 4)
    state = {
        "w": torch.arange(6.0).reshape(2, 3).t().requires_grad_(),
        "v": wide[:, 1],
        "d": torch.tensor([0.1, 0.2], dtype=torch.float64),
    }
    task.submit(state, num_examples=1)
    written = load_file(out)
    assert torch.equal(written["w"], state["w"])
    assert torch.equal(written["v"], wide[:, 1])
    assert torch.equal(written["d"], state["d"].float())


def test_a_bfloat16_base_is_read_by_numpy_as_float32_and_goes_back(command: Environment) -> None:
    weight = torch.randn(50).to(torch.bfloat16)
    task, out = given(command, {"w": weight})
    base = task.base("numpy")
    assert torch.equal(torch.from_numpy(base["w"]), weight.float())
    task.submit(base, num_examples=1)
    assert torch.equal(load_file(out)["w"].to(torch.bfloat16), weight)


def test_tensors_share_the_mapped_pages(command: Environment) -> None:
    task, _ = given(command, {"w": torch.zeros(1000)})
    first = tensors.read(task.checkpoint(), "torch")["w"]
    first[0] = 5.0
    # The same map, so the same memory; a copy would still be 0.
    assert tensors.read(task.checkpoint(), "torch")["w"][0] == 5.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.zeros(2, 2, device="meta"), "on no device"),
        (lambda: torch.zeros(2, 2).to_sparse(), "sparse"),
        (lambda: torch.zeros(4), r"\[4\]"),
        (lambda: torch.zeros(2, 2, dtype=torch.int64), "I64"),
        (lambda: torch.zeros(2, 2, dtype=torch.complex128), "complex128"),
    ],
)
def test_a_tensor_that_cannot_be_submitted_is_named(command: Environment, make: Any, words: str) -> None:
    task, out = given(command, {"head.weight": torch.zeros(2, 2)})
    with pytest.raises(fedmerge.CheckpointError, match=words) as caught:
        task.submit({"head.weight": make()}, num_examples=1)
    assert caught.value.tensor == "head.weight"
    assert not out.exists()


def test_tied_weights_and_wrapped_modules_have_the_names_of_the_base(command: Environment) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(5, 4)
            self.head = torch.nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    task, out = given(command, {"embed.weight": model.embed.weight.detach() + 1})
    wrapped = torch.nn.DataParallel(model)
    fedmerge.torch.load(task, wrapped)
    assert torch.equal(model.head.weight, task.base("torch")["embed.weight"])
    fedmerge.torch.submit(task, wrapped, num_examples=1)
    assert set(load_file(out)) == {"embed.weight"}


def test_a_module_that_is_not_the_bases_is_refused_by_name(command: Environment) -> None:
    model = network()
    task, _ = given(command, {name: value for name, value in model.state_dict().items() if name != "3.bias"})
    with pytest.raises(fedmerge.SchemaError, match=r"3\.bias"):
        fedmerge.torch.load(task, model)
    before = model[0].weight.clone()
    task, _ = given(command, model.state_dict() | {"0.weight": torch.zeros(4, 1, 5, 5)})
    with pytest.raises(fedmerge.SchemaError, match=r"0\.weight"):
        fedmerge.torch.load(task, model)
    assert torch.equal(model[0].weight, before)


def test_a_saved_module_is_a_base(command: Environment, tmp_path: Any) -> None:
    model = network()
    fedmerge.torch.save(model, tmp_path / "model.safetensors")
    assert all(
        torch.equal(value, model.state_dict()[name]) for name, value in load_file(tmp_path / "model.safetensors").items()
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_module_on_a_gpu_is_loaded_and_submitted(command: Environment) -> None:
    model = network().cuda()
    task, out = given(command, {name: value.cpu() + 1 for name, value in model.state_dict().items()})
    fedmerge.torch.load(task, model)
    assert model[0].weight.is_cuda
    fedmerge.torch.submit(task, model, num_examples=1)
    assert torch.equal(load_file(out)["0.weight"], model[0].weight.cpu())
