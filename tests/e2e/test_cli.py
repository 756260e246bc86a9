"""The command line as users type it: exit codes, one line for each mistake, never a traceback."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pictures

from tests.support.clips import grey, write_video

ROOT = Path(__file__).parents[2]
SMALL = ("--size", "128x128")


def run(*options: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driving video of 12 pictures without a face."""
    path = tmp_path_factory.mktemp("clips") / "grey.mp4"
    write_video(path, [grey(i, (160, 120)) for i in range(12)])
    return path


def without_a_face(path: Path) -> None:
    Pictures.fromarray(np.full((300, 300, 3), 128, np.uint8)).save(path)


WRONG_USAGE = [
    (["--size", "641x480"], "--size '641x480', expected WIDTHxHEIGHT"),
    (["--fps", "fast"], "--fps 'fast', expected a number from 1 to 240"),
    (["--fps", "nan"], "--fps nan, expected"),
    (["--gain", "-1"], "--gain -1, expected a number from 0 to 4"),
    (["--sink", "printer"], "--sink 'printer', expected auto, virtualcam"),
    (["--pace", "max"], "--pace max with --camera auto"),
    (["--bogus"], "unrecognized arguments: --bogus"),
    (["surplus"], "no command 'surplus'"),
    (["--camera"], "expected one argument"),
    (["--config", "none.toml"], "none.toml"),
    (["--config", "typo.toml"], "did you mean portrait?"),
    (["--config", "wrong.toml"], "fps = 'fast' in wrong.toml, expected a number from 1 to 240"),
    (["--report", "nowhere/report.json"], "--report: nowhere/report.json"),
    (["--camera", "same.mp4", "--sink", "file:same.mp4"], "same.mp4"),
]
"""Options, and what the one line on standard error contains."""


@pytest.mark.parametrize(("options", "text"), WRONG_USAGE, ids=[" ".join(options) for options, _ in WRONG_USAGE])
def test_wrong_usage_is_one_line_and_exit_code_2(options: list[str], text: str, tmp_path: Path) -> None:
    (tmp_path / "typo.toml").write_text('portriat = "a.png"')
    (tmp_path / "wrong.toml").write_text('fps = "fast"')
    code, line = ended(run(*options, cwd=tmp_path))
    assert code == 2
    assert text in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no folder that is in use")
def test_a_working_directory_that_was_deleted(tmp_path: Path) -> None:
    code = "import os, subprocess, sys; os.rmdir(os.getcwd()); sys.exit(subprocess.call(sys.argv[1:]))"
    command = [sys.executable, str(ROOT / "run.py"), "--camera", "performer", "--sink", "null"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    exit_code, line = ended(done)
    assert exit_code == 2
    assert "cd into another one" in line


def ended(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """Return the exit code and the only line on standard error."""
    assert done.stderr.startswith("reenact: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


PORTRAITS: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing.jpg", lambda _: None, "no picture file missing.jpg"),
    ("empty.png", lambda path: path.touch(), "empty.png is empty"),
    ("rubbish.png", lambda path: path.write_bytes(bytes(range(256))), "rubbish.png is not a picture"),
    ("folder", lambda path: path.mkdir(), "folder is a folder"),
    ("no_face.png", without_a_face, "no face"),
]


@pytest.mark.parametrize(("name", "make", "line"), PORTRAITS, ids=[name for name, _, _ in PORTRAITS])
def test_a_portrait_that_cannot_be_used(
    name: str, make: Callable[[Path], object], line: str, clip: Path, tmp_path: Path
) -> None:
    make(tmp_path / name)
    code, said = ended(run("--camera", str(clip), "--portrait", name, "--sink", "null", *SMALL, cwd=tmp_path))
    assert code == 2
    assert line in said


NOT_AVAILABLE = [
    (["--camera", "none.mp4"], "none.mp4"),
    (["--camera", "rubbish.mp4"], "rubbish.mp4"),
    (["--camera", "empty.mp4"], "empty.mp4"),
    (["--camera", "."], "folder"),
    (["--camera", "97"], "camera"),
    (["--camera", "/dev/video97"], "/dev/video97"),
    (["--sink", "file:nowhere/out.mp4"], "nowhere"),
    (["--sink", "virtualcam:/dev/video97"], "virtual camera"),
    (["--tracker", "landmarker"], "python -m tools.models fetch face_landmarker"),
    (["--model", "rubbish.mp4"], "rubbish.mp4"),
]
"""Options, and what the one line on standard error names."""


@pytest.mark.parametrize(("options", "name"), NOT_AVAILABLE, ids=[" ".join(options) for options, _ in NOT_AVAILABLE])
def test_what_is_not_available_is_one_line_and_exit_code_1(
    options: list[str], name: str, clip: Path, tmp_path: Path, own_cache: Path
) -> None:
    del own_cache
    (tmp_path / "rubbish.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").touch()
    for option, value in (("--camera", str(clip)), ("--sink", "null")):
        if option not in options:
            options = [*options, option, value]
    code, line = ended(run(*options, *SMALL, cwd=tmp_path))
    assert code == 1
    assert name in line


def test_a_file_becomes_a_file_frame_by_frame(clip: Path, tmp_path: Path) -> None:
    options = ["--camera", str(clip), "--sink", "file:out.mp4", "--pace", "max", "--report", "report.json", *SMALL]
    done = run(*options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with av.open(str(tmp_path / "out.mp4")) as container:
        pictures = list(container.decode(video=0))
    assert len(pictures) == 12
    assert (pictures[0].width, pictures[0].height) == (128, 128)
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"frames", "faces", "fps", "dropped", "latency_ms", "machine", "config"}
    assert (report["frames"], report["faces"], sum(report["dropped"].values())) == (12, 0, 0)
    assert set(report["latency_ms"]) == {"track", "generate", "captured_to_sent"}
    assert set(report["latency_ms"]["captured_to_sent"]) == {"p50", "p95", "p99", "max"}
    assert report["config"]["size"] == "128x128"


def test_a_live_run_prints_its_parts_and_ends_with_the_file(clip: Path, tmp_path: Path) -> None:
    done = run("--camera", str(clip), "--sink", "null", *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    labels = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"source", "tracker", "generator", "sink", "running", "done"} <= set(labels)


def test_quiet_prints_nothing(clip: Path, tmp_path: Path) -> None:
    done = run("--camera", str(clip), "--sink", "null", "--quiet", *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_fails_loses_no_recording(clip: Path, tmp_path: Path) -> None:
    options = ["--camera", str(clip), "--sink", "file:out.mp4", "--report", "report.json", *SMALL]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *options],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended(done) == (
        0,
        "reenact: standard output fails (No space left on device); the run continues without it\n",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "report.json"}


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


@FULL
def test_both_outputs_that_fail_lose_no_recording(clip: Path, tmp_path: Path) -> None:
    options = ["--camera", str(clip), "--sink", "file:out.mp4", *SMALL]
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(ROOT / "run.py"), *options]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=full, timeout=120, check=False)
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@FULL
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["run.py --help", "run.py --version", "-m tools.doctor --help"])
def test_text_that_cannot_be_printed_is_an_error(words: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        command = [sys.executable, *words.split()]
        done = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert ended(done) == (1, "reenact: standard output fails (No space left on device)\n")


@FULL
@pytest.mark.parametrize("words", ["run.py --size 3", "run.py --bogus", "-m tools.doctor --bogus"])
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(words: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, *words.split()]
        assert subprocess.run(command, cwd=ROOT, stderr=full, timeout=60, check=False).returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams as a POSIX shell does")
def test_streams_that_are_closed(tmp_path: Path) -> None:
    command = f"exec '{sys.executable}' '{ROOT / 'run.py'}' --camera none.mp4 --sink null"
    for closed in ("2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        assert (
            subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=tmp_path, timeout=60, check=False).returncode == 1
        )
    done = subprocess.run(
        ["sh", "-c", f"{command} >&-"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    code, line = ended(done)
    assert code == 1
    assert "none.mp4" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
def test_an_interrupt_while_it_is_loaded_ends_it_quietly(tmp_path: Path) -> None:
    code = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "realtime.config":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
import runpy
sys.path.insert(0, os.path.dirname(sys.argv[1]))
runpy.run_path(sys.argv[1], run_name="__main__")
"""
    command = [sys.executable, "-c", code, str(ROOT / "run.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_one_interrupt_ends_it_in_a_terminal_that_takes_no_output(tmp_path: Path) -> None:
    import pty
    import termios

    terminal, theirs = pty.openpty()
    options = ["--camera", "performer", "--sink", "null", "--report", "report.json", *SMALL]
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *options],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        printed = b""
        while b"running" not in printed:
            ready, _, _ = select.select([terminal], [], [], 60)
            assert ready, printed
            printed += os.read(terminal, 4096)
        termios.tcflow(theirs, termios.TCOOFF)
        with pytest.raises(subprocess.TimeoutExpired):  # until its status line is held
            child.wait(1)
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 0
        assert json.loads((tmp_path / "report.json").read_text())["frames"]
    finally:
        child.kill()
        child.wait()
        for end in (terminal, theirs):
            os.close(end)


def test_options_come_from_a_file_too(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "reenact.toml").write_text(
        f'camera = "{clip.as_posix()}"\nsink = ["null"]\nsize = "128x128"\nframes = 5\nreport = "report.json"\n'
    )
    done = run("--config", "reenact.toml", "--frames", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frames"] == 3


def performing(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start the program in a folder with the performer, its output and errors piped as they come."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "--camera", "performer", *options, *SMALL],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_what_was_recorded_plays(number: signal.Signals, tmp_path: Path) -> None:
    with performing(tmp_path, "--sink", "file:out.mp4", "--report", "report.json") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stdout:
            if line.startswith("running"):
                break
        child.send_signal(number)
        assert child.wait(5) == 0
        assert child.stderr.read() == ""
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).width == 128
    assert json.loads((tmp_path / "report.json").read_text())["frames"] >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
def test_an_interrupt_before_the_first_frame_has_its_own_exit_code(tmp_path: Path) -> None:
    with performing(tmp_path, "--sink", "null") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()  # it is opening its parts
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
        assert child.stdout.read().splitlines()[-1] == "stopped   before the first frame"
        assert child.stderr.read() == ""


def test_a_portrait_that_is_no_picture_ends_it_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("This is not an image.")
    done = run("--camera", "performer", "--sink", "null", "--portrait", "text.jpg", *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.skipif(sys.platform != "linux", reason="says how a virtual camera is installed on Linux")
def test_without_camera_and_virtual_camera_the_page_shows_the_performer(tmp_path: Path) -> None:
    if any(Path("/dev").glob("video*")):
        pytest.skip("this machine has a camera or a virtual camera")
    done = run("--frames", "15", *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "performer" in done.stdout
    assert "modprobe v4l2loopback" in done.stdout
    assert "http://127.0.0.1:" in done.stdout
    assert "15 frames, 15 with a face" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_performer_at_the_highest_pace(tmp_path: Path) -> None:
    options = ["--camera", "performer", "--pace", "max", "--frames", "60", "--sink", "null", "--report", "r.json"]
    done = run(*options, *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["frames"], sum(report["dropped"].values())) == (60, 0)
    assert report["faces"] >= 59


COMPILED_LATE = """
import gc, sys
from numba.core import event
from engines import jit
from realtime import cli

ready = []
gc.freeze = lambda: ready.append(True)  # called before the first frame, once everything is prepared

class Late(event.Listener):
    def on_start(self, event):
        if ready and event.data["dispatcher"] in jit._functions:
            print("compiled while running:", event.data["dispatcher"].py_func.__qualname__, file=sys.stderr)

    def on_end(self, event):
        pass

try:
    with event.install_listener("numba:compile", Late()):
        cli.main()
finally:
    print(f"ready {len(ready)}")
"""


def test_nothing_is_compiled_once_the_run_has_begun(tmp_path: Path) -> None:
    """The first start on a machine compiles for seconds, before the first frame."""
    options = ["--camera", "performer", "--sink", "null", "--size", "256x256", "--frames", "45"]
    done = subprocess.run(
        [sys.executable, "-c", COMPILED_LATE, *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        check=False,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ready 1"
    assert done.stderr == ""
