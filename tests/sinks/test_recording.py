"""Test recordings: times, colours and sound, and that they play even if interrupted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import ReenactError, SinkLost, SinkMissing, SourceEnded, UsageError
from realtime.capture.video_file import VideoFile
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.sinks import recording
from realtime.sinks.recording import FragmentFile, Recording
from tests.support import clips
from tests.support.clips import i420

SIZE = (96, 64)
NS = 1_000_000_000
START = 1_234 * NS


def greys(count: int, fps: float = 30, start: int = START) -> Iterator[Frame]:
    for index in range(count):
        yield i420(clips.grey(index, SIZE), index, start + round(index * NS / fps))


def send_all(sink: Recording, frames: Iterable[Frame]) -> None:
    for frame in frames:
        sink.send(frame)


def boxes(path: Path) -> list[str]:
    """Return the names of the top-level boxes of an MP4 file."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode("latin-1"))
        at += int.from_bytes(data[at : at + 4], "big")
    assert at == len(data), "the last box is complete"
    return names


def test_frames_are_recorded_in_order_at_their_times(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = Recording(path, size=SIZE, fps=30)
    assert sink.format is PixelFormat.I420
    assert str(path) in sink.name
    for frame in greys(50):
        sink.send(frame)
    assert not path.exists(), "the file appears when it is complete"
    sink.close()
    sink.close()
    assert sink.notes == ()
    assert sorted(os.listdir(tmp_path)) == ["out.mp4"]
    assert clips.times_in(path) == pytest.approx([index / 30 for index in range(50)], abs=1e-4)
    with av.open(str(path)) as container:
        shown = [clips.level(frame.to_ndarray(format="rgb24").astype(np.uint8)) for frame in container.decode(video=0)]
        assert shown == [index % 4 for index in range(50)]
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (*SIZE, 50)
        assert float(stream.average_rate or 0) == pytest.approx(30, rel=0.01)


def test_a_finished_file_is_an_ordinary_mp4(tmp_path: Path) -> None:
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30)
    for frame in greys(100):
        sink.send(frame)
    sink.close()
    names = boxes(tmp_path / "out.mp4")
    assert names.count("moov") == names.count("mdat") == 1
    assert "moof" not in names


def test_variable_times_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.01, 0.2, 0.21, 1.5, 1.6]
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30)
    for index, time in enumerate(times):
        sink.send(i420(clips.grey(index, SIZE), index, START + round(time * NS)))
    sink.close()
    assert clips.times_in(tmp_path / "out.mp4") == pytest.approx(times, abs=1e-4)


def test_recorded_times_increase_where_time_stops_or_restarts(tmp_path: Path) -> None:
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=10)
    for index, time in enumerate([5.0, 5.1, 5.1, 5.05, 7.0, 0.0, 0.1]):
        sink.send(i420(clips.grey(index, SIZE), index, round(time * NS)))
    sink.close()
    times = clips.times_in(tmp_path / "out.mp4")
    assert times == pytest.approx([0.0, 0.1, 0.1, 0.1, 2.0, 2.1, 2.2], abs=1e-3)
    assert all(later > earlier for earlier, later in pairwise(times))


def test_colours_are_kept(tmp_path: Path) -> None:
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30)
    for index in range(10):
        sink.send(i420(clips.quarters(SIZE), index, START + index * NS // 30))
    sink.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        assert (context.color_range, context.colorspace) == (1, 6), "limited range, BT.601"
        assert (context.color_primaries, context.color_trc) == (1, 1)
        image = frame.to_ndarray(format="rgb24")
    for y, x, colour in ((10, 10, (220, 20, 20)), (10, 80, (20, 220, 20)), (50, 10, (20, 20, 220))):
        assert np.abs(image[y, x].astype(int) - colour).max() < 8


def test_a_recording_without_frames_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older recording")
    Recording(path, size=SIZE, fps=30).close()
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert path.read_bytes() == b"an older recording"


def test_an_older_file_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older recording")
    sink = Recording(path, size=SIZE, fps=30)
    for frame in greys(5):
        sink.send(frame)
    assert path.read_bytes() == b"an older recording"
    sink.close()
    assert len(clips.times_in(path)) == 5


def test_two_recordings_at_once_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one, two = (Recording(tmp_path / "out.mp4", size=SIZE, fps=30) for _ in range(2))
    for frame in greys(5):
        one.send(frame)
        two.send(frame)
    one.close()
    two.close()
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert len(clips.times_in(tmp_path / "out.mp4")) == 5


# Errors


class SmallDisk(FragmentFile):
    """A disk with room for ``ROOM`` bytes."""

    ROOM = 200_000

    def put(self, data: bytes) -> None:
        room = self.ROOM - self.tell()
        super().put(data[: max(0, room)])
        if room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_recording_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older recording")
    sink = Recording(path, size=SIZE, fps=30, create=SmallDisk)
    with pytest.raises(SinkLost) as caught:
        send_all(sink, clips.noise_frames(600))
    partial = tmp_path / "out.partial.mp4"
    assert caught.value.code == "recording-disk-full"
    assert str(partial) in caught.value.found
    assert caught.value.cure
    assert boxes(partial)[-1] == "mdat"
    assert partial.stat().st_size <= SmallDisk.ROOM
    kept = clips.times_in(partial)
    assert len(kept) >= 20
    assert kept == pytest.approx([index / 30 for index in range(len(kept))], abs=1e-4)
    assert path.read_bytes() == b"an older recording"
    sink.close()
    with pytest.raises(SinkLost):
        sink.send(next(clips.noise_frames(1)))


def test_a_disk_that_is_full_at_the_end_keeps_the_recording(tmp_path: Path) -> None:
    class NearlyLargeEnough(SmallDisk):
        ROOM = 1_000_000

    whole = Recording(tmp_path / "whole.mp4", size=SIZE, fps=30)
    for frame in clips.noise_frames(90):
        whole.send(frame)
    whole.close()
    # Room for the media, but not for the index after it.
    NearlyLargeEnough.ROOM = (tmp_path / "whole.mp4").stat().st_size - 300
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, create=NearlyLargeEnough)
    for frame in clips.noise_frames(90):
        sink.send(frame)
    with pytest.raises(SinkLost) as caught:
        sink.close()
    assert caught.value.code == "recording-disk-full"
    sink.close()
    assert len(clips.times_in(tmp_path / "out.partial.mp4")) >= 60


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no folder that is in use")
def test_a_folder_that_is_removed_while_recording_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    sink = Recording(tmp_path / "folder" / "out.mp4", size=SIZE, fps=30)
    send_all(sink, greys(3))
    sink.partial.unlink()
    (tmp_path / "folder").rmdir()
    with pytest.raises(SinkLost) as caught:
        sink.close()
    assert caught.value.code == "recording-partial-missing"


def test_a_disk_without_room_keeps_nothing(tmp_path: Path) -> None:
    class NoRoom(SmallDisk):
        ROOM = 100

    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, create=NoRoom)
    with pytest.raises(SinkLost) as caught:
        send_all(sink, clips.noise_frames(120))
    assert caught.value.code == "recording-disk-full"
    assert os.listdir(tmp_path) == []


def test_a_medium_that_is_removed_is_an_error(tmp_path: Path) -> None:
    class Unplugged(SmallDisk):
        def put(self, data: bytes) -> None:
            if self.tell() + len(data) > self.ROOM:
                self.path.unlink(missing_ok=True)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().put(data)

    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, create=Unplugged)
    with pytest.raises(SinkLost) as caught:
        send_all(sink, clips.noise_frames(600))
    assert caught.value.code == "recording-write-failed"
    assert os.strerror(errno.EIO) in caught.value.found
    sink.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
def test_a_file_that_is_removed_while_recording_is_an_error(tmp_path: Path) -> None:
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30)
    send_all(sink, greys(5))
    (tmp_path / "out.partial.mp4").unlink()
    with pytest.raises(SinkLost) as caught:
        sink.close()
    assert caught.value.code == "recording-partial-missing"
    assert caught.value.cure
    sink.close()


def test_a_file_that_cannot_be_truncated_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, create=SmallDisk)
    monkeypatch.setattr(os, "truncate", refuse)
    with pytest.raises(SinkLost) as caught:
        send_all(sink, clips.noise_frames(600))
    assert caught.value.code == "recording-disk-full"
    assert str(tmp_path / "out.partial.mp4") in caught.value.found


class BrokenEncoder:
    """An encoder that fails."""

    def encode(self, _: object) -> list[object]:
        raise av.FFmpegError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize("at_the_end", [False, True])
def test_an_encoder_that_fails_leaves_the_recording_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_the_end: bool
) -> None:
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30)
    send_all(sink, clips.noise_frames(150))
    monkeypatch.setattr(sink, "_stream", BrokenEncoder())
    with pytest.raises(SinkLost) as caught:
        sink.close() if at_the_end else sink.send(next(clips.noise_frames(1)))
    assert caught.value.code == "recording-write-failed"
    assert caught.value.cure
    sink.close()
    assert len(clips.times_in(tmp_path / "out.partial.mp4")) >= 60


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself SIGKILL")
def test_a_recording_of_a_killed_process_plays(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from realtime.sinks.recording import Recording; from tests.support import clips\n"
        "sink = Recording(Path(sys.argv[1]), size=(96, 64), fps=30)\n"
        "for frame in clips.noise_frames(150): sink.send(frame)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out.mp4")], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["out.partial.mp4"]
    assert len(clips.times_in(tmp_path / "out.partial.mp4")) >= 60
    # The next recording does not touch it.
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30)
    sink.send(next(greys(1)))
    sink.close()
    assert sorted(os.listdir(tmp_path)) == ["out.mp4", "out.partial.mp4"]


@pytest.mark.parametrize(
    ("name", "size", "kind", "code", "cure"),
    [
        ("out.avi", SIZE, UsageError, "recording-not-mp4", "--sink file:{folder}/out.mp4"),
        (".mp4", SIZE, UsageError, "recording-not-mp4", "--sink file:{folder}/out.mp4"),
        ("out.mp4", (97, 64), UsageError, "recording-odd-size", "choose another --size"),
        ("none/out.mp4", SIZE, SinkMissing, "recording-no-folder", "mkdir -p {folder}/none"),
        ("dir.mp4", SIZE, SinkMissing, "recording-is-folder", "give another name"),
        (f"{'n' * 250}.mp4", SIZE, SinkMissing, "recording-not-writable", ""),
        (f"{'n' * 300}.mp4", SIZE, SinkMissing, "recording-not-writable", ""),
    ],
)
def test_a_path_that_cannot_be_recorded_to_is_an_error(
    tmp_path: Path, name: str, size: tuple[int, int], kind: type[ReenactError], code: str, cure: str
) -> None:
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(kind) as caught:
        Recording(tmp_path / name, size=size, fps=30)
    assert caught.value.code == code
    assert cure.format(folder=tmp_path) in caught.value.cure
    assert os.listdir(tmp_path) == ["dir.mp4"]


def test_a_write_protected_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.mp4"
    path.touch(0o444)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(SinkMissing) as caught:
        Recording(path, size=SIZE, fps=30)
    assert caught.value.code == "recording-write-protected"
    assert f"chmod u+w {path}" in caught.value.cure
    assert os.listdir(tmp_path) == ["kept.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_cannot_be_recorded_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SinkMissing) as caught:
        Recording(tmp_path / "pipe.mp4", size=SIZE, fps=30)
    assert caught.value.code == "recording-not-a-file"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link = tmp_path / "link.mp4"
    link.symlink_to(tmp_path / "kept" / "out.mp4")
    sink = Recording(link, size=SIZE, fps=30)
    send_all(sink, greys(3))
    sink.close()
    assert link.is_symlink()
    assert os.listdir(tmp_path / "kept") == ["out.mp4"]


# Sound


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac"), ("a.avi", "libmp3lame"), ("a.ts", "aac")]
)
def test_sound_is_copied_in_sync(tmp_path: Path, name: str, codec: str) -> None:
    driver = clips.write_with_sound(tmp_path / name, seconds=3, beep_at=1.0, codec=codec)
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, sound_from=driver)
    for frame in greys(60, start=0):
        sink.send(frame)
    sink.close()
    assert sink.notes == ()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        sounds = [frame.time or 0.0 for frame in container.decode(audio=0)]
    assert max(sounds) == pytest.approx(2.0, abs=0.05), "the sound ends with the video"
    assert clips.beep_in(tmp_path / "out.mp4") == pytest.approx(clips.beep_in(driver), abs=0.01)
    assert clips.times_in(tmp_path / "out.mp4") == pytest.approx([i / 30 for i in range(60)], abs=1e-3)


def test_aac_is_copied_unchanged(tmp_path: Path) -> None:
    driver = clips.write_with_sound(tmp_path / "a.mp4", seconds=2, beep_at=0.5)
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, sound_from=driver)
    for frame in greys(60, start=0):
        sink.send(frame)
    sink.close()

    def payload(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.pts is not None and packet.pts >= 0]

    copied = payload(tmp_path / "out.mp4")
    assert copied == payload(driver)[: len(copied)]
    assert len(copied) > 80


def test_sound_starts_with_the_video(tmp_path: Path) -> None:
    driver = clips.write_with_sound(tmp_path / "a.mkv", seconds=3, beep_at=1.5, pictures_from=0.5)
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, sound_from=driver)
    # The recording begins 0.4 s after the first picture of the driving video.
    for frame in greys(60, start=round(0.4 * NS)):
        sink.send(frame)
    sink.close()
    assert clips.beep_in(tmp_path / "out.mp4") == pytest.approx(1.5 - 0.5 - 0.4, abs=0.03)


def test_a_driving_video_without_sound_gives_a_recording_without_sound(tmp_path: Path) -> None:
    driver = clips.write_video(tmp_path / "a.mp4", (clips.grey(i, SIZE) for i in range(10)))
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, sound_from=driver)
    for frame in greys(10, start=0):
        sink.send(frame)
    sink.close()
    assert sink.notes == ()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_sound_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    driver = tmp_path / "a.mp4"
    driver.write_bytes(b"not a video")
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, sound_from=driver)
    for frame in greys(10, start=0):
        sink.send(frame)
    sink.close()
    assert len(sink.notes) == 1
    assert "the sound of a.mp4" in sink.notes[0]
    assert len(clips.times_in(tmp_path / "out.mp4")) == 10


def record(driver: Path, path: Path) -> tuple[str, ...]:
    """Record a driving video at its times, with its sound. Return the notes."""
    source = VideoFile(driver, pace="max")
    sink = Recording(path, size=SIZE, fps=30, sound_from=driver)
    with suppress(SourceEnded):
        while True:
            frame = source.read()
            sink.send(i420(clips.grey(frame.seq, SIZE), frame.seq, frame.time_ns))
    sink.close()
    source.close()
    return sink.notes


def replace_codec(path: Path, codec: bytes) -> None:
    """Give the first track of a Matroska file an unknown codec."""
    data = path.read_bytes()
    assert codec in data
    path.write_bytes(data.replace(codec, b"A_" + b"X" * (len(codec) - 2), 1))


def test_sound_of_an_unknown_codec_is_left_out(tmp_path: Path) -> None:
    driver = clips.write_with_sound(tmp_path / "a.mkv", seconds=1, beep_at=0.5, codec="flac")
    replace_codec(driver, b"A_FLAC")
    notes = record(driver, tmp_path / "out.mp4")
    assert len(notes) == 1
    assert "the sound of a.mkv cannot be decoded" in notes[0]
    assert len(clips.times_in(tmp_path / "out.mp4")) == 30


def test_the_next_sound_track_is_used_instead_of_one_of_an_unknown_codec(tmp_path: Path) -> None:
    driver = clips.write_with_sound(tmp_path / "a.mkv", seconds=1, beep_at=0.5, codec="flac", tracks=2)
    replace_codec(driver, b"A_FLAC")
    notes = record(driver, tmp_path / "out.mp4")
    assert len(notes) == 1
    assert "another one is used" in notes[0]
    assert clips.beep_in(tmp_path / "out.mp4") == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("codec", ["flac", "mp2"])
def test_sound_continues_after_damage(tmp_path: Path, codec: str) -> None:
    whole = clips.write_with_sound(tmp_path / "whole.mp4", seconds=3, beep_at=2.0, codec=codec)
    driver = clips.damage_sound(whole, tmp_path / "spoilt.mkv", range(5, 8))
    notes = record(driver, tmp_path / "out.mp4")
    assert clips.beep_in(tmp_path / "out.mp4") == pytest.approx(clips.beep_in(whole), abs=0.03)
    assert len(notes) == 1
    assert "spoilt.mkv is damaged" in notes[0]


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_the_sound_of_joined_files_stays_in_sync(tmp_path: Path, codec: str) -> None:
    part = clips.write_with_sound(tmp_path / "part.ts", seconds=3, beep_at=1.0, codec=codec)
    driver = tmp_path / "joined.ts"
    driver.write_bytes(2 * part.read_bytes())
    assert record(driver, tmp_path / "out.mp4") == ()
    first = clips.beep_in(part)
    assert clips.beeps_in(tmp_path / "out.mp4") == pytest.approx([first, first + 3], abs=0.03)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_a_still_picture_keeps_its_length_and_its_sound(tmp_path: Path, name: str) -> None:
    driver = clips.write_with_sound(tmp_path / name, seconds=16, beep_at=15.0, still=(2.0, 14.0))
    assert record(driver, tmp_path / "out.mp4") == ()
    times = clips.times_in(tmp_path / "out.mp4")
    assert times[-1] - times[0] == pytest.approx(16 - 1 / 30, abs=0.05)
    assert clips.beep_in(tmp_path / "out.mp4") == pytest.approx(clips.beep_in(driver), abs=0.03)


def test_intact_sound_is_not_called_damaged_where_it_is_the_first_stream(tmp_path: Path) -> None:
    driver = clips.write_with_sound(tmp_path / "a.mkv", seconds=1, beep_at=0.5, codec="flac", sound_first=True)
    assert record(driver, tmp_path / "out.mp4") == ()


def test_a_recording_that_ends_before_the_sound_begins_has_none(tmp_path: Path) -> None:
    driver = clips.write_with_sound(tmp_path / "a.mp4", seconds=1, beep_at=0.5)
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30, sound_from=driver)
    send_all(sink, greys(20, start=10 * NS))
    sink.close()
    assert len(clips.times_in(tmp_path / "out.mp4")) == 20


def test_a_build_without_h264_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_CODECS", {"mpeg4": recording._CODECS["mpeg4"]})
    sink = Recording(tmp_path / "out.mp4", size=SIZE, fps=30)
    send_all(sink, greys(20))
    sink.close()
    assert "no H.264 encoder" in sink.notes[0]
    assert "mpeg4" in sink.name
    assert clips.times_in(tmp_path / "out.mp4") == pytest.approx([i / 30 for i in range(20)], abs=1e-4)


def with_alpha(index: int, alpha: NDArray[np.uint8]) -> Frame:
    """Return an I420A frame of one colour with that alpha (H, W)."""
    height, width = alpha.shape
    pixels = np.full((height * 5 // 2, width), 120, np.uint8)
    pixels[:height] = 90
    pixels[height * 3 // 2 :] = alpha
    return Frame(pixels, PixelFormat.I420A, index, Stamps(0), index * 40_000_000)


@pytest.mark.parametrize("size", [(320, 240), (330, 182)])
def test_a_webm_recording_keeps_the_alpha(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    alpha = np.zeros((height, width), np.uint8)
    alpha[:, width // 2 :] = 255
    alpha[height // 2 :, : width // 4] = 128
    path = tmp_path / "out.webm"
    recording = Recording(path, size=size, fps=25)
    assert recording.format is PixelFormat.I420A
    for index in range(8):
        recording.send(with_alpha(index, alpha))
    recording.close()
    assert not recording.partial.exists()
    frames = []
    # FFmpeg's own decoder leaves the alpha out
    decoder = av.CodecContext.create(av.Codec("libvpx-vp9", "r"))
    assert isinstance(decoder, av.VideoCodecContext)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.metadata.get("ALPHA_MODE") == "1"
        for packet in container.demux(stream):
            frames += decoder.decode(packet)
    assert len(frames) == 8
    assert frames[-1].format.name == "yuva420p"
    plane = frames[-1].planes[3]
    seen = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, :width].astype(int)
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(seen - alpha)[inside].mean() < 3
    assert np.abs(seen[: height // 2 - 8, : width // 2 - 8]).max() < 12


def test_a_webm_recording_notes_that_it_has_no_sound(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "out.webm", size=(64, 48), fps=25, sound_from=tmp_path / "talk.mp4")
    assert any("sound" in note for note in recording.notes)
    recording.close()
    assert not (tmp_path / "out.webm").exists()
