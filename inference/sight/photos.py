"""Photos as files -> upright 8-bit sRGB pictures, with what the camera noted about its lens.

Files come from strangers: formats that run programs are not read, sizes are bounded before anything is decoded.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ..protocol.errors import InputError, ResourceError

Array = np.ndarray

MAX_PIXELS = 150_000_000
MIN_SIDE = 64
KEPT_SIDE = 6000  # pixels of the longer side that are worked on
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "TGA", "AVIF")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_GREY = 128  # behind what is cut out
_DIAGONAL_35MM = math.hypot(36.0, 24.0)
_WIDEST, _LONGEST = 0.3, 6.0  # focal lengths in diagonals: 13 to 260 mm on film
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # of EXIF's FocalPlaneResolutionUnit
_FOCAL, _FOCAL_35, _PLANE_X, _PLANE_UNIT, _EXIF_W, _EXIF_H = 37386, 41989, 41486, 41488, 40962, 40963
_EXIF_IFD, _ORIENTATION = 0x8769, 0x0112
_BROKEN = (
    OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, OverflowError, ZeroDivisionError,
    NotImplementedError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """One picture. rgb (H, W, 3) uint8 sRGB, upright; alpha (H, W) float32 in [0, 1] where the file cuts something out.

    focal_px: by the camera's notes, in pixels of `rgb`; shrunk: pixels of `rgb` in one of the file; notes: what had to
    be assumed.
    """

    name: str
    rgb: Array
    alpha: Array | None
    focal_px: float | None
    shrunk: float = 1.0
    notes: tuple[str, ...] = ()


def read_photo(path: Path) -> Photo:
    """Read one photo.

    Raises:
        InputError: missing, no picture, damaged, cut off, too small, or more than 150 megapixels.
    """
    path = Path(path)
    with _opened(path) as image:
        width, height = image.size
        notes = []
        if getattr(image, "n_frames", 1) > 1 and image.format not in ("MPO", "TIFF"):
            notes.append(f"{path.name} is animated: its first picture is used. As --video, all of them are.")
        focal = _focal_px(_exif(image), (width, height))
        if image.format == "JPEG":  # decoded smaller: no more memory than for what is kept
            image.draft(None, (min(width, KEPT_SIDE), min(height, KEPT_SIDE)))
        decoded = _decode(image, path)
        scale = min(KEPT_SIDE / max(decoded.size), 1.0)
        if scale < 1.0:
            size = (max(round(decoded.width * scale), 1), max(round(decoded.height * scale), 1))
            decoded = decoded.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        shrunk = max(decoded.size) / max(width, height)
        turned = _exif(image).get(_ORIENTATION, 1)  # as decoded: Pillow turns a TIFF itself, and forgets the note
        rgb, alpha = _plain(_upright(decoded, turned), image.info.get("icc_profile"))
    if shrunk < 0.999:
        notes.append(f"{path.name} is {width} x {height} px: scaled to {rgb.shape[1]} x {rgb.shape[0]}.")
    return Photo(path.name, rgb, alpha, None if focal is None else focal * shrunk, shrunk, tuple(notes))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if path.is_dir():
        raise InputError(f"There is no file {path}: it is a folder.", "Give each photo by its file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "Check the path.")
    size = path.stat().st_size
    if not size:
        raise InputError(f"{path.name} is empty: 0 bytes.", "Copy the photo again.")
    with path.open("rb") as stream:
        start = stream.read(32)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC:
        raise InputError(f"{path.name} is a HEIC photo, which is not read.", "Export it as JPEG and try again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()  # without it, a format that is not loaded yet ends the search
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path.name} is too large: {error}", "Scale the photo down.") from error
    except _BROKEN as error:
        hint = "Give a JPEG, PNG, TIFF or WebP picture."
        raise InputError(f"{path.name} ({size} bytes) cannot be read as a picture.", hint) from error
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            pixels = f"{width} x {height} = {width * height / 1e6:.0f} megapixels"
            text = f"{path.name} is {pixels}; at most {MAX_PIXELS // 1_000_000} are read."
            raise InputError(text, "Scale the photo down: a head needs no more than 4 megapixels.")
        if min(width, height) < MIN_SIDE:
            text = f"{path.name} is {width} x {height} px; at least {MIN_SIDE} px each way are needed."
            raise InputError(text, "Give a larger photo.")
        yield image


def _decode(image: Image.Image, path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except MemoryError as error:
        raise ResourceError(f"{path.name} does not fit into memory.", "Scale the photo down.") from error
    except _BROKEN as error:
        reason = str(error).partition("\n")[0][:120]
        raise InputError(f"{path.name} is damaged or cut off: {reason}.", "Copy the photo again.") from error
    return image


def _exif(image: Image.Image) -> dict[int, Any]:
    """What the camera noted, orientation included; nothing where that is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif = image.getexif()
            return {**exif, **exif.get_ifd(_EXIF_IFD)}
    except _BROKEN:
        return {}


def _upright(image: Image.Image, orientation: Any) -> Image.Image:
    turns = Image.Transpose
    methods = {
        2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE,
        6: turns.ROTATE_270, 7: turns.TRANSVERSE, 8: turns.ROTATE_90,
    }  # fmt: skip
    method = methods.get(orientation)
    return image if method is None else image.transpose(method)


def _plain(image: Image.Image, profile: bytes | None) -> tuple[Array, Array | None]:
    """Give (H, W, 3) uint8 sRGB, and (H, W) opacity where there is any."""
    if image.mode in _DEEP:
        image, profile = Image.fromarray(_stretched(np.asarray(image))), None
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255.0
        alpha = None if alpha.min() > 0.99 else alpha
        image = image.convert("RGB")
    image = _to_srgb(image, profile)
    rgb = np.array(image, np.uint8)
    if alpha is not None:
        behind = _GREY * (1.0 - alpha[..., None])
        rgb = (rgb * alpha[..., None] + behind + 0.5).astype(np.uint8)
    return rgb, alpha


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LA" or image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image, profile = image.convert("RGB"), profile if image.mode == "RGB" else None
    if not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        done = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *_BROKEN):  # a profile for other kinds of pictures, or a damaged one
        return image.convert("RGB")
    return image.convert("RGB") if done is None else done


def _stretched(values: Array) -> Array:
    """(H, W) of 16 bits, 32 bits or real numbers as uint8: by their type's range, or where unknown by their own."""
    values = np.nan_to_num(values.astype(np.float32))
    top = float(values.max(initial=0.0))
    full = next((full for full in (1.0, 255.0, 65535.0) if top <= full), max(top, 1.0))
    return (np.clip(values / full, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _focal_px(exif: dict[int, Any], size: tuple[int, int]) -> float | None:
    """Focal length in pixels of the file; None where the notes lack it, or belong to another picture.

    The 35 mm equivalent compares diagonals (CIPA DCG-001); without it, the sensor's resolution says it.
    """
    width, height = size
    noted = _number(exif.get(_EXIF_W)), _number(exif.get(_EXIF_H))
    aspect = max(size) / min(size)
    if all(noted) and abs(max(noted) / min(noted) / aspect - 1.0) > 0.02:
        return None  # cut to another shape since it was taken
    diagonal = math.hypot(width, height)
    equivalent = _number(exif.get(_FOCAL_35))
    focal = equivalent / _DIAGONAL_35MM * diagonal
    if not focal:
        unit = _UNIT_MM.get(int(_number(exif.get(_PLANE_UNIT)) or 2), 25.4)
        focal = _number(exif.get(_FOCAL)) * _number(exif.get(_PLANE_X)) / unit
        focal *= max(size) / max(noted) if all(noted) else 1.0
    return focal if _WIDEST < focal / diagonal < _LONGEST else None  # else scaled since it was taken


def _number(value: Any) -> float:
    """Give a finite number above 0, or 0."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
