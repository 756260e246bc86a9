"""The structure of the project: what each package may import, and how large its parts may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.modules import (
    PACKAGES,
    ROOT,
    cycles,
    dotted,
    imported,
    imported_at_once,
    imported_at_runtime,
    modules,
    parsed,
    reachable,
)

ENGINE_PACKAGES: dict[str, set[str]] = {"face": set(), "layers": set(), "marking": set(), "eyes": {"face"}}
"""What packages of ``engines`` may import of the others."""
MAY_IMPORT = {"engines": {"engines"}, "realtime": {"engines", "realtime"}, "tools": set(PACKAGES)}
DEVICE_PACKAGES = ("capture", "tracking", "motion", "portraits", "sinks")
"""The packages of ``realtime`` that know nothing of what is built from them."""
BUILT_FROM_THEM = ("pipeline", "server", "terminal", "webrtc")
MAX_MODULES = 20
MAX_LINES = 50
MAX_PARAMETERS = 8
OPTIONAL = {"torch", "tensorrt", "pycuda", "onnx", "onnxruntime", "huggingface_hub", "aiortc", "matplotlib"}
"""Never imported when a module is: on use only."""
OWNERS = {
    "mediapipe": set(),
    "pyvirtualcam": set(),
    "av": {
        "realtime/sinks/live_sound.py",
        "realtime/sinks/recording.py",
        "realtime/sinks/soundtrack.py",
        "realtime/streams/camera_process.py",
        "realtime/streams/rtmp.py",
        "tools/latency/chromium.py",
    },
}
"""What may be imported on use only, but for the files that are nothing without it."""

HOMES = {
    "mediapipe": {"realtime/tracking"},
    "torch": {"engines"},
    "onnxruntime": {"engines"},
    "tensorrt": {"engines"},
    "aiortc": {"realtime/webrtc", "realtime/streams/whip.py"},
    "pyvirtualcam": {"realtime/sinks/virtual_camera.py"},
    "pythonosc": {"realtime/capture/tracker_packets.py", "realtime/sinks/tracker_sink.py"},
}
"""Where else than in ``tools`` a package is used, as docs/architecture.md says."""

# each module in turn, ours removed before: a module that can only be imported after another one fails
IMPORT_ALL = """
import importlib, sys

refused, names = sys.argv[1].split(","), sys.argv[2].split(",")

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"{name} is missing in this test")

sys.meta_path.insert(0, Refuse())

def audit(event, args):
    if event == "socket.connect" or (event == "open" and str(args[0]).startswith(("/dev/video", "/dev/nvidia"))):
        raise RuntimeError(f"{event} {args} while importing")

sys.addaudithook(audit)
for name in names:
    for old in [old for old in sys.modules if old.partition(".")[0] in ("engines", "realtime", "tools")]:
        del sys.modules[old]
    importlib.import_module(name)
    print(name)
"""


def test_every_module_imports_without_camera_gpu_network_and_optional_packages() -> None:
    names = [dotted(path) for path in modules()]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(OPTIONAL | {"mediapipe", "pyvirtualcam"}), ",".join(names)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == names


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_packages_import_in_one_direction(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.partition(".")[0] for name in imported(parsed(path))} & {*PACKAGES, "tests", "run"}
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_used_where_the_architecture_says(package: str) -> None:
    places = [ROOT / home for home in ("tools", *HOMES[package])]
    for path in modules():
        if package in {name.partition(".")[0] for name in imported(parsed(path))}:
            assert any(path.is_relative_to(place) for place in places), path
    _, _, rest = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("\nHeavy packages")
    paragraph = rest.partition("\n\n")[0]
    assert all(f"`{home}`" in paragraph for home in HOMES[package])


@pytest.mark.parametrize("package", ENGINE_PACKAGES)
def test_the_parts_of_the_mesh_generator_do_not_know_it(package: str) -> None:
    for path in sorted((ROOT / "engines" / package).glob("*.py")):
        ours = {name.split(".")[1] for name in imported(parsed(path)) if name.startswith("engines.")}
        folders = {name for name in ours if (ROOT / "engines" / name).is_dir() and name != "assets"}
        assert folders <= ENGINE_PACKAGES[package] | {package}, path


@pytest.mark.parametrize("path", sorted((ROOT / "engines/networks").glob("*.py")), ids=dotted)
def test_networks_do_not_know_the_mesh_generator_that_uses_them(path: Path) -> None:
    assert not {name for name in imported(parsed(path)) if name.startswith(("engines.mesh", "engines.layers"))}


@pytest.mark.parametrize("path", sorted((ROOT / "realtime/core").glob("*.py")), ids=dotted)
def test_the_core_imports_nothing_but_errors_and_types(path: Path) -> None:
    ours = {name for name in imported(parsed(path)) if name.partition(".")[0] in PACKAGES and name != "realtime.core"}
    others = {name for name in ours if not name.startswith("realtime.core.")}
    assert others <= {"engines.errors", "engines.types"}


@pytest.mark.parametrize(
    "path", [path for name in DEVICE_PACKAGES for path in sorted((ROOT / "realtime" / name).glob("*.py"))], ids=dotted
)
def test_devices_know_nothing_of_what_is_built_from_them(path: Path) -> None:
    forbidden = tuple(f"realtime.{package}" for package in BUILT_FROM_THEM)
    assert not {name for name in imported(parsed(path)) if name.startswith(forbidden)}


def test_the_media_process_has_no_tracker_and_no_generator() -> None:
    imports = {dotted(path): set(imported_at_runtime(parsed(path))) for path in modules()}
    process = [name for name in imports if name.startswith("realtime.webrtc.process")]
    found = reachable(process, imports)
    assert not {name for name in found if "mediapipe" in imports[name]}
    forbidden = ("engines.generator", "engines.mesh", "engines.networks", "engines.backends", "realtime.tracking")
    assert not {name for name in found if name.startswith(forbidden)}


def test_no_modules_import_one_another_in_a_circle() -> None:
    names = {dotted(path) for path in modules()}
    imports = {dotted(path): set(imported_at_once(parsed(path))) & names - {dotted(path)} for path in modules()}
    assert cycles(imports) == []


def test_no_test_module_imports_another() -> None:
    importing = {
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in imported(parsed(path))
        if name.rpartition(".")[2].startswith("test_")
    }
    assert importing == set()


def test_no_folder_has_more_modules_than_a_reader_can_survey() -> None:
    page = (ROOT / "realtime/webrtc/page").rglob("*.js")
    support = (ROOT / "tests/support").rglob("*.py")
    counts = Counter(path.parent for path in (*modules(), *page, *support) if path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > MAX_MODULES} == {}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return every function and method, with the name of its module before its own."""
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{dotted(path)}.{node.name}", node


def test_no_function_is_long() -> None:
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_constructor_has_many_parameters() -> None:
    counts = {
        f"{name} in line {node.lineno}": len(node.args.args) + len(node.args.kwonlyargs) - 1
        for name, node in functions()
        if node.name == "__init__"
    }
    assert {name: count for name, count in counts.items() if count > MAX_PARAMETERS} == {}


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_heavy_packages_are_imported_on_use(path: Path) -> None:
    at_once = {name.partition(".")[0] for name in imported_at_once(parsed(path))}
    assert not at_once & OPTIONAL
    for package, owners in OWNERS.items():
        assert package not in at_once or path.relative_to(ROOT).as_posix() in owners


def test_one_module_imports_the_virtual_camera_library() -> None:
    """Its licence is the GPL: it is used by one module, and only when a virtual camera is asked for."""
    users = [path for path in modules() if "pyvirtualcam" in imported(parsed(path))]
    assert {path.relative_to(ROOT).as_posix() for path in users} <= {"realtime/sinks/virtual_camera.py"}


def test_the_command_line_starts_without_anything_heavy() -> None:
    """The help, or the message about a mistake, must not take seconds."""
    code = "import sys, realtime.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"mediapipe", "av", "pyvirtualcam", "matplotlib", "torch"} & set(done.stdout.split())
