"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_KEPT = 50
"""Characters of the name that the temporary one begins with: a name may be as long as a file system takes any."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write, in ``path``'s folder, which is made where it is missing.

    When the block ends well it becomes ``path``, in the place of one that was there; when it does not, it goes.
    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:_KEPT]}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
