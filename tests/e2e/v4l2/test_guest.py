"""Test that the device tests skip, with a reason, where the guest cannot run, and only there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.v4l2.guest import boot_script

pytestmark = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may boot the guest")

PANIC = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"


def _shared_with_guest(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Return a folder whose script for the guest, and its kernel, are replaced."""
    kernel = folder / "work" / "umlk"
    kernel.mkdir(parents=True)
    for name in ("linux", "v4l2loopback.ko"):
        (kernel / name).touch()
    monkeypatch.setenv("W", str(folder / "work"))
    tools = folder / "shared" / "tools"
    tools.mkdir(parents=True)
    (tools / "v4l2-uml.sh").write_text(script)
    return folder / "shared"


def test_a_guest_that_panics_at_boot_skips_with_the_panic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = _shared_with_guest(tmp_path, monkeypatch, f"echo '{PANIC}' >&2; exit 99")
    with pytest.raises(pytest.skip.Exception, match="Attempted to kill init"):
        boot_script(shared)


def test_a_guest_that_boots_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = _shared_with_guest(tmp_path, monkeypatch, '"${@}"')
    assert boot_script(shared) == shared / "tools" / "v4l2-uml.sh"
