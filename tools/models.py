"""Model files that are not part of the installation: list them, fetch them, say where they are.

python -m tools.models list
python -m tools.models fetch face_landmarker
python -m tools.models fetch liveportrait --accept-licence
python -m tools.models fetch fomm --from vox-cpk.pth.tar
python -m tools.models where liveportrait
"""

from __future__ import annotations

import errno
import http.client
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from engines.atomic_write import whole
from engines.errors import ReenactError, UsageError
from engines.networks.weights import FETCH, PUBLISHED
from realtime.tracking.model_files import MODELS, ModelFile, find, model, target
from tools.support.checkpoints import CHECKPOINTS, Checkpoint, bring, fetch_from_hub, place
from tools.support.command import new_app, run_app

TIMEOUT = 30.0
"""Seconds without a byte after which a download counts as failed."""

_CHUNK = 1 << 16

app = new_app()


def fetch(wanted: ModelFile, path: Path, console: Console) -> None:
    """Download a model to ``path``, which appears whole and checked or not at all.

    Raises ReenactError when it cannot be reached or written, or is not the file that was published.
    """
    try:
        with whole(path) as part:
            with part.open("wb") as file:
                _download(wanted, file, path, console)
            if not wanted.matches(part):
                raise ReenactError(
                    f"what {wanted.url} sent is not the published {wanted.file}: its SHA-256 or size differs",
                    cure="try again; if it stays so, a proxy or the publisher changed the file",
                )
            part.chmod(0o644)
    except OSError as error:
        raise _unwritable(error, path) from error


def _download(wanted: ModelFile, file: IO[bytes], path: Path, console: Console) -> None:
    columns = (TextColumn(wanted.file), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    reply = _open(wanted, path)
    with reply, Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=wanted.size)
        received = 0
        while True:
            try:
                chunk = reply.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _unreachable(wanted, path, f"the connection broke off: {error}") from error
            if not chunk:
                return
            received += len(chunk)
            if received > wanted.size:
                raise ReenactError(
                    f"{wanted.url} sends more than the {wanted.size} bytes of the published {wanted.file}",
                    cure="try again; if it stays so, a proxy or the publisher changed the file",
                )
            file.write(chunk)
            progress.update(task, completed=received)


def _open(wanted: ModelFile, path: Path) -> http.client.HTTPResponse:
    try:
        reply: http.client.HTTPResponse = urllib.request.urlopen(wanted.url, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        raise _unreachable(wanted, path, f"the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _unreachable(wanted, path, str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(wanted, path, str(error)) from error
    return reply


def _unreachable(wanted: ModelFile, path: Path, reason: str) -> ReenactError:
    return ReenactError(
        f"{wanted.file} cannot be downloaded: {reason}",
        cure=f"check the network, or download {wanted.url} elsewhere and put it at {path}",
    )


def _unwritable(error: OSError, path: Path) -> ReenactError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ReenactError(f"the disk of {path.parent} is full", cure="make room and fetch again")
    return ReenactError(
        f"{path} cannot be written: {error.strerror or error}",
        cure="check the folder's permissions, or choose another with XDG_CACHE_HOME",
    )


@app.command("list")
def list_command() -> None:
    """Say which models there are and where they lie."""
    console = Console(soft_wrap=True, highlight=False)
    for name, wanted in MODELS.items():
        console.print(_row(name, wanted.size, wanted.licence, wanted.purpose, find(name)))
    for name, checkpoint in CHECKPOINTS.items():
        console.print(_row(name, checkpoint.size, checkpoint.licence, checkpoint.purpose, place(name)))


def _row(name: str, size: int, licence: str, purpose: str, at: Path | None) -> str:
    bytes_of = f"{size / 1e6:.1f} MB, " if size else ""
    return f"{name}  {bytes_of}{licence}: {purpose}  ({f'at {at}' if at else 'not fetched'})"


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="As in the list.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Agree to the checkpoint's licence without being asked.")
    ] = False,
    source: Annotated[
        Path | None, typer.Option("--from", help="A checkpoint that you have: its file, or the folder of its files.")
    ] = None,
) -> None:
    """Download a model into the cache, or take it from a path, and check it."""
    console = Console(soft_wrap=True, highlight=False)
    if name in CHECKPOINTS:
        fetch_checkpoint(CHECKPOINTS[name], source, accept_licence, console)
        return
    wanted, path = _model(name), target(name)
    if source is not None:
        raise UsageError(f"--from is not for {name}: it is downloaded", cure=f"python -m tools.models fetch {name}")
    if path.is_file() and wanted.matches(path):
        console.print(f"{wanted.file} is already at {path}")
        return
    fetch(wanted, path, console)
    console.print(f"{wanted.file} is at {path}, its SHA-256 is right")


def fetch_checkpoint(checkpoint: Checkpoint, source: Path | None, accepted: bool, console: Console) -> None:
    """Put a family's published weights in their place, after showing the licence. Raises ReenactError."""
    console.print(checkpoint.terms)
    if source is not None:
        bring(checkpoint, source.expanduser(), console.print)
        return
    if not checkpoint.files:
        raise UsageError(f"{checkpoint.family} is not downloaded from here", cure=FETCH[checkpoint.family])
    if not (accepted or _agreed(checkpoint)):
        raise UsageError("the licence was not accepted", cure=FETCH[checkpoint.family])
    fetch_from_hub(checkpoint, console.print)


def _agreed(checkpoint: Checkpoint) -> bool:
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"Accept it and download {checkpoint.size / 1e6:.0f} MB?")


def _model(name: str) -> ModelFile:
    if name not in MODELS:
        raise UsageError(f"no model is called {name!r}", cure=f"choose one of: {', '.join((*MODELS, *CHECKPOINTS))}")
    return model(name)


@app.command("where")
def where_command(name: Annotated[str, typer.Argument(help="As in the list.")]) -> None:
    """Print where a model lies. Exits with 1 when it has not been fetched."""
    if name in CHECKPOINTS:
        at, what, how = place(name), ", ".join(file.file for file in PUBLISHED[name]), FETCH[name]
    else:
        at, what, how = (find(name) if _model(name) else None), model(name).file, f"python -m tools.models fetch {name}"
    if at is None:
        raise ReenactError(f"{name} has not been fetched: {what}", cure=how)
    print(at)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.models") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
