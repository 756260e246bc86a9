"""The colours of frames that are transparent: those of the subject, up to its edge and beyond."""

from __future__ import annotations

import cv2
import numpy as np

from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.transparency import Transparency, straight_colours

GREEN = (0, 255, 0)
OWN = (180, 90, 60)


def composed() -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], Transparency]:
    """Return a disc of one colour with a soft edge over green."""
    alpha = np.zeros((120, 160), np.uint8)
    cv2.circle(alpha, (80, 60), 40, (255,), -1, cv2.LINE_AA)
    alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), 2.5), np.uint8)
    share = alpha[..., None].astype(np.float32) / 255
    image = np.asarray(share * np.array(OWN) + (1 - share) * np.array(GREEN) + 0.5, np.uint8)
    return image, Transparency(alpha, GREEN)


def test_no_pixel_that_is_seen_has_the_key_colour() -> None:
    image, transparency = composed()
    colours = straight_colours(image, transparency).astype(int)
    seen = transparency.alpha > 12
    assert np.abs(colours - OWN)[seen].max() < 25
    over_white = (colours - 255) * (transparency.alpha[..., None] / 255) + 255
    wanted = (np.array(OWN) - 255) * (transparency.alpha[..., None] / 255) + 255
    assert np.abs(over_white - wanted).max() < 6


def test_beyond_the_edge_the_colours_go_on() -> None:
    """An encoder with half the colour resolution mixes a pixel with its neighbours."""
    image, transparency = composed()
    colours = straight_colours(image, transparency).astype(int)
    ring = cv2.dilate((transparency.alpha > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert np.abs(colours - OWN)[ring].max() < 40


def test_sinks_with_alpha_get_it_and_others_the_key_colour() -> None:
    image, transparency = composed()
    publisher = FramePublisher((160, 120))
    formats = (PixelFormat.RGB, PixelFormat.RGBA, PixelFormat.I420A)
    plain, rgba, i420a = (publisher.attach(each, recording=False) for each in formats)
    assert publisher.takes_alpha
    driving = Frame(np.zeros((4, 4, 3), np.uint8), PixelFormat.RGB, 1, Stamps(1), 1)
    publisher.show(image, driving, face=True, transparency=transparency)
    got = [box.get(1) for box in (plain, rgba, i420a)]
    pixels = [each.frame(form).pixels for each, form in zip(got, formats, strict=True) if each is not None]
    assert tuple(pixels[0][0, 0]) == GREEN
    np.testing.assert_array_equal(pixels[1][..., 3], transparency.alpha)
    assert pixels[1][0, 0, 1] < 200
    np.testing.assert_array_equal(pixels[2][180:], transparency.alpha)


def test_without_transparency_everything_is_opaque() -> None:
    image, _ = composed()
    publisher = FramePublisher((160, 120))
    box = publisher.attach(PixelFormat.RGBA, recording=False)
    publisher.show(image, Frame(np.zeros((4, 4, 3), np.uint8), PixelFormat.RGB, 1, Stamps(1), 1), face=True)
    published = box.get(1)
    assert published is not None
    pixels = published.frame(PixelFormat.RGBA).pixels
    assert (pixels[..., 3] == 255).all()
    np.testing.assert_array_equal(pixels[..., :3], image)


def test_a_publisher_without_such_sinks_takes_no_alpha() -> None:
    publisher = FramePublisher((160, 120))
    publisher.attach(PixelFormat.I420, recording=False)
    assert not publisher.takes_alpha
