"""Each example, by the commands of its own header: a server, two clients, and a model that has learnt."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {
    "softmax_numpy.py": "numpy",
    "cnn_torch.py": "torch",
    "linear_sklearn.py": "sklearn",
    "lora_transformers.py": "peft",
    "flower_client.py": "flwr.client",
    "shell_trainer.sh": "numpy",
}
PLAN = 'round = { count = 3, cohort = { target = 2 }, quorum = 2, allow_small_quorum = true, deadline = "2m" }\n'


def commands(example: Path) -> list[str]:
    """The commands of the header, without what is done once in the repository."""
    text = example.read_text().split('"""')[1] if example.suffix == ".py" else example.read_text()
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if re.match(r"^(#  )?   \s*\S", line)]
    return [line for line in lines if line and not line.startswith(("pip ", "cd "))]


def test_every_example_is_tested() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_file()) == sorted(NEEDS)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_the_commands_of_an_example_hold_a_federation(name: str, program: Path, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[name])
    found = commands(EXAMPLES / name)
    assert sum("client enrol" in line for line in found) == 2, found
    bin_path = tmp_path / "bin"
    bin_path.mkdir()
    (bin_path / "fedmerge").symlink_to(program)
    shutil.copy(EXAMPLES / name, tmp_path)
    # Everything as it stands, but for the number of rounds and a port that nobody else has.
    script = ["set -e"]
    for line in found:
        if "server run" in line:
            script.append("cp plan hub/federation.toml")
            script.append(f"{line.removesuffix('&')} --listen 127.0.0.1:0 --format json > server.log & echo $! > server.pid")
            script.append("until grep -q listening server.log; do sleep 0.1; done")
            script.append('address=$(sed -n \'s/.*"address":"\\([^"]*\\)".*/\\1/p\' server.log | head -1)')
        else:
            script.append(line.replace("https://localhost:7600", "https://$address"))
    script.append("wait %2 2>/dev/null || true; echo done")
    (tmp_path / "plan").write_text(f'name = "{_name(found)}"\nbase = "../base.safetensors"\n{PLAN}')
    environment = {**os.environ, "PATH": f"{bin_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("FEDMERGE_TOKEN", None)
    running = subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for_rounds(program, tmp_path, running)
    finally:
        if (tmp_path / "server.pid").exists():
            os.kill(int((tmp_path / "server.pid").read_text()), signal.SIGTERM)
        running.wait(60)


def _name(found: list[str]) -> str:
    return next(re.search(r"--name (\S+) --base", line).group(1) for line in found if "server init" in line)  # type: ignore[union-attr]


def _wait_for_rounds(program: Path, place: Path, running: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if (place / "hub" / "models" / "3" / "model.safetensors").exists():
            listed = subprocess.run(
                [program, "server", "rounds", "list", "--dir", "hub", "--format", "json"],
                cwd=place,
                capture_output=True,
                text=True,
            ).stdout
            assert listed.count('"accepted":2') == 3, listed
            return
        if running.poll() is not None and running.returncode != 0:
            break
        time.sleep(0.2)
    running.kill()
    raise AssertionError(running.communicate()[0])
