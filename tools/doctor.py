"""Says what of this machine the program can use: a line each, with the cure where something is amiss.

    python -m tools.doctor [--json]

Exits with 1 when something prevents the main job.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engines.backends.engine_cache import engines_home, entries, misfit
from engines.backends.tensorrt_backend import this_machine
from engines.errors import ReenactError, SinkError, SourceError
from engines.install_hint import install
from realtime.tracking.model_files import MODELS, find, model
from tools.support.command import new_app, run_app

ROOT = Path(__file__).parents[1]
REINSTALL = f"make run, or: {install()}"
_PICTURES = 20
_SIZES = 6
_GL_CURE = "sudo apt install libgl1 libglib2.0-0 libegl1 libgles2"


class State(StrEnum):
    """How a finding bears on the main job."""

    OK = "ok"
    NOTE = "note"
    """The main job works without it, or worse."""
    PROBLEM = "problem"
    """The main job cannot be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    about: str
    state: State
    text: str
    cure: str = ""


def python_version() -> Finding:
    """Whether this Python is one of those whose packages are pinned."""
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= (3, 13):
        return Finding("Python", State.NOTE, f"{text}: packages are not pinned", "Python 3.11 or 3.12 is best tried")
    return Finding("Python", State.OK, text)


def packages(project: Path = ROOT / "pyproject.toml", pins: Path = ROOT / "constraints.txt") -> Finding:
    """Whether what the program depends on is installed, in the versions that are known to work."""
    if not (project.is_file() and pins.is_file()):
        return Finding("packages", State.NOTE, "not run from a checkout: the pinned versions are not at hand")
    wanted = direct_dependencies(project.read_text())
    installed = {name: _version(name) for name in wanted}
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        return Finding("packages", State.PROBLEM, f"not installed: {', '.join(missing)}", REINSTALL)
    text = ", ".join(f"{name} {version}" for name, version in installed.items())
    if sys.version_info < (3, 13):
        pinned = dict(line.partition(";")[0].strip().split("==") for line in _lines(pins.read_text()))
        found = {name: _version(name) for name in pinned}
        other = [
            f"{name} {version} (pinned {pinned[name]})"
            for name, version in found.items()
            if version not in (None, pinned[name])
        ]
        if other:
            return Finding("packages", State.NOTE, f"not the versions known to work: {', '.join(other)}", REINSTALL)
    return Finding("packages", State.OK, text)


def direct_dependencies(project: str) -> list[str]:
    """The names in a pyproject.toml's ``dependencies``, each once, without OpenCV's second package."""
    import tomllib

    names = [
        match[0] for line in tomllib.loads(project)["project"]["dependencies"] if (match := re.match(r"[\w.-]+", line))
    ]
    return [name for name in dict.fromkeys(names) if name != "opencv-contrib-python"]


def opencv(version: Callable[[str], str | None] | None = None) -> Finding:
    """Whether the packages that share ``cv2`` agree, and it loads."""
    look_up = version or _version
    names = [f"opencv-{kind}" for kind in ("python", "contrib-python", "python-headless", "contrib-python-headless")]
    found = {name: have for name in names if (have := look_up(name))}
    text = ", ".join(f"{name} {have}" for name, have in found.items()) or "not installed"
    if len(set(found.values())) > 1:
        cure = "python -m pip install --force-reinstall --no-deps opencv-contrib-python==X opencv-python==X, one X"
        return Finding("OpenCV", State.PROBLEM, f"{text}: they share cv2 and must be of one version", cure)
    try:
        import cv2
    except ImportError as error:
        return Finding("OpenCV", State.PROBLEM, f"cv2 does not load: {error}", _GL_CURE)
    return Finding("OpenCV", State.OK, f"{text}; cv2 is {cv2.__version__}")


def tracker() -> Finding:
    """Whether tracking works: it has to find the face of the default portrait."""
    try:
        from realtime.portraits.portrait import load_portrait

        load_portrait(None, (512, 512))
    except ReenactError as error:
        return Finding("tracker", State.PROBLEM, str(error), error.cure)
    except ImportError as error:
        return Finding("tracker", State.PROBLEM, f"MediaPipe does not load: {error}", _GL_CURE)
    return Finding("tracker", State.OK, "finds the face of the default portrait")


def model_files() -> Iterable[Finding]:
    """The models that are fetched."""
    for name in MODELS:
        place, fetch = find(name), f"python -m tools.models fetch {name}"
        if place is None:
            yield Finding(f"model {name}", State.NOTE, f"not fetched ({model(name).purpose})", fetch)
        elif model(name).matches(place):
            yield Finding(f"model {name}", State.OK, f"at {place}")
        else:
            cure = f"rm '{place}' && {fetch}"
            yield Finding(f"model {name}", State.PROBLEM, f"{place} is not the published file", cure)


def camera() -> Finding:
    """The webcam that ``--camera auto`` would take; it is opened for a moment and what capture adds is measured."""
    from realtime.capture.v4l2_stream import Stream
    from realtime.capture.webcam import first_webcam

    try:
        webcam = first_webcam()
    except SourceError as error:
        return Finding("camera", State.NOTE, f"{error}; the performer stands in", error.cure)
    if webcam is None:
        return Finding("camera", State.NOTE, "none; the performer stands in", "plug in a webcam")
    text = webcam.name
    try:
        for _ in range(_PICTURES):
            webcam.read()
        if isinstance(webcam.stream, Stream):
            waited, converted = webcam.stream.waited, webcam.stream.converted
            text += f"; a picture's time is {webcam.stream.stamping}"
            text += f"; read {waited.percentile_ms(50):.1f} ms after it" if waited.count else ""
            text += f", converted in {converted.percentile_ms(50):.1f} ms"
    except SourceError as error:
        return Finding("camera", State.NOTE, str(error), error.cure)
    finally:
        webcam.close()
    return Finding("camera", State.OK, text)


def every_camera() -> Iterable[Finding]:
    """All cameras with the formats and sizes they offer, and all virtual cameras; on Linux."""
    from realtime.capture import v4l2_devices, v4l2_stream

    fed = {True: "a program feeds it", False: "free", None: "the driver does not tell whether a program feeds it"}
    for node in v4l2_devices.nodes():
        if node.loopback:
            yield Finding("virtual", State.OK, f"{node}: {'may not be opened' if node.refused else fed[node.fed]}")
        elif node.captures:
            try:
                with v4l2_devices.opened(node.path) as handle:
                    sizes = v4l2_stream.sizes(handle)
            except OSError as error:
                yield Finding("offers", State.NOTE, f"{node} cannot be asked: {error.strerror}", "plug it in again")
                continue
            readable = {code: found for code, found in sizes.items() if code in v4l2_stream.READABLE}
            listed = [f"{code} {_listed(found)}" for code, found in readable.items()]
            left = len(sizes) - len(readable)
            more = f"; {left} more formats that cannot be read here" if left else ""
            yield Finding("offers", State.OK, f"{node}: {'; '.join(listed) or 'no format that can be read'}{more}")


def _listed(sizes: list[tuple[int, int]]) -> str:
    """Some sizes, and how many more."""
    few = " ".join(f"{width}x{height}" for width, height in sizes[:_SIZES])
    return few + (f" and {len(sizes) - _SIZES} more" if len(sizes) > _SIZES else "")


def virtual_camera() -> Finding:
    """The virtual camera that ``--sink auto`` would feed; it is opened for a moment."""
    from realtime.sinks.virtual_camera import VirtualCamera

    try:
        device = VirtualCamera(None, size=(640, 360), fps=30)
    except SinkError as error:
        return Finding("virtual camera", State.NOTE, f"{error}; the page shows the result", error.cure)
    device.close()
    return Finding("virtual camera", State.OK, device.name)


def encoder() -> Finding:
    """Whether PyAV can encode H.264, for recordings."""
    try:
        import av
    except ImportError as error:
        return Finding("recording", State.PROBLEM, f"PyAV does not load: {error}", REINSTALL)
    names = [name for name in ("libx264", "libopenh264") if name in av.codecs_available]
    text = f"PyAV {av.__version__}"
    if not names:
        return Finding("recording", State.NOTE, f"{text} has no H.264 encoder: MPEG-4 is recorded", REINSTALL)
    return Finding("recording", State.OK, f"{text} encodes H.264 with {names[0]}")


def compiled() -> Finding:
    """Whether numba's compiled code is kept, so that a start is quick."""
    import engines

    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(str(engines.__file__)).parent / "__pycache__"
    count = sum(1 for _ in folder.rglob("*.nbc")) if folder.is_dir() else 0
    if count:
        return Finding("compiled code", State.OK, f"{count} functions kept in {folder}")
    near = folder if folder.exists() else folder.parent
    if not os.access(near, os.W_OK):
        cure = "name a folder that can be written in the environment variable NUMBA_CACHE_DIR"
        return Finding("compiled code", State.NOTE, f"{folder} cannot be written: every start may compile", cure)
    return Finding("compiled code", State.NOTE, "none yet: the first start compiles, which takes a while")


def gpu() -> Finding:
    """NVIDIA's GPU, if any. The mesh generator needs none."""
    program = shutil.which("nvidia-smi")
    torch = "torch is installed" if importlib.util.find_spec("torch") else "torch is not installed"
    if program is None:
        return Finding("GPU", State.NOTE, f"no NVIDIA driver, {torch}; the mesh generator needs neither")
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Finding("GPU", State.NOTE, f"nvidia-smi fails, {torch}", "install a driver that fits the kernel")
    return Finding("GPU", State.OK, f"{'; '.join(_lines(answer)) or 'none listed'}; {torch}")


def tensorrt() -> Finding:
    """NVIDIA's inference engine, and the engines built for it. The mesh generator needs none."""
    version, pycuda = _version("tensorrt"), _version("pycuda")
    if version is None:
        return Finding("TensorRT", State.NOTE, "not installed; the mesh generator does not need it")
    if pycuda is None:
        return Finding("TensorRT", State.NOTE, f"{version}, but not PyCUDA", install("tensorrt"))
    machine = this_machine()
    fitting = [entry for entry in entries(engines_home()) if entry.sidecar and not misfit(entry.sidecar, machine)]
    if not fitting:
        build = "python -m tools.build_engine liveportrait"
        return Finding("TensorRT", State.NOTE, f"{version}, and no engine built for this machine", build)
    return Finding("TensorRT", State.OK, f"{version}, {len(fitting)} engines for this machine")


def terminal() -> Finding:
    """Whether keys work while the program runs."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        return Finding("terminal", State.NOTE, "not interactive: keys do not work, Ctrl-C does")
    size = shutil.get_terminal_size()
    return Finding("terminal", State.OK, f"{os.environ.get('TERM', 'unnamed')}, {size.columns}x{size.lines}")


def examine() -> list[Finding]:
    """Everything, in the order of the report."""
    findings = [python_version(), packages(), opencv()]
    # Without these the others cannot even be asked.
    if any(finding.state is State.PROBLEM for finding in findings):
        return findings
    return [
        *findings,
        tracker(),
        *model_files(),
        camera(),
        *every_camera(),
        virtual_camera(),
        encoder(),
        compiled(),
        gpu(),
        tensorrt(),
        terminal(),
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


app = new_app()


@app.command()
def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what of this machine the program can use."""
    findings = examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        colours = {State.OK: "green", State.NOTE: "yellow", State.PROBLEM: "red"}
        console = Console(soft_wrap=True, highlight=False)
        for finding in findings:
            mark = f"[{colours[finding.state]}]{finding.state:<7}[/]"
            console.print(mark, end=" ")
            console.print(f"{finding.about}: {finding.text}", markup=False)
            if finding.cure and finding.state is not State.OK:
                console.print(f"        {finding.cure}", markup=False)
    if any(finding.state is State.PROBLEM for finding in findings):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.doctor") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
