"""Runs in the guest: a real face from one virtual camera, through the whole program, to another."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from engines.types import FaceState, Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.tracking.tracker import open_tracker
from tests.e2e.v4l2 import parts
from tools.support.files import read_frames

INNER_LIPS, FACE = (13, 14), (10, 152)
NOSE, CHEEKS = 1, (234, 454)
SECONDS = 10.0


def track(images: Iterable[Image]) -> list[FaceState | None]:
    tracker = open_tracker(None)
    try:
        step = 1_000_000_000 // parts.FPS
        return [
            tracker.track(Frame(image, PixelFormat.RGB, i, Stamps((i + 1) * step), (i + 1) * step))
            for i, image in enumerate(images)
        ]
    finally:
        tracker.close()


def kept(path: Path) -> Image:
    """Return a picture that the watcher kept."""
    return np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)


def jaw_and_yaw(face: FaceState) -> tuple[float, float]:
    """Return how far the mouth is open, relative to the face's height, and where the nose is between the cheeks."""
    at = face.pixels()
    height = np.linalg.norm(at[FACE[0], :2] - at[FACE[1], :2])
    jaw = np.linalg.norm(at[INNER_LIPS[0], :2] - at[INNER_LIPS[1], :2]) / height
    left, right = at[CHEEKS[0], 0], at[CHEEKS[1], 0]
    return float(jaw), float((at[NOSE, 0] - left) / (right - left))


def test_the_portrait_follows_a_real_face(tmp_path: Path) -> None:
    camera = parts.feeder("/dev/video10")
    watched = tmp_path / "seen.keep"
    report = tmp_path / "report.json"
    on_the_way = parts.Watcher("/dev/video10", tmp_path / "in.jsonl")
    on_the_way.sees(parts.fresh, count=30)
    alone = [look.age for look in on_the_way.looks() if look.age is not None][10:]
    assert on_the_way.looks()[-1].magenta > 0.05, "the camera's own picture is recognised by its border"
    on_the_way.process.end(signal.SIGKILL)
    program = parts.program("reenactcam", "virtualcam:FaceCam", "--report", str(report))
    watcher = parts.Watcher("/dev/video11", watched)
    try:
        program.wait_for(r"/dev/video10 \(ReenactCam\), 640x480 YU12 at")
        began = watcher.sees(parts.fresh, count=20)
        time.sleep(SECONDS)
        looks = watcher.looks()
    finally:
        watcher.process.end(signal.SIGKILL)
        status = program.end(signal.SIGINT)
        camera.end()
    assert status == 0, program.text()
    assert "Traceback" not in program.text()
    assert max(look.magenta for look in looks) < 0.01, "the camera's picture is never shown"
    ages = [look.age for look in looks if look.at > began and look.age is not None]
    figures = json.loads(report.read_text())["latency_ms"]
    work = {q: figures["track"][q] + figures["generate"][q] for q in ("p50", "p99")}
    p50, p99 = np.percentile(ages, [50, 99])
    lone = np.percentile(alone, 50)
    print(f"delay of the code: p50 {p50:.1f} ms, p99 {p99:.1f} ms over {len(ages)} pictures; one camera {lone:.2f} ms")
    print(f"track + generate p50 {work['p50']:.1f} ms; ratio p50 {p50 / work['p50']:.2f}, p99 {p99 / work['p50']:.2f}")
    assert p50 < 10 * work["p50"]

    # one picture at a time: memory in the guest is fragmented, and each page of it is a mapping of the host
    sources = track(np.ascontiguousarray(image) for image in read_frames(parts.clip()))
    counters = sorted(int(path.stem) for path in tmp_path.glob("*.bmp"))[10:90]
    driving = [sources[parts.clip_index(counter, len(sources))] for counter in counters]
    driven = track(kept(tmp_path / f"{counter}.bmp") for counter in counters)
    both = [(jaw_and_yaw(a), jaw_and_yaw(b)) for a, b in zip(driving, driven, strict=True) if a and b]
    assert len(both) > 0.8 * len(counters), "the face is there"
    there, here = np.array([a for a, _ in both]), np.array([b for _, b in both])
    jaw, yaw = (float(np.corrcoef(there[:, i], here[:, i])[0, 1]) for i in range(2))
    print(f"correlation over {len(both)} pictures: jaw {jaw:.2f}, yaw {yaw:.2f}")
    assert jaw > 0.6
    assert yaw > 0.6


def test_a_name_of_two_cameras_lists_them(tmp_path: Path) -> None:
    cameras = [parts.feeder("/dev/video10"), parts.feeder("/dev/video11")]
    try:
        for number in (10, 11):
            watcher = parts.Watcher(f"/dev/video{number}", tmp_path / f"{number}.jsonl")
            watcher.sees(parts.fresh)
            watcher.process.end(signal.SIGKILL)
        for name, expected in (
            ("cam", "cameras named like 'cam': /dev/video10"),
            ("Zoom", "no camera and no file 'Zoom'"),
        ):
            program = parts.program(name, "null")
            assert program.process.wait(parts.START_S) == 1
            program.end()
            assert expected in program.text()
            assert "/dev/video11 (FaceCam)" in program.text()
            assert "Traceback" not in program.text()
    finally:
        for camera in cameras:
            camera.end()
