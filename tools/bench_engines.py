"""What a frame of the neural generators costs on this machine's GPU, against plain PyTorch and the floor.

The networks are made in PyTorch, whichever backend runs them: without it there is nothing to measure.

    python -m tools.bench_engines [--generators liveportrait,fomm] [--backends torch,onnx,tensorrt]
                                  [--device auto|cuda|rtx|cpu] [--weights random:1] [--compile]
                                  [--seconds N] [--markdown] [--json OUT]

A *frame* is the driver's motion out of a crop and the picture out of that, from the host's memory to the host's memory.
*Eager* is the published networks called by plain PyTorch in the same run, in float16 on a GPU. The *floor* of a network
is max(operations / matrix rate, bytes / copy rate), both rates measured in the same run; a frame's is the sum of its
networks'. Times are between CUDA events on a GPU, on the wall elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
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
from engines.errors import ReenactError, UsageError
from tools.network_bench import table
from tools.network_bench.networks import FAMILIES, load
from tools.network_bench.subjects import FRAME, HOST, PLAIN, Bench, Say, Way
from tools.network_bench.timing import (
    WARM_UP,
    Budget,
    Clock,
    Rates,
    Subject,
    Times,
    begin,
    cuda_clock,
    go_on,
    one_line,
    rates,
    wall,
)
from tools.support.command import new_app, run_app

_PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "tensorrt", "numpy")
_GPU_SECONDS, _CPU_SECONDS = 60.0, 240.0


def several(text: str, known: tuple[str, ...], option: str) -> list[str]:
    """The names in a list with commas, each once. Raises UsageError for others than those known."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise UsageError(f"{option} {name}: there is no such thing", cure=f"choose among {', '.join(known)}")
    if not names:
        raise UsageError(f"{option} names nothing", cure=f"choose among {', '.join(known)}")
    return names


def sees_gpu() -> tuple[bool, bool]:
    """Whether PyTorch sees a GPU, and whether ONNX Runtime does. Raises ReenactError where there is no PyTorch."""
    from engines.backends.torch_backend import import_torch

    torch = import_torch()
    try:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    except ImportError:
        providers = []
    return bool(torch.cuda.is_available()), has_cuda() and "CUDAExecutionProvider" in providers


def ways_of(backends: list[str], device: str, compiled: bool) -> list[Way]:
    """Every way to run a stage that was asked for; ``device`` is auto (a GPU), cuda, rtx or cpu."""
    card = "cpu" if device == "cpu" else "cuda"
    ways: list[Way] = []
    for backend in backends:
        if backend != "onnx":
            ways.append(Way(backend, backend, card))
            if backend == "torch" and compiled:
                ways.append(Way("torch compiled", "torch", card, compiled=True))
            continue
        if device != "rtx":
            ways.append(Way("onnx", "onnx", card))
        if device in ("auto", "rtx"):
            ways.append(Way("onnx rtx", "onnx", "rtx"))
    return ways


def machine(plain: str | None) -> dict[str, Any]:
    """What the figures were taken on; ``plain`` is the device of plain PyTorch, None where that sees no GPU."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    found: dict[str, Any] = {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": versions,
        "gpu": None,
        "driver": asked_of_the_driver("driver_version"),
    }
    if plain == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
        found["compute_capability"] = "{}.{}".format(*torch.cuda.get_device_capability())
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    elif plain is None:  # another backend's GPU
        found["gpu"] = asked_of_the_driver("name") or "a GPU without a name"
        found["compute_capability"] = asked_of_the_driver("compute_cap") or "unknown"
    return found


def asked_of_the_driver(what: str) -> str | None:
    """What ``nvidia-smi`` says of the first GPU, where there is one."""
    try:
        asked = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"]
        answered = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return (answered.split("\n")[0].strip()) or None


class Run:
    """One run of the benchmark, and what it found."""

    def __init__(self, families: list[str], ways: list[Way], weights: str, seconds: float, say: Say) -> None:
        self.families, self.ways, self.say = families, ways, say
        self.device = ways[0].device if ways else "cpu"
        torch_sees, _ = sees_gpu()
        self.plain = "cpu" if self.device == "cpu" else "cuda" if torch_sees else None
        self.clock: Clock = cuda_clock() if self.plain == "cuda" else wall
        self.notes: list[str] = []
        self.refused = False
        self.parity: list[dict[str, Any]] = []
        # the cheapest first, where time is short
        self.networks = [load(family, weights) for family in sorted(families, key=FAMILIES[::-1].index)]
        self.seconds = seconds
        self.rates = self._rates()
        if self.plain is None:
            self.note("this PyTorch sees no GPU: neither eager nor the floor can be measured, times are on the wall")

    def note(self, text: str) -> None:
        """Something the person must know beside the table."""
        self.notes.append(text)
        self.say(text)

    def refuse(self, text: str) -> None:
        """What a backend answered instead of doing its work."""
        self.refused = True
        self.note(text)

    def measure(self) -> list[dict[str, Any]]:
        """Time everything; the table's rows, in the families' order. Raises ReenactError where nothing opens."""
        with contextlib.ExitStack() as stack:
            benches = []
            for networks in self.networks:
                bench = Bench(networks, self.ways, self.plain, self.clock, self.refuse)
                stack.callback(bench.close)
                benches.append(bench)
            subjects = [subject for bench in benches for subject in bench.subjects()]
            budget, warm_up = Budget(self.seconds), 0 if self.device == "cpu" else WARM_UP
            self._begin([each for each in subjects if each.name in (FRAME, HOST)], budget, warm_up)
            for bench in benches:
                with budget.paused(warm_up > 0):
                    self._compare(bench, budget)
            self._begin([each for each in subjects if each.name not in (FRAME, HOST)], budget, warm_up)
            go_on(subjects, budget)
        if not any(subject.seconds for subject in subjects) and not self.refused:
            raise ReenactError(f"{self.seconds:g} s are too few to measure anything", cure="give --seconds more")
        if not any(way != PLAIN for subject in subjects for way in subject.seconds):
            raise ReenactError("no backend opened: there is nothing to measure", cure="see what each one answered")
        again = self._rates()
        if self.rates and again:
            self.rates = self.rates.best(again)
        subjects.sort(key=lambda subject: self.families.index(subject.family))
        return [row for subject in subjects for row in rows(subject, self.rates)]

    def _rates(self) -> Rates | None:
        """The device's own speed, where PyTorch sees the device. Raises ReenactError when it has no room for that."""
        try:
            return rates(self.plain, self.clock) if self.plain else None
        except RuntimeError as error:
            raise ReenactError(
                f"the matrix rate cannot be measured: {one_line(error)}", cure="see nvidia-smi"
            ) from error

    def _begin(self, subjects: list[Subject], budget: Budget, warm_up: int) -> None:
        for left_out in begin(subjects, budget, self._expected, warm_up):
            seconds = self._expected(left_out)
            self.note(f"{left_out.family} {left_out.name} is left out: it takes some {seconds:.0f} s, see --seconds")

    def _expected(self, subject: Subject) -> float:
        """Seconds, roughly, before a subject was tried: on a GPU no time at all."""
        if self.device != "cpu" or self.rates is None or subject.name == HOST:
            return 0.0
        return 0.2 + 2 * (1 + 2 * len(self.ways)) * subject.operations / self.rates.operations

    def _compare(self, bench: Bench, budget: Budget) -> None:
        """Each way's picture with PyTorch's on the CPU in float32, which on the CPU is a way of its own."""
        family = bench.networks.family
        others = [way for way in bench.frames if not (self.device == "cpu" and way == "torch")]
        if not others:
            return
        if self.device == "cpu" and budget.left < 0:
            self.note(f"{family}: the pictures are not compared: the time is up")
            return
        self.say(f"{family}: comparing the pictures")
        reference = bench.reference()
        for way in others:
            try:
                name = bench.frames[way]["frame"].name
                self.parity.append({"generator": family, "way": way, "as": name} | bench.parity(way, reference))
            except ReenactError as error:
                self.note(f"{family}: {way} fails: {error}")


def rows(subject: Subject, measured: Rates | None) -> Iterator[dict[str, Any]]:
    """A subject's figures, one row for each way."""
    seconds_at_least = subject.floor(measured) if measured else None
    floor = seconds_at_least * 1e3 if seconds_at_least else None
    plain = Times.of(subject.seconds[PLAIN]).median_ms if PLAIN in subject.seconds else None
    for way, seconds in subject.seconds.items():
        times = Times.of(seconds)
        yield {
            "generator": subject.family,
            "network": subject.name,
            "way": way,
            "median_ms": times.median_ms,
            "p99_ms": times.p99_ms,
            "turns": times.turns,
            "operations": subject.operations,
            "bytes": sum(size for _, size in subject.needs),
            "floor_ms": floor,
            "over_floor": times.median_ms / floor if floor else None,
            "over_eager": plain / times.median_ms if plain and way != PLAIN else None,
        }


def writable(path: Path) -> None:
    """Make sure, before the work, that the figures can be written. Raises UsageError."""
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"--json {path} cannot be written", cure="name a file in a folder that exists")


app = new_app()


@app.command()
def bench_command(
    generators: Annotated[str, typer.Option(help="Which, with commas.")] = ",".join(FAMILIES),
    backends: Annotated[str, typer.Option(help="Which, with commas.")] = ",".join(BACKENDS[1:]),
    device: Annotated[str, typer.Option(help="auto is a GPU; cpu takes seconds a frame.")] = "auto",
    weights: Annotated[str, typer.Option(help="random:SEED, published, or a path.")] = "random:1",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Try torch.compile too.")] = False,
    seconds: Annotated[float | None, typer.Option(help="How long to measure; 60, on the CPU 240.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every figure here.")] = None,
) -> None:
    """Measure what the neural generators' networks cost. They are made in PyTorch, which has to be installed."""
    families = several(generators, FAMILIES, "--generators")
    names = several(backends, BACKENDS[1:], "--backends")
    if device not in DEVICES:
        raise UsageError(f"there is no device {device!r}", cure=f"choose one of: {', '.join(DEVICES)}")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"--seconds {seconds:g} is no length of time", cure="for example --seconds 60")
    if json_path:
        writable(json_path)
    if device == "auto" and not any(sees_gpu()):
        raise ReenactError(
            "neither PyTorch nor ONNX Runtime sees a GPU here",
            cure="python -m tools.bench_engines --device cpu measures without one, at seconds a frame",
        )
    progress = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    length = seconds or (_CPU_SECONDS if device == "cpu" else _GPU_SECONDS)
    run = Run(families, ways_of(names, device, compiled), weights, length, progress.print)
    figures = run.measure()
    found = {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(run.plain),
        "config": {
            "generators": families,
            "backends": names,
            "device": device,
            "weights": {networks.family: networks.label for networks in run.networks},
            "compile": compiled,
            "seconds": length,
            "clock": "CUDA events" if run.plain == "cuda" else "wall",
            "eager": None if run.plain is None else "float16" if run.plain == "cuda" else "float32",
        },
        "rates": None
        if run.rates is None
        else {"operations_per_s": run.rates.operations, "bytes_per_s": run.rates.bytes},
        "figures": figures,
        "parity": run.parity,
        "notes": run.notes,
    }
    if json_path:
        json_path.write_text(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    if markdown:
        print(table.markdown(found))
    else:
        table.show(found)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.bench_engines") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
