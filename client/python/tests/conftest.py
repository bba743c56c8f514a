"""What the tests share: environments of commands, and federations of real processes.

The program is taken from FEDMERGE_BIN; without it, whatever needs a federation is skipped, and says so.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedmerge
from hub import Hub

Environment = Callable[..., Path]


@pytest.fixture
def program() -> Path:
    """The program of the federation."""
    found = os.environ.get("FEDMERGE_BIN") or shutil.which("fedmerge")
    if not found or not Path(found).exists():
        pytest.skip("FEDMERGE_BIN does not name the program `fedmerge`: build it with `cargo build`")
    return Path(found)


@pytest.fixture
def federation(program: Path, tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Makes federations, and ends them."""
    running: list[Hub] = []

    def make(base: dict[str, Any], **plan: Any) -> Hub:
        hub = Hub(program, tmp_path / f"federation-{len(running)}", base, **plan)
        running.append(hub)
        return hub

    yield make
    for hub in running:
        hub.stop()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Makes this process a command of a client's, with a base of these tensors; answers where the checkpoint goes."""

    def be(base: dict[str, Any], *, measures: bool = False) -> Path:
        fedmerge.save(base, tmp_path / "base.safetensors")
        config = {
            "federation": "digits",
            "client": "ward-1",
            "round": 3,
            "base": {"version": 2},
            "deadline_ms": 1_800_000_000_000,
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        out = tmp_path / "out.safetensors"
        monkeypatch.setenv("FEDMERGE_BASE", str(tmp_path / "base.safetensors"))
        monkeypatch.setenv("FEDMERGE_ROUND", "3")
        monkeypatch.setenv("FEDMERGE_CONFIG", str(tmp_path / "config.json"))
        if measures:
            monkeypatch.delenv("FEDMERGE_OUT", raising=False)
        else:
            monkeypatch.setenv("FEDMERGE_OUT", str(out))
        return out

    return be


@pytest.fixture
def small() -> dict[str, Any]:
    """A base of a matrix, a vector and a counter."""
    return {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.array([1.0, -1.0], dtype=np.float32),
        "steps": np.array(7, dtype=np.int64),
    }
