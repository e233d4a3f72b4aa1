"""2D keypoints as JSON: OpenPose and Pose2Sim folders, AlphaPose, MMPose, ViTPose, COCO and COCO-WholeBody.

Documents differ in where frames stand and how people are listed, hardly in what a person is. So a document is first
taken apart into frames of people, whatever program wrote it, and then all people are read by the same few lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from . import layouts
from .layouts import Layout
from .people import Sightings
from .text import read_json

Array = np.ndarray
MAX_FRAMES = 216_000  # an hour at 60 fps
_BODY = ("pose_keypoints_2d", "keypoints", "joints", "pose_keypoints")
_FACE = ("face_keypoints_2d", "face_keypoints")
_HANDS = (("hand_left_keypoints_2d", "hand_left_keypoints"), ("hand_right_keypoints_2d", "hand_right_keypoints"))
_WHOLEBODY = {"foot_kpts": 17, "face_kpts": 23, "lefthand_kpts": 91, "righthand_kpts": 112}  # where they start in 133
_NOT_KNOWN = "is JSON, but none of the keypoint formats that are read (OpenPose, AlphaPose, MMPose, COCO-WholeBody)"


@dataclass(frozen=True)
class _Person:
    body: Array  # (P, 3), or (0, 3)
    face: Array
    hands: tuple[Array, Array]  # left, right
    number: int


@dataclass(frozen=True)
class _Clip:
    """Frames of people by the number or name that a document gives each frame."""

    frames: dict[int | str, list[Any]]
    from_zero: bool = False  # frames without people are not listed, and numbers start from 0
    names: Sequence[str] | None = None
    image_size: tuple[int, int] | None = None


def read_json_folder(path: Path, files: Sequence[Path]) -> Sightings:
    """Read a folder with one JSON file for each frame, or with a single file for the whole clip.

    Raises:
        InputError: a file is not keypoints, or the files are not one clip.
    """
    if len(files) == 1:
        return read_json_file(files[0])
    frames: dict[int | str, list[Any]] = {}
    names = None
    for file in files:
        clip = _take_apart(read_json(file), file)
        if len(clip.frames) > 1:
            raise InputError(
                f"{path.name} holds {len(files)} files, and {file.name} alone has {len(clip.frames)} frames."
            )
        frames[file.stem] = [person for people in clip.frames.values() for person in people]
        names = names or clip.names
    if len(frames) < len(files):
        raise InputError(f"{path.name} holds {len(files)} files for {len(frames)} frames: keep one clip in a folder.")
    return _gather(_Clip(frames, names=names), path)


def read_json_file(path: Path) -> Sightings:
    """Read a JSON file that holds a whole clip.

    Raises:
        InputError: it is not keypoints; says what is wrong.
    """
    return _gather(_take_apart(read_json(path), path), path)


def _take_apart(document: Any, path: Path) -> _Clip:
    if isinstance(document, dict):
        clip = _from_object(document, path)
    elif isinstance(document, list) and document:
        clip = _from_list(document, path)
    else:
        clip = None
    if clip is None:
        raise InputError(f"{path.name} {_NOT_KNOWN}.")
    return clip


def _from_object(document: dict[str, Any], path: Path) -> _Clip | None:
    for key in ("people", "bodies", "instances"):  # one frame of OpenPose, of AlphaPose's `cmu`, of MMPose
        if key in document:
            return _Clip({0: _list(document[key], key, path)})
    if "instance_info" in document:
        clip = _from_list(_list(document["instance_info"], "instance_info", path), path)
        return None if clip is None else replace(clip, names=_names(document.get("meta_info")))
    if "annotations" in document:
        return _annotations(document, path)
    frames: dict[int | str, list[Any]] = {  # AlphaPose's `open` and `cmu` in one file: an object for each image
        name: _list(value.get("people", value.get("bodies")), "people", path)
        for name, value in document.items()
        if isinstance(value, dict) and ("people" in value or "bodies" in value)
    }
    return _Clip(frames, from_zero=_counted(frames)) if frames and len(frames) == len(document) else None


def _from_list(items: list[Any], path: Path) -> _Clip | None:
    if not items:
        return _Clip({0: []})
    if all(isinstance(item, list) for item in items):  # a list of instances for each image
        return _Clip(dict(enumerate(items)))
    if not all(isinstance(item, dict) for item in items):
        return None
    if "instances" in items[0]:
        numbers = [_whole(item.get("frame_id", index), "frame_id", path) for index, item in enumerate(items)]
        if len(set(numbers)) < len(numbers):
            raise InputError(f"{path.name} lists {len(numbers)} frames under {len(set(numbers))} numbers.")
        people = [_list(item.get("instances"), "instances", path) for item in items]
        return _Clip(dict(zip(numbers, people, strict=True)))
    if "image_id" in items[0]:
        frames: dict[int | str, list[Any]] = {}
        for item in items:
            frames.setdefault(_image(item.get("image_id"), path), []).append(item)
        return _Clip(frames, from_zero=_counted(frames))
    return _Clip({0: items}) if any(key in items[0] for key in _BODY) else None


def _annotations(document: dict[str, Any], path: Path) -> _Clip:
    """COCO's annotations; the images that they belong to say their size and where frames without people are."""
    images = [image for image in _list(document.get("images", []), "images", path) if isinstance(image, dict)]
    name_of = {_image(i.get("id"), path): _image(i.get("file_name", i.get("id")), path) for i in images}
    frames: dict[int | str, list[Any]] = {name: [] for name in name_of.values()}
    for row in _list(document["annotations"], "annotations", path):
        if not isinstance(row, dict):
            raise InputError(f"{path.name}: an annotation is {_kind(row)}, not an object.")
        image = _image(row.get("image_id"), path)
        frames.setdefault(name_of.get(image, image), []).append(row)
    sizes = {(i["width"], i["height"]) for i in images if _is_size(i.get("width")) and _is_size(i.get("height"))}
    if len(sizes) > 1:
        raise InputError(f"{path.name} holds images of {len(sizes)} sizes; keep one clip in a file.")
    return _Clip(frames, image_size=next(iter(sizes), None))


def _gather(clip: _Clip, path: Path) -> Sightings:
    """One table of all people of a clip."""
    number_of = _frame_numbers(list(clip.frames), path)
    first = 0 if clip.from_zero else min(number_of.values(), default=0)
    count = max(number_of.values(), default=0) - first + 1
    if count > MAX_FRAMES:
        raise InputError(f"{path.name} has frames {first} to {first + count - 1}; at most {MAX_FRAMES:,} are read.")
    frame, people = [], []
    for name, listed in clip.frames.items():
        people += [_person(person, f"{path.name}, frame {name}") for person in listed]
        frame += [number_of[name] - first] * len(listed)
    layout, points = _table(people, clip.names, path)
    number = np.array([person.number for person in people], int)
    return Sightings(layout, np.array(frame, int), points, number, count, first, clip.image_size)


def _table(people: Sequence[_Person], names: Sequence[str] | None, path: Path) -> tuple[Layout, Array]:
    """All points of all people, body, face and hands side by side, and what they are."""
    bodies = _stack([person.body for person in people], "bodies", path)
    count = bodies.shape[1]
    if names is not None and len(names) == count:
        layout = layouts.named(names)
        if len(layout.target) < min(count, 8):
            raise InputError(f"{path.name}: {len(layout.target)} of its {count} points have names that are known.")
    else:
        shown = bodies[(bodies[..., 2] > 0).any(axis=1)]
        layout = layouts.choose(shown) if count else layouts.COCO_17
    if layout is None:
        raise InputError(f"{path.name}: a body of {count} points is not known; {layouts.KNOWN_COUNTS} are.")
    parts = [bodies if count else np.zeros((len(people), 17, 3))]
    if count > 33:  # has its own face and hands
        return layout, parts[0]
    faces = _stack([person.face for person in people], "faces", path)
    if faces.shape[1]:
        if faces.shape[1] not in layouts.FACES:
            raise InputError(f"{path.name}: a face of {faces.shape[1]} points is not known; 68 and 70 are.")
        layout, parts = layout + layouts.FACES[faces.shape[1]], [*parts, faces]
    for side in (0, 1):
        hands = _stack([person.hands[side] for person in people], "hands", path)
        if hands.shape[1]:
            if hands.shape[1] != 21:
                raise InputError(f"{path.name}: a hand of {hands.shape[1]} points is not known; 21 are.")
            layout, parts = layout + layouts.HANDS[side], [*parts, hands]
    return layout, np.concatenate(parts, axis=1)


def _stack(rows: Sequence[Array], what: str, path: Path) -> Array:
    """(N, P, 3) of (P, 3) arrays, zeros for those that are empty."""
    counts = sorted({len(row) for row in rows} - {0})
    if len(counts) > 1:
        raise InputError(f"{path.name} mixes {what} of {' and '.join(map(str, counts))} points.")
    blank = np.zeros((counts[0] if counts else 0, 3))
    return np.stack([row if len(row) else blank for row in rows]) if rows else np.zeros((0, 0, 3))


def _person(person: Any, where: str) -> _Person:
    if not isinstance(person, dict):
        raise InputError(f"{where}: a person is {_kind(person)}, not an object.")
    scores = person.get("keypoint_scores", person.get("scores"))
    body = _points(_first(person, _BODY), scores, where)
    if len(body) == 17 and any(key in person for key in _WHOLEBODY):
        whole = np.zeros((133, 3))
        whole[:17] = body
        for key, start in _WHOLEBODY.items():
            part = _points(person.get(key), None, where)
            stop = min((s for s in (*_WHOLEBODY.values(), 133) if s > start), default=133)
            if len(part) not in (0, stop - start):
                raise InputError(f"{where}: {key} has {len(part)} points, expected {stop - start}.")
            whole[start : start + len(part)] = part
        body = whole
    hands = [_points(_first(person, keys), None, where) for keys in _HANDS]
    face = _points(_first(person, _FACE), None, where)
    return _Person(body, face, (hands[0], hands[1]), _identity(_first(person, ("track_id", "idx", "person_id"))))


def _identity(value: Any) -> int:
    """Give a file's own number of a person, -1 where it has none."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**31
    return int(value) if known else -1


def _points(values: Any, scores: Any, where: str) -> Array:
    """(P, 3) x, y, score of a flat list of triples, or of a list of points with scores beside it."""
    array = _numbers(values, where)
    if array.size == 0:
        return np.zeros((0, 3))
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 1:
        if array.size % 3:
            raise InputError(f"{where}: {array.size} numbers are not triples of x, y and score.")
        array = array.reshape(-1, 3)
    elif scores is not None:
        weight = _numbers(scores, where).ravel()
        if array.ndim != 2 or array.shape[1] != 2 or len(weight) != len(array):
            raise InputError(
                f"{where}: keypoints have shape {array.shape} and {weight.size} scores; expected (P, 2) and P."
            )
        array = np.concatenate([array, weight[:, None]], axis=1)
    elif array.ndim == 2 and array.shape[1] == 2:
        array = np.concatenate([array, np.ones((len(array), 1))], axis=1)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"{where}: keypoints have shape {array.shape}; expected (P, 3).")
    missing = (array[:, 2] <= 0) | ((array[:, :2] == 0).all(axis=1))
    return np.where(missing[:, None], 0.0, array)


def _numbers(values: Any, where: str) -> Array:
    """Finite numbers of a list or list of lists; None is no numbers."""
    if values is None:
        return np.zeros(0)
    if not isinstance(values, list):
        raise InputError(f"{where}: keypoints are {_kind(values)}, not a list of numbers.")
    try:
        array = np.array(values)
    except ValueError as error:
        raise InputError(f"{where}: keypoints are lists of different lengths.") from error
    if array.size and array.dtype.kind not in "iuf":
        raise InputError(f"{where}: keypoints hold something that is not a number.")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise InputError(f"{where}: keypoints hold values that are not finite.")
    if array.size and np.abs(array).max() > layouts.MAX_VALUE:
        raise InputError(f"{where}: keypoints hold {np.abs(array).max():.3g}, which no image has.")
    return array


def _frame_numbers(names: Sequence[int | str], path: Path) -> dict[int | str, int]:
    """Number of each frame: its own, or the digits of its name that differ from frame to frame; else its place."""
    if all(isinstance(name, int) for name in names):
        return {name: int(name) for name in names}
    runs = [re.findall(r"\d+", Path(str(name)).stem) for name in names]
    for place in reversed(range(min(len(run) for run in runs))):
        found = [int(run[place]) for run in runs if len(run[place]) <= 15]
        if len(set(found)) == len(names):
            return dict(zip(names, found, strict=True))
    if len(names) > 1 and any(runs):
        raise InputError(
            f"{path.name} holds {len(names)} frames whose names do not number them: keep one clip in a folder."
        )
    return {name: index for index, name in enumerate(sorted(names, key=str))}


def _counted(names: Iterable[int | str]) -> bool:
    """Tell whether names are those of a video's frames, counted from 0: `0.jpg`, `1.jpg` ... `10.jpg`."""
    stems = [Path(str(name)).stem for name in names if isinstance(name, str)]
    return bool(stems) and all(stem.isdecimal() and str(int(stem[:15])) == stem for stem in stems)


def _names(meta: Any) -> list[str] | None:
    """Names of the points in MMPose's meta_info."""
    table = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(table, dict) or not all(str(i) in table for i in range(len(table))):
        return None
    return [str(table[str(i)]) for i in range(len(table))]


def _first(table: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((table[key] for key in keys if table.get(key) is not None), None)


def _list(value: Any, key: str, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{path.name}: {key} is {_kind(value)}, not a list.")
    return value


def _image(value: Any, path: Path) -> int | str:
    if isinstance(value, str) and value:
        return value
    return _whole(value, "image_id", path)


def _whole(value: Any, key: str, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        raise InputError(f"{path.name}: {key} is {str(value)[:40]!r}, not a number of a frame.")
    return value


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and 0 < value <= 65536


def _kind(value: Any) -> str:
    return {type(None): "missing", bool: "true or false", dict: "an object", list: "a list", str: "text"}.get(
        type(value), "a number"
    )
