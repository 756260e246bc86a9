"""The real TensorRT Python API on a machine without a GPU, for tests: it parses and builds but cannot run.

A wheel with NVIDIA's bindings is combined with the library of TensorRT for RTX from another wheel, under the names that
the bindings look for. This combination is not supported by NVIDIA; its engines only show that the build works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

WHEELS = ("tensorrt-cu13-bindings==11.4.0.106", "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0")
_PACKAGE = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
_PLUGIN = "int initLibNvInferPlugins(void *logger, const char *scope) { (void)logger; (void)scope; return 1; }\n"


def environment() -> dict[str, str]:
    """Return the environment of a process that can import it. Skip the test where it cannot be installed."""
    folder = Path(os.environ.get("REENACT_TENSORRT_CPU") or Path(tempfile.gettempdir()) / "reenact-tensorrt-cpu")
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("TensorRT on a CPU needs Linux and gcc")
    if not (folder / "complete").exists():
        try:
            _install(folder)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
            pytest.skip(f"TensorRT on a CPU cannot be installed here: {error}")
    libraries = os.pathsep.join(filter(None, (str(folder / "lib"), os.environ.get("LD_LIBRARY_PATH"))))
    packages = os.pathsep.join(filter(None, (str(folder / "python"), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "PYTHONPATH": packages}


def _install(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = Path(scratch) / "root"
        library, package = root / "lib", root / "python" / "tensorrt"
        library.mkdir(parents=True)
        package.mkdir(parents=True)
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*download, "-d", scratch, *WHEELS], check=True, timeout=300, capture_output=True)
        for wheel in Path(scratch).glob("*.whl"):
            target = root / ("python" if wheel.name.startswith("tensorrt") else "rtx")
            with zipfile.ZipFile(wheel) as file:
                file.extractall(target)
        (core,) = (root / "rtx").rglob("libtensorrt_rtx.so.1.*")
        (parser,) = (root / "rtx").rglob("libtensorrt_onnxparser_rtx.so.1.*")
        for name, path in (("nvinfer.so.11", core), ("tensorrt_rtx.so.1", core), ("nvonnxparser.so.11", parser)):
            (library / f"lib{name}").symlink_to(os.path.relpath(path, library))
        plugin = library / "libnvinfer_plugin.so.11"
        compiler = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{plugin.name}", "-o", str(plugin), "-xc", "-"]
        subprocess.run(compiler, input=_PLUGIN.encode(), check=True, timeout=60)
        (package / "__init__.py").write_text(_PACKAGE)
        (root / "complete").touch()
        shutil.rmtree(folder, ignore_errors=True)
        root.rename(folder)
