"""The main process's ends of the ring buffers: sources and sinks."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from engines.errors import SinkLost, SourceEnded, SourceLost, SourceMissing
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.webrtc import link_streams
from realtime.webrtc.ipc.frame_ring import RingFrame, RingReader, RingWriter
from realtime.webrtc.link_streams import LinkSink, LinkSource, to_rgb
from tests.support.rings import SIZE, ring_pair, write_number
from tools.support.webrtc_client import numbered, read_number


def ring_frame(pixels: Any, size: tuple[int, int]) -> RingFrame:
    return RingFrame(pixels.reshape(-1), size[0], size[1], 1, 0, 0)


def test_a_frame_becomes_rgb_and_keeps_its_aspect_ratio_when_the_size_changes() -> None:
    grey = numbered(SIZE, 0)
    grey[:] = 128
    assert to_rgb(ring_frame(grey, SIZE), SIZE).shape == (48, 64, 3)
    turned = to_rgb(ring_frame(grey, SIZE), (48, 64))
    assert turned.shape == (64, 48, 3)
    rows = turned.reshape(64, -1).max(axis=1)
    assert (rows[14:50] > 100).all()
    assert not rows[:14].any()
    assert not rows[50:].any()


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_streams, "READ_TIMEOUT_S", 0.01)


@pytest.mark.usefixtures("short_timeout")
def test_a_source_returns_frames_stalls_and_ends() -> None:
    writer, reader = ring_pair()
    write_number(writer, 5, 123)
    source = LinkSource(reader, 30.0, 1.0)
    assert (source.size, source.fps, source.live) == (SIZE, 30.0, True)
    frame = source.read()
    assert (frame.seq, frame.stamps.captured, frame.format) == (1, 123, PixelFormat.RGB)
    assert read_number(frame.pixels[:, :, 0]) == 5
    with pytest.raises(SourceLost) as stalled:
        source.read()
    assert stalled.value.code == "publisher-stalled"
    write_number(writer, 6, 456)
    assert source.read().seq == 2
    writer.close()
    with pytest.raises(SourceEnded) as ended:
        source.read()
    assert ended.value.code == "publisher-left"
    source.close()
    source.close()


@pytest.mark.usefixtures("short_timeout")
def test_a_publisher_that_sends_no_frame_is_missing() -> None:
    writer, reader = ring_pair()
    with pytest.raises(SourceMissing) as missing:
        LinkSource(reader, 30.0, 0.02)
    assert missing.value.code == "publisher-no-frame"
    assert missing.value.cure
    writer.close()
    with pytest.raises(SourceEnded):
        LinkSource(reader, 30.0, 1.0)
    reader.close()


def frame_of(number: int) -> Frame:
    return Frame(numbered(SIZE, number), PixelFormat.I420, number, Stamps(captured=77), 0)


def test_a_sink_never_waits_and_survives_its_reader() -> None:
    readers: list[RingReader] = []
    closed = threading.Event()

    def attach() -> RingWriter:
        writer, reader = ring_pair()
        readers.append(reader)
        return writer

    sink = LinkSink("x", attach, closed.set)
    sink.send(frame_of(1))
    frame = readers[0].take()
    assert frame is not None
    assert (frame.width, frame.height, frame.captured_ns) == (*SIZE, 77)
    readers[0].close()
    sink.send(frame_of(2))
    sink.attach_again()
    sink.send(frame_of(3))
    frame = readers[1].take()
    assert frame is not None
    sink.error = SinkLost("media-process-ended", "it has ended")
    with pytest.raises(SinkLost) as lost:
        sink.send(frame_of(4))
    assert lost.value.code == "media-process-ended"
    sink.close()
    sink.close()
    assert closed.is_set()
    readers[1].drain()
    assert readers[1].ended
    readers[1].close()
