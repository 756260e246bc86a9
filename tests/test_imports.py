"""Any module imports anywhere: without camera, GPU, network or optional packages; and the rooms keep their order."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.modules import PACKAGES, ROOT, dotted, imported, imported_at_once, modules

MAY_IMPORT = {"engines": {"engines"}, "realtime": {"engines", "realtime"}, "tools": set(PACKAGES)}
OPTIONAL = {"torch", "tensorrt", "pycuda", "onnx", "onnxruntime", "huggingface_hub", "aiortc", "matplotlib"}
"""Never imported when a module is: on use only."""
OWNERS = {
    "mediapipe": set(),
    "pyvirtualcam": set(),
    "av": {"realtime/sinks/recording.py", "realtime/sinks/soundtrack.py", "tools/latency/chromium.py"},
}
"""What may be imported on use only, but for the files that are nothing without it."""

# Each module in turn, with all of ours forgotten before: one that only imports after another has been fails.
IMPORT_ALL = """
import importlib, sys

refused, names = sys.argv[1].split(","), sys.argv[2].split(",")

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"{name} is not to be had in this test")

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
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == names


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_rooms_import_in_one_direction(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    room = path.relative_to(ROOT).parts[0]
    of_ours = {name.partition(".")[0] for name in imported(tree)} & {*PACKAGES, "tests", "run"}
    assert of_ours <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_heavy_packages_are_imported_on_use(path: Path) -> None:
    at_once = {name.partition(".")[0] for name in imported_at_once(ast.parse(path.read_text("utf-8")))}
    assert not at_once & OPTIONAL
    for package, owners in OWNERS.items():
        assert package not in at_once or path.relative_to(ROOT).as_posix() in owners


def test_one_file_knows_the_virtual_camera_library() -> None:
    """Its licence is the GPL: it is used through one file, and only when a virtual camera is asked for."""
    users = [
        path for path in modules() if any(name == "pyvirtualcam" for name in imported(ast.parse(path.read_text())))
    ]
    assert {path.relative_to(ROOT).as_posix() for path in users} <= {"realtime/sinks/virtual_camera.py"}


def test_the_command_line_starts_without_anything_heavy() -> None:
    """Asking for help or making a mistake shall not take seconds."""
    code = "import sys, realtime.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"mediapipe", "av", "pyvirtualcam", "matplotlib", "torch"} & set(done.stdout.split())
