"""Report what the program can use on this machine: a line for each part, with a cure where something is wrong.

    python -m tools.doctor [--json]

The exit code is 1 when there is a problem that prevents live use.
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

from engines.backends.engine_cache import engines_home, list_engines, mismatch
from engines.backends.tensorrt_backend import this_machine
from engines.errors import ReenactError, SinkError, SourceError
from engines.install_hint import command, in_checkout, install_command, python
from realtime.tracking.model_files import MODELS, find_model, model_path
from tools.support.command import new_app, run_app

ROOT = Path(__file__).parents[1]
REINSTALL = f"make run, or: {install_command()}" if in_checkout() else install_command()
_FRAMES = 20
"""How many frames are read from the camera."""
_SIZES_SHOWN = 6
_GL_CURE = "sudo apt install libgl1 libglib2.0-0 libegl1 libgles2"


class State(StrEnum):
    """How a finding affects live use."""

    OK = "ok"
    NOTE = "note"
    """Live use works without it, or less well."""
    PROBLEM = "problem"
    """Live use is impossible."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    about: str
    state: State
    text: str
    cure: str = ""


def python_version() -> Finding:
    """Check that packages are pinned for this version of Python."""
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= (3, 13):
        return Finding(
            "Python", State.NOTE, f"{text}: packages are not pinned", "use Python 3.11 or 3.12, which are tested most"
        )
    return Finding("Python", State.OK, text)


def packages(project: Path = ROOT / "pyproject.toml", pins: Path = ROOT / "constraints.txt") -> Finding:
    """Check that the dependencies are installed, in the versions known to work."""
    if not (project.is_file() and pins.is_file()):
        return Finding("packages", State.NOTE, "not run from a checkout: the pinned versions are not available")
    installed = {name: _version(name) for name in direct_dependencies(project.read_text("utf-8"))}
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        return Finding("packages", State.PROBLEM, f"not installed: {', '.join(missing)}", REINSTALL)
    text = ", ".join(f"{name} {version}" for name, version in installed.items())
    if sys.version_info < (3, 13):
        pinned = dict(line.partition(";")[0].strip().split("==") for line in _lines(pins.read_text("utf-8")))
        different = [
            f"{name} {version} (pinned {pinned[name]})"
            for name, version in ((name, _version(name)) for name in pinned)
            if version not in (None, pinned[name])
        ]
        if different:
            return Finding("packages", State.NOTE, f"not the versions known to work: {', '.join(different)}", REINSTALL)
    return Finding("packages", State.OK, text)


def direct_dependencies(project: str) -> list[str]:
    """Return the names in a pyproject.toml's ``dependencies``, each once, without OpenCV's second package."""
    import tomllib

    names = [
        match[0] for line in tomllib.loads(project)["project"]["dependencies"] if (match := re.match(r"[\w.-]+", line))
    ]
    return [name for name in dict.fromkeys(names) if name != "opencv-contrib-python"]


def opencv(version: Callable[[str], str | None] | None = None) -> Finding:
    """Check that the packages which share ``cv2`` have one version, and that it can be imported."""
    version = version or _version
    names = [f"opencv-{kind}" for kind in ("python", "contrib-python", "python-headless", "contrib-python-headless")]
    found = {name: number for name in names if (number := version(name))}
    text = ", ".join(f"{name} {number}" for name, number in found.items()) or "not installed"
    if len(set(found.values())) > 1:
        cure = f"{python()} -m pip install --force-reinstall --no-deps opencv-contrib-python==X opencv-python==X, one X"
        return Finding("OpenCV", State.PROBLEM, f"{text}: they share cv2 and must have the same version", cure)
    try:
        import cv2
    except ImportError as error:
        return Finding("OpenCV", State.PROBLEM, f"cv2 cannot be imported: {error}", _GL_CURE)
    return Finding("OpenCV", State.OK, f"{text}; cv2 is {cv2.__version__}")


def tracker() -> Finding:
    """Check that the tracker finds the face of the default portrait."""
    try:
        from realtime.portraits.portrait import load_portrait

        load_portrait(None, (512, 512))
    except ReenactError as error:
        return Finding("tracker", State.PROBLEM, str(error), error.cure)
    except ImportError as error:
        return Finding("tracker", State.PROBLEM, f"MediaPipe cannot be imported: {error}", _GL_CURE)
    return Finding("tracker", State.OK, "it finds the face of the default portrait")


def model_files() -> Iterable[Finding]:
    """Check the model files that are downloaded separately."""
    for name in MODELS:
        path, fetch = model_path(name), f"{command('models')} fetch {name}"
        if path is None:
            yield Finding(f"model {name}", State.NOTE, f"not fetched ({find_model(name).purpose})", fetch)
        elif find_model(name).matches(path):
            yield Finding(f"model {name}", State.OK, f"at {path}")
        else:
            cure = f"rm '{path}' && {fetch}"
            yield Finding(f"model {name}", State.PROBLEM, f"{path} is not the published file", cure)


def camera() -> Finding:
    """Open the webcam that ``--camera auto`` would use and measure what capture adds to the delay."""
    from realtime.capture.v4l2_stream import V4l2Stream
    from realtime.capture.webcam import open_first_webcam

    try:
        webcam = open_first_webcam()
    except SourceError as error:
        return Finding("camera", State.NOTE, f"{error}; the performer is used instead", error.cure)
    if webcam is None:
        return Finding("camera", State.NOTE, "none; the performer is used instead", "plug in a webcam")
    text = webcam.name
    try:
        for _ in range(_FRAMES):
            webcam.read()
        if isinstance(webcam.stream, V4l2Stream):
            waited, converted = webcam.stream.driver_delay, webcam.stream.conversion
            text += f"; a frame's time is {webcam.stream.timestamp_source}"
            text += f"; read {waited.percentile_ms(50):.1f} ms after it" if waited.count else ""
            text += f", converted in {converted.percentile_ms(50):.1f} ms"
    except SourceError as error:
        return Finding("camera", State.NOTE, str(error), error.cure)
    finally:
        webcam.close()
    return Finding("camera", State.OK, text)


def every_camera() -> Iterable[Finding]:
    """List all cameras with their formats and sizes, and all virtual cameras, on Linux."""
    from realtime.capture import v4l2_devices, v4l2_stream

    fed = {True: "in use by a program", False: "free", None: "the driver does not report whether it is in use"}
    for node in v4l2_devices.list_nodes():
        if node.loopback:
            yield Finding(
                "virtual",
                State.OK,
                f"{node}: {'no permission to open it' if node.permission_denied else fed[node.has_producer]}",
            )
        elif node.captures:
            try:
                with v4l2_devices.open_device(node.path) as handle:
                    sizes = v4l2_stream.list_sizes(handle)
            except OSError as error:
                yield Finding("offers", State.NOTE, f"{node} cannot be opened: {error.strerror}", "plug it in again")
                continue
            readable = {code: found for code, found in sizes.items() if code in v4l2_stream.READABLE_FORMATS}
            listed = [f"{code} {_listed(found)}" for code, found in readable.items()]
            others = len(sizes) - len(readable)
            more = f"; {others} more formats that cannot be read here" if others else ""
            yield Finding("offers", State.OK, f"{node}: {'; '.join(listed) or 'no format that can be read'}{more}")


def _listed(sizes: list[tuple[int, int]]) -> str:
    """Return the first sizes as text, and how many more there are."""
    few = " ".join(f"{width}x{height}" for width, height in sizes[:_SIZES_SHOWN])
    return few + (f" and {len(sizes) - _SIZES_SHOWN} more" if len(sizes) > _SIZES_SHOWN else "")


def virtual_camera() -> Finding:
    """Open the virtual camera that ``--sink auto`` would use."""
    from realtime.sinks.virtual_camera import VirtualCamera

    try:
        device = VirtualCamera(None, size=(640, 360), fps=30)
    except SinkError as error:
        return Finding(
            "virtual camera", State.NOTE, f"{error}; the result is shown on the web page instead", error.cure
        )
    device.close()
    return Finding("virtual camera", State.OK, device.name)


def encoder() -> Finding:
    """Check that PyAV can encode H.264, for recordings."""
    try:
        import av
    except ImportError as error:
        return Finding("recording", State.PROBLEM, f"PyAV cannot be imported: {error}", REINSTALL)
    names = [name for name in ("libx264", "libopenh264") if name in av.codecs_available]
    text = f"PyAV {av.__version__}"
    if not names:
        return Finding("recording", State.NOTE, f"{text} has no H.264 encoder: recordings are MPEG-4", REINSTALL)
    return Finding("recording", State.OK, f"{text} encodes H.264 with {names[0]}")


def compiled() -> Finding:
    """Check that numba's compiled code is cached, so that starts are quick."""
    import engines

    setting = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(setting) if setting else Path(str(engines.__file__)).parent / "__pycache__"
    count = sum(1 for _ in folder.rglob("*.nbc")) if folder.is_dir() else 0
    if count:
        return Finding("compiled code", State.OK, f"{count} functions cached in {folder}")
    existing = folder if folder.exists() else folder.parent
    if not os.access(existing, os.W_OK):
        cure = "set the environment variable NUMBA_CACHE_DIR to a folder that can be written"
        return Finding("compiled code", State.NOTE, f"{folder} cannot be written: every start may compile", cure)
    return Finding("compiled code", State.NOTE, "none cached yet: the first start compiles for 30 s to a minute")


def gpu() -> Finding:
    """Look for an NVIDIA GPU. The mesh generator does not need one."""
    program = shutil.which("nvidia-smi")
    torch = "torch is installed" if importlib.util.find_spec("torch") else "torch is not installed"
    if program is None:
        return Finding("GPU", State.NOTE, f"no NVIDIA driver, {torch}; the mesh generator needs neither")
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Finding("GPU", State.NOTE, f"nvidia-smi fails, {torch}", "install a driver that matches the kernel")
    return Finding("GPU", State.OK, f"{'; '.join(_lines(output)) or 'none listed'}; {torch}")


def tensorrt() -> Finding:
    """Look for TensorRT and the engines built with it. The mesh generator does not need them."""
    version, pycuda = _version("tensorrt"), _version("pycuda")
    if version is None:
        return Finding("TensorRT", State.NOTE, "not installed; the mesh generator does not need it")
    if pycuda is None:
        return Finding("TensorRT", State.NOTE, f"{version}, but not PyCUDA", install_command("tensorrt"))
    machine = this_machine()
    usable = [entry for entry in list_engines(engines_home()) if entry.sidecar and not mismatch(entry.sidecar, machine)]
    if not usable:
        build = f"{command('build-engine')} liveportrait"
        return Finding("TensorRT", State.NOTE, f"{version}, and no engine built for this machine", build)
    return Finding("TensorRT", State.OK, f"{version}, {len(usable)} engines for this machine")


def terminal() -> Finding:
    """Check that keys can be used while the program runs."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        return Finding("terminal", State.NOTE, "not interactive: keys do not work, Ctrl-C does")
    size = shutil.get_terminal_size()
    return Finding("terminal", State.OK, f"{os.environ.get('TERM', 'unnamed')}, {size.columns}x{size.lines}")


def examine() -> list[Finding]:
    """Return all findings, in the order of the report."""
    findings = [python_version(), packages(), opencv()]
    # The other checks import these packages.
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
    """Report what the program can use on this machine."""
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
