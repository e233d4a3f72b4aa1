"""What a person is driven by: a film, numbered pictures in a folder, or one picture, all as numbered frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.formats.pictures import frame_number
from ..protocol.errors import InputError, RequestError
from ..protocol.requests import PHOTOS, ReenactRequest
from ..runtime.video import probe, read_frames, squared
from ..sight.photos import read_photo

Array = np.ndarray
Pictures = Iterator[tuple[int, float, Array]]
FPS = 24.0  # of pictures whose rate nobody says, as Blender's own
_MOVING = (".gif", ".webp")  # may be either


@dataclass(frozen=True)
class Driver:
    """Numbered pictures: `pictures` yields number, seconds and (H, W, 3) uint8, as often as it is called.

    first, last: numbers that are asked for; count: how many pictures that is, as far as the file says.
    """

    path: Path
    fps: float
    first: int
    last: int
    count: int
    is_film: bool
    pictures: Callable[[], Pictures]


def is_picture(path: Path) -> bool:
    """Whether a file is one picture rather than a film."""
    suffix = path.suffix.lower()
    if suffix not in PHOTOS or not path.is_file():
        return False
    if suffix in _MOVING:
        try:
            return probe(path).frames < 2
        except InputError:
            return True  # whatever is wrong with it is said when it is read
    return True


def open_driver(request: ReenactRequest) -> Driver:
    """Look at what drives, without decoding it.

    Raises:
        InputError: it cannot be read, or holds no picture.
        RequestError: frames outside of it are asked for.
    """
    path = request.driver
    assert path is not None
    if path.is_dir():
        return _folder(path, sorted(_numbered(path).items()), request)
    if is_picture(path):
        return _folder(path, [(1, path)], request)
    return _film(path, request)


def _numbered(folder: Path) -> dict[int, Path]:
    """Pictures of a folder by their numbers.

    Raises:
        InputError: there is none, one has no number, or two have the same.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTOS and path.is_file())
    if not files:
        raise InputError(f"{folder} holds no picture.", "Give JPEG, PNG, TIFF or WebP pictures.")
    found: dict[int, Path] = {}
    for path in files:
        number = frame_number(path)
        if number in found:
            raise InputError(f"{path.name} and {found[number].name} are both frame {number}.", "Remove one of them.")
        found[number] = path
    return found


def _folder(path: Path, files: list[tuple[int, Path]], request: ReenactRequest) -> Driver:
    fps, start = request.fps or FPS, files[0][0]
    first, last = _range(request, path, files[0][0], files[-1][0])
    chosen = [(number, file) for number, file in files if first <= number <= last]
    if not chosen:
        raise RequestError(f"no picture of {path.name} lies in {first}-{last}", field="frames")

    def pictures() -> Pictures:
        for number, file in chosen:
            yield number, (number - start) / fps, read_photo(file).rgb

    return Driver(path, fps, first, last, len(chosen), is_film=False, pictures=pictures)


def _film(path: Path, request: ReenactRequest) -> Driver:
    info = probe(path)
    first, last = _range(request, path, 1, info.frames)
    stop = last if request.frames else None  # what a container claims may be too little

    def pictures() -> Pictures:
        for index, time_s, rgb in read_frames(path, start=first - 1, stop=stop):
            yield index + 1, time_s, squared(rgb, info.pixel_aspect)

    return Driver(path, info.fps, first, last, last - first + 1, is_film=True, pictures=pictures)


def _range(request: ReenactRequest, path: Path, low: int, high: int) -> tuple[int, int]:
    """First and last frame that are made.

    Raises:
        RequestError: some of them are not there.
    """
    wanted = request.frame_range()
    if wanted is None:
        return low, high
    if wanted[0] < low or wanted[1] > high:
        text = f"{wanted[0]}-{wanted[1]} is asked for, and {path.name} has frames {low}-{high}"
        raise RequestError(text, "Choose among these.", field="frames")
    return wanted
