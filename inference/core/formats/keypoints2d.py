"""Files of 2D keypoints -> Keypoints2D: OpenPose, Pose2Sim, COCO-WholeBody, Halpe, AlphaPose, MMPose, FreeMoCap, ours.

What a file is, is told by its content. Readers give a table of everybody in it; what is common to all (layout, pixels,
scores, who is followed) happens once, here. `header["source_skeleton"]` says whose joint definitions they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from ..artifacts import Crowd2D, Keypoints2D, read_npz
from ..skeletons import BODY, MIN_FRAMES, MIN_JOINTS, OPENPOSE_137
from . import layouts
from .keypoint_arrays import find_arrays, read_array_folder, read_npy_file, read_npz_file
from .keypoint_json import read_json_file, read_json_folder
from .people import Sightings, follow, follow_everybody

Array = np.ndarray
_MOST_OUTSIDE = 0.5  # of all points: more cannot lie outside the image


def read_keypoints(
    path: Path,
    *,
    image_size: tuple[int, int] | None = None,
    fps: float | None = None,
    person: Sequence[float] | None = None,
    view: str = "",
    start: int = 0,
) -> Keypoints2D:
    """Read a file or folder of 2D keypoints.

    Numbered frames that are missing become gaps. A list of rows by image (AlphaPose) starts at 0 where its images are
    called `0.jpg`, `1.jpg` ..., as a video's are; everything else starts at its first frame.

    Args:
        image_size: W, H, where the file does not say it. fps: the same; it overrules the file's.
        person: a click x, y or a box x0, y0, x1, y1 px on the first frame from `start` on that shows anybody; without
            one, the person seen longest and surest is followed.
        view: name of the view; of a FreeMoCap array of several cameras it also says which one.
    Raises:
        InputError: says what is wrong, and in which file.
    """
    path = Path(path)
    found = _read(path, view)
    if isinstance(found, Keypoints2D):
        return _ours(found, path, image_size, fps, view)
    header, positions, confidence = _placed(found, path, image_size, fps, view)
    rate = header["fps"]
    rows = follow(found, positions, confidence, rate=rate, person=person, start=start)
    _check_shown(confidence, rows, path)
    seen = (rows >= 0)[:, None]
    return Keypoints2D(
        header,
        np.where(seen[..., None], positions[rows], np.nan),
        np.where(seen, confidence[rows], 0.0),
        np.arange(found.frames) / rate,
    )


def read_crowd(
    path: Path, *, image_size: tuple[int, int] | None = None, fps: float | None = None, view: str = ""
) -> Crowd2D:
    """Read everybody that a file or folder of 2D keypoints shows; arguments and errors as in `read_keypoints`."""
    path = Path(path)
    found = _read(path, view)
    if isinstance(found, Keypoints2D):
        return _crowd_of_one(_ours(found, path, image_size, fps, view))
    header, positions, confidence = _placed(found, path, image_size, fps, view)
    rate = header["fps"]
    track = follow_everybody(found, positions, confidence, rate=rate)
    rows = np.lexsort((found.frame, track))
    rows = rows[track[rows] >= 0]
    if not len(rows):
        raise InputError(f"Nobody is seen in any of the {found.frames} frames of {path.name}.")
    times = np.arange(found.frames) / rate
    return Crowd2D(header, found.frame[rows], track[rows], positions[rows], confidence[rows], times)


def _placed(
    found: Sightings, path: Path, image_size: tuple[int, int] | None, fps: float | None, view: str
) -> tuple[dict[str, Any], Array, Array]:
    """The header, and of every sighting its 137 positions in px and their confidence."""
    size = _size(found, image_size, path)
    rate = fps or found.fps
    if rate is None:
        raise InputError(f"{path.name} does not say how many frames a second it has.", "Give --fps F.")
    points, score_scale = _in_pixels(found.points, size, path)
    positions, confidence = layouts.place(found.layout, points)
    layouts.complete(positions, confidence)
    header: dict[str, Any] = {
        "unit": "px", "frame": "image", "fps": float(rate), "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(size), "source": "", "view": view or path.stem, "source_skeleton": found.layout.name,
        "first_frame": found.first_frame, "score_scale": score_scale,
    }  # fmt: skip
    return header, positions, confidence


def _crowd_of_one(keypoints: Keypoints2D) -> Crowd2D:
    shown = np.flatnonzero(keypoints.confidence[:, BODY].any(1))
    header = {name: value for name, value in keypoints.header.items() if name != "fingerprint"}
    nobody = np.zeros(len(shown), int)
    return Crowd2D(header, shown, nobody, keypoints.positions[shown], keypoints.confidence[shown], keypoints.times)


def _read(path: Path, view: str) -> Sightings | Keypoints2D:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".json" and not p.name.startswith("."))
        arrays = [] if files else find_arrays(path)
        if arrays:
            return read_array_folder(path, arrays, view)
        if not files:
            raise InputError(f"{path.name} is a folder without a keypoint file.")
        return read_json_folder(path, files)
    start = _first_bytes(path)
    if start.startswith(b"\x93NUMPY"):
        return read_npy_file(path, view)
    if start.startswith(b"PK"):
        arrays_of_file = read_npz(path)
        return Keypoints2D.load(path) if "header" in arrays_of_file else read_npz_file(path, arrays_of_file)
    return read_json_file(path)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(8)
    except FileNotFoundError as error:
        raise InputError(f"There is no file or folder {path}.") from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def _ours(
    keypoints: Keypoints2D, path: Path, image_size: tuple[int, int] | None, fps: float | None, view: str
) -> Keypoints2D:
    if list(keypoints.header["joints"]) != list(OPENPOSE_137):
        raise InputError(f"{path.name} holds {len(keypoints.header['joints'])} joints in an order of its own.")
    _check_ours(keypoints, path)
    if image_size is not None and tuple(image_size) != keypoints.image_size:
        raise InputError(
            _two_sizes(path, keypoints.image_size, image_size),
            "Leave --image-size away, and choose the footage that the keypoints are of.",
        )
    first = round(float(keypoints.times[0]) * keypoints.fps)
    times = keypoints.times if fps is None else (first + np.arange(len(keypoints.times))) / fps
    confidence = np.where(np.isfinite(keypoints.positions).all(axis=-1), keypoints.confidence, 0.0)
    header = {"fps": fps or keypoints.fps, "view": view or keypoints.header.get("view", "")}
    return replace(keypoints, times=times, confidence=confidence).with_header(**header)


def _check_ours(keypoints: Keypoints2D, path: Path) -> None:
    """Refuse an artifact that none of our stages wrote: its numbers are used as they are."""
    if np.isinf(keypoints.positions).any() or not np.isfinite(keypoints.times).all():
        raise InputError(f"{path.name} holds values that are not finite.")
    if not ((keypoints.confidence >= 0) & (keypoints.confidence <= 1)).all():
        raise InputError(f"{path.name} holds confidences outside 0 to 1.")


def _size(found: Sightings, given: tuple[int, int] | None, path: Path) -> tuple[int, int]:
    if found.image_size is not None and given is not None and tuple(given) != tuple(found.image_size):
        raise InputError(
            _two_sizes(path, found.image_size, given),
            "Leave --image-size away, and choose the footage that the keypoints are of.",
        )
    size = given or found.image_size
    if size is None:
        raise InputError(f"{path.name} does not say how large its images are.", "Give --image-size W H.")
    return int(size[0]), int(size[1])


def _two_sizes(path: Path, own: Sequence[int], given: Sequence[int]) -> str:
    return f"{path.name} is of images of {own[0]} x {own[1]} px, and {given[0]} x {given[1]} px was given."


def _in_pixels(points: Array, size: tuple[int, int], path: Path) -> tuple[Array, float]:
    """Scale coordinates from 0..1 or -1..1 to pixels and scores into [0, 1]; also gives what scores were divided by.

    Scores of AlphaPose and of SimCC models exceed 1: all are divided by their 99th percentile where that does.
    """
    seen = points[..., 2] > 0
    xy, scores = points[seen][:, :2], points[seen][:, 2]
    if not len(xy):
        return points, 1.0
    scale, shift = np.ones(2), np.zeros(2)
    if np.abs(xy).max() <= 2.0:
        # a normalised 0 is the edge of the first pixel, ours its centre
        scale, shift = np.array(size, float), np.array([-0.5, -0.5])
        if (xy < 0).mean() > 0.1:  # -1..1: OpenPose's --keypoint_scale 4
            scale, shift = scale / 2, scale / 2 - 0.5
    moved = xy * scale + shift
    outside = ((moved < -0.5) | (moved > np.array(size) - 0.5)).any(axis=-1).mean()
    if outside > _MOST_OUTSIDE:
        low, high = np.percentile(moved, 5, axis=0), np.percentile(moved, 95, axis=0)
        raise InputError(
            f"{path.name}: {100 * outside:.0f} % of its points lie outside images of {size[0]} x {size[1]} px; most "
            f"are within ({low[0]:,.0f}, {low[1]:,.0f}) and ({high[0]:,.0f}, {high[1]:,.0f}) px.",
            "Check --image-size W H, and that the keypoints belong to this clip.",
        )
    score_scale = max(1.0, float(np.percentile(scores, 99)))
    out = points.copy()
    out[seen] = np.column_stack([moved, np.minimum(scores / score_scale, 1.0)])
    return out, score_scale


def _check_shown(confidence: Array, rows: Array, path: Path) -> None:
    joints = np.where(rows >= 0, (confidence[:, BODY] > 0).sum(axis=1)[rows] if len(confidence) else 0, 0)
    shown, total = int((joints >= MIN_JOINTS).sum()), len(rows)
    if shown < MIN_FRAMES:
        raise InputError(
            f"{path.name}: {shown} of {total} frames show a person; at least {MIN_FRAMES} are needed.",
            "Choose a clip in which the whole person is in view.",
        )
