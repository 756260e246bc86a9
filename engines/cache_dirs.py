"""The folders for files that can be downloaded or computed again."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def cache_home() -> Path:
    """Return the cache folder of reenact, which may not exist yet.

    ``$XDG_CACHE_HOME/reenact`` if that is set, else the platform's: ``~/.cache/reenact`` on Linux,
    ``~/Library/Caches/reenact`` on macOS, ``%LOCALAPPDATA%\\reenact`` on Windows.
    """
    return platformdirs.user_cache_path("reenact", appauthor=False, opinion=False)


def models_home() -> Path:
    """Return the folder of downloaded models and converted checkpoints."""
    return cache_home() / "models"
