"""Model files that are not part of the installation: list them, fetch them, print where they are.

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

from engines.atomic_write import atomic_write
from engines.errors import ReenactError, UsageError, one_of
from engines.install_hint import command
from engines.networks.weights import PUBLISHED, fetch_hint
from realtime.tracking.model_files import MODELS, ModelFile, find_model, model_path, target_path
from tools.support.checkpoints import CHECKPOINTS, Checkpoint, fetch_from_hub, import_checkpoint, installed_folder
from tools.support.command import new_app, run_app

TIMEOUT = 30.0
"""Seconds without a byte after which a download counts as failed."""

_CHUNK = 1 << 16
_NAMES = (*MODELS, *CHECKPOINTS)
_Name = Annotated[str, typer.Argument(metavar="NAME", help=f"{one_of(_NAMES)}.", show_default=False)]

app = new_app()


def fetch(file: ModelFile, path: Path, console: Console) -> None:
    """Download a model to ``path``, which appears complete and verified or not at all.

    Raises ReenactError when it cannot be downloaded or written, or is not the published file.
    """
    try:
        with atomic_write(path) as partial:
            with partial.open("wb") as out:
                _download(file, out, path, console)
            if not file.matches(partial):
                raise ReenactError(
                    "download-differs",
                    f"the file from {file.url} is not the published {file.file}: its SHA-256 or size differs",
                    cure="try again; if the error persists, a proxy or the publisher changed the file",
                )
            partial.chmod(0o644)
    except OSError as error:
        raise _unwritable(error, path) from error


def _download(file: ModelFile, out: IO[bytes], path: Path, console: Console) -> None:
    columns = (TextColumn(file.file), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    reply = _open(file, path)
    with reply, Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=file.size)
        received = 0
        while True:
            try:
                chunk = reply.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _unreachable(file, path, f"the connection was lost: {error}") from error
            if not chunk:
                return
            received += len(chunk)
            if received > file.size:
                raise ReenactError(
                    "download-differs",
                    f"{file.url} sends more than the {file.size} bytes of the published {file.file}",
                    cure="try again; if the error persists, a proxy or the publisher changed the file",
                )
            out.write(chunk)
            progress.update(task, completed=received)


def _open(file: ModelFile, path: Path) -> http.client.HTTPResponse:
    try:
        reply: http.client.HTTPResponse = urllib.request.urlopen(file.url, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise _unreachable(file, path, f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _unreachable(file, path, str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(file, path, str(error)) from error
    return reply


def _unreachable(file: ModelFile, path: Path, reason: str) -> ReenactError:
    return ReenactError(
        "download-failed",
        f"{file.file} cannot be downloaded: {reason}",
        cure=f"check the network, or download {file.url} elsewhere and put it at {path}",
    )


def _unwritable(error: OSError, path: Path) -> ReenactError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ReenactError("disk-full", f"the disk of {path.parent} is full", cure="free some space and fetch again")
    return ReenactError(
        "cache-not-writable",
        f"{path} cannot be written: {error.strerror or error}",
        cure="check the folder's permissions, or choose another with XDG_CACHE_HOME",
    )


@app.command("list")
def list_command() -> None:
    """List the models that can be fetched."""
    console = Console(soft_wrap=True, highlight=False)
    for name in MODELS:
        file = find_model(name)
        console.print(_row(name, file.size, file.licence, file.purpose, model_path(name)))
    for name, checkpoint in CHECKPOINTS.items():
        folder = installed_folder(name)
        console.print(_row(name, checkpoint.size, checkpoint.licence, checkpoint.purpose, folder))


def _row(name: str, size: int, licence: str, purpose: str, path: Path | None) -> str:
    megabytes = f"{size / 1e6:.1f} MB, " if size else ""
    return f"{name}  {megabytes}{licence}: {purpose}  ({f'at {path}' if path else 'not fetched'})"


@app.command("fetch")
def fetch_command(
    name: _Name = "",
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the checkpoint's licence without a question.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Use a checkpoint on this machine: its file, or the folder of its files."),
    ] = None,
) -> None:
    """Download a model into the cache, or import it from a path, and verify it."""
    _check_name(name)
    console = Console(soft_wrap=True, highlight=False)
    if name in CHECKPOINTS:
        fetch_checkpoint(CHECKPOINTS[name], source, accept_licence, console)
        return
    file, path = find_model(name), target_path(name)
    if source is not None:
        cure = f"{command('models')} fetch {name}"
        raise UsageError("import-not-supported", f"--from does not apply to {name}, which is downloaded", cure=cure)
    if path.is_file() and file.matches(path):
        console.print(f"{file.file} is already at {path}")
        return
    fetch(file, path, console)
    console.print(f"{file.file} is at {path}, its SHA-256 is correct")


def fetch_checkpoint(checkpoint: Checkpoint, source: Path | None, accepted: bool, console: Console) -> None:
    """Print the licence of a family's published weights and put them into the cache. Raises ReenactError."""
    console.print(checkpoint.terms)
    if source is not None:
        import_checkpoint(checkpoint, source.expanduser(), console.print)
        return
    cure = fetch_hint(checkpoint.family)
    if not checkpoint.files:
        raise UsageError("download-not-offered", f"{checkpoint.family} cannot be downloaded automatically", cure=cure)
    if not (accepted or _confirmed(checkpoint)):
        raise UsageError("licence-not-accepted", "the licence was not accepted", cure=cure)
    fetch_from_hub(checkpoint, console.print)


def _confirmed(checkpoint: Checkpoint) -> bool:
    """Ask the user to accept the licence. Return False where there is no terminal to ask on."""
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"Accept it and download {checkpoint.size / 1e6:.0f} MB?")


def _check_name(name: str) -> None:
    """Raise UsageError if ``name`` is empty or is not the name of a model."""
    if not name:
        raise UsageError("model-not-named", "no model is named", cure=f"name {one_of(_NAMES)}")
    if name not in _NAMES:
        raise UsageError("model-unknown", f"no model is called {name!r}", cure=f"choose {one_of(_NAMES)}")


@app.command("where")
def where_command(name: _Name = "") -> None:
    """Print the path of a model. The exit code is 1 when it has not been fetched."""
    _check_name(name)
    if name in CHECKPOINTS:
        path, files, cure = (
            installed_folder(name),
            ", ".join(file.file for file in PUBLISHED[name]),
            fetch_hint(name),
        )
    else:
        file = find_model(name)
        path, files, cure = model_path(name), file.file, f"{command('models')} fetch {name}"
    if path is None:
        raise ReenactError("model-not-fetched", f"{name} has not been fetched: {files}", cure=cure)
    print(path)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.models") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
