"""The first stage: photos or a film -> what each shows of one person, cut to the head, or a sentence that says why not.

A photo that shows the face badly is left out with a warning while others show it well, and refused where none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..protocol.errors import InputError, RequestError
from ..protocol.events import Reporter, SilentReporter
from ..protocol.requests import MAX_PHOTOS, HeadRequest
from ..runtime.video import VideoInfo, probe, read_frames
from ..sight.faces import Face, Faces
from ..sight.mask import cut_out
from ..sight.photos import Photo, read_photo
from .doubts import describe, find_doubts, is_sure
from .seen import Seen

Array = np.ndarray

MIN_FACE_PX, GOOD_FACE_PX = 48, 120  # larger side of the face
MAX_YAW_DEG = 55.0  # of the photo that shows the face best
_SURELY_READ_DEG = 40.0  # beyond, turning is why readings differ
KEPT_PX = 2048  # longer side of what is kept of a photo
_AROUND = 3.0  # sizes of the face that are kept around it
_HIGHER = 0.1  # the same, by which the middle of the head lies above the middle of the face
_BORDER = 0.05  # the same, by which an alpha channel may cut a person off within what is seen of them
_RIVAL = 0.5  # of the largest face's size: who is smaller stands in the background
_LOOKS = 72  # frames of a film that are looked at
_APART_DEG = 8.0  # between two frames that are kept
_FRONTAL_DEG = 20.0


class Unfit(Exception):
    """A photo that a head cannot be made of; its sentence and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True)
class Frame:
    """One picture of a film: its number, how far the head is turned, and how sharp the face is."""

    index: int
    yaw_deg: float
    sharpness: float


def see(request: HeadRequest, report: Reporter) -> list[Seen]:
    """Look at everything that was given.

    Returns:
        What each photo shows, the best view of the face first.
    Raises:
        InputError: a file cannot be read, or none shows the face well enough.
        RequestError: a face is chosen that is not there.
    """
    with Faces() as faces:
        if request.video is not None:
            return _see_film(request, request.video, faces, report)
        seen, unfit = [], []
        for index, path in enumerate(request.photo):
            report.progress("see", index, len(request.photo))
            photo = read_photo(path)
            for note in photo.notes:
                report.warning("photo", note)
            number = request.face[index % len(request.face)] if request.face else 0
            try:
                seen.append(see_photo(photo, faces, request, report, number=number))
            except Unfit as error:
                unfit.append(error)
        report.progress("see", len(request.photo), len(request.photo))
    return _best_first(seen, unfit, report)


def see_photo(photo: Photo, faces: Faces, request: HeadRequest, report: Reporter, *, number: int = 0) -> Seen:
    """Find the face that is meant and cut it out with its head.

    Raises:
        InputError: several faces, and none chosen.
        RequestError: the chosen one is not there.
        Unfit: no face, or one that shows too little.
    """
    found = _find(photo.rgb, faces)
    if not found:
        size = f"{photo.rgb.shape[1]} x {photo.rgb.shape[0]} px"
        hint = "Give a photo that shows the face from the front: profiles and backs of heads are not recognised."
        raise Unfit(f"No face was found in {photo.name} ({size}).", hint)
    face = _choose(photo, found, number, report)
    _check(photo, face, request, report)
    return _cut(photo, face, [other for other in found if other is not face], request.focal_px)


def _find(rgb: Array, faces: Faces) -> list[Face]:
    """Find faces, those alone that are surely some where there are any."""
    found = faces.find(rgb)
    return [face for face in found if is_sure(face)] or found


def _choose(photo: Photo, found: Sequence[Face], number: int, report: Reporter) -> Face:
    if number:
        if number > len(found):
            text = f"{number} is asked for, and {photo.name} shows {len(found)} face{'s' * (len(found) > 1)}"
            raise RequestError(text, "Faces are counted from the left.", field="face")
        return found[number - 1]
    largest = max(found, key=lambda face: face.size_px)
    rivals = [face for face in found if face.size_px > _RIVAL * largest.size_px]
    if len(rivals) > 1:
        where = "; ".join(f"{place + 1}: {_where(face)}" for place, face in enumerate(found))
        text = f"{photo.name} shows {len(found)} faces, from the left {where}."
        raise InputError(text, f"Say which one is meant: --face N, 1 to {len(found)}, or cut the photo.")
    if len(found) > 1:
        report.warning("faces", f"{photo.name} shows {len(found)} faces; the largest is taken ({_where(largest)}).")
    return largest


def _where(face: Face) -> str:
    x0, y0, x1, y1 = (round(v) for v in face.box)
    return f"x {x0} to {x1}, y {y0} to {y1}"


def _check(photo: Photo, face: Face, request: HeadRequest, report: Reporter) -> None:
    """Refuse what cannot work, and warn of what may not."""
    size = face.size_px
    if size < MIN_FACE_PX:
        text = f"The face in {photo.name} is {size:.0f} px large; at least {MIN_FACE_PX} px are needed."
        raise Unfit(text, f"Give a photo taken closer; {GOOD_FACE_PX} px and more are good.")
    if abs(face.yaw_deg) > _SURELY_READ_DEG and not is_sure(face):
        raise Unfit(*_profile(photo.name, face.yaw_deg))
    doubts = find_doubts(photo.rgb, face)
    if doubts:
        text = describe(photo.name, doubts)
    elif not is_sure(face):
        text = (
            f"The face in {photo.name} is blurred or covered: readings of it lie {face.spread:.1%} of its size apart."
        )
    elif size < GOOD_FACE_PX:
        text = f"The face in {photo.name} is {size:.0f} px large; {GOOD_FACE_PX} px and more give a likeness."
        report.warning("small-face", text)
        return
    else:
        return
    if not request.accept_doubtful:
        hint = "Give a photo of the whole face, or go on nevertheless with --accept-doubtful."
        raise Unfit(text, hint)
    report.warning("doubtful", text)


def _profile(name: str, yaw_deg: float) -> tuple[str, str]:
    turned = f"The face in {name} is turned by about {abs(yaw_deg):.0f} degrees: a profile is not enough."
    return turned, f"Give a photo in which it is turned by less than {MAX_YAW_DEG:.0f} degrees, too."


def _cut(photo: Photo, face: Face, others: Sequence[Face], focal_px: float | None) -> Seen:
    """Cut the head's surroundings out of a photo, at a size that is worked on."""
    height, width = photo.rgb.shape[:2]
    (x0, y0, x1, y1), size = face.box, face.size_px
    x, y, half = 0.5 * (x0 + x1), 0.5 * (y0 + y1) - _HIGHER * size, 0.5 * _AROUND * size
    left, top = max(round(x - half), 0), max(round(y - half), 0)
    right, bottom = min(round(x + half), width), min(round(y + half), height)
    scale = min(KEPT_PX / max(right - left, bottom - top), 1.0)
    size_px = max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)

    def moved(one: Face) -> Face:
        return replace(one, landmarks=(one.landmarks - [left, top] + 0.5) * scale - 0.5, depth=one.depth * scale)

    def resized(picture: Array) -> Array:
        return cv2.resize(picture[top:bottom, left:right], size_px, interpolation=cv2.INTER_AREA)

    image, own = resized(photo.rgb), moved(face)
    mask, edge = cut_out(image, own, [moved(other) for other in others]), None
    if photo.alpha is not None:
        wide = max(round(_BORDER * own.size_px), 1)
        edge = cv2.erode((mask > 0.5).astype(np.uint8), np.ones((2 * wide + 1,) * 2)) == 0
        mask = mask * resized(photo.alpha)
    focal = photo.focal_px if focal_px is None else focal_px * photo.shrunk
    centre = (np.array([(width - 1) / 2, (height - 1) / 2]) - [left, top] + 0.5) * scale - 0.5
    focal = None if focal is None else focal * scale
    return Seen(photo.name, image, mask, own.landmarks, own.depth, focal, centre, own.yaw_deg, edge)


def _best_first(seen: list[Seen], unfit: Sequence[Unfit], report: Reporter) -> list[Seen]:
    """Order photos from the front to the sides; say which were left out.

    Raises:
        InputError: none is left, or none shows the face from the front.
    """
    if not seen:
        more = f" The other {len(unfit) - 1} photos do not serve either." if len(unfit) > 1 else ""
        raise InputError(unfit[0].message + more, unfit[0].hint)
    seen = sorted(seen, key=lambda one: abs(one.yaw_deg))
    if abs(seen[0].yaw_deg) > MAX_YAW_DEG:
        raise InputError(*_profile(seen[0].name, seen[0].yaw_deg))
    for error in unfit:
        report.warning("left-out", f"{error.message} It is left out.")
    return seen


def _see_film(request: HeadRequest, video: Path, faces: Faces, report: Reporter) -> list[Seen]:
    info = probe(video)
    number = request.face[0] if request.face else 0
    chosen = choose_frames(_look(info, number, faces, report))
    wanted, seen, unfit = {frame.index for frame in chosen}, [], []
    for index, _, rgb in read_frames(video, stop=max(wanted) + 1):
        if index in wanted:
            try:
                photo = Photo(f"{video.name}, frame {index}", rgb, None, None)
                teller = SilentReporter() if seen else report  # what holds for one frame holds for the others
                seen.append(see_photo(photo, faces, request, teller, number=number))
            except Unfit as error:
                unfit.append(error)
            report.progress("see", info.frames + len(seen), info.frames + MAX_PHOTOS)
    return _best_first(seen, unfit, report)


def _look(info: VideoInfo, number: int, faces: Faces, report: Reporter) -> list[Frame]:
    """Frames of a film that show the face that is meant.

    Raises:
        InputError: none does.
        RequestError: none shows as many faces as the chosen one's number.
    """
    step, most = max(info.frames // _LOOKS, 1), 0
    looked: list[Frame] = []
    for index, _, rgb in read_frames(info.path):
        if index % step:
            continue
        report.progress("see", min(index, info.frames), info.frames + MAX_PHOTOS)
        found = _find(rgb, faces)
        most = max(most, len(found))
        if len(found) < max(number, 1):
            continue
        face = found[number - 1] if number else max(found, key=lambda one: one.size_px)
        if is_sure(face) and face.size_px >= MIN_FACE_PX:
            looked.append(Frame(index, face.yaw_deg, _sharpness(rgb, face)))
    if 0 < most < number:
        text = f"{number} is asked for, and {info.path.name} shows at most {most} at once"
        raise RequestError(text, "Faces are counted from the left.", field="face")
    if not looked:
        count = len(range(0, info.frames, step))
        text = f"No face was found in {info.path.name}: {count} of its {info.frames} frames were looked at."
        raise InputError(text, "Film the face from the front first, then walk round it.")
    return looked


def choose_frames(looked: Sequence[Frame], count: int = MAX_PHOTOS) -> list[Frame]:
    """Pick up to `count` sharp frames whose heads are turned differently, the one most from the front first."""
    limit = 0.5 * float(np.median([frame.sharpness for frame in looked]))
    sharp = [frame for frame in looked if frame.sharpness >= limit]
    frontal = [frame for frame in sharp if abs(frame.yaw_deg) < _FRONTAL_DEG] or sharp
    chosen = [max(frontal, key=lambda frame: frame.sharpness / (1.0 + abs(frame.yaw_deg) / _FRONTAL_DEG))]
    while len(chosen) < count:
        away = {f: min(abs(f.yaw_deg - other.yaw_deg) for other in chosen) for f in sharp}
        farthest = max(away.values())
        if farthest < _APART_DEG:
            break
        near = [frame for frame in sharp if away[frame] > 0.8 * farthest]
        chosen.append(max(near, key=lambda frame: frame.sharpness))
    return chosen


def _sharpness(rgb: Array, face: Face) -> float:
    """Variance of the face's Laplacian, at one size."""
    x0, y0, x1, y1 = (max(round(v), 0) for v in face.box)
    grey = cv2.cvtColor(rgb[y0 : y1 + 1, x0 : x1 + 1], cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(cv2.resize(grey, (192, 192), interpolation=cv2.INTER_AREA), cv2.CV_32F).var())
