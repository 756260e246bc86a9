from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import GeneratorError
from engines.types import Image
from realtime.core import pixelcode
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.mailbox import Mailbox
from realtime.pipeline import slate
from realtime.pipeline.frame_publisher import FrameKind, FramePublisher, PublishedFrame
from tests.support.fakes import CAMERA, PORTRAIT, SIZE, picture


def shown(box: Mailbox[PublishedFrame]) -> PublishedFrame:
    item = box.get(timeout=0)
    assert item is not None, "nothing was published"
    return item


def show(publisher: FramePublisher, time_ns: int = 0, image: Image | None = None, driving: Image | None = None) -> None:
    image = picture(PORTRAIT) if image is None else image
    pixels = np.empty((0, 0, 3), np.uint8) if driving is None else driving
    publisher.show(image, Frame(pixels, PixelFormat.RGB, 1, Stamps(1, 2), time_ns), face=driving is not None)


def test_a_frame_reaches_every_mailbox_in_its_format() -> None:
    publisher = FramePublisher(SIZE)
    rgb = publisher.attach(PixelFormat.RGB, recording=False)
    planes = publisher.attach(PixelFormat.I420, recording=True)
    show(publisher)
    frame = shown(rgb).frame(PixelFormat.RGB)
    assert (frame.pixels == np.array(PORTRAIT)).all()
    assert not frame.pixels.flags.writeable
    assert shown(planes).frame(PixelFormat.I420).pixels.shape == (96, 64)
    assert frame.stamps.generated > 0


def test_memory_is_reused_but_never_while_it_is_referenced() -> None:
    publisher = FramePublisher(SIZE)
    box = publisher.attach(PixelFormat.RGB, recording=False)
    image = picture(PORTRAIT)
    show(publisher, image=image)
    held = shown(box)
    for time_ns in range(50):
        image[:] = time_ns
        show(publisher, time_ns, image)
    assert (held.frame(PixelFormat.RGB).pixels == np.array(PORTRAIT)).all()
    assert box.dropped == 49
    assert publisher.pool.made == 3
    held.release()
    shown(box).release()
    for time_ns in range(50, 100):
        show(publisher, time_ns)
        shown(box).release()
    assert publisher.pool.made == 3


def test_a_held_frame_is_the_last_generated_one() -> None:
    publisher = FramePublisher(SIZE)
    box = publisher.attach(PixelFormat.RGB, recording=False)
    publisher.hold(0)
    assert shown(box).kind is FrameKind.SLATE, "there is no generated frame yet"
    show(publisher, 10)
    shown(box).release()
    publisher.slate("a card", 20)
    shown(box).release()
    publisher.hold(30)
    again = shown(box)
    assert again.kind is FrameKind.HELD
    assert (again.frame(PixelFormat.RGB).pixels == np.array(PORTRAIT)).all()


def test_a_recording_gets_no_notices() -> None:
    publisher = FramePublisher(SIZE)
    recording = publisher.attach(PixelFormat.RGB, recording=True)
    camera = publisher.attach(PixelFormat.RGB, recording=False)
    publisher.slate("starting", 0, notice=True)
    assert recording.get(timeout=0) is None
    assert shown(camera).kind is FrameKind.NOTICE
    publisher.slate("back in a moment", 0)
    assert shown(recording).kind is FrameKind.SLATE


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100)), min_size=1, max_size=30))
def test_published_times_only_go_up(steps: list[tuple[bool, int]]) -> None:
    publisher = FramePublisher(SIZE)
    box = publisher.attach(PixelFormat.RGB, recording=True)
    times = []
    for generated, time_ns in steps:
        if generated:
            show(publisher, time_ns)
        else:
            publisher.hold(time_ns)
        item = shown(box)
        times.append(item.time_ns)
        item.release()
    assert times == sorted(set(times))
    assert times[0] == steps[0][1]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
    ],
)
def test_a_frame_of_another_size_or_type_is_refused(image: Image) -> None:
    with pytest.raises(GeneratorError) as caught:
        show(FramePublisher(SIZE), image=image)
    assert caught.value.code == "generator-bad-frame"


def test_the_driving_frame_is_refused_as_a_whole_or_in_part() -> None:
    driving = picture(CAMERA, (128, 64))
    for leak in (driving[:, :64], driving[:, 64:], driving[:, ::-2]):
        with pytest.raises(GeneratorError) as caught:
            show(FramePublisher(SIZE), image=leak, driving=driving)
        assert caught.value.code == "generator-leaks-camera"
    show(FramePublisher(SIZE), image=driving[:, :64].copy(), driving=driving)


def test_a_closed_mailbox_keeps_no_reference() -> None:
    publisher = FramePublisher(SIZE)
    box = publisher.attach(PixelFormat.RGB, recording=False)
    box.close()
    for time_ns in range(10):
        show(publisher, time_ns)
    assert publisher.pool.made == 2


def test_lossless_a_frame_waits_for_an_empty_mailbox() -> None:
    publisher = FramePublisher(SIZE, lossless=True)
    box = publisher.attach(PixelFormat.RGB, recording=False)
    show(publisher, 0)
    publisher.close()
    show(publisher, 1)  # the first is never taken, and yet this does not block forever
    assert shown(box).time_ns == 0
    assert box.dropped == 0


def test_a_frame_of_another_kind_shares_the_memory() -> None:
    publisher = FramePublisher(SIZE)
    box = publisher.attach(PixelFormat.RGB, recording=False)
    show(publisher, 5)
    item = shown(box)
    assert replace(item, kind=FrameKind.HELD).frame(PixelFormat.RGB).pixels is item.frame(PixelFormat.RGB).pixels


@given(
    st.integers(32, 300),
    st.integers(32, 300),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=60),
)
def test_a_slate_is_drawn_at_any_size_with_any_text(half_width: int, half_height: int, text: str) -> None:
    size = (2 * half_width, 2 * half_height)
    card = slate.draw(size, text)
    assert card.shape == (size[1], size[0], 3)
    assert card.flags.c_contiguous
    assert card[0, 0].max() < 80, "calm"
    assert card.max() > 100, "and not empty"


def coded() -> tuple[Image, pixelcode.Code]:
    code = pixelcode.Code(258, 123_456_789)
    driving = picture(CAMERA, (320, 240))
    pixelcode.draw(driving, code)
    return driving, code


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_a_code_is_copied_on_request(pixel_format: PixelFormat) -> None:
    driving, code = coded()
    publisher = FramePublisher((480, 320), relay_code=True)
    box = publisher.attach(pixel_format, recording=False)
    show(publisher, image=picture(PORTRAIT, (480, 320)), driving=driving)
    pixels = shown(box).frame(pixel_format).pixels[:320]
    assert pixelcode.read(pixels) == code
    if pixel_format is PixelFormat.RGB:
        rest = pixels[320 * 8 // 48 + 1 :]
        assert (rest == np.array(PORTRAIT)).all()
        assert not (pixels == np.array(CAMERA)).all(axis=2).any()


def test_no_code_is_copied_by_default() -> None:
    driving, _ = coded()
    publisher = FramePublisher((480, 320))
    box = publisher.attach(PixelFormat.RGB, recording=False)
    show(publisher, image=picture(PORTRAIT, (480, 320)), driving=driving)
    assert (shown(box).frame(PixelFormat.RGB).pixels == np.array(PORTRAIT)).all()


def test_without_a_code_the_frame_is_unchanged() -> None:
    publisher = FramePublisher((480, 320), relay_code=True)
    box = publisher.attach(PixelFormat.RGB, recording=False)
    show(publisher, image=picture(PORTRAIT, (480, 320)), driving=picture(CAMERA, (320, 240)))
    assert (shown(box).frame(PixelFormat.RGB).pixels == np.array(PORTRAIT)).all()
