"""Uploaded images from bytes to portrait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from engines.errors import BusyError, PortraitError, TrackerError
from engines.types import FaceState, Image
from realtime.core.background_task import BackgroundTask
from realtime.core.protocol import MAX_PICTURES_READ
from realtime.portraits import decoder_process, upload_reader
from realtime.portraits.image_file import DecodedImage
from realtime.portraits.portrait import DEFAULT_PORTRAIT, PortraitPicture, load_portrait
from realtime.portraits.upload_reader import UploadReader
from realtime.tracking import face_mesh
from realtime.tracking.still_faces import FaceFinder
from tests.support.fakes import portrait
from tests.support.waiting import until

SIZE = (320, 240)

needs_models = pytest.mark.skipif(
    not face_mesh.available() or not DEFAULT_PORTRAIT.is_file(), reason="no face mesh or no default portrait"
)


class FakeFinder(FaceFinder):
    """A FaceFinder without models."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def find(self, _image: Image) -> list[FaceState]:
        return []

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every upload decodes at once."""
    image = DecodedImage(np.zeros((9, 9, 3), np.uint8), ())
    monkeypatch.setattr(decoder_process.DecoderProcesses, "decode", lambda *_: image)


@pytest.fixture
def reader() -> Iterator[UploadReader]:
    opened = UploadReader(SIZE, timeout_s=0.3, open_finder=FakeFinder)
    yield opened
    opened.close()


def make_portraits(monkeypatch: pytest.MonkeyPatch, make: Callable[[], PortraitPicture]) -> None:
    """Have ``make`` called instead of face finding."""
    monkeypatch.setattr(upload_reader, "make_portrait", lambda *_: make())


@needs_models
def test_two_uploads_load_the_face_models_once() -> None:
    opened: list[FaceFinder] = []

    def open_finder() -> FaceFinder:
        opened.append(FaceFinder())
        return opened[-1]

    reader = UploadReader(SIZE, timeout_s=60, open_finder=open_finder)
    uploads = [reader.read(DEFAULT_PORTRAIT.read_bytes(), "me.png") for _ in range(2)]
    reader.close()
    assert len(opened) == 1
    for upload in uploads:
        assert np.array_equal(upload.image, load_portrait(None, SIZE).image)


@needs_models
def test_an_upload_becomes_the_same_portrait_as_its_file(face_finder: FaceFinder) -> None:
    reader = UploadReader(SIZE, timeout_s=60)
    upload = reader.read(DEFAULT_PORTRAIT.read_bytes(), "me.png")
    reader.close()
    file = load_portrait(None, SIZE, finder=face_finder)
    assert upload.name == "me"
    assert np.array_equal(upload.image, file.image)
    assert upload.face.size == SIZE


def test_pixels_are_limited() -> None:
    reader = UploadReader(SIZE, max_pixels=10_000, timeout_s=60, open_finder=FakeFinder)
    with pytest.raises(PortraitError) as caught:
        reader.read(DEFAULT_PORTRAIT.read_bytes(), "me.png")
    reader.close()
    assert caught.value.code == "portrait-too-large"


@pytest.mark.usefixtures("decoded")
def test_an_error_leaves_room_for_further_uploads(reader: UploadReader, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(MAX_PICTURES_READ + 1):
        with pytest.raises(PortraitError) as caught:
            reader.read(b"", "x.png")
        assert caught.value.code == "portrait-no-face"
    make_portraits(monkeypatch, lambda: portrait("mine"))
    assert reader.read(b"", "x.png").name == "mine"


@pytest.mark.usefixtures("decoded")
def test_models_that_do_not_load_are_an_error_of_each_upload() -> None:
    def fail() -> FaceFinder:
        raise TrackerError("tracker-model-missing", "no models")

    reader = UploadReader(SIZE, open_finder=fail)
    for _ in range(2):
        with pytest.raises(TrackerError):
            reader.read(b"", "x.png")
    reader.close()


@pytest.mark.usefixtures("decoded")
def test_a_further_upload_is_refused_while_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def make() -> PortraitPicture:
        assert go_on.wait(5)
        return portrait("mine")

    make_portraits(monkeypatch, make)
    reader = UploadReader(SIZE, timeout_s=60, open_finder=FakeFinder)
    uploads = [BackgroundTask("upload", lambda: reader.read(b"", "x.png")) for _ in range(MAX_PICTURES_READ + 1)]
    for upload in uploads:
        upload.start()
    until(lambda: any(upload.wait(0) for upload in uploads), "all are being read")
    refused = next(upload for upload in uploads if upload.wait(0))
    with pytest.raises(BusyError) as caught:
        refused.result()
    assert caught.value.code == "upload-busy"
    go_on.set()
    assert [upload.result().name for upload in uploads if upload is not refused] == ["mine"] * MAX_PICTURES_READ
    assert reader.read(b"", "x.png").name == "mine", "there is room again"
    reader.close()


def test_a_decoder_that_takes_too_long_is_busy(reader: UploadReader, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> DecodedImage:
        raise TimeoutError

    monkeypatch.setattr(decoder_process.DecoderProcesses, "decode", decode)
    with pytest.raises(BusyError) as caught:
        reader.read(b"", "x.png")
    assert caught.value.code == "upload-timeout"


@pytest.mark.usefixtures("decoded")
def test_face_finding_that_takes_too_long_is_busy_and_its_bugs_are_logged(
    reader: UploadReader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def make() -> PortraitPicture:
        assert go_on.wait(5)
        raise KeyError("a bug")

    make_portraits(monkeypatch, make)
    with pytest.raises(BusyError) as caught:
        reader.read(b"", "x.png")
    assert caught.value.code == "upload-timeout"
    go_on.set()
    until(lambda: caplog.records, "the bug is not logged")
    assert caplog.records[0].exc_info


@pytest.mark.usefixtures("decoded")
def test_close_releases_the_models_and_refuses_further_uploads() -> None:
    finder = FakeFinder()
    reader = UploadReader(SIZE, timeout_s=60, open_finder=lambda: finder)
    with pytest.raises(PortraitError):
        reader.read(b"", "x.png")
    assert not finder.closed.is_set()
    reader.close()
    reader.close()
    assert finder.closed.wait(5)
    with pytest.raises(BusyError) as caught:
        reader.read(b"", "x.png")
    assert caught.value.code == "upload-closed"
