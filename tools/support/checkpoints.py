"""The published checkpoints of the neural generators: their files and licences, download and import."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engines.cache_dirs import models_home
from engines.errors import ReenactError, UsageError
from engines.install_hint import install_command
from engines.networks.weights import (
    PUBLISHED,
    PublishedFile,
    convert_to_safetensors,
    fetch_hint,
    is_intact,
    published_home,
)
from tools.support.command import Notice


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the publisher's repository, as it was at the pinned revision."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A family's published weights."""

    family: str
    purpose: str
    licence: str
    """One line, for the list."""
    terms: str
    """The text shown to the user before anything is fetched."""
    repository: str = ""
    revision: str = ""
    files: tuple[HubFile, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to download; 0 where the user supplies the file."""
        return sum(file.size for file in self.files)


_MIT = """\
Copyright (c) {}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

CHECKPOINTS = {
    "liveportrait": Checkpoint(
        family="liveportrait",
        purpose="--generator liveportrait",
        licence="MIT",
        terms=(
            "LivePortrait's code and weights (https://huggingface.co/KwaiVGI/LivePortrait) have the MIT licence.\n\n"
            + _MIT.format("2024 Kuaishou Visual Generation and Interaction Center")
        ),
        repository="KwaiVGI/LivePortrait",
        revision="82a4fa6735ca58432b6ce39301b4b9ee066dea47",
        files=(
            HubFile(
                "liveportrait/base_models/appearance_feature_extractor.pth",
                3_387_959,
                "5279bb8654293dbdf327030b397f107237dd9212fb11dd75b83dfb635211ceb5",
            ),
            HubFile(
                "liveportrait/base_models/motion_extractor.pth",
                112_545_506,
                "251e6a94ad667a1d0c69526d292677165110ef7f0cf0f6d199f0e414e8aa0ca5",
            ),
            HubFile(
                "liveportrait/base_models/spade_generator.pth",
                221_813_590,
                "4780afc7909a9f84e24c01d73b31a555ef651521a1fe3b2429bd04534d992aee",
            ),
            HubFile(
                "liveportrait/base_models/warping_module.pth",
                182_180_086,
                "2f61a6f265fe344f14132364859a78bdbbc2068577170693da57fb96d636e282",
            ),
            HubFile(
                "liveportrait/retargeting_models/stitching_retargeting_module.pth",
                2_393_098,
                "3652d5a3f95099141a56986aaddec92fadf0a73c87a20fac9a2c07c32b28b611",
            ),
        ),
    ),
    "fomm": Checkpoint(
        family="fomm",
        purpose="--generator fomm",
        licence="MIT",
        terms=(
            "The First Order Motion Model, https://github.com/AliaksandrSiarohin/first-order-model, is under the MIT\n"
            "licence; its vox-cpk.pth.tar, which its page links to, was trained on the faces of VoxCeleb.\n"
            "\n" + _MIT.format("2019-2023 Aliaksandr Siarohin")
        ),
    ),
}


def installed_folder(family: str) -> Path | None:
    """Return the folder of a family's weights, or None where any of them is missing."""
    home = published_home(family)
    return home if all(_converted_path(home, file).is_file() for file in PUBLISHED[family]) else None


def fetch_from_hub(checkpoint: Checkpoint, notice: Notice) -> Path:
    """Download, verify and convert the missing files, and return their folder. Raises ReenactError.

    Each file is converted before the next is downloaded, so a broken connection costs one file.
    """
    home = published_home(checkpoint.family)
    for published in PUBLISHED[checkpoint.family]:
        converted = _converted_path(home, published)
        if is_intact(converted):
            notice(f"{published.file} is already at {converted}")
            continue
        hub_file = next(file for file in checkpoint.files if file.path.endswith(f"/{published.file}"))
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home, prefix="download-", ignore_cleanup_errors=True) as folder:
                downloaded = _download(checkpoint, hub_file, Path(folder))
                _verify(downloaded, hub_file, checkpoint)
                convert_to_safetensors(checkpoint.family, published, downloaded, converted)
        except OSError as error:
            raise _unwritable(error, home) from error
        notice(f"{published.file} is correct and stored as {converted}")
    return home


def import_checkpoint(checkpoint: Checkpoint, source: Path, notice: Notice) -> Path:
    """Convert a checkpoint on this machine and return the folder of the result. Raises ReenactError."""
    home = published_home(checkpoint.family)
    files = PUBLISHED[checkpoint.family]
    for published in files:
        path = source if source.is_file() and len(files) == 1 else _find(source, published)
        if not path.is_file():
            cure = f"name {published.file} or its folder: {fetch_hint(checkpoint.family)}"
            raise UsageError("weights-missing", f"there is no {path}", cure=cure)
        converted = _converted_path(home, published)
        convert_to_safetensors(checkpoint.family, published, path, converted)
        notice(f"{path} is correct and stored as {converted}")
    return home


def _find(folder: Path, file: PublishedFile) -> Path:
    """Return the file in the folder or below it, or where it was expected."""
    paths = sorted(folder.rglob(file.file)) if folder.is_dir() else []
    return paths[0] if paths else folder / file.file


def _converted_path(home: Path, file: PublishedFile) -> Path:
    return home / f"{file.stem}.safetensors"


def _download(checkpoint: Checkpoint, hub_file: HubFile, folder: Path) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise ReenactError(
            "package-missing", f"{error.name} is not installed", cure=install_command("neural")
        ) from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # our own message reports a failure
    try:
        return Path(
            hf_hub_download(
                checkpoint.repository,
                hub_file.path,
                revision=checkpoint.revision,
                local_dir=folder,
                endpoint=os.environ.get("HF_ENDPOINT") or None,
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise _unreachable(checkpoint, hub_file, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise _unreachable(checkpoint, hub_file, error) from error
    except Exception as error:  # errors of its HTTP client, which it does not export
        raise _unreachable(checkpoint, hub_file, error) from error


def _verify(file: Path, hub_file: HubFile, checkpoint: Checkpoint) -> None:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if (file.stat().st_size, digest) != (hub_file.size, hub_file.sha256):
        raise ReenactError(
            "download-differs",
            f"the file from {checkpoint.repository} is not the published {file.name}: its SHA-256 or size differs",
            cure="try again; if the error persists, a proxy or the publisher changed the file",
        )


def _unreachable(checkpoint: Checkpoint, hub_file: HubFile, error: Exception) -> ReenactError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    url = f"https://huggingface.co/{checkpoint.repository}/tree/{checkpoint.revision}"
    return ReenactError(
        "download-failed",
        f"{Path(hub_file.path).name} cannot be downloaded: {reason}",
        cure=f"check the network, or download all from {url} elsewhere and fetch with --from FOLDER",
    )


def _unwritable(error: OSError, home: Path) -> ReenactError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            home.rmdir()
        return ReenactError("disk-full", f"the disk of {models_home()} is full", cure="free some space and fetch again")
    return ReenactError(
        "cache-not-writable",
        f"{home} cannot be written: {error.strerror or error}",
        cure="check the folder's permissions, or choose another with XDG_CACHE_HOME",
    )
