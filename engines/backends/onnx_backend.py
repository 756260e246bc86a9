"""Networks run by ONNX Runtime: on the CPU, on CUDA, or with TensorRT for RTX GPUs. Buffers are bound once."""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends.backend import Precision, copy_input, first_line
from engines.backends.network_stage import OnnxNetwork
from engines.backends.onnx_export import export_onnx
from engines.errors import BackendError
from engines.install_hint import install_command

if TYPE_CHECKING:
    from engines.backends.network_stage import Array, Feeds, NetworkStage

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "rtx": "NvTensorRTRTXExecutionProvider"}
PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""Options of providers: float32 is not to be lowered to TF32."""
MEMORY = {"cpu": ("cpu", 0), "cuda": ("cuda", 0), "rtx": ("gpu", 0, 0x10DE)}
"""Where inputs are stored, in ONNX Runtime's terms: a plug-in's memory is named by its PCI vendor, NVIDIA."""
_RTX_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
_NO_CPU_FALLBACK = "session.disable_cpu_ep_fallback"
_SPIN = "session.intra_op.allow_spinning"


def import_onnxruntime() -> Any:
    """Import ONNX Runtime. Raises BackendError if it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise BackendError("package-missing", "no package onnxruntime", cure=install_command("neural")) from None
    return onnxruntime


class OnnxBackend:
    """A network run by ONNX Runtime, see ``engines.backends.backend.Backend``."""

    precision: Precision = "float32"

    def __init__(
        self,
        stage: NetworkStage | OnnxNetwork,
        device: str = "cpu",
        cache: Path | None = None,
        threads: int | None = None,
    ) -> None:
        """Open a session on ``device``: ``cpu``, ``cuda`` or ``rtx``. An exported network is kept in ``cache``.

        ``threads``: how many threads of the CPU compute, which then sleep between frames; None for all cores.

        Raises BackendError if the provider is not available; no other one takes its place.
        """
        runtime = import_onnxruntime()
        if device == "cuda":
            _preload_libraries(runtime)
        self.inputs, self.outputs = stage.inputs, stage.outputs
        self._runtime = runtime
        self._session, complete = _open_session(runtime, stage, device, cache, threads)
        expected, providers = PROVIDERS[device], self._session.get_providers()
        if not providers or providers[0] != expected:
            raise BackendError(
                "onnx-provider-missing",
                f"{', '.join(providers) or 'no provider'} from ONNX Runtime",
                expected,
                "install the build of onnxruntime for your GPU, or choose --device cpu",
            )
        place = {"cpu": "the CPU", "cuda": "CUDA", "rtx": "TensorRT for RTX"}[device]
        self.name = f"onnx on {place}{'' if complete else ', some of it on the CPU'}, float32"
        self._binding = self._session.io_binding()
        self._input_arrays = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in stage.inputs}
        self._output_arrays = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in stage.outputs}
        self._device = device
        self._values = {name: self._bind_input(name, array) for name, array in self._input_arrays.items()}
        for name, array in self._output_arrays.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def retain_input(self, name: str, array: Array) -> None:
        """See ``Backend.retain_input``."""
        self._copy_input(name, array)

    def run(self, feeds: Feeds) -> Feeds:
        """See ``Backend.run``."""
        for name, array in feeds.items():
            self._copy_input(name, array)
        with self._translate_errors():
            self._session.run_with_iobinding(self._binding)
        return self._output_arrays

    def close(self) -> None:
        """See ``Backend.close``."""
        self._session = self._binding = None
        self._values = {}

    def _bind_input(self, name: str, array: Array) -> Any:
        """Bind an input to its array, or to a value on the device, which is returned."""
        if self._device == "cpu":
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            return None
        with self._translate_errors():
            value = self._runtime.OrtValue.ortvalue_from_numpy(array, *MEMORY[self._device])
            self._binding.bind_ortvalue_input(name, value)
        return value

    def _copy_input(self, name: str, array: Array) -> None:
        copy_input(name, array, self._input_arrays[name])
        value = self._values[name]
        if value is not None:
            with self._translate_errors():
                value.update_inplace(self._input_arrays[name])

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn failures of the runtime and the GPU into BackendError."""
        try:
            yield
        except Exception as error:  # ONNX Runtime has no class for each failure
            line = first_line(error)
            if self._device == "cpu":
                cure = "choose --backend torch --device cpu"
                raise BackendError("onnx-run-failed", f"ONNX Runtime fails: {line}", cure=cure) from error
            if "memory" in line.lower():
                cure = "close other programs that use the GPU: see nvidia-smi"
                raise BackendError("gpu-out-of-memory", f"no free memory on the GPU: {line}", cure=cure) from error
            cure = "see nvidia-smi, then start again"
            raise BackendError("gpu-failed", f"the GPU fails: {line}", cure=cure) from error


def _open_session(
    runtime: Any, stage: NetworkStage | OnnxNetwork, device: str, cache: Path | None, threads: int | None
) -> tuple[Any, bool]:
    """Return a session, and whether all of the network runs on the device."""
    with contextlib.ExitStack() as stack:
        folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            options = _session_options(runtime, device)
            if threads is not None:
                options.intra_op_num_threads = threads
                options.add_session_config_entry(_SPIN, "0")
            # slow: only for a provider that is there
            network = stage.content if isinstance(stage, OnnxNetwork) else str(export_onnx(stage, folder))
            if device != "cpu":
                strict = _session_options(runtime, device)
                strict.add_session_config_entry(_NO_CPU_FALLBACK, "1")
                with contextlib.suppress(Exception):  # any other failure recurs below
                    return _start_session(runtime, network, strict, device), True
            return _start_session(runtime, network, options, device), device == "cpu"
        except BackendError:
            raise
        except Exception as error:  # ONNX Runtime has no class for each failure
            found = f"{stage.name}, which ONNX Runtime cannot load: {first_line(error)}"
            raise BackendError("onnx-load-failed", found, cure="choose --backend torch") from error


def _preload_libraries(runtime: Any) -> None:
    """Load the CUDA libraries that pip installed, which ONNX Runtime does not find unless PyTorch has loaded them."""
    if hasattr(runtime, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # the session reports better what cannot be loaded
            runtime.preload_dlls()


def _session_options(runtime: Any, device: str) -> Any:
    """Return the options of a session on the device. Raises BackendError if its provider is not available."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if device == "rtx":
        _add_rtx(runtime, options)
    elif PROVIDERS[device] not in (available := runtime.get_available_providers()):
        raise BackendError(
            "onnx-provider-missing",
            f"an ONNX Runtime with {', '.join(available) or 'no provider'}",
            PROVIDERS[device],
            "install onnxruntime-gpu in the place of onnxruntime, or choose --device cpu",
        )
    return options


def _start_session(runtime: Any, network: str | bytes, options: Any, device: str) -> Any:
    """Start a session of an ONNX file, given by its path or its content."""
    if device == "rtx":
        return runtime.InferenceSession(network, options)
    provider = PROVIDERS[device]
    return runtime.InferenceSession(network, options, providers=[(provider, PROVIDER_OPTIONS.get(provider, {}))])


def _add_rtx(runtime: Any, options: Any) -> None:
    """Make a session run on TensorRT for RTX, a plug-in in a package of its own. Raises BackendError."""
    try:
        plugin = __import__(_RTX_PACKAGE)
    except ImportError:
        raise BackendError("package-missing", f"no package {_RTX_PACKAGE}", cure=install_command("rtx")) from None
    name = PROVIDERS["rtx"]
    try:
        _register_plugin(runtime, name, plugin.get_library_path())
    except Exception as error:  # ONNX Runtime has no class for each failure
        raise BackendError(
            "package-broken",
            f"TensorRT for RTX, which ONNX Runtime cannot load: {first_line(error)}",
            cure="install the NVIDIA driver and CUDA version that it needs, or choose --device cuda or cpu",
        ) from error
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == name]
    if not devices:
        found = "no GPU that TensorRT for RTX supports"
        raise BackendError("gpu-not-supported", found, cure="choose --device cuda or cpu")
    options.add_provider_for_devices(devices[:1], {})


@functools.cache
def _register_plugin(runtime: Any, name: str, path: str) -> None:
    """Register a plug-in with the runtime, once a process: it refuses a name that it knows already."""
    runtime.register_execution_provider_library(name, path)
