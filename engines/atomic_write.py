"""Write files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX_LENGTH = 50
"""Characters of the final name in the temporary one: the whole could exceed the limit of the file system."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, in the folder of ``path``, which is created if it is missing.

    If the block succeeds, the temporary file replaces ``path``; otherwise it is deleted. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:_PREFIX_LENGTH]}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
