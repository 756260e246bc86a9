"""The whole program with its page, as a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
Program = tuple["subprocess.Popen[str]", str]
"""The process and the address of its page."""


@contextlib.contextmanager
def program(folder: Path, *options: str, **environment: str) -> Iterator[Program]:
    """Start the program with its page on a free port, and return it once it has printed the address."""
    log = folder / "log.txt"
    arguments = [sys.executable, str(ROOT / "run.py"), *options]
    with log.open("w") as out:
        running = subprocess.Popen(
            arguments, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=os.environ | environment, text=True
        )
    try:
        deadline = time.monotonic() + 120
        address = None
        while address is None:
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            address = re.search(r"^page +(http\S+)", log.read_text(), re.MULTILINE)
            time.sleep(0.05)
        yield running, address[1]
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(4)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
