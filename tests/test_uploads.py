"""Pictures that were sent, decoded in a process of its own."""

from __future__ import annotations

import io
import sys
import time

import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import PortraitError
from realtime import uploads
from realtime.pictures import read_upload

LARGEST = 1_000_000


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    """Of noise, partly transparent."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_read_as_it_would_be_here() -> None:
    apart = uploads.decode(png(), "é\n.png", LARGEST, 20.0)
    here = read_upload(png(), "é\n.png", LARGEST)
    assert (apart.image == here.image).all()
    assert apart.notes == here.notes != ()


@pytest.mark.parametrize("data", [b"", b"no picture", png()[:-100], png((2000, 600))])
def test_what_cannot_be_read_is_refused_in_the_same_words(data: bytes) -> None:
    with pytest.raises(PortraitError) as here:
        read_upload(data, "x.png", LARGEST)
    with pytest.raises(PortraitError) as apart:
        uploads.decode(data, "x.png", LARGEST, 20.0)
    assert (str(apart.value), apart.value.cure) == (str(here.value), here.value.cure)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_a_picture_gets_no_more_memory_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MEMORY", 1 << 20)
    with pytest.raises(PortraitError):
        uploads.decode(png((600, 600)), "x.png", LARGEST, 20.0)


def test_a_decoder_that_takes_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_COMMAND", [sys.executable, "-c", "import time; time.sleep(100)"])
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        uploads.decode(png(), "x.png", LARGEST, 0.1)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("script", ["import os; os.abort()", "pass", "print('{}'); raise SystemExit(1)"])
def test_a_decoder_that_crashes_is_the_pictures_fault(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(uploads, "_COMMAND", [sys.executable, "-c", script])
    with pytest.raises(PortraitError, match="decoder has failed"):
        uploads.decode(png(), "x.png", LARGEST, 20.0)
