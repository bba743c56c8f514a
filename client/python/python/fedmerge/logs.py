"""The client's log in Python's `logging`, under `fedmerge`.

What the native part has to say waits in a queue, and a thread of its own passes it on: the client's threads never wait for the
interpreter. Where the program has not set up logging, the client's own lines go to stderr, as `fedmerge client run` prints them.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading

from . import _native

_PAUSE_MS = 200
_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG, 5: logging.DEBUG}

logger = logging.getLogger("fedmerge")
_lock = threading.Lock()
_running: tuple[int, threading.Thread] | None = None
_stopping = threading.Event()


def start() -> None:
    """Begins to pass on, once in a process."""
    global _running
    with _lock:
        if _running is not None and _running[0] == os.getpid():
            return
        if not logger.hasHandlers():
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(message)s"))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        _native.start_log(5 if logger.isEnabledFor(logging.DEBUG) else 3)
        thread = threading.Thread(target=_pass_on, name="fedmerge-log", daemon=True)
        thread.start()
        _running = (os.getpid(), thread)
        # A thread that comes back from native code while the interpreter is taken down would take the process with it.
        atexit.register(_stop)


def flush() -> None:
    """Passes on what is there."""
    for level, target, text in _native.take_log():
        # `fedmerge_client::link` is `fedmerge.client.link`.
        name = target.replace("::", ".").replace("fedmerge_", "fedmerge.", 1)
        logging.getLogger(name).log(_LEVELS[level], "%s", text)


def _pass_on() -> None:
    while not _stopping.is_set():
        if _native.wait_for_log(_PAUSE_MS):
            flush()


def _stop() -> None:
    if _running is not None and _running[0] == os.getpid():
        _stopping.set()
        _running[1].join()
        flush()
