"""Stages run by ONNX Runtime: on the CPU, on CUDA, or by TensorRT for RTX cards. Buffers are bound once."""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends.backend import Array, Feeds, put
from engines.backends.onnx_export import export
from engines.errors import BackendError
from engines.install_hint import install

if TYPE_CHECKING:
    from engines.backends.network_stage import Stage

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "rtx": "NvTensorRTRTXExecutionProvider"}
PRECISE = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""What a provider is told, so that float32 is multiplied as such."""
MEMORY = {"cpu": ("cpu", 0), "cuda": ("cuda", 0), "rtx": ("gpu", 0, 0x10DE)}
"""Where inputs lie, in ONNX Runtime's words: a plug-in's memory goes by the number of the card's maker, NVIDIA's."""
_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_NOT_THE_CPU = "session.disable_cpu_ep_fallback"


def import_onnxruntime() -> Any:
    """ONNX Runtime. Raises BackendError where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise BackendError("ONNX Runtime is not installed", cure=install("neural")) from None
    return onnxruntime


class OnnxBackend:
    """See ``engines.backends.backend.Backend``."""

    def __init__(self, stage: Stage, device: str = "cpu", cache: Path | None = None) -> None:
        """``device`` is ``cpu``, ``cuda`` or ``rtx``; the exported network is kept under ``cache``.

        Raises BackendError where the provider cannot be had: another one never takes its place.
        """
        runtime = import_onnxruntime()
        if device == "cuda":
            _preload(runtime)
        self.inputs, self.outputs = stage.inputs, stage.outputs
        self._runtime = runtime
        self._session, whole = _open(runtime, stage, device, cache)
        wanted, got = PROVIDERS[device], self._session.get_providers()
        if not got or got[0] != wanted:
            raise BackendError(
                f"ONNX Runtime was asked for {wanted} and gives {', '.join(got) or 'nothing'}",
                cure="install the build of onnxruntime for your GPU, or choose --device cpu",
            )
        place = {"cpu": "the CPU", "cuda": "CUDA", "rtx": "TensorRT for RTX"}[device]
        self.name = f"onnx on {place}{'' if whole else ', some of it on the CPU'}, float32"
        self._binding = self._session.io_binding()
        self._arrays = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in stage.inputs}
        self._answers = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in stage.outputs}
        self._device = device
        self._values = {name: self._bind(name, array) for name, array in self._arrays.items()}
        for name, array in self._answers.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def keep(self, name: str, array: Array) -> None:
        """See Backend."""
        self._take(name, array)

    def run(self, feeds: Feeds) -> Feeds:
        """See Backend."""
        for name, array in feeds.items():
            self._take(name, array)
        with self._told():
            self._session.run_with_iobinding(self._binding)
        return self._answers

    def close(self) -> None:
        """See Backend."""
        self._session = self._binding = None
        self._values = {}

    def _bind(self, name: str, array: Array) -> Any:
        if self._device == "cpu":
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            return None
        with self._told():
            value = self._runtime.OrtValue.ortvalue_from_numpy(array, *MEMORY[self._device])
            self._binding.bind_ortvalue_input(name, value)
        return value

    def _take(self, name: str, array: Array) -> None:
        put(name, array, self._arrays[name])
        value = self._values[name]
        if value is not None:
            with self._told():
                value.update_inplace(self._arrays[name])

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Has the runtime's failures, and the GPU's, said in one line."""
        try:
            yield
        except Exception as error:  # ONNX Runtime has no class of its own for each failure
            line = _line(error)
            if self._device == "cpu":
                cure = "choose --backend torch --device cpu"
            elif "memory" in line.lower():
                cure = "close what else uses the GPU: see nvidia-smi"
            else:
                cure = "see nvidia-smi, then start again"
            raise BackendError(f"ONNX Runtime fails: {line}", cure=cure) from error


def _open(runtime: Any, stage: Stage, device: str, cache: Path | None) -> tuple[Any, bool]:
    """A session, and whether all of the network runs on the device."""
    with contextlib.ExitStack() as stack:
        folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            options = _options(runtime, device)
            path = str(export(stage, folder))  # takes a while: only for a provider that is there
            if device != "cpu":
                strict = _options(runtime, device)
                strict.add_session_config_entry(_NOT_THE_CPU, "1")
                with contextlib.suppress(Exception):  # whatever else is wrong is so without it too
                    return _start(runtime, path, strict, device), True
            return _start(runtime, path, options, device), device == "cpu"
        except BackendError:
            raise
        except Exception as error:  # see _told
            found = f"ONNX Runtime cannot load {stage.name}: {_line(error)}"
            raise BackendError(found, cure="choose --backend torch") from error


def _preload(runtime: Any) -> None:
    """Load the CUDA libraries that pip installed, which ONNX Runtime does not find unless PyTorch has loaded them."""
    if hasattr(runtime, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # what it cannot load, the session says better
            runtime.preload_dlls()


def _options(runtime: Any, device: str) -> Any:
    """What a session on the device is told. Raises BackendError where there is no such provider."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if device == "rtx":
        _add_rtx(runtime, options)
    elif PROVIDERS[device] not in runtime.get_available_providers():
        raise BackendError(
            f"this ONNX Runtime has no {PROVIDERS[device]}",
            cure="install onnxruntime-gpu in the place of onnxruntime, or choose --device cpu",
        )
    return options


def _start(runtime: Any, path: str, options: Any, device: str) -> Any:
    if device == "rtx":
        return runtime.InferenceSession(path, options)
    provider = PROVIDERS[device]
    return runtime.InferenceSession(path, options, providers=[(provider, PRECISE.get(provider, {}))])


def _add_rtx(runtime: Any, options: Any) -> None:
    """Have a session run on TensorRT for RTX cards, which comes as a plug-in package."""
    try:
        plugin = __import__(_PLUGIN)
    except ImportError:
        raise BackendError("ONNX Runtime's TensorRT for RTX cards is not installed", cure=install("rtx")) from None
    name = PROVIDERS["rtx"]
    try:
        _register(runtime, name, plugin.get_library_path())
    except Exception as error:  # see _told
        raise BackendError(
            f"ONNX Runtime cannot load TensorRT for RTX cards: {_line(error)}",
            cure="install the NVIDIA driver and CUDA that it asks for, or choose --device cuda or cpu",
        ) from error
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise BackendError("TensorRT for RTX finds no card that it takes", cure="choose --device cuda or cpu")
    options.add_provider_for_devices(devices[:1], {})


@functools.cache
def _register(runtime: Any, name: str, path: str) -> None:
    """Make a plug-in known to the runtime: once a process, as it refuses a name that it knows already."""
    runtime.register_execution_provider_library(name, path)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
