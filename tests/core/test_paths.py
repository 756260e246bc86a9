from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import ConfigError
from realtime.core import paths


def test_a_home_folder_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        paths.expand("~no-such-user/portrait.jpg")
    assert caught.value.code == "path-no-home"


def test_a_ring_of_links_is_returned_as_it_is(tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    ring.symlink_to(ring)
    assert paths.resolve(ring).name == "ring"


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert paths.read_text(path) == "hello"
