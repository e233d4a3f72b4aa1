"""The file formats themselves: from a folder, a JSON file or arrays to frames of people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from ..artifacts import read_npz
from . import layouts
from .layouts import Layout
from .people import Person
from .text import read_json

Array = np.ndarray
MAX_FRAMES = 1_000_000
_NUMBER = re.compile(r"(\d+)(?:_keypoints)?$")
_MIDDLE_OFF = 0.08  # of the person's size: how far a mid-hip may lie from the middle of the hips


@dataclass(frozen=True)
class Clip:
    """Frames of people as a file holds them, with what it says of image size and rate."""

    frames: list[list[Person]]
    skeleton: str
    image_size: tuple[int, int] | None = None
    fps: float | None = None


def read_folder(path: Path) -> Clip:
    """A folder with one JSON file a frame (OpenPose, Pose2Sim), or with one file of another kind."""
    files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".json")
    arrays = sorted(p for p in path.iterdir() if p.suffix.lower() in (".npy", ".npz"))
    if not files and arrays:
        return _read_mediapipe_folder(arrays)
    if not files:
        raise InputError(f"{path.name} is a folder without a keypoint file.")
    if len(files) == 1:
        return read_json_clip(files[0])
    numbers = [_frame_number(file) for file in files]
    if None in numbers:
        raise InputError(f"{path.name}: {files[numbers.index(None)].name} has no frame number in its name.")
    found = dict(zip((n for n in numbers if n is not None), files, strict=True))
    if len(found) < len(files):
        raise InputError(f"{path.name} holds {len(files)} files for {len(found)} frames: keep one clip in a folder.")
    first, last = min(found), max(found)
    if last - first >= MAX_FRAMES:
        raise InputError(f"{path.name}: frame numbers run from {first} to {last}; at most {MAX_FRAMES:,} are read.")
    read = {number: _openpose_people(read_json(file), file) for number, file in found.items()}
    layout = _body_layout([body for people in read.values() for body, _ in people], path)
    frames = [
        [_person(body, layout, extras) for body, extras in read.get(number, [])] for number in range(first, last + 1)
    ]
    return Clip(frames, layout.name if layout else "unknown")


def read_json_clip(path: Path) -> Clip:
    """One JSON file for a whole clip: AlphaPose, MMPose or COCO-WholeBody; or a single OpenPose frame."""
    document = read_json(path)
    if isinstance(document, dict) and isinstance(document.get("instance_info"), list):
        return _mmpose(document["instance_info"], document.get("meta_info"), path)
    if isinstance(document, dict) and isinstance(document.get("annotations"), list):
        return _coco(document, path)
    if isinstance(document, dict) and "people" in document:
        people = _openpose_people(document, path)
        layout = _body_layout([body for body, _ in people], path)
        return Clip([[_person(body, layout, extras) for body, extras in people]], layout.name if layout else "unknown")
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        if "instances" in document[0]:
            return _mmpose(document, None, path)
        if "image_id" in document[0] and "keypoints" in document[0]:
            return _rows_by_image(document, path)
        if "keypoints" in document[0]:
            return _mmpose([{"frame_id": 0, "instances": document}], None, path)
    raise InputError(f"{path.name} is JSON, but none of the keypoint formats that are read.")


def read_arrays(path: Path) -> Clip:
    """Positions (T, J, 2 or 3) in an .npy, or `positions` and `confidence` in an .npz."""
    if path.suffix == ".npz":
        arrays = read_npz(path)
        if "positions" not in arrays:
            raise InputError(f"{path.name} holds {', '.join(sorted(arrays)) or 'nothing'}, and no positions.")
        points, confidence = arrays["positions"], arrays.get("confidence")
    else:
        points, confidence = _load_npy(path), None
    points, confidence = _checked_array(points, confidence, path)
    layout = _layout_of_count(points.shape[1], path)
    frames = []
    for row, score in zip(points, confidence, strict=True):
        positions, own = _blank()
        layouts.place(layout, row, score, positions, own)
        frames.append([Person(positions, own)])
    return Clip(frames, layout.name)


def _read_mediapipe_folder(files: Sequence[Path]) -> Clip:
    """FreeMoCap's image-space arrays: body, left hand, right hand, face; the first names a clip's body."""
    bodies = [file for file in files if "body" in file.stem.lower()] or list(files[:1])
    if len(files) == 1:
        return read_arrays(files[0])
    clip = read_arrays(bodies[0])
    for side, layout in zip(("left_hand", "right_hand"), layouts.HANDS, strict=True):
        for file in (f for f in files if side in f.stem.lower()):
            points, confidence = _checked_array(_load_npy(file), None, file)
            if points.shape[:2] != (len(clip.frames), 21):
                raise InputError(f"{file.name} has shape {points.shape[:2]}, expected ({len(clip.frames)}, 21).")
            for people, row, score in zip(clip.frames, points, confidence, strict=True):
                layouts.place(layout, row, score, people[0].positions, people[0].confidence)
    return clip


def _load_npy(path: Path) -> Array:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path.name} is not a readable array: {error}.") from error


def _checked_array(points: Array, confidence: Array | None, path: Path) -> tuple[Array, Array]:
    if points.ndim != 3 or points.shape[2] not in (2, 3) or points.dtype.kind not in "fiu":
        raise InputError(f"{path.name} has shape {points.shape}, expected (frames, points, 2) in pixels.")
    if not np.isfinite(points).any():
        raise InputError(f"{path.name} holds no finite number.")
    seen = np.isfinite(points[..., :2]).all(axis=-1)
    if confidence is None and points.shape[2] == 3:
        third = points[..., 2][seen]
        if third.min() < -1e-6 or third.max() > 1.0 + 1e-6:
            raise InputError(
                f"{path.name} holds points in space ({third.min():.0f} to {third.max():.0f} along its third axis).",
                "Give the image-space arrays, whose last column is x, y and a score.",
            )
        confidence = points[..., 2]
    confidence = np.ones(points.shape[:2]) if confidence is None else np.asarray(confidence, float)
    if confidence.shape != points.shape[:2]:
        raise InputError(f"{path.name}: confidence has shape {confidence.shape}, expected {points.shape[:2]}.")
    if np.isinf(points).any():
        raise InputError(f"{path.name} holds infinite values.")
    return points[..., :2].astype(float), np.where(seen, np.nan_to_num(confidence), 0.0)


def _openpose_people(document: Any, path: Path) -> list[tuple[Array, dict[str, Array]]]:
    if not isinstance(document, dict) or not isinstance(document.get("people"), list):
        raise InputError(f"{path.name} is JSON, but holds no list of people.")
    people = []
    for person in document["people"]:
        if not isinstance(person, dict):
            raise InputError(f"{path.name}: a person is {type(person).__name__}, not an object.")
        body = _triples(person.get("pose_keypoints_2d", []), path)
        extras = {}
        for key in ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d"):
            points = _triples(person.get(key) or [], path)
            if len(points):
                extras[key] = points
        people.append((body, extras))
    return people


def _triples(values: Any, path: Path) -> Array:
    """(N, 3) of a flat list x, y, score."""
    if not isinstance(values, list):
        raise InputError(f"{path.name}: keypoints are {type(values).__name__}, not a list of numbers.")
    try:
        flat = np.array(values, dtype=float)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path.name}: keypoints hold something that is not a number.") from error
    if flat.ndim != 1 or flat.size % 3:
        raise InputError(f"{path.name}: {flat.size} numbers are not triples of x, y and score.")
    if not np.isfinite(flat).all():
        raise InputError(f"{path.name}: keypoints hold values that are not finite.")
    return flat.reshape(-1, 3)


def _body_layout(bodies: Sequence[Array], path: Path) -> Layout | None:
    counts = sorted({len(body) for body in bodies})
    if not counts:
        return None
    if len(counts) > 1:
        raise InputError(f"{path.name} mixes people of {' and '.join(map(str, counts))} points.")
    layout = _layout_of_count(counts[0], path)
    return layouts.BODY_25B if counts[0] == 25 and _is_body_25b(np.stack(bodies)) else layout


def _is_body_25b(bodies: Array) -> bool:
    """Point 8 of BODY_25 is the middle of points 9 and 12; of BODY_25B it is an elbow."""
    used = bodies[(bodies[:, [8, 9, 12], 2] > 0).all(axis=1)]
    if not len(used):
        return False
    points = np.where(used[..., 2:] > 0, used[..., :2], np.nan)
    extent = np.linalg.norm(np.nanmax(points, axis=1) - np.nanmin(points, axis=1), axis=-1)
    off = np.linalg.norm(points[:, 8] - (points[:, 9] + points[:, 12]) / 2, axis=-1)
    return bool(np.median(off / np.maximum(extent, 1e-9)) > _MIDDLE_OFF)


def _layout_of_count(count: int, path: Path) -> Layout:
    if count not in layouts.BODY_LAYOUTS:
        raise InputError(f"{path.name}: a body of {count} points is not known; {layouts.KNOWN_COUNTS} are.")
    return layouts.BODY_LAYOUTS[count]


def _person(body: Array, layout: Layout | None, extras: dict[str, Array], track: str | None = None) -> Person:
    positions, confidence = _blank()
    if layout is not None:
        layouts.place(layout, body[:, :2], body[:, 2], positions, confidence)
    face = extras.get("face_keypoints_2d")
    if face is not None and len(face) in layouts.FACE_LAYOUTS:
        layouts.place(layouts.FACE_LAYOUTS[len(face)], face[:, :2], face[:, 2], positions, confidence)
    for key, hand in zip(("hand_left_keypoints_2d", "hand_right_keypoints_2d"), layouts.HANDS, strict=True):
        points = extras.get(key)
        if points is not None and len(points) == 21:
            layouts.place(hand, points[:, :2], points[:, 2], positions, confidence)
    return Person(positions, confidence, track)


def _mmpose(infos: Sequence[Any], meta: Any, path: Path) -> Clip:
    rows: list[tuple[int, Array, str | None]] = []
    count = 0
    for index, info in enumerate(infos):
        if not isinstance(info, dict) or not isinstance(info.get("instances"), list):
            raise InputError(f"{path.name}: frame {index} holds no list of instances.")
        number = _integer(info.get("frame_id", index), path)
        count = max(count, number + 1)
        for instance in info["instances"]:
            track = instance.get("track_id") if isinstance(instance, dict) else None
            rows.append((number, _instance(instance, path), None if track is None else str(track)))
    layout = _body_layout([body for _, body, _ in rows], path)
    size = None
    if isinstance(meta, dict) and isinstance(meta.get("image_size"), list) and len(meta["image_size"]) == 2:
        size = (int(meta["image_size"][0]), int(meta["image_size"][1]))
    first = min((number for number, _, _ in rows), default=0)
    return _gathered(rows, layout, (1 if first == 1 else 0, count), path, size=size)


def _instance(instance: Any, path: Path) -> Array:
    if not isinstance(instance, dict) or "keypoints" not in instance:
        raise InputError(f"{path.name}: an instance has no keypoints.")
    points = instance["keypoints"]
    scores = instance.get("keypoint_scores", instance.get("scores"))
    if isinstance(points, list) and points and isinstance(points[0], list):
        try:
            array = np.array(points, dtype=float)
            weights = np.ones(len(array)) if scores is None else np.array(scores, dtype=float)
        except (ValueError, TypeError) as error:
            raise InputError(f"{path.name}: keypoints hold something that is not a number.") from error
        if array.ndim == 2 and array.shape[1] in (2, 3) and weights.shape == (len(array),):
            flat = np.concatenate([array[:, :2], weights[:, None]], axis=1)
            if not np.isfinite(flat).all():
                raise InputError(f"{path.name}: keypoints hold values that are not finite.")
            return flat
        raise InputError(f"{path.name}: keypoints have shape {array.shape} and scores {weights.shape}.")
    return _triples(points, path)


def _rows_by_image(rows: Sequence[dict[str, Any]], path: Path) -> Clip:
    """AlphaPose and COCO results: one row a person, several rows an image."""
    images = list(dict.fromkeys(str(row.get("image_id")) for row in rows))
    numbers = [_NUMBER.search(Path(image).stem) for image in images]
    if all(numbers):
        order = {image: int(match.group(1)) for image, match in zip(images, numbers, strict=True) if match}
    else:
        order = {image: index for index, image in enumerate(images)}
    out = []
    for row in rows:
        body = _triples(row.get("keypoints"), path)
        extra = [
            _triples(row[key], path)
            for key in ("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
            if key in row
        ]
        if len(body) == 17 and len(extra) == 4:
            body = np.concatenate([body, *extra])
        track = row.get("idx", row.get("track_id"))
        out.append((order[str(row.get("image_id"))], body, None if track is None else str(track)))
    layout = _body_layout([body for _, body, _ in out], path)
    first = min(order.values())
    return _gathered(out, layout, (first, max(order.values()) + 1), path, size=None)


def _coco(document: dict[str, Any], path: Path) -> Clip:
    images = {image["id"]: image for image in document.get("images", []) if isinstance(image, dict) and "id" in image}
    rows = []
    for row in document["annotations"]:
        if isinstance(row, dict) and "keypoints" in row:
            name = images.get(row.get("image_id"), {}).get("file_name", row.get("image_id"))
            rows.append({**row, "image_id": name})
    if not rows:
        raise InputError(f"{path.name} holds annotations, and no keypoints in them.")
    clip = _rows_by_image(rows, path)
    sizes = {(int(i["width"]), int(i["height"])) for i in images.values() if "width" in i and "height" in i}
    return Clip(clip.frames, clip.skeleton, next(iter(sizes)) if len(sizes) == 1 else None, None)


def _gathered(
    rows: Sequence[tuple[int, Array, str | None]],
    layout: Layout | None,
    span: tuple[int, int],
    path: Path,
    *,
    size: tuple[int, int] | None,
) -> Clip:
    """Frames `span[0]` to `span[1]` - 1 of rows (frame, body, track)."""
    first, count = span
    if count - first > MAX_FRAMES:
        raise InputError(
            f"{path.name}: frame numbers run from {first} to {count - 1}; at most {MAX_FRAMES:,} are read."
        )
    frames: list[list[Person]] = [[] for _ in range(count - first)]
    for number, body, track in rows:
        frames[number - first].append(_person(body, layout, {}, track))
    return Clip(frames, layout.name if layout else "unknown", size)


def _frame_number(file: Path) -> int | None:
    match = _NUMBER.search(file.stem)
    return int(match.group(1)) if match else None


def _integer(value: Any, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or value != int(value):
        raise InputError(f"{path.name}: {value!r} is not a frame number.")
    return int(value)


def _blank() -> tuple[Array, Array]:
    return np.full((137, 2), np.nan), np.zeros(137)
