"""Where files that may be thrown away are kept on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_home() -> Path:
    """The folder for what may be thrown away and fetched or computed again. It may not exist yet."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        chosen = os.environ.get("XDG_CACHE_HOME", "")
        # The specification of the XDG directories says to ignore a relative one.
        root = Path(chosen) if os.path.isabs(chosen) else Path.home() / ".cache"
    return root / "reenact"


def models_home() -> Path:
    """Where fetched models and converted checkpoints lie."""
    return cache_home() / "models"
