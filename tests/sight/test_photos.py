"""Pictures of all kinds are read upright, in 8-bit sRGB, with what their cameras noted; others are refused."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from inference.protocol.errors import InputError
from inference.sight import photos
from inference.sight.photos import read_photo

Array = np.ndarray
SIZE = (96, 128)  # height, width


@pytest.fixture
def picture() -> Array:
    """(H, W, 3) uint8, smooth, and different in every corner."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]] / 128
    return (np.stack([u, v, 0.5 * (1 - u)], -1) * 200 + 30).astype(np.uint8)


def close(found: Array, expected: Array, most: float = 1.5) -> bool:
    return found.shape == expected.shape and float(np.abs(found.astype(float) - expected).mean()) < most


def noted(path: Path, picture: Array, tags: dict[int, Any], *, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769).update(tags)
    Image.fromarray(picture).save(path, exif=exif, quality=95)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_camera_was_held(
    tmp_path: Path, picture: Array, orientation: int, suffix: str
) -> None:
    turns = {
        1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2), 6: lambda p: np.rot90(p, 1), 7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, 3),
    }  # fmt: skip
    stored = np.ascontiguousarray(turns[orientation](picture))
    assert close(read_photo(noted(tmp_path / f"a{suffix}", stored, {}, orientation=orientation)).rgb, picture)


@pytest.mark.parametrize("kind", ["grey", "grey16.png", "rgb16.png", "rgb16.tif", "palette", "cmyk", "float"])
def test_pictures_of_other_depths_look_the_same(tmp_path: Path, picture: Array, kind: str) -> None:
    grey = picture.mean(-1).astype(np.uint8)
    path = tmp_path / (kind if "." in kind else f"{kind}.{'jpg' if kind == 'cmyk' else 'png'}")
    expected = np.repeat(grey[..., None], 3, 2)
    if kind == "grey":
        Image.fromarray(grey).save(path)
    elif kind == "grey16.png":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    elif kind == "float":
        path = path.with_suffix(".tif")
        Image.fromarray(grey.astype(np.float32) / 255).save(path)
    else:
        expected = picture
        if kind == "palette":
            Image.fromarray(picture).quantize(256).save(path)
        elif kind == "cmyk":
            Image.fromarray(picture).convert("CMYK").save(path, quality=98)
        else:
            cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 257)
    found = read_photo(path)
    assert found.rgb.dtype == np.uint8 and close(found.rgb, expected, 4.0)


def test_what_is_cut_out_is_known_and_stands_on_grey(tmp_path: Path, picture: Array) -> None:
    alpha = np.zeros(SIZE, np.uint8)
    alpha[20:60, 30:90] = 255
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.alpha is not None and np.array_equal(found.alpha > 0.5, alpha > 0)
    assert close(found.rgb[20:60, 30:90], picture[20:60, 30:90]) and (found.rgb[alpha == 0] == 128).all()


def test_an_opaque_alpha_cuts_nothing_out(tmp_path: Path, picture: Array) -> None:
    Image.fromarray(np.dstack([picture, np.full(SIZE, 255, np.uint8)])).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").alpha is None


def test_pictures_in_another_colour_space_become_srgb(tmp_path: Path, picture: Array) -> None:
    lab = ImageCms.createProfile("LAB")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=profile)
    assert close(read_photo(tmp_path / "a.png").rgb, picture)
    turned = ImageCms.profileToProfile(Image.fromarray(picture), ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    assert turned is not None
    turned.save(tmp_path / "b.tif", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    assert close(read_photo(tmp_path / "b.tif").rgb, picture, 3.0)


def test_a_focal_length_on_film_is_taken_by_diagonals(tmp_path: Path, picture: Array) -> None:
    path = noted(tmp_path / "a.jpg", picture, {41989: 50})
    assert read_photo(path).focal_px == pytest.approx(50 / math.hypot(36, 24) * math.hypot(*SIZE))


def test_a_focal_length_in_millimetres_is_taken_by_the_sensors_resolution(tmp_path: Path, picture: Array) -> None:
    tags = {37386: 10.0, 41486: 40.0, 41488: 4, 40962: 256, 40963: 192}  # mm, px per mm of twice the size
    assert read_photo(noted(tmp_path / "a.jpg", picture, tags)).focal_px == pytest.approx(200)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {41989: 50, 40962: 1000, 40963: 1000},  # cut to another shape since
        {37386: 85.0, 41486: 160.0, 41488: 4},  # as though 160 mm: a picture that was scaled down
        {41989: 0},
        {37386: 10.0},
    ],
)
def test_a_focal_length_that_is_not_this_pictures_is_left_aside(
    tmp_path: Path, picture: Array, tags: dict[int, Any]
) -> None:
    assert read_photo(noted(tmp_path / "a.jpg", picture, tags)).focal_px is None


def test_large_photos_are_scaled_and_say_so(tmp_path: Path) -> None:
    Image.new("RGB", (12_000, 1200), (200, 100, 50)).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.rgb.shape == (600, 6000, 3) and found.shrunk == pytest.approx(0.5)
    assert "12000 x 1200 px: scaled to 6000 x 600" in found.notes[0]


def test_of_an_animation_the_first_picture_is_taken_and_said(tmp_path: Path, picture: Array) -> None:
    frames = [Image.fromarray(picture), Image.fromarray(picture[::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = read_photo(tmp_path / "a.gif")
    assert close(found.rgb, picture, 12.0) and "animated" in found.notes[0]


def _claims(path: Path, width: int, height: int) -> Path:
    """A PNG that says it is this large and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def _cut_off(path: Path) -> Path:
    Image.effect_noise((512, 512), 50).save(path.with_suffix(".jpg"))
    content = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").write_bytes(content[: len(content) // 2])
    return path.with_suffix(".jpg")


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p / "nobody.jpg", "There is no file"),
        (lambda p: p, "it is a folder"),
        (lambda p: _written(p / "a.jpg", b""), "a.jpg is empty: 0 bytes."),
        (lambda p: _written(p / "a.jpg", b"hello" * 99), "a.jpg (495 bytes) cannot be read as a picture."),
        (lambda p: _written(p / "a.jpg", b"\0\0\0\x18ftypheic" + b"\0" * 40), "a.jpg is a HEIC photo"),
        (lambda p: _written(p / "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"), "cannot be read as a picture"),
        (lambda p: _cut_off(p / "a"), "a.jpg is damaged or cut off"),
        (lambda p: _claims(p / "a.png", 13_000, 12_500), "13000 x 12500 = 162 megapixels; at most 150 are read."),
        (lambda p: _claims(p / "a.png", 60_000, 60_000), "a.png is too large"),
        (lambda p: _claims(p / "a.png", 800, 40), "a.png is 800 x 40 px; at least 64 px each way are needed."),
        (lambda p: _claims(p / "a.png", 800, 800), "a.png is damaged or cut off"),
    ],
)
def test_what_is_no_photo_is_refused_in_a_sentence(tmp_path: Path, make: Any, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        read_photo(make(tmp_path))
    assert sentence in caught.value.message and caught.value.hint
    assert "\n" not in caught.value.message


def test_every_format_that_is_read_is_known_to_the_reader() -> None:
    Image.init()
    assert set(photos.FORMATS) <= Image.OPEN.keys()
