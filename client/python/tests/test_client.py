"""Scripts as clients by themselves, and beside those that `fedmerge client run` starts: against a real server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedmerge
from hub import PATIENCE_SECONDS, Hub, ended

Federation = Callable[..., Hub]

# Adds a number to every value of the base, in each round.
LOOP = """
import sys, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        state = {name: value + float(sys.argv[2]) for name, value in task.base("numpy").items()}
        assert task.progress(1.0, loss=0.5)
        assert task.submit(state, num_examples=int(sys.argv[3]), metrics={"accuracy": 0.5})
print("left in order")
"""


def base() -> dict[str, Any]:
    return {"weight": np.zeros((4, 3), np.float32), "bias": np.ones(3, np.float32)}


def reason_of(shown: dict[str, Any], client: str) -> str:
    found = next(line for line in shown["clients"] if line["client"] == client)
    return json.dumps(found)


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < end, f"{path} is not there"
        time.sleep(0.02)


def test_a_script_by_itself_and_one_that_is_a_command_hold_a_federation_to_its_end(
    federation: Federation, tmp_path: Path
) -> None:
    hub = federation(base(), rounds=3)
    command = tmp_path / "train.py"
    command.write_text(LOOP.replace("connect(dir=sys.argv[1])", "connect()").replace('print("left in order")', ""))
    alone = hub.start_script(LOOP, str(hub.client("ward-1")), "1.0", "10")
    started = hub.start_command("ward-2", f"{command} - 4.0 20")
    assert "left in order" in ended(alone)
    assert "the federation ended" in ended(started)
    for number in range(1, 4):
        model = load_file(hub.model(number))
        # The mean of 1 and 4, the second of twice the weight, in each round.
        np.testing.assert_allclose(model["weight"], 3.0 * number, rtol=1e-6)
        np.testing.assert_allclose(model["bias"], 1.0 + 3.0 * number, rtol=1e-6)


def test_the_tasks_come_to_a_coroutine_that_does_other_things_meanwhile(federation: Federation) -> None:
    hub = federation(base(), rounds=2, clients=1)
    script = """
import asyncio, sys, fedmerge

async def main():
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    rounds = []
    async with fedmerge.connect(dir=sys.argv[1]) as federation:
        try:
            await asyncio.wait_for(anext(federation), 0.001)
        except asyncio.TimeoutError:
            pass
        # A wait that was given up has lost nothing.
        async for task in federation:
            rounds.append(task.round)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(task.submit, task.base("numpy"), num_examples=1)
    ticking.cancel()
    print(rounds, ticks > 5)

asyncio.run(main())
"""
    assert "[1, 2] True" in ended(hub.start_script(script, str(hub.client("ward-1"))))


def test_a_script_that_forgets_to_submit_declines_with_words_and_is_told(federation: Federation) -> None:
    hub = federation(base(), rounds=1, clients=1)
    script = """
import sys, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        pass
"""
    printed = ended(hub.start_script(script, str(hub.client("ward-1"))), 1)
    assert "NotSubmittedError: the script did not call task.submit(…) in round 1" in printed
    found = reason_of(hub.round(1), "ward-1")
    assert "trainer-failed" in found, found
    assert "did not call task.submit" in found


def test_a_script_that_raises_declines_with_its_last_words(federation: Federation) -> None:
    hub = federation(base(), rounds=1, clients=1)
    script = """
import sys, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        raise RuntimeError("no data for ward 3")
"""
    printed = ended(hub.start_script(script, str(hub.client("ward-1"))), 1)
    assert "RuntimeError: no data for ward 3" in printed
    found = reason_of(hub.round(1), "ward-1")
    assert "trainer-failed" in found
    assert "no data for ward 3" in found


def test_a_function_that_raises_costs_its_round_and_the_client_goes_on(federation: Federation) -> None:
    hub = federation(base(), rounds=2, clients=1)
    script = """
import sys, fedmerge

@fedmerge.train
def train(task):
    if task.round == 1:
        raise RuntimeError("once")
    return task.base("numpy"), 3

fedmerge.run(dir=sys.argv[1])
print("left in order")
"""
    assert "left in order" in ended(hub.start_script(script, str(hub.client("ward-1"))))
    assert "trainer-failed" in reason_of(hub.round(1), "ward-1")
    assert hub.round(2)["accepted"] == 1


def test_a_script_may_give_a_task_back(federation: Federation) -> None:
    hub = federation(base(), rounds=2, clients=1)
    script = """
import sys, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        if task.round == 1:
            task.decline("the data is being moved")
        else:
            task.submit(task.base("numpy"), num_examples=1)
"""
    ended(hub.start_script(script, str(hub.client("ward-1"))))
    assert "the data is being moved" in reason_of(hub.round(1), "ward-1")
    assert hub.round(2)["accepted"] == 1


def test_an_interrupt_while_training_gives_the_task_back_and_the_client_stays_enrolled(
    federation: Federation, tmp_path: Path
) -> None:
    hub = federation(base(), rounds=2, clients=1)
    script = """
import pathlib, sys, time, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        pathlib.Path(sys.argv[2]).touch()
        time.sleep(600)
"""
    training = tmp_path / "training"
    running = hub.start_script(script, str(hub.client("ward-1")), str(training))
    wait_for(training)
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=PATIENCE_SECONDS)
    assert "KeyboardInterrupt" in printed
    assert "interrupted" in reason_of(hub.round(1), "ward-1")
    assert "left in order" in ended(hub.start_script(LOOP, str(hub.client("ward-1")), "1.0", "1"))
    assert hub.round(2)["accepted"] == 1


def test_a_script_that_is_killed_goes_on_with_its_round_when_it_is_started_again(
    federation: Federation, tmp_path: Path
) -> None:
    hub = federation(base(), rounds=1, clients=1, grace="60s")
    script = """
import pathlib, sys, time, fedmerge
for task in fedmerge.connect(dir=sys.argv[1]):
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(600)
"""
    training = tmp_path / "training"
    running = hub.start_script(script, str(hub.client("ward-1")), str(training))
    wait_for(training)
    running.kill()
    running.communicate(timeout=PATIENCE_SECONDS)
    assert "left in order" in ended(hub.start_script(LOOP, str(hub.client("ward-1")), "1.0", "1"))
    assert hub.round(1)["accepted"] == 1


def test_an_interrupt_while_waiting_ends_at_once(federation: Federation) -> None:
    hub = federation(base(), clients=2)
    running = hub.start_script(LOOP, str(hub.client("ward-1")), "1.0", "1")
    assert running.stdout is not None
    for line in running.stdout:
        if "waiting" in line:
            break
    begun = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in running.communicate(timeout=PATIENCE_SECONDS)[0]
    assert time.monotonic() - begun < 5


def test_a_second_process_on_the_directory_is_told_of_the_first(federation: Federation, tmp_path: Path) -> None:
    hub = federation(base(), clients=2)
    with fedmerge.connect(dir=hub.client("ward-1")):
        with pytest.raises(fedmerge.TemporaryError, match=r"another fedmerge process \(pid \d+\) uses") as caught:
            fedmerge.connect(dir=hub.client("ward-1"))
        assert (caught.value.exit_code, caught.value.reason) == (75, "temporary")
        assert "directory of its own" in (caught.value.hint or "")
        printed = ended(hub.start_script(LOOP, str(hub.client("ward-1")), "1.0", "1"), 1)
        assert "another fedmerge process" in printed
    # Who has left has left the directory, too.
    fedmerge.connect(dir=hub.client("ward-1")).close()


def test_a_directory_that_is_not_enrolled_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(fedmerge.BadConfigurationError, match="not the directory of an enrolled client") as caught:
        fedmerge.connect(dir=tmp_path)
    assert "fedmerge client enrol" in (caught.value.hint or "")
    assert caught.value.exit_code == 78
    with pytest.raises(ValueError, match="for-ever"):
        fedmerge.connect(dir=tmp_path, stay="for-ever")  # type: ignore[arg-type]


def test_a_fork_neither_submits_nor_stops_the_client(federation: Federation) -> None:
    hub = federation(base(), rounds=1, clients=1)
    script = """
import os, sys, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        child = os.fork()
        if child == 0:
            try:
                task.submit(task.base("numpy"), num_examples=1)
            except fedmerge.ForkedProcessError:
                # All that a process does that ends by itself: finalizers and the end of the with.
                sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert task.submit(task.base("numpy"), num_examples=1)
print("left in order")
"""
    assert "left in order" in ended(hub.start_script(script, str(hub.client("ward-1"))))
    assert hub.round(1)["accepted"] == 1


def test_workers_of_a_process_pool_do_not_disturb_the_client(federation: Federation) -> None:
    hub = federation(base(), rounds=2, clients=1)
    script = """
import multiprocessing, sys, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
        task.submit(task.base("numpy"), num_examples=1)
print("left in order")
"""
    assert "left in order" in ended(hub.start_script(script, str(hub.client("ward-1"))))


def test_whoever_is_late_is_told_and_loses_nothing_but_the_work(federation: Federation, tmp_path: Path) -> None:
    hub = federation(base(), rounds=2, clients=2, quorum=1, deadline="2s")
    script = """
import pathlib, sys, time, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        if task.round == 1:
            pathlib.Path(sys.argv[2]).touch()
            end = time.monotonic() + 60
            while task.progress(0.5) and time.monotonic() < end:
                time.sleep(0.05)
            print("taken:", task.submit(task.base("numpy"), num_examples=1), flush=True)
        else:
            task.submit(task.base("numpy"), num_examples=1)
"""
    late = hub.start_script(script, str(hub.client("ward-1")), str(tmp_path / "training"))
    timely = hub.start_script(LOOP, str(hub.client("ward-2")), "1.0", "1")
    printed = ended(late)
    ended(timely)
    assert "taken: False" in printed
    assert hub.round(1)["accepted"] == 1


def test_a_task_that_nobody_waits_for_may_be_passed_over(federation: Federation) -> None:
    hub = federation(base(), rounds=2, clients=2, quorum=1, deadline="2s")
    script = """
import sys, time, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        while task.round == 1 and task.progress(0.5):
            time.sleep(0.05)
        if not task.is_wanted:
            print("passed over")
            continue
        task.submit(task.base("numpy"), num_examples=1)
"""
    late = hub.start_script(script, str(hub.client("ward-1")))
    ended(hub.start_script(LOOP, str(hub.client("ward-2")), "1.0", "1"))
    assert "passed over" in ended(late)


def test_a_state_that_does_not_fit_is_declined_as_a_bad_checkpoint_and_its_tensor_is_named(federation: Federation) -> None:
    hub = federation(base(), rounds=1, clients=1)
    script = LOOP.replace('task.base("numpy").items()}', 'task.base("numpy").items() if name != "bias"}')
    printed = ended(hub.start_script(script, str(hub.client("ward-1")), "1.0", "1"), 1)
    assert "SchemaError: tensor bias of the base is missing" in printed
    found = reason_of(hub.round(1), "ward-1")
    assert "bad-checkpoint" in found
    assert "tensor bias of the base is missing" in found
    assert "line " not in found, "where it was raised is the site's business"


def test_the_outcome_of_an_update_can_be_waited_for(federation: Federation) -> None:
    hub = federation(base(), rounds=2, clients=1)
    outcomes: list[Any] = []
    with fedmerge.connect(dir=hub.client("ward-1")) as federation_:
        for task in federation_:
            state = task.base("numpy")
            if task.round == 1:
                state["weight"][0, 0] = np.nan
            task.submit(state, num_examples=1)
            try:
                outcomes.append(task.outcome(timeout=30))
            except (fedmerge.RejectedError, fedmerge.DeclinedError) as error:
                outcomes.append((error.reason, error.round))
    assert outcomes[0][1] == 1
    assert outcomes[0][0] in ("non-finite", "bad-checkpoint")
    assert outcomes[1] is None


def test_models_are_measured_for_the_gate_between_tasks(federation: Federation) -> None:
    plan = '[evaluate]\nmetric = "accuracy"\naccept = { min_gain = 0.0 }'
    hub = federation(base(), rounds=2, plan=plan)
    script = LOOP.replace(
        "connect(dir=sys.argv[1])",
        'connect(dir=sys.argv[1], evaluate=lambda model: (7, {"accuracy": float(model["bias"].sum())}), tensors="numpy")',
    )
    running = [hub.start_script(script, str(hub.client(name)), step, "1") for name, step in [("ward-1", "1"), ("ward-2", "2")]]
    for process in running:
        assert "evaluated model" in ended(process)
    assert "published" in json.dumps(hub.round(2)["outcome"])


def test_an_evaluator_that_raises_is_declined_and_the_client_goes_on(federation: Federation) -> None:
    plan = '[evaluate]\nmetric = "accuracy"\naccept = { min_gain = 0.0 }'
    hub = federation(base(), rounds=1, plan=plan)
    script = LOOP.replace("connect(dir=sys.argv[1])", "connect(dir=sys.argv[1], evaluate=lambda model: 1 / 0)")
    running = [hub.start_script(script, str(hub.client(name)), "1", "1") for name in ("ward-1", "ward-2")]
    for process in running:
        printed = ended(process)
        assert "ZeroDivisionError" in printed
        assert "left in order" in printed


def test_leaving_the_loop_delivers_what_was_submitted(federation: Federation) -> None:
    hub = federation(base(), rounds=2, clients=1)
    script = """
import sys, fedmerge
with fedmerge.connect(dir=sys.argv[1]) as federation:
    for task in federation:
        task.submit(task.base("numpy"), num_examples=1)
        break
print("left in order")
"""
    assert "left in order" in ended(hub.start_script(script, str(hub.client("ward-1"))))
    assert hub.round(1)["accepted"] == 1


def test_the_client_s_log_is_python_s(federation: Federation) -> None:
    hub = federation(base(), rounds=1, clients=1)
    script = "import logging\nlogging.basicConfig(level=logging.DEBUG, format='%(name)s|%(levelname)s|%(message)s')\n" + LOOP
    printed = ended(hub.start_script(script, str(hub.client("ward-1")), "1.0", "1"))
    assert "fedmerge.client|INFO|round 1: accepted" in printed
    assert "fedmerge.client.link|INFO|greeted" in printed
    assert "fedmerge.client.driver|DEBUG|" in printed


def test_a_script_that_only_loops_leaves_when_it_ends(federation: Federation) -> None:
    hub = federation(base(), rounds=1, clients=2)
    script = """
import sys, fedmerge
for task in fedmerge.connect(dir=sys.argv[1]):
    sys.exit("the script is over")
"""
    running = [hub.start_script(script, str(hub.client(name))) for name in ("ward-1", "ward-2")]
    for process in running:
        assert "the script is over" in ended(process, 1)
    assert "interrupted" in json.dumps(hub.round(1)["clients"])
