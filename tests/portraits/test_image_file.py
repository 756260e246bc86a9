"""Image files of many formats, written and read back."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from engines.errors import PortraitError
from realtime.portraits.image_file import BACKDROP, read_image, read_upload
from tests.support.documents import ROOT

WIDTH, HEIGHT = 60, 40


@pytest.fixture
def ramp() -> Pillow.Image:
    """Red increases to the right and green downwards: the four corners differ."""
    red, green = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    return Pillow.fromarray(np.dstack([red, green, np.full_like(red, 60)]).astype(np.uint8))


def off(image: NDArray[np.uint8], expected: Pillow.Image) -> float:
    """Return the mean difference in grey levels."""
    return float(np.abs(image.astype(float) - np.asarray(expected.convert("RGB"), float)).mean())


def refused(path: Path) -> PortraitError:
    """Return the error that a file is refused with."""
    with pytest.raises(PortraitError) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.cure
    return caught.value


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.jp2", "a.ppm", "a.tga", "a.PNG", "no suffix"]
)
def test_formats_are_read(tmp_path: Path, ramp: Pillow.Image, name: str) -> None:
    path = tmp_path / name
    ramp.save(path, **({"format": "PNG"} if "." not in name else {}))
    image, notes = read_image(path)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert off(image, ramp) < 4
    assert notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, ramp: Pillow.Image, orientation: int) -> None:
    turns = Pillow.Transpose
    back = {
        1: (),
        2: (turns.FLIP_LEFT_RIGHT,),
        3: (turns.ROTATE_180,),
        4: (turns.FLIP_TOP_BOTTOM,),
        5: (turns.TRANSPOSE,),
        6: (turns.ROTATE_90,),
        7: (turns.TRANSVERSE,),
        8: (turns.ROTATE_270,),
    }
    stored = ramp
    for turn in back[orientation]:
        stored = stored.transpose(turn)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert off(read_image(tmp_path / "a.png").image, ramp) == 0


def test_transparent_parts_are_grey(tmp_path: Path, ramp: Pillow.Image) -> None:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, WIDTH // 2 :] = 255
    alpha[:, WIDTH // 2] = 128
    ramp.putalpha(Pillow.fromarray(alpha))
    ramp.save(tmp_path / "a.png")
    image, notes = read_image(tmp_path / "a.png")
    assert (image[:, : WIDTH // 2] == BACKDROP).all()
    assert off(image[:, WIDTH // 2 + 1 :], ramp.crop((WIDTH // 2 + 1, 0, WIDTH, HEIGHT))) == 0
    assert "transparent" in notes[0]


def test_opaque_alpha_is_not_noted(tmp_path: Path, ramp: Pillow.Image) -> None:
    ramp.putalpha(255)
    ramp.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").notes == ()


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "CMYK"])
def test_modes_become_rgb(tmp_path: Path, ramp: Pillow.Image, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    ramp.convert(mode).save(path)
    assert off(read_image(path).image, ramp.convert(mode).convert("RGB")) < 1


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path, ramp: Pillow.Image) -> None:
    ramp.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert off(read_image(tmp_path / "a.jpg").image, ramp) < 6


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    grey = np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    Pillow.fromarray(grey).save(tmp_path / name)
    image = read_image(tmp_path / name).image
    np.testing.assert_allclose(image[..., 1], grey / 257, atol=1)


def test_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 16).astype(">u2")
    row = b"\0" + np.repeat(values, 3).astype(">u2").tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 16, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    np.testing.assert_allclose(read_image(tmp_path / "a.png").image[0, :, 0], values / 257, atol=1)


def test_floating_point_is_scaled(tmp_path: Path) -> None:
    grey = np.linspace(0, 1, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    Pillow.fromarray(grey).save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").image[..., 0], grey * 255, atol=1)


def swapped_profile() -> bytes:
    """Return an sRGB profile with the tags of the red and the green primary swapped."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_colour_profiles_are_applied(tmp_path: Path, ramp: Pillow.Image, name: str) -> None:
    red, green, blue = ramp.split()
    Pillow.merge("RGB", (green, red, blue)).save(tmp_path / name, icc_profile=swapped_profile())
    assert off(read_image(tmp_path / name).image, ramp) < 4


def test_a_damaged_colour_profile_is_ignored(tmp_path: Path, ramp: Pillow.Image) -> None:
    ramp.save(tmp_path / "bad.png", icc_profile=b"rubbish")
    assert off(read_image(tmp_path / "bad.png").image, ramp) == 0


def test_the_previews_in_a_phone_s_picture_are_not_noted(tmp_path: Path, ramp: Pillow.Image) -> None:
    ramp.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Pillow.new("RGB", (16, 16))])
    image, notes = read_image(tmp_path / "a.jpg")
    assert off(image, ramp) < 4
    assert notes == ()


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_frame_of_an_animation_is_used(tmp_path: Path, ramp: Pillow.Image, name: str) -> None:
    black = Pillow.new("RGB", ramp.size)
    ramp.save(tmp_path / name, save_all=True, append_images=[black, black])
    image, notes = read_image(tmp_path / name)
    assert off(image, ramp) < 25  # a palette of 256 colours
    assert "frames" in notes[0]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_hundred_megapixels_are_read_at_a_smaller_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Pillow.new("L", (10_000, 10_000), 99).save(path)
    image = read_image(path).image
    assert image.shape == (5000, 5000, 3)
    assert (image == 99).all()


@pytest.mark.parametrize("side", [12_300, 14_000])
def test_more_than_150_megapixels_are_refused(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.png"
    Pillow.new("1", (side, side)).save(path)
    error = refused(path)
    assert error.code == "portrait-too-large"
    assert error.expected == "at most 150 megapixels"


def test_uploads_have_a_limit_of_their_own() -> None:
    file = io.BytesIO()
    Pillow.new("RGB", (40, 30), (9, 9, 9)).save(file, "PNG")
    assert read_upload(file.getvalue(), "me.png", 1200).image.shape == (30, 40, 3)
    with pytest.raises(PortraitError) as caught:
        read_upload(file.getvalue(), "me.png", 1199)
    assert caught.value.code == "portrait-too-large"
    with pytest.raises(PortraitError) as caught:
        read_upload(b"", "me.png", 1200)
    assert caught.value.code == "portrait-empty"


def test_files_that_are_no_image_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere.png")
    assert (error.code, error.expected, error.cure) == ("portrait-missing", "", "check --portrait")
    assert refused(tmp_path).code == "portrait-is-folder"
    (tmp_path / "empty.png").touch()
    assert refused(tmp_path / "empty.png").code == "portrait-empty"
    (tmp_path / "text.jpg").write_text("This is not an image.")
    assert refused(tmp_path / "text.jpg").code == "portrait-bad-format"
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert refused(tmp_path / "phone.heic").code == "portrait-bad-format"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tif"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    Pillow.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refused(path).code == "portrait-damaged"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]))
def test_damage_never_escapes_as_another_error(
    tmp_path: Path, ramp: Pillow.Image, data: st.DataObject, kind: str
) -> None:
    path = tmp_path / "damaged"
    ramp.save(path, format=kind)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    with contextlib.suppress(PortraitError):
        image = read_image(path).image
        assert image.ndim == 3
        assert image.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_common_format_is_opened_without_loading_all_plugins(tmp_path: Path, suffix: str) -> None:
    """They take a tenth of a second of the start."""
    path = tmp_path / f"picture{suffix}"
    Pillow.new("RGB", (8, 8)).save(path)
    code = "import sys; from pathlib import Path; from realtime.portraits.image_file import read_image; "
    code += "read_image(Path(sys.argv[1])); assert 'PIL.TgaImagePlugin' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, timeout=60)
