"""Tensors in and out: what is mapped, what is kept, what is refused and by which name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fedmerge
from conftest import Environment
from fedmerge import tensors
from fedmerge.checkpoint import Checkpoint


def task(**options: Any) -> fedmerge.Task:
    return next(fedmerge.connect(**options))


def test_a_base_is_what_was_saved(command: Environment, small: dict[str, Any]) -> None:
    command(small)
    base = task().base("numpy")
    assert set(base) == set(small)
    for name, value in small.items():
        np.testing.assert_array_equal(base[name], value)
        assert base[name].dtype == value.dtype


def test_what_is_saved_opens_in_the_safetensors_library_and_the_other_way_round(tmp_path: Path, small: dict[str, Any]) -> None:
    fedmerge.save(small, tmp_path / "ours")
    theirs = load_file(tmp_path / "ours")
    assert all((theirs[name] == value).all() for name, value in small.items())
    save_file({**small, "empty": np.zeros((0, 3), np.float32)}, tmp_path / "theirs")
    ours = tensors.read(Checkpoint(tmp_path / "theirs"), "numpy")
    assert all((ours[name] == value).all() for name, value in small.items())
    assert ours["empty"].shape == (0, 3)


def test_what_is_written_into_a_base_changes_neither_the_file_nor_the_next_reading(
    command: Environment, small: dict[str, Any]
) -> None:
    command(small)
    given = task()
    given.base("numpy")["weight"][:] = 99.0
    np.testing.assert_array_equal(given.base("numpy")["weight"], small["weight"])
    np.testing.assert_array_equal(load_file(given.base_path)["weight"], small["weight"])


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (lambda state: state.pop("bias"), "bias", "missing"),
        (lambda state: state.update(head=state["bias"]), "head", "not in the base"),
        (lambda state: state.update(weight=state["weight"].T), "weight", "[3, 2]"),
        (lambda state: state.update(steps=np.zeros(2, np.int64)), "steps", "[2]"),
        (lambda state: state.update(bias=np.array([1, 2])), "bias", "I64"),
        (lambda state: state.update(bias=[1.0, 2.0]), "bias", "list"),
        (lambda state: state.update(bias=np.array(["a", "b"])), "bias", "str"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_the_name_of_its_tensor(
    command: Environment, small: dict[str, Any], change: Any, name: str, words: str
) -> None:
    out = command(small)
    given = task()
    state = dict(small)
    change(state)
    with pytest.raises(fedmerge.CheckpointError, match=name) as caught:
        given.submit(state, num_examples=5)
    assert caught.value.tensor == name
    assert caught.value.reason == "bad-checkpoint"
    assert words in str(caught.value)
    assert not out.exists()
    # Nothing has happened: the task is open.
    assert given.submit(small, num_examples=5)


def test_a_misspelt_tensor_is_guessed(command: Environment, small: dict[str, Any]) -> None:
    command(small)
    state = {"weights" if name == "weight" else name: value for name, value in small.items()}
    with pytest.raises(fedmerge.SchemaError, match="is weights meant"):
        task().submit(state, num_examples=1)


def test_arrays_of_any_order_and_float_are_written_as_they_are(command: Environment, small: dict[str, Any]) -> None:
    out = command(small)
    state = dict(small, weight=np.asfortranarray(small["weight"] * 2), bias=small["bias"].astype(">f4"))
    task().submit(state, num_examples=5)
    written = load_file(out)
    np.testing.assert_array_equal(written["weight"], small["weight"] * 2)
    np.testing.assert_array_equal(written["bias"], small["bias"])


def test_float64_is_rounded_to_the_nearest_float32_and_float16_stays(command: Environment, small: dict[str, Any]) -> None:
    out = command(small)
    state = dict(small, weight=small["weight"].astype(np.float64) + 0.1, bias=small["bias"].astype(np.float16))
    task().submit(state, num_examples=5)
    written = load_file(out)
    np.testing.assert_array_equal(written["weight"], (small["weight"].astype(np.float64) + 0.1).astype(np.float32))
    assert written["bias"].dtype == np.float16


def test_what_is_no_float_is_kept_as_in_the_base_and_said_once(
    command: Environment, small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    out = command(small)
    tensors._told.clear()
    with caplog.at_level(logging.INFO, "fedmerge"):
        for _ in range(2):
            task().submit(dict(small, steps=np.array(8, np.int64)), num_examples=5)
    assert load_file(out)["steps"] == 7
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "steps (I64)" in caplog.text


def test_a_file_that_is_no_checkpoint_is_refused_with_its_path(tmp_path: Path) -> None:
    for content in [
        b"",
        b"short",
        b"\xff" * 64,
        (20).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}',
        (2).to_bytes(8, "little") + b"[]",
    ]:
        path = tmp_path / "broken.safetensors"
        path.write_bytes(content)
        with pytest.raises(fedmerge.CheckpointError, match=r"broken\.safetensors"):
            Checkpoint(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 80]},
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]},
    ],
)
def test_a_tensor_that_cannot_be_is_refused_by_its_name(tmp_path: Path, entry: dict[str, Any]) -> None:
    import json

    header = json.dumps({"weight": entry}).encode()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(fedmerge.CheckpointError) as caught:
        Checkpoint(tmp_path / "a")
    assert caught.value.tensor == "weight"


def test_nothing_half_written_is_left_when_a_tensor_cannot_be_made(tmp_path: Path) -> None:
    from fedmerge.checkpoint import Part, write

    def burst() -> bytes:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        write(tmp_path / "out", [Part("a", "F32", (2,), burst)])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(fedmerge.CheckpointError, match="cannot be written"):
        write(tmp_path / "absent" / "out", [])
