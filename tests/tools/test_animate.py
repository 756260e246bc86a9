"""A photograph comes alive: bundled motions, and the pictures that are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import PortraitError, SinkLost
from engines.marking.label import WORDS
from engines.marking.marks import Marking
from engines.marking.payload import Payload
from engines.mesh.generator import MeshGenerator
from realtime.motion.motion_file import BUNDLED, Recorded, bundled_motions, read_motion
from realtime.portraits import consent
from realtime.portraits.bundled import bundled_portraits
from tests.support.faces import at_pixels
from tools import animate
from tools.animation.motions import ACTS, rows_of
from tools.animation.scene import Scene, chosen, fitted, sampled


@pytest.fixture(autouse=True)
def _own_ledger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path_factory.mktemp("ledger") / "consent.jsonl"
    monkeypatch.setattr(consent, "ledger_path", lambda: ledger)


def test_ten_motions_come_with_the_program() -> None:
    assert len(bundled_motions()) == 10
    assert set(bundled_motions()) == set(ACTS)


@pytest.mark.parametrize("name", ACTS)
def test_a_bundled_motion_is_what_its_script_writes_and_loops_without_a_seam(name: str) -> None:
    path = BUNDLED / f"{name}.csv"
    assert path.read_text(encoding="utf-8") == rows_of(ACTS[name])
    motion = read_motion(path)
    assert motion.duration == pytest.approx(4.0, abs=0.02)
    everything = np.hstack([motion.coefficients, motion.turns])
    steps = np.abs(np.diff(everything, axis=0)).max()
    seam = np.abs(everything[-1] - everything[0]).max()
    assert seam <= max(0.5 * steps, 0.02)
    assert np.abs(everything).max() > 0.03


def test_a_motion_is_sampled_between_its_frames_and_from_its_end_to_its_start() -> None:
    coefficients = np.zeros((2, 52), np.float32)
    coefficients[1] = 1
    motion = Recorded(np.array([0.0, 0.5]), coefficients, np.zeros((2, 3), np.float32))
    assert [float(sampled(motion, share)[0][0]) for share in (0, 0.25, 0.5, 0.75)] == pytest.approx([0, 0.5, 1, 0.5])


def test_a_picture_is_made_smaller_and_even_and_never_larger() -> None:
    assert fitted(np.zeros((301, 200, 3), np.uint8), (100, 100)).shape == (100, 66, 3)
    assert fitted(np.zeros((30, 21, 3), np.uint8), (100, 100)).shape[0] == 30


def test_faces_are_chosen_by_size_and_by_place() -> None:
    def face(x: float, height: float) -> object:
        pixels = np.zeros((478, 3), np.float32)
        pixels[:, 0] = x
        pixels[:, 1] = np.linspace(0, height, 478)
        return at_pixels(pixels)

    faces = [face(300, 200), face(100, 100), face(200, 10)]
    assert chosen(faces, "all") == faces[:2]  # type: ignore[arg-type]
    assert chosen(faces, "largest") == faces[:1]  # type: ignore[arg-type]
    assert chosen(faces, "1") == faces[1:2]  # type: ignore[arg-type]
    for which, of in (("3", faces), ("all", faces[2:])):
        with pytest.raises(PortraitError):
            chosen(of, which)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_every_face_of_a_picture_moves_and_what_is_between_them_does_not(tmp_path: Path, suffix: str) -> None:
    pictures = [cv2.imread(str(portrait.path)) for portrait in bundled_portraits()[:2]]
    group = np.hstack([cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA) for picture in pictures])
    photo, out = tmp_path / "group.png", tmp_path / f"out{suffix}"
    cv2.imwrite(str(photo), group)
    words = [str(photo), "--motion", "turn-and-smile", "--seconds", "1", "--out", str(out), "--label", "off"]
    assert animate.main(words) == 0
    shown = _frames(out)
    assert len(shown) >= 15
    spread = np.ptp(np.stack(shown).astype(int), axis=0).max(axis=2)
    assert (spread[:, :320] > 60).sum() > 300
    assert (spread[:, 320:] > 60).sum() > 300
    assert np.median(spread[:40]) < 12


def _frames(path: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    if path.suffix == ".gif":
        with Pillow.open(path) as picture:
            frames = []
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                frames.append(np.array(picture.convert("RGB")))
            return frames
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        found, image = video.read()
        if not found:
            return frames
        frames.append(image)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["clara", "--out", "x.avi"], 2),
        (["clara", "--size", "9x9"], 2),
        (["clara", "--faces", "none"], 2),
        (["clara", "--motion", "no-such-motion.csv"], 1),
        (["no-such-photo.jpg"], 2),
    ],
)
def test_a_mistake_is_said_in_one_line(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate.main(words) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_picture_without_a_face_is_refused(tmp_path: Path) -> None:
    photo = tmp_path / "wall.png"
    cv2.imwrite(str(photo), np.full((200, 200, 3), 128, np.uint8))
    assert animate.main([str(photo), "--out", str(tmp_path / "x.gif")]) == 2
    assert not (tmp_path / "x.gif").exists()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small picture of one face that is not bundled."""
    path = tmp_path / "photo.png"
    picture = cv2.imread(str(bundled_portraits()[0].path))
    assert picture is not None
    cv2.imwrite(str(path), cv2.resize(picture, (180, 240), interpolation=cv2.INTER_AREA))
    return path


def test_a_photograph_of_ones_own_needs_consent(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(consent.VARIABLE, raising=False)
    monkeypatch.setattr(animate, "terminal_ask", lambda: None)
    words = [str(photo), "--seconds", "0.5", "--out", str(tmp_path / "x.gif")]
    assert animate.main(words) != 0
    assert animate.main([*words, "--consent", "mine"]) != 0
    assert not (tmp_path / "x.gif").exists()
    assert animate.main([*words, "--consent", "fictional"]) == 0
    assert (tmp_path / "x.gif").exists()
    assert [entry.right for entry in consent.Ledger().entries()] == ["fictional"]


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".png"])
def test_a_run_that_fails_leaves_no_half_file_and_keeps_the_one_before(
    suffix: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / f"x{suffix}"
    words = [str(photo), "--seconds", "0.5", "--out", str(out)]
    before: bytes | None = None
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("tools.animate.FrameMarks.mark", _failing_after(3))
            assert animate.main(words) == 1
        assert [each.read_bytes() for each in folder.iterdir()] == ([] if before is None else [before])
        assert animate.main(words) == 0
        before = out.read_bytes()


def _failing_after(count: int) -> Callable[[Any, Any], Any]:
    left = iter(range(count))

    def mark(_: Any, image: Any) -> Any:
        if next(left, None) is None:
            raise SinkLost("injected", "injected")
        return image

    return mark


def test_a_picture_is_loaded_once_for_all_motions_and_each_begins_anew(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    opened = MeshGenerator.prepare

    def prepare(*arguments: Any, **named: Any) -> Any:
        loaded.append(arguments)
        return opened(*arguments, **named)

    monkeypatch.setattr(MeshGenerator, "prepare", prepare)
    monkeypatch.setattr(animate, "new_marking", lambda _: Marking(Payload(5, 2500), None))
    common = ["--seconds", "0.5"]
    assert (
        animate.main([str(photo), "--motion", "nod", "--motion", "laugh", "--out", str(tmp_path / "x.png"), *common])
        == 0
    )
    assert len(loaded) == 1
    assert animate.main([str(photo), "--motion", "laugh", "--out", str(tmp_path / "alone.png"), *common]) == 0
    assert (tmp_path / "photo-laugh.png").read_bytes() == (tmp_path / "alone.png").read_bytes()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_what_would_fill_the_memory_is_refused_before_it_is_drawn(
    suffix: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Scene, "frames", lambda *_: pytest.fail("it was drawn"))
    monkeypatch.setattr(animate, "MOST_PIXELS", 180 * 240 * 60)
    out = tmp_path / f"x{suffix}"
    assert animate.main([str(photo), "--seconds", "600", "--out", str(out)]) == 2
    assert "at most 60" in capsys.readouterr().err
    assert not out.exists()


def test_no_file_is_written_twice_and_no_picture_that_is_read(photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / photo.name).write_bytes(photo.read_bytes())
    assert animate.main([str(photo), str(other / photo.name), "--out", str(tmp_path / "x.gif")]) == 2
    before = photo.read_bytes()
    assert animate.main([str(photo), "--out", str(photo)]) == 2
    assert photo.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_label_in_any_language_can_be_chosen() -> None:
    assert {*animate.LABELS} == {*WORDS, "auto", "off"}
