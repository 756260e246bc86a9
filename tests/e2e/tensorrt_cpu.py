"""The real TensorRT Python API on a machine without a GPU, for tests: it parses and builds, and runs nothing.

NVIDIA's bindings, a wheel, over the library of TensorRT for RTX that another wheel carries, under the names that the
bindings look for. Not a pairing that anybody supports: what it builds is good for nothing but to see that it builds.
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
    """What a process needs in its environment to import it; skips the test where it cannot be had."""
    folder = Path(os.environ.get("REENACT_TENSORRT_CPU") or Path(tempfile.gettempdir()) / "reenact-tensorrt-cpu")
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("TensorRT on a CPU is put together on Linux, with gcc")
    if not (folder / "whole").exists():
        try:
            _put_together(folder)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
            pytest.skip(f"TensorRT on a CPU cannot be put together here: {error}")
    libraries = os.pathsep.join(filter(None, (str(folder / "lib"), os.environ.get("LD_LIBRARY_PATH"))))
    packages = os.pathsep.join(filter(None, (str(folder / "python"), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "PYTHONPATH": packages}


def _put_together(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        library, package = made / "lib", made / "python" / "tensorrt"
        library.mkdir(parents=True)
        package.mkdir(parents=True)
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*download, "-d", scratch, *WHEELS], check=True, timeout=300, capture_output=True)
        for wheel in Path(scratch).glob("*.whl"):
            into = made / ("python" if wheel.name.startswith("tensorrt") else "rtx")
            with zipfile.ZipFile(wheel) as file:
                file.extractall(into)
        (core,) = (made / "rtx").rglob("libtensorrt_rtx.so.1.*")
        (parser,) = (made / "rtx").rglob("libtensorrt_onnxparser_rtx.so.1.*")
        for name, target in (("nvinfer.so.11", core), ("tensorrt_rtx.so.1", core), ("nvonnxparser.so.11", parser)):
            (library / f"lib{name}").symlink_to(os.path.relpath(target, library))
        plugin = library / "libnvinfer_plugin.so.11"
        compiler = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{plugin.name}", "-o", str(plugin), "-xc", "-"]
        subprocess.run(compiler, input=_PLUGIN.encode(), check=True, timeout=60)
        (package / "__init__.py").write_text(_PACKAGE)
        (made / "whole").touch()
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
