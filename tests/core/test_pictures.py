"""Frames are written so that any program reads them, and say what they were made from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.core.formats.pictures import (
    encode_exr,
    encode_png,
    frame_number,
    linear,
    read_key,
    read_picture,
    write_picture,
)
from inference.protocol.errors import InputError

Array = np.ndarray
KEY = "0123456789abcdef" * 4


@pytest.fixture
def rgba() -> Array:
    """Noise, a flat part that packs well, and more lines than a block of OpenEXR holds."""
    values = np.random.default_rng(0).random((37, 29, 4))
    values[5:20] = 0.25
    return values


@pytest.mark.parametrize("channels", [3, 4])
def test_a_png_holds_every_byte(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 13, channels), np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels, key=KEY))) as image:
        assert image.info["understudyKey"] == KEY
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("suffix", [".png", ".exr"])
def test_a_key_is_read_back_and_the_same_picture_gives_the_same_bytes(tmp_path: Path, rgba: Array, suffix: str) -> None:
    first, second = tmp_path / f"a_0001{suffix}", tmp_path / f"b_0001{suffix}"
    for path in (first, second):
        write_picture(path, rgba, key=KEY)
    assert read_key(first) == KEY and first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".exr"])
@pytest.mark.parametrize("kept", [0, 1, 8, 60, 200, -1, -40])
def test_a_file_that_was_cut_off_has_no_key(tmp_path: Path, rgba: Array, suffix: str, kept: int) -> None:
    path = tmp_path / f"a{suffix}"
    write_picture(path, rgba, key=KEY)
    path.write_bytes(path.read_bytes()[:kept])
    assert read_key(path) is None


def test_files_of_other_programs_have_no_key(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "theirs.png")
    assert read_key(tmp_path / "theirs.png") is None and read_key(tmp_path / "missing.png") is None


def test_linear_light_is_that_of_the_standard() -> None:
    assert np.allclose(linear(np.array([0.0, 0.04045, 0.5, 1.0])), [0.0, 0.0031308, 0.2140411, 1.0], atol=1e-6)


def test_opaque_flat_pictures_pack_and_noise_does_not_grow(rgba: Array) -> None:
    flat = len(encode_exr(np.full((256, 256, 4), 0.5)))
    assert flat < 8000
    assert len(encode_exr(rgba)) < rgba.size * 2 + 800


@pytest.mark.parametrize(("name", "number"), [("frame_0017.png", 17), ("7.exr", 7), ("shot2_v3_0100.png", 100)])
def test_a_frames_number_stands_at_the_end_of_its_name(name: str, number: int) -> None:
    assert frame_number(Path(name)) == number


def test_a_name_without_a_number_is_a_sentence() -> None:
    with pytest.raises(InputError, match="no number"):
        frame_number(Path("portrait.png"))


@pytest.mark.parametrize(("suffix", "most"), [(".png", 0.5 / 255), (".exr", 2e-3)])
def test_what_was_written_is_read_back(tmp_path: Path, rgba: Array, suffix: str, most: float) -> None:
    rgba[..., 3] = 0.2 + 0.8 * rgba[..., 3]  # where there is no alpha there is no colour in OpenEXR
    write_picture(tmp_path / f"a{suffix}", rgba)
    assert np.abs(read_picture(tmp_path / f"a{suffix}") - rgba).max() <= most + 1e-9


@pytest.mark.parametrize("content", [b"", b"PNG", b"\x89PNG\r\n\x1a\n" + bytes(40), b"v/1\x01\2\0\0\0channels"])
def test_what_is_no_frame_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png is no frame"):
        read_picture(tmp_path / "a.png")
