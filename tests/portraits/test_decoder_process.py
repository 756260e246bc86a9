"""Uploaded images, decoded in a process of their own."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import BusyError, PortraitError
from realtime.core.background_task import BackgroundTask
from realtime.core.child_process import environment
from realtime.portraits import decoder_process
from realtime.portraits.decoder_process import DecoderProcesses
from realtime.portraits.image_file import read_upload
from tests.support.waiting import until

MAX_PIXELS = 1_000_000
ENDLESS = [sys.executable, "-c", "import time; time.sleep(100)"]


@pytest.fixture
def decoders() -> Iterator[DecoderProcesses]:
    with DecoderProcesses() as opened:
        yield opened


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    """Return a PNG file of noise, partly transparent."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def test_an_image_is_read_as_in_this_process(decoders: DecoderProcesses) -> None:
    here = read_upload(png(), "é\n.png", MAX_PIXELS)
    for _ in range(2):
        apart = decoders.decode(png(), "é\n.png", MAX_PIXELS, 20.0)
        assert (apart.image == here.image).all()
        assert apart.notes == here.notes != ()


@pytest.mark.parametrize("data", [b"", b"no picture", png()[:-100], png((2000, 600))])
def test_an_error_crosses_the_process_boundary_unchanged(decoders: DecoderProcesses, data: bytes) -> None:
    with pytest.raises(PortraitError) as here:
        read_upload(data, "x.png", MAX_PIXELS)
    with pytest.raises(PortraitError) as apart:
        decoders.decode(data, "x.png", MAX_PIXELS, 20.0)
    assert apart.value.to_dict() == here.value.to_dict()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_memory_is_limited(decoders: DecoderProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "_MAX_MEMORY", 1 << 20)
    with pytest.raises(PortraitError):
        decoders.decode(png((600, 600)), "x.png", MAX_PIXELS, 20.0)


def test_a_decoder_that_takes_too_long_is_ended(decoders: DecoderProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "_COMMAND", ENDLESS)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        decoders.decode(png(), "x.png", MAX_PIXELS, 0.1)
    assert time.monotonic() - began < 10


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such timer")
def test_a_decoder_whose_parent_has_ended_ends_by_itself() -> None:
    # one call into C that never returns
    script = "from realtime.portraits import decoder_process as d; d.read_upload = lambda *_: 3 ** 10**9; d.main()"
    limits = {"name": "x.png", "max_pixels": MAX_PIXELS, "memory": 2 << 30, "cpu_s": 20, "timeout_s": 0.2}
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, env=environment())
    try:
        process.communicate(json.dumps(limits).encode() + b"\n", timeout=10)
        assert process.returncode == -signal.SIGALRM
    finally:
        process.kill()
        process.wait()


def test_a_spare_whose_parent_has_ended_ends_by_itself() -> None:
    process = subprocess.Popen(decoder_process._COMMAND, stdin=subprocess.PIPE, env=environment())
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_decoders_end_with_the_program(
    decoders: DecoderProcesses, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    script = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(100)"
    monkeypatch.setattr(decoder_process, "_COMMAND", [sys.executable, "-c", script, str(begun)])
    work = BackgroundTask("decode", lambda: decoders.decode(png(), "x.png", MAX_PIXELS, 20.0))
    work.start()
    until(begun.exists, "the decoder does not begin")
    decoders.close()
    decoders.close()
    assert work.wait(5)
    for attempt in (work.result, lambda: decoders.decode(png(), "x.png", MAX_PIXELS, 20.0)):
        with pytest.raises(BusyError) as caught:
            attempt()
        assert caught.value.code == "upload-closed"


def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Return a list that every process started from now on is added to."""
    processes = []
    start = decoder_process._start

    def counted() -> subprocess.Popen[bytes]:
        processes.append(start())
        return processes[-1]

    monkeypatch.setattr(decoder_process, "_start", counted)
    return processes


def test_the_process_of_the_next_image_is_started_ahead(
    decoders: DecoderProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = started(monkeypatch)
    for count in (2, 3):
        decoders.decode(png(), "x.png", MAX_PIXELS, 20.0)
        assert len(processes) == count
    decoders.close()
    assert all(process.returncode is not None for process in processes)


def test_a_spare_that_has_ended_is_replaced(decoders: DecoderProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = started(monkeypatch)
    decoders.decode(png(), "x.png", MAX_PIXELS, 20.0)
    spare = processes[-1]
    spare.kill()
    spare.wait()
    image, _ = decoders.decode(png(), "x.png", MAX_PIXELS, 20.0)
    assert image.shape == (30, 40, 3)
    assert processes[-1] is not spare


@pytest.mark.parametrize("script", ["import os; os.abort()", "pass", "print('{}'); raise SystemExit(1)"])
def test_a_decoder_that_crashes_is_an_error_of_the_image(
    decoders: DecoderProcesses, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(decoder_process, "_COMMAND", [sys.executable, "-c", script])
    with pytest.raises(PortraitError) as caught:
        decoders.decode(png(), "x.png", MAX_PIXELS, 20.0)
    assert caught.value.code == "portrait-decoder-failed"
