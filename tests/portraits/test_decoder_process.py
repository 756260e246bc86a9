"""Pictures that were sent, decoded in a process of its own."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import PortraitError
from realtime.core.background_task import BackgroundTask
from realtime.core.child_process import environment
from realtime.portraits import decoder_process
from realtime.portraits.image_file import read_upload
from tests.support.waiting import until

LARGEST = 1_000_000


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    """Of noise, partly transparent."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_read_as_it_would_be_here() -> None:
    apart = decoder_process.Decoders().decode(png(), "é\n.png", LARGEST, 20.0)
    here = read_upload(png(), "é\n.png", LARGEST)
    assert (apart.image == here.image).all()
    assert apart.notes == here.notes != ()


@pytest.mark.parametrize("data", [b"", b"no picture", png()[:-100], png((2000, 600))])
def test_what_cannot_be_read_is_refused_in_the_same_words(data: bytes) -> None:
    with pytest.raises(PortraitError) as here:
        read_upload(data, "x.png", LARGEST)
    with pytest.raises(PortraitError) as apart:
        decoder_process.Decoders().decode(data, "x.png", LARGEST, 20.0)
    assert (str(apart.value), apart.value.cure) == (str(here.value), here.value.cure)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_a_picture_gets_no_more_memory_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "_MEMORY", 1 << 20)
    with pytest.raises(PortraitError):
        decoder_process.Decoders().decode(png((600, 600)), "x.png", LARGEST, 20.0)


def test_a_decoder_that_takes_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "_COMMAND", [sys.executable, "-c", "import time; time.sleep(100)"])
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        decoder_process.Decoders().decode(png(), "x.png", LARGEST, 0.1)
    assert time.monotonic() - began < 10


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such timer")
def test_a_decoder_whose_program_is_gone_ends_by_itself() -> None:
    # it never comes back from one call into C
    script = "from realtime.portraits import decoder_process as d; d.read_upload = lambda *_: 3 ** 10**9; d.main()"
    limits = {"name": "x.png", "largest": LARGEST, "memory": 2 << 30, "cpu_s": 20, "within_s": 0.2}
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, env=environment())
    try:
        process.communicate(json.dumps(limits).encode() + b"\n", timeout=10)
        assert process.returncode == -signal.SIGALRM
    finally:
        process.kill()
        process.wait()


def test_decoders_at_work_end_with_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(100)"
    monkeypatch.setattr(decoder_process, "_COMMAND", [sys.executable, "-c", script, str(begun)])
    decoders = decoder_process.Decoders()
    work = BackgroundTask("decode", lambda: decoders.decode(png(), "x.png", LARGEST, 20.0))
    work.start()
    until(begun.exists, "the decoder does not begin")
    decoders.close()
    assert work.wait(5)
    for attempt in (work.result, lambda: decoders.decode(png(), "x.png", LARGEST, 20.0)):
        with pytest.raises(PortraitError):
            attempt()


@pytest.mark.parametrize("script", ["import os; os.abort()", "pass", "print('{}'); raise SystemExit(1)"])
def test_a_decoder_that_crashes_is_the_pictures_fault(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(decoder_process, "_COMMAND", [sys.executable, "-c", script])
    with pytest.raises(PortraitError, match="decoder has failed"):
        decoder_process.Decoders().decode(png(), "x.png", LARGEST, 20.0)
