"""Build TensorRT engines for this machine: of the networks that reenact runs, or of any ONNX file.

python -m tools.build_engine liveportrait
python -m tools.build_engine liveportrait --precision fp16 --fp32 warping_module.dense_motion_network
python -m tools.build_engine refiner
python -m tools.build_engine MODEL.onnx --out engines
python -m tools.build_engine --list
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from engines.backends.engine_cache import engines_home
from engines.backends.open import has_cuda
from engines.backends.tensorrt_backend import import_driver
from engines.errors import UsageError, one_of
from tools.engine_builder import builder, listing, trt
from tools.engine_builder.builder import BuildRequest
from tools.engine_builder.jobs import FAMILIES, FamilyOptions, family_jobs, file_job
from tools.support.command import Notice, new_app, run_app

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

app = new_app()


@app.command()
def build_command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="liveportrait|fomm|refiner|MODEL.onnx", show_default=False)] = "",
    precision: Annotated[str, typer.Option(metavar="fp16|bf16|fp32", help="fp16 by default; not for a file")] = "",
    fp32: Annotated[list[str] | None, typer.Option(metavar="MODULE", help="keep a module in float32")] = None,
    opset: Annotated[int, typer.Option(metavar="N", help="version of ONNX's operators")] = 0,
    grid_sample: Annotated[str, typer.Option(metavar="native|planar", help="how volumes are sampled")] = "",
    workspace: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, max=1 << 24, help="memory that tactics may use")
    ] = None,
    level: Annotated[int, typer.Option(metavar="0-5", min=0, max=5, help="TensorRT's optimization level")] = 3,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="folder of the engines; the cache by default")] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="compare with PyTorch")] = True,
    weights: Annotated[str | None, typer.Option(metavar="PATH|random:SEED", help="the networks' weights")] = None,
    onnx_only: Annotated[bool, typer.Option("--onnx-only", help="export, simplify and check; build nothing")] = False,
    list_: Annotated[bool, typer.Option("--list", help="list the engines and whether they fit this machine")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Export, simplify and check the ONNX files, build the engines, time them, and compare them with PyTorch."""
    folder = out or engines_home()
    if list_:
        listing.show(folder, as_json=as_json)
        return
    command = f"{context.command_path} {shlex.join(context.obj)}"
    console = Console(stderr=True)
    notice = _notice(console, as_json=as_json)
    options = FamilyOptions(precision, tuple(fp32 or ()), opset, grid_sample, weights)
    settings = trt.BuilderSettings(workspace, level)
    try:
        results = build(model, options, BuildRequest(settings, folder, check, onnx_only, command, console, notice))
    except KeyboardInterrupt:
        print("\ninterrupted: no incomplete file is left", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print(json.dumps(results, indent=2, allow_nan=False))


def _notice(console: Console, *, as_json: bool) -> Notice:
    """Return a callback that prints to standard output, or to standard error where that is for JSON."""
    if as_json:
        return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)
    return lambda line: print(line, flush=True)


def build(model: str, options: FamilyOptions, request: BuildRequest) -> list[dict[str, Any]]:
    """Build the engines of a family or of an ONNX file. Return their descriptions for JSON.

    Raises UsageError, BackendError, and KeyboardInterrupt after Ctrl-C.
    """
    if not model:
        cure = f"name {one_of((*FAMILIES, 'an ONNX file'))}; or use --list"
        raise UsageError("model-not-named", "no model is named", cure=cure)
    if not request.onnx_only:
        trt.version()  # before anything takes long
        if has_cuda():
            import_driver()
    builder.check_folder(request.out)
    with tempfile.TemporaryDirectory(prefix="reenact-engine-") as scratch:
        if model in FAMILIES:
            jobs = family_jobs(model, options, onnx_only=request.onnx_only)
        else:
            jobs = [file_job(Path(model), options)]
        return [builder.build(job, request, Path(scratch)) for job in jobs]


def main(arguments: list[str] | None = None, prog: str = "python -m tools.build_engine") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
