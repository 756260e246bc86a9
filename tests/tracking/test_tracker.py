"""Trackers on real faces, and the parsing of MediaPipe's results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.face.topology import CHIN_TIP
from engines.install_hint import command
from engines.types import LANDMARKS, Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.portraits.portrait import load_portrait
from realtime.tracking import face_mesh, model_files
from realtime.tracking.face_mesh import FaceMesh, parse_landmarks
from realtime.tracking.landmark_model import DetectedFace
from realtime.tracking.tracker import FaceMeshTracker, LandmarkerTracker, Tracker, open_tracker

needs_face_mesh = pytest.mark.skipif(not face_mesh.available(), reason="this mediapipe has no Face Mesh")

FRAME_NS = 40_000_000


def frame(pixels: Image, seq: int = 0, time_ns: int | None = None) -> Frame:
    return Frame(pixels, PixelFormat.RGB, seq, Stamps(0), seq * FRAME_NS if time_ns is None else time_ns)


@pytest.fixture(scope="module")
def pictures(clips: Path) -> list[Image]:
    """Thirty frames of a face that grimaces."""
    video = cv2.VideoCapture(str(clips / "lp__d6.mp4"))
    read = [video.read()[1] for _ in range(30)]
    video.release()
    return [np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8) for picture in read]


@pytest.fixture(params=["Face Mesh", "Face Landmarker"])
def tracker(request: pytest.FixtureRequest) -> Iterator[Tracker]:
    """Either tracker."""
    opened: Tracker
    if request.param == "Face Mesh":
        if not face_mesh.available():
            pytest.skip("this mediapipe has no Face Mesh")
        opened = FaceMeshTracker()
    else:
        opened = LandmarkerTracker(request.getfixturevalue("face_landmarker"))
    yield opened
    opened.close()
    opened.close()


def test_a_real_face_is_found_in_every_frame(tracker: Tracker, pictures: list[Image]) -> None:
    for seq, picture in enumerate(pictures):
        face = tracker.track(frame(picture, seq))
        assert face is not None
        assert (face.seq, face.time_ns) == (seq, seq * FRAME_NS)
        assert face.size == (picture.shape[1], picture.shape[0])
        assert face.landmarks.shape == (LANDMARKS, 3)
        assert face.landmarks.dtype == np.float32
        assert 0.5 < face.confidence <= 1
        nose, chin = face.landmarks[1], face.landmarks[CHIN_TIP]
        assert 0 < nose[1] < chin[1] < 1


def test_an_image_without_a_face_gives_none(tracker: Tracker) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    assert tracker.track(frame(noise)) is None
    assert tracker.track(frame(np.zeros((120, 90, 3), np.uint8), 1)) is None


def test_a_face_that_jumps_is_found_in_the_same_frame(tracker: Tracker, pictures: list[Image]) -> None:
    height, width = pictures[0].shape[:2]
    wide = np.full((height, 3 * width, 3), 90, np.uint8)
    left, right = wide.copy(), wide.copy()
    left[:, :width], right[:, 2 * width :] = pictures[0], pictures[0]
    for seq in range(3):
        assert tracker.track(frame(left, seq)) is not None
    face = tracker.track(frame(right, 3))
    assert face is not None
    assert face.landmarks[1, 0] > 2 / 3


def test_a_face_that_half_leaves_the_image_gives_way_to_another_one(tracker: Tracker) -> None:
    near, far = load_portrait(None, (320, 320)).image, load_portrait(None, (240, 240)).image
    found: list[float] = []
    for seq in range(24):
        picture = np.full((320, 640, 3), 90, np.uint8)
        if seq:
            picture[40:280, 390:630] = far
        left = max(-180, 20 - 20 * seq)
        picture[:, max(left, 0) : left + 320] = near[:, max(-left, 0) :]
        face = tracker.track(frame(picture, seq))
        assert face is not None, seq
        found.append(640 * float(face.landmarks[:, 0].mean()))
    assert found[0] < 320
    assert all(x > 390 for x in found[-4:])


def test_after_a_reset_the_result_is_that_of_a_new_tracker(tracker: Tracker, pictures: list[Image]) -> None:
    first = tracker.track(frame(pictures[0], 0))
    for seq in range(1, 4):
        tracker.track(frame(pictures[-1], seq))
    tracker.reset()
    again = tracker.track(frame(pictures[0], 9))
    assert first is not None
    assert again is not None
    np.testing.assert_allclose(again.landmarks, first.landmarks, atol=1e-3)


def test_time_may_repeat_or_go_back(tracker: Tracker, pictures: list[Image]) -> None:
    for time_ns in (5 * FRAME_NS, 5 * FRAME_NS, 5 * FRAME_NS + 1, 0, 2**62 // 1000):
        face = tracker.track(frame(pictures[0], 0, time_ns))
        assert face is not None
        assert face.time_ns == time_ns


def test_pixels_of_any_layout_are_accepted_and_not_changed(tracker: Tracker, pictures: list[Image]) -> None:
    flipped = pictures[0][:, ::-1]
    before = flipped.copy()
    assert tracker.track(frame(flipped)) is not None
    np.testing.assert_array_equal(flipped, before)
    assert flipped.flags.writeable


@needs_face_mesh
def test_the_graph_gives_the_same_as_the_published_solution(pictures: list[Image]) -> None:
    from mediapipe.python.solutions.face_mesh import FaceMesh as Published

    ours = FaceMesh()
    with Published(max_num_faces=1, refine_landmarks=True) as published:
        for picture in pictures:
            theirs = published.process(picture).multi_face_landmarks[0].landmark
            expected = np.array([(point.x, point.y, point.z) for point in theirs], np.float32)
            assert np.abs(ours.detect(picture)[0].landmarks - expected).mean() < 2e-4
    ours.close()


@needs_face_mesh
@pytest.mark.parametrize("height", [200, 130, 80])
def test_a_face_far_from_the_camera_is_found(portraits: Path, height: int) -> None:
    picture = cv2.cvtColor(cv2.imread(str(portraits / "lp__s3.jpg")), cv2.COLOR_BGR2RGB)
    face = FaceMesh().detect(np.asarray(picture, np.uint8))[0].landmarks
    scale = height / (np.ptp(face[:, 1]) * picture.shape[0])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:720, :1000]
    wide = np.full((720, 1280, 3), 100, np.uint8)
    wide[: small.shape[0], 150 : 150 + small.shape[1]] = small
    tracker = FaceMeshTracker()
    found = tracker.track(frame(wide))
    tracker.close()
    assert found is not None
    assert np.ptp(found.pixels()[:, 1]) == pytest.approx(height, rel=0.1)


@needs_face_mesh
def test_starting_and_tracking_leaves_the_terminal_clean(
    pictures: list[Image], capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = FaceMeshTracker()
    assert tracker.track(frame(pictures[0])) is not None
    tracker.close()
    assert capfd.readouterr() == ("", "")


def test_the_landmarker_leaves_the_terminal_clean(
    face_landmarker: Path, pictures: list[Image], capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = LandmarkerTracker(face_landmarker)
    assert tracker.track(frame(pictures[0])) is not None
    tracker.close()
    assert capfd.readouterr() == ("", "")


def test_the_landmarker_adds_head_matrix_and_coefficients(face_landmarker: Path, pictures: list[Image]) -> None:
    tracker = LandmarkerTracker(face_landmarker)
    face = tracker.track(frame(pictures[0]))
    tracker.close()
    assert face is not None
    assert face.head_matrix is not None
    assert face.expression is not None
    assert face.head_matrix.shape == (4, 4)
    assert face.head_matrix.dtype == face.expression.dtype == np.float32
    np.testing.assert_allclose(face.head_matrix[:3, :3] @ face.head_matrix[:3, :3].T, np.eye(3), atol=1e-3)
    np.testing.assert_array_equal(face.head_matrix[3], (0, 0, 0, 1))
    assert face.head_matrix[2, 3] < 0  # in front of the camera, which looks along -z
    assert face.expression.shape == (52,)
    assert ((face.expression >= 0) & (face.expression <= 1)).all()


@needs_face_mesh
def test_a_steady_tracker_smooths_its_landmarks(face_landmarker: Path, pictures: list[Image]) -> None:
    """On one image with camera noise, measured as how far landmarks move from frame to frame in pixels."""
    rng = np.random.default_rng(0)
    noisy = [np.clip(pictures[0] + rng.normal(0, 3, pictures[0].shape), 0, 255).astype(np.uint8) for _ in range(20)]
    steps = {}
    for tracker in (FaceMeshTracker(), LandmarkerTracker(face_landmarker)):
        faces = [tracker.track(frame(picture, seq)) for seq, picture in enumerate(noisy)]
        tracker.close()
        shown = np.array([face.pixels()[:, :2] for face in faces if face is not None][10:])
        steps[faces[-1] is not None and faces[-1].steady] = float(np.abs(np.diff(shown, axis=0)).mean())
    assert steps[True] < 0.25 * steps[False]


@needs_face_mesh
def test_face_mesh_is_the_default(own_cache: Path) -> None:
    assert not own_cache.exists()
    tracker = open_tracker(None)
    assert isinstance(tracker, FaceMeshTracker)
    tracker.close()


def test_a_cached_landmarker_is_used(own_cache: Path, face_landmarker: Path) -> None:
    assert own_cache in model_files.target_path("face_landmarker").parents
    model_files.target_path("face_landmarker").parent.mkdir(parents=True)
    shutil.copyfile(face_landmarker, model_files.target_path("face_landmarker"))
    tracker = open_tracker(None)
    assert isinstance(tracker, LandmarkerTracker)
    tracker.close()


@pytest.mark.usefixtures("own_cache")
def test_without_models_the_error_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_mesh, "available", lambda: False)
    with pytest.raises(TrackerError) as caught:
        open_tracker(None)
    assert caught.value.code == "tracker-model-missing"
    assert caught.value.cure == f"{command('models')} fetch face_landmarker"


def test_a_wrong_or_unreadable_model_file_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "face_landmarker.task"
    wrong.write_bytes(b"not a bundle")
    with pytest.raises(TrackerError) as caught:
        open_tracker(wrong)
    assert caught.value.code == "tracker-model-wrong"
    assert caught.value.cure == f"{command('models')} fetch face_landmarker"
    with pytest.raises(TrackerError) as caught:
        open_tracker(tmp_path / "nowhere.task")
    assert caught.value.code == "tracker-model-unreadable"


points = hnp.arrays(np.float32, (LANDMARKS, 3), elements=st.floats(-2, 2, width=32), fill=st.floats(-2, 2, width=32))


@needs_face_mesh
@given(points, st.booleans())
def test_landmarks_are_parsed_as_protobuf_parses_them(values: NDArray[np.float32], extra: bool) -> None:
    from mediapipe.framework.formats import landmark_pb2

    message = landmark_pb2.NormalizedLandmarkList()
    for x, y, z in values.tolist():
        message.landmark.add(x=x, y=y, z=z)
    if extra:  # a field that breaks the stride
        message.landmark[7].visibility = 0.5
    np.testing.assert_array_equal(parse_landmarks(message.SerializeToString()), values)


@needs_face_mesh
def test_another_number_of_landmarks_is_refused() -> None:
    from mediapipe.framework.formats import landmark_pb2

    message = landmark_pb2.NormalizedLandmarkList()
    message.landmark.add(x=0, y=0, z=0)
    with pytest.raises(ValueError, match="1 landmarks instead of 478"):
        parse_landmarks(message.SerializeToString())


@pytest.mark.parametrize(
    ("centre", "extent", "expected"),
    [
        ((0.5, 0.5), 0.4, True),
        ((0.9, 0.5), 0.4, True),
        ((1.1, 0.5), 0.4, False),
        ((0.5, -0.2), 0.4, False),
        ((0.5, 0.5), 0.01, False),
        ((float("nan"), 0.5), 0.4, False),
    ],
)
def test_a_face_outside_the_image_or_tiny_is_not_plausible(
    centre: tuple[float, float], extent: float, expected: bool
) -> None:
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, (LANDMARKS, 3)).astype(np.float32)
    landmarks = spread * np.float32(extent) + np.array([*centre, 0], np.float32)
    assert DetectedFace(landmarks).is_plausible((640, 480)) is expected
