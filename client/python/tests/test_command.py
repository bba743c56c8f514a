"""A script as a command of a client's: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedmerge
from conftest import Environment
from fedmerge import functions


def lines(printed: str) -> list[Any]:
    return [json.loads(line) for line in printed.splitlines() if line]


def test_the_loop_reads_the_base_and_answers_with_a_checkpoint_and_a_line(
    command: Environment, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = command(small)
    rounds = []
    with fedmerge.connect() as federation:
        for task in federation:
            state = task.base("numpy")
            state["weight"] += 1
            assert task.progress(0.5, loss=0.25)
            rounds.append((task.round, task.version, task.config["client"], task.is_evaluation))
            assert task.submit(state, num_examples=12, metrics={"accuracy": np.float32(0.5)})
    assert rounds == [(3, 2, "ward-1", False)]
    np.testing.assert_array_equal(load_file(out)["weight"], small["weight"] + 1)
    assert lines(capsys.readouterr().out) == [
        {"progress": 0.5, "loss": 0.25},
        {"num_examples": 12, "metrics": {"accuracy": 0.5}},
    ]


def test_a_line_begins_on_a_line_of_its_own_whatever_was_printed_before(
    command: Environment, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command(small)
    task = next(fedmerge.connect())
    print("epoch 1 ...", end="")
    task.submit(small, num_examples=1)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["num_examples"] == 1


def test_the_same_script_measures_where_there_is_no_place_for_a_checkpoint(
    command: Environment, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command(small, measures=True)

    def measure(model: dict[str, Any]) -> dict[str, float]:
        return {"accuracy": float(model["bias"].sum()), "num_examples": 36}

    with fedmerge.connect(evaluate=measure, tensors="numpy") as federation:
        assert list(federation) == []
    assert lines(capsys.readouterr().out) == [{"num_examples": 36, "metrics": {"accuracy": 0.0}}]
    for task in fedmerge.connect():
        assert task.is_evaluation
        with pytest.raises(fedmerge.WrongTaskError):
            task.submit(small, num_examples=1)
        assert task.evaluate(measure).num_examples == 36


def test_what_is_measured_on_the_base_goes_with_the_update(
    command: Environment, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command(small)
    task = next(fedmerge.connect())
    task.evaluate(lambda model: (9, {"loss": 2.0}))
    task.submit(small, num_examples=4, metrics={"loss": 1.0})
    assert lines(capsys.readouterr().out)[-1]["metrics"] == {"base_loss": 2.0, "loss": 1.0}


@pytest.mark.parametrize("count", [0, -3, 2.5, "many", None, True, float("nan")])
def test_a_count_of_examples_that_cannot_be_is_refused_before_anything_leaves(
    command: Environment, small: dict[str, Any], count: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = command(small)
    with pytest.raises(ValueError, match="num_examples is") as caught:
        next(fedmerge.connect()).submit(small, num_examples=count)
    assert isinstance(caught.value, fedmerge.FedmergeError)
    assert caught.value.reason == "examples"
    assert not out.exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("metrics", [{"loss": float("nan")}, {"loss": "low"}, {3: 1.0}, {"a" * 200: 1.0}, [1.0]])
def test_a_metric_that_cannot_be_is_refused(command: Environment, small: dict[str, Any], metrics: Any) -> None:
    command(small)
    with pytest.raises(fedmerge.InvalidClaimError):
        next(fedmerge.connect()).submit(small, num_examples=1, metrics=metrics)


def test_a_task_is_answered_once(command: Environment, small: dict[str, Any]) -> None:
    command(small)
    task = next(fedmerge.connect())
    task.submit(small, num_examples=1)
    with pytest.raises(fedmerge.AlreadySubmittedError):
        task.submit(small, num_examples=1)
    with pytest.raises(fedmerge.AlreadySubmittedError):
        task.decline("too late")


def test_a_script_that_forgets_to_submit_is_told_so(command: Environment, small: dict[str, Any]) -> None:
    command(small)
    with pytest.raises(fedmerge.NotSubmittedError, match="round 3") as caught, fedmerge.connect() as federation:
        for _ in federation:
            pass
    assert "decline" in (caught.value.hint or "")
    with pytest.raises(fedmerge.NotSubmittedError), fedmerge.connect() as federation:
        next(federation)


def test_a_decline_ends_the_command_with_a_code_and_the_reason(
    command: Environment, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command(small)
    with pytest.raises(SystemExit) as caught, fedmerge.connect() as federation:
        for task in federation:
            task.decline("no new data today")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "no new data today\n"


def test_the_tasks_come_to_a_coroutine_as_well(command: Environment, small: dict[str, Any]) -> None:
    out = command(small)

    async def main() -> None:
        async with fedmerge.connect() as federation:
            async for task in federation:
                await asyncio.to_thread(task.submit, small, num_examples=2)

    asyncio.run(main())
    assert out.exists()


def test_functions_serve_as_trainer_and_evaluator(
    command: Environment, small: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "_trainer", None)
    monkeypatch.setattr(functions, "_evaluator", None)
    command(small)
    with pytest.raises(fedmerge.TaskError, match="no trainer"):
        fedmerge.run()

    @fedmerge.train
    async def train(task: fedmerge.Task) -> Any:
        return task.base("numpy"), 7, {"loss": 0.5}

    @fedmerge.evaluate
    def evaluate(model: Any) -> Any:
        return {"accuracy": 1.0}, 3

    fedmerge.run()
    command(small, measures=True)
    fedmerge.run()
    assert lines(capsys.readouterr().out) == [
        {"num_examples": 7, "metrics": {"loss": 0.5}},
        {"num_examples": 3, "metrics": {"accuracy": 1.0}},
    ]
    command(small)
    with pytest.raises(fedmerge.NotSubmittedError):
        fedmerge.run(train=lambda task: None)


def test_of_several_processes_the_first_speaks(
    command: Environment, small: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = command(small)
    monkeypatch.setenv("RANK", "1")
    assert next(fedmerge.connect()).submit(small, num_examples=1)
    assert not out.exists()
    assert capsys.readouterr().out == ""


def test_a_fork_does_not_speak_for_the_process_that_connected(
    command: Environment, small: dict[str, Any], tmp_path: Path
) -> None:
    command(small)
    script = """
import os, fedmerge
with fedmerge.connect() as federation:
    for task in federation:
        child = os.fork()
        if child == 0:
            try:
                task.submit(task.base("numpy"), num_examples=1)
            except fedmerge.ForkedProcessError:
                os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        task.submit(task.base("numpy"), num_examples=1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "7"
    assert done.stdout.count("num_examples") == 1


def test_without_a_command_or_a_directory_there_is_no_federation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDMERGE_BASE", raising=False)
    with pytest.raises(fedmerge.NotConnectedError, match=r"dir=") as caught:
        fedmerge.connect()
    assert (caught.value.reason, caught.value.exit_code) == ("not-connected", 78)
