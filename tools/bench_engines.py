"""The cost of a frame of the neural generators on this machine's GPU, against plain PyTorch and the floor.

The networks are created in PyTorch for every backend, so PyTorch must be installed.

    python -m tools.bench_engines [--generators liveportrait,fomm] [--backends torch,onnx,tensorrt]
                                  [--device auto|cuda|rtx|cpu] [--weights random:1] [--compile]
                                  [--seconds N] [--markdown] [--json OUT]

A *frame* is the driver's motion from a crop and the picture from that, from the host's memory to the host's memory.
*Eager* is the published networks in plain PyTorch in the same run, in float16 on a GPU. The *floor* of a network is
max(operations / matrix rate, bytes / copy rate), both rates measured in the same run; that of a frame is the sum of its
networks' floors. Times are between CUDA events on a GPU, otherwise wall-clock time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from engines.backends.backend import BACKENDS, DEVICES
from engines.backends.open import has_cuda
from engines.errors import BackendError, ReenactError, UsageError
from tools.network_bench import table
from tools.network_bench.cases import EAGER, FRAME, HOST, FamilyBench, Variant
from tools.network_bench.networks import FAMILIES, load_networks
from tools.network_bench.timing import (
    WARM_UP,
    Budget,
    Case,
    Clock,
    Rates,
    Times,
    continue_timing,
    cuda_clock,
    measure_rates,
    one_line,
    start_timing,
    wall_clock,
)
from tools.support.command import Notice, new_app, run_app
from tools.support.files import check_writable, write_json

_PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "tensorrt", "numpy")
_GPU_SECONDS, _CPU_SECONDS = 60.0, 240.0
"""How long to measure by default."""


def parse_names(text: str, known: tuple[str, ...], option: str) -> list[str]:
    """Return the names of a comma-separated list, each once. Raises UsageError for an unknown name or an empty list."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names or [""]:
        if name not in known:
            expected = f"some of {', '.join(known)}"
            raise UsageError(
                "bench-bad-list", f"{option} {name}".rstrip(), expected, f"for example {option} {known[0]}"
            )
    return names


def sees_gpu() -> tuple[bool, bool]:
    """Return whether PyTorch and whether ONNX Runtime can use a GPU. Raises BackendError without PyTorch."""
    from engines.backends.torch_backend import import_torch

    torch = import_torch()
    try:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    except ImportError:
        providers = []
    return bool(torch.cuda.is_available()), has_cuda() and "CUDAExecutionProvider" in providers


def variants_of(backends: list[str], device: str, compiled: bool) -> list[Variant]:
    """Return the variants to measure; ``device`` is auto (a GPU), cuda, rtx or cpu."""
    processor = "cpu" if device == "cpu" else "cuda"
    variants: list[Variant] = []
    for backend in backends:
        if backend != "onnx":
            variants.append(Variant(backend, backend, processor))
            if backend == "torch" and compiled:
                variants.append(Variant("torch compiled", "torch", processor, compiled=True))
            continue
        if device != "rtx":
            variants.append(Variant("onnx", "onnx", processor))
        if device in ("auto", "rtx"):
            variants.append(Variant("onnx rtx", "onnx", "rtx"))
    return variants


def machine(eager_device: str | None) -> dict[str, Any]:
    """Return the description of this machine; ``eager_device`` is that of plain PyTorch, None where it sees no GPU."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    values: dict[str, Any] = {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": versions,
        "gpu": None,
        "driver": query_driver("driver_version"),
    }
    if eager_device == "cuda":
        import torch

        values["gpu"] = torch.cuda.get_device_name()
        values["compute_capability"] = "{}.{}".format(*torch.cuda.get_device_capability())
        values["cuda"], values["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    elif eager_device is None:  # another backend's GPU
        values["gpu"] = query_driver("name") or "an unknown GPU"
        values["compute_capability"] = query_driver("compute_cap") or "unknown"
    return values


def query_driver(field: str) -> str | None:
    """Return a field of ``nvidia-smi`` for the first GPU, or None where there is none."""
    try:
        command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return (output.split("\n")[0].strip()) or None


class BenchmarkRun:
    """One run of the benchmark, and its results."""

    def __init__(
        self, families: list[str], variants: list[Variant], weights: str, seconds: float, notice: Notice
    ) -> None:
        """Load the networks and measure the rates of the device. Raises ReenactError."""
        self.families, self.variants, self.notice = families, variants, notice
        self.device = variants[0].device if variants else "cpu"
        torch_sees_gpu, _ = sees_gpu()
        self.eager_device = "cpu" if self.device == "cpu" else "cuda" if torch_sees_gpu else None
        self.clock: Clock = cuda_clock() if self.eager_device == "cuda" else wall_clock
        self.notes: list[str] = []
        self.failed = False
        self.parity: list[dict[str, Any]] = []
        # the cheapest first, where time is short
        self.networks = [load_networks(family, weights) for family in sorted(families, key=FAMILIES[::-1].index)]
        self.seconds = seconds
        self.rates = self._measure_rates()
        if self.eager_device is None:
            self.note("this PyTorch sees no GPU: eager and the floor are not measured, times are wall-clock times")

    def note(self, text: str) -> None:
        """Show a note and keep it for the table."""
        self.notes.append(text)
        self.notice(text)

    def on_failure(self, text: str) -> None:
        """Note that a variant failed."""
        self.failed = True
        self.note(text)

    def measure(self) -> list[dict[str, Any]]:
        """Time all cases. Return the rows of the table in the order of the families.

        Raises BackendError where no backend opens, UsageError where the time is too short.
        """
        with contextlib.ExitStack() as stack:
            benches = []
            for networks in self.networks:
                bench = FamilyBench(networks, self.variants, self.eager_device, self.clock, self.on_failure)
                stack.callback(bench.close)
                benches.append(bench)
            cases = [case for bench in benches for case in bench.cases()]
            budget, warm_up = Budget(self.seconds), 0 if self.device == "cpu" else WARM_UP
            self._start([each for each in cases if each.name in (FRAME, HOST)], budget, warm_up)
            for bench in benches:
                with budget.paused(warm_up > 0):
                    self._compare_pictures(bench, budget)
            self._start([each for each in cases if each.name not in (FRAME, HOST)], budget, warm_up)
            continue_timing(cases, budget)
        if not any(case.seconds for case in cases) and not self.failed:
            found = f"{self.seconds:g} s are too short to measure anything"
            raise ReenactError("bench-too-short", found, cure="give more --seconds")
        if not any(variant != EAGER for case in cases for variant in case.seconds):
            raise BackendError("bench-no-backend", "no backend can be measured", cure="see the messages above")
        rates = self._measure_rates()
        if self.rates and rates:
            self.rates = self.rates.best(rates)
        cases.sort(key=lambda case: self.families.index(case.family))
        return [row for case in cases for row in rows(case, self.rates)]

    def report(self, figures: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the results without the options of the command line, for JSON."""
        rates = self.rates
        return {
            "taken": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(self.eager_device),
            "config": {
                "generators": self.families,
                "weights": {networks.family: networks.label for networks in self.networks},
                "seconds": self.seconds,
                "clock": "CUDA events" if self.eager_device == "cuda" else "wall",
                "eager": {None: None, "cuda": "float16", "cpu": "float32"}[self.eager_device],
            },
            "rates": {"operations_per_s": rates.operations, "bytes_per_s": rates.bytes} if rates else None,
            "figures": figures,
            "parity": self.parity,
            "notes": self.notes,
        }

    def _measure_rates(self) -> Rates | None:
        """Return the rates of the device, or None where PyTorch sees no GPU. Raises BackendError without memory."""
        try:
            return measure_rates(self.eager_device, self.clock) if self.eager_device else None
        except RuntimeError as error:
            found = f"the matrix rate cannot be measured: {one_line(error)}"
            raise BackendError("bench-no-rates", found, cure="see nvidia-smi") from error

    def _start(self, cases: list[Case], budget: Budget, warm_up: int) -> None:
        for left_out in start_timing(cases, budget, self._expected_seconds, warm_up):
            seconds = self._expected_seconds(left_out)
            self.note(f"{left_out.family} {left_out.name} is left out: it takes about {seconds:.0f} s, see --seconds")

    def _expected_seconds(self, case: Case) -> float:
        """Estimate how long a case takes before it is tried; 0 on a GPU."""
        if self.device != "cpu" or self.rates is None or case.name == HOST:
            return 0.0
        return 0.2 + 2 * (1 + 2 * len(self.variants)) * case.operations / self.rates.operations

    def _compare_pictures(self, bench: FamilyBench, budget: Budget) -> None:
        """Compare each variant's picture with PyTorch in float32 on the CPU, which on the CPU is itself a variant."""
        family = bench.networks.family
        others = [variant for variant in bench.frames if not (self.device == "cpu" and variant == "torch")]
        if not others:
            return
        if self.device == "cpu" and budget.left < 0:
            self.note(f"{family}: the pictures are not compared, as the time is up")
            return
        self.notice(f"{family}: comparing the pictures")
        reference = bench.reference()
        for variant in others:
            try:
                name = bench.frames[variant]["frame"].name
                errors = bench.parity(variant, reference)
                self.parity.append({"generator": family, "variant": variant, "as": name, **errors})
            except ReenactError as error:
                self.note(f"{family}: {variant} fails: {error}")


def rows(case: Case, rates: Rates | None) -> Iterator[dict[str, Any]]:
    """Yield the figures of a case, one row for each variant."""
    floor = case.floor(rates) if rates else None
    floor_ms = floor * 1e3 if floor else None
    eager_ms = Times.of(case.seconds[EAGER]).median_ms if EAGER in case.seconds else None
    for variant, seconds in case.seconds.items():
        times = Times.of(seconds)
        yield {
            "generator": case.family,
            "network": case.name,
            "variant": variant,
            "median_ms": times.median_ms,
            "p99_ms": times.p99_ms,
            "turns": times.turns,
            "operations": case.operations,
            "bytes": sum(size for _, size in case.costs),
            "floor_ms": floor_ms,
            "over_floor": times.median_ms / floor_ms if floor_ms else None,
            "over_eager": eager_ms / times.median_ms if eager_ms and variant != EAGER else None,
        }


app = new_app()


@app.command()
def bench_command(
    generators: Annotated[str, typer.Option(help="A comma-separated list.")] = ",".join(FAMILIES),
    backends: Annotated[str, typer.Option(help="A comma-separated list.")] = ",".join(BACKENDS[1:]),
    device: Annotated[str, typer.Option(help="auto is a GPU; cpu takes seconds per frame.")] = "auto",
    weights: Annotated[str, typer.Option(help="random:SEED, published, or a path.")] = "random:1",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Measure torch.compile too.")] = False,
    seconds: Annotated[float | None, typer.Option(help="How long to measure; 60, or 240 on the CPU.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure the cost of the neural generators' networks. Needs PyTorch."""
    families = parse_names(generators, FAMILIES, "--generators")
    names = parse_names(backends, BACKENDS[1:], "--backends")
    if device not in DEVICES:
        expected = ", ".join(DEVICES)
        raise UsageError("device-unknown", f"the device {device!r}", f"one of {expected}", f"choose {expected}")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UsageError("bench-bad-seconds", f"--seconds {seconds:g}", "a positive number", "for example --seconds 60")
    if json_path:
        check_writable(json_path, "--json")
    if device == "auto" and not any(sees_gpu()):
        cure = "measure on the CPU with --device cpu, which takes seconds per frame"
        raise BackendError("bench-no-gpu", "neither PyTorch nor ONNX Runtime sees a GPU here", cure=cure)
    progress = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    length = seconds or (_CPU_SECONDS if device == "cpu" else _GPU_SECONDS)
    run = BenchmarkRun(families, variants_of(names, device, compiled), weights, length, progress.print)
    report = run.report(run.measure())
    report["config"] |= {"backends": names, "device": device, "compile": compiled}
    if json_path:
        write_json(json_path, report, "--json")
    if markdown:
        print(table.markdown(report))
    else:
        table.show(report)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.bench_engines") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
