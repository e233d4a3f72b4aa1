"""Who is shown: photos and films of a person, cut to squares, with what of each is the person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..protocol.errors import InputError, RequestError
from ..protocol.requests import ReenactRequest
from ..runtime.video import probe, read_frames, squared
from ..sight.faces import Face, Faces
from ..sight.mask import cut_out
from ..sight.photos import read_photo
from .crop import Crop, crop_of
from .driver import is_picture
from .job import ReenactJob

Array = np.ndarray
FILM_FRAMES = 16  # that are taken of a film
MIN_FACE_PX = 32
_AROUND, _AROUND_PX = 1.3, 512  # sides of the square and pixels in which the person is told from the background
_RIVAL = 0.5  # of the chosen face's size


@dataclass(frozen=True)
class Shown:
    """One picture of the person: image (S, S, 3) uint8 and mask (S, S) uint8, 255 where the person is."""

    name: str
    image: Array
    mask: Array


def see_sources(request: ReenactRequest, job: ReenactJob, size: int) -> list[Shown]:
    """Look at all sources.

    Raises:
        InputError: one cannot be read, or none shows a face.
        RequestError: a face is chosen that is not there.
    """
    shown: list[Shown] = []
    with Faces() as faces:
        for place, path in enumerate(request.source):
            job.progress("see", place, len(request.source))
            chosen = request.face[place % len(request.face)] if request.face else 0
            kept = _see(path, faces, chosen, size, job)
            if not kept:
                job.warning("source", f"{path.name} shows no face and is left out.")
            shown += kept
        job.progress("see", len(request.source), len(request.source))
    if not shown:
        names = ", ".join(path.name for path in request.source)
        hint = "Give a photo that shows the face from the front; if driver and source were exchanged, exchange them."
        raise InputError(f"No face was found in {names}.", hint)
    return shown


def _see(path: Path, faces: Faces, chosen: int, size: int, job: ReenactJob) -> list[Shown]:
    """The person in a photo, or in those frames of a film that show as many faces as the chosen one's number.

    Raises:
        RequestError: there are always fewer.
    """
    kept, most = [], 0
    for picture in _pictures(path, job):
        found = faces.find(picture[1])
        most = max(most, len(found))
        if len(found) >= max(chosen, 1):
            kept.append(_shown(picture, found, chosen, size, job))
    if most and not kept:
        text = f"{chosen} is asked for, and {path.name} shows {most} face{'s' * (most > 1)}"
        raise RequestError(text, "Faces are counted from the left.", field="face")
    return kept


def check_roles(request: ReenactRequest) -> None:
    """Refuse a film of the person driven by one photo: what was meant is the other way round.

    Raises:
        InputError: it is so.
    """
    driver = request.driver
    if driver is None or not is_picture(driver):
        return
    films = [path for path in request.source if path.is_file() and not is_picture(path)]
    if films:
        text = f"The driver {driver.name} is one picture, and the source {films[0].name} is a film."
        raise InputError(text, "They seem to be exchanged: the source is who is shown, the driver who is followed.")


def _pictures(path: Path, job: ReenactJob) -> Iterator[tuple[str, Array]]:
    """A photo, or frames of a film at even distances."""
    if not path.exists():
        raise InputError(f"There is no file {path}.", "Check the path.")
    if is_picture(path):
        photo = read_photo(path)
        for note in photo.notes:
            job.warning("photo", note)
        yield path.name, photo.rgb
        return
    info = probe(path)
    wanted = set(np.linspace(0, info.frames - 1, min(FILM_FRAMES, info.frames)).round().astype(int).tolist())
    for index, _, rgb in read_frames(path):
        if index in wanted:
            yield f"{path.name} {index + 1}", squared(rgb, info.pixel_aspect)


def _shown(picture: tuple[str, Array], found: Sequence[Face], chosen: int, size: int, job: ReenactJob) -> Shown:
    """Take the face of that number from the left, or with 0 the largest."""
    name, rgb = picture
    face = found[chosen - 1] if chosen else max(found, key=lambda face: face.size_px)
    others = [other for other in found if other is not face]
    if not chosen and any(other.size_px > _RIVAL * face.size_px for other in others):
        text = f"{name} shows {len(found)} faces; the largest is taken. Another can be chosen, counted from the left."
        job.warning("faces", text)
    if face.size_px < MIN_FACE_PX:
        job.warning("small", f"The face in {name} is {face.size_px:.0f} px large; from 128 px on, frames are clear.")
    crop = crop_of(face.landmarks)
    return Shown(name, crop.cut(rgb, size), _mask(rgb, crop, face, others, size))


def _mask(rgb: Array, crop: Crop, face: Face, others: Sequence[Face], size: int) -> Array:
    """(size, size) uint8: the person within a crop, found in a wider one."""
    wide = replace(crop, side=_AROUND * crop.side)
    scale = _AROUND_PX / wide.side
    corner = np.array([wide.x, wide.y]) + 0.5 - 0.5 * wide.side

    def moved(one: Face) -> Face:
        return replace(one, landmarks=(one.landmarks + 0.5 - corner) * scale - 0.5, depth=one.depth * scale)

    mask = cut_out(wide.cut(rgb, _AROUND_PX), moved(face), [moved(other) for other in others])
    middle = 0.5 * _AROUND_PX - 0.5
    inner = Crop(middle, middle, _AROUND_PX / _AROUND)
    return inner.cut(np.round(255 * mask).astype(np.uint8), size)
