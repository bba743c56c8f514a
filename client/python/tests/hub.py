"""A federation of real processes on this machine: a server, and clients that are enrolled with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fedmerge

PATIENCE_SECONDS = 60.0


class Hub:
    """A server that serves, with its base and plan."""

    def __init__(
        self,
        program: Path,
        root: Path,
        base: dict[str, Any],
        *,
        rounds: int = 3,
        clients: int = 2,
        names: list[str] | None = None,
        plan: str = "",
        encodings: str = '["f32"]',
        method: str = "mean",
        quorum: int | None = None,
        deadline: str = "2m",
        grace: str = "2s",
    ) -> None:
        self.program, self.root, self.directory = program, root, root / "hub"
        root.mkdir(parents=True)
        fedmerge.save(base, root / "base.safetensors")
        self.run("server", "init", self.directory, "--name", "digits", "--base", root / "base.safetensors")
        cohort = f"cohort = {{ target = {clients} }}, quorum = {quorum or clients}, allow_small_quorum = true"
        text = f"""name = "digits"
base = "../base.safetensors"
round = {{ count = {rounds}, {cohort}, deadline = "{deadline}", grace = "{grace}" }}
merge = {{ method = "{method}" }}
update = {{ encodings = {encodings} }}
{plan}
"""
        (self.directory / "federation.toml").write_text(text)
        self._start()
        token = self.run("server", "token", "create", "--dir", self.directory, "--uses", "20").strip()
        self.clients = names or [f"ward-{number + 1}" for number in range(clients)]
        for name in self.clients:
            self.run("client", "enrol", "--server", self.address, "--token", token, "--dir", root / name, "--name", name)

    def _start(self) -> None:
        self.log = self.root / "server.log"
        command = [self.program, "server", "run", "--dir", self.directory, "--listen", "127.0.0.1:0", "--format", "json"]
        with open(self.log, "wb") as log:
            self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.server.stdout is not None
        for line in self.server.stdout:
            event = json.loads(line)
            if event.get("event") == "listening":
                self.address = f"https://{event['address']}"
                return
        raise AssertionError(f"the server ended: {self.log.read_text()}")

    def run(self, *arguments: str | Path) -> str:
        """Runs the program to its end; answers what it printed."""
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def client(self, name: str) -> Path:
        """The directory of an enrolled client."""
        return self.root / name

    def start_command(self, name: str, script: Path | str, *more: str) -> subprocess.Popen[str]:
        """Starts `fedmerge client run` with a script of Python."""
        train = f"{sys.executable} {script}"
        command = [self.program, "client", "run", "--dir", self.client(name), "--train", train, *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def start_script(self, text: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts a script of Python by itself."""
        command = [sys.executable, "-c", text, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def round(self, number: int) -> dict[str, Any]:
        """What the ledger says of a round that is over; waits for that."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            listed = self.run("server", "rounds", "list", "--all", "--format", "json", "--dir", self.directory)
            for line in listed.splitlines():
                found: dict[str, Any] = json.loads(line)
                if found["round"] == number and found.get("outcome"):
                    shown = self.run("server", "rounds", "show", str(number), "--format", "json", "--dir", self.directory)
                    return json.loads(shown)  # type: ignore[no-any-return]
            time.sleep(0.1)
        raise AssertionError(f"round {number} is not over: {self.log.read_text()}")

    def model(self, version: int) -> Path:
        """A published model."""
        return self.directory / "models" / str(version) / "model.safetensors"

    def stop(self) -> None:
        """Ends the server."""
        self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        if self.server.stdout:
            self.server.stdout.close()


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a process printed that ended with this code."""
    printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == code, printed
    return printed
