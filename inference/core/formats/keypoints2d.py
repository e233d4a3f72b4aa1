"""Files of 2D keypoints -> Keypoints2D: OpenPose, Pose2Sim, COCO-WholeBody, Halpe, AlphaPose, MMPose, FreeMoCap, ours.

What a file is, is told by its content. Each reader gives frames of people, (137, 2) pixels and (137,) scores in the
order of OPENPOSE_137; what is common (who is followed, normalised coordinates, the image's size) happens once, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from ..artifacts import Keypoints2D, read_npz
from ..skeletons import BODY, FACE, LEFT_HAND, OPENPOSE_137, RIGHT_HAND
from . import people
from .layouts import complete
from .objects import Clip, read_arrays, read_folder, read_json_clip

Array = np.ndarray
MIN_FRAMES = 10


def read_keypoints(
    path: Path,
    *,
    image_size: tuple[int, int] | None = None,
    fps: float | None = None,
    person: Sequence[float] | None = None,
    view: str = "",
) -> Keypoints2D:
    """Read a file or folder of 2D keypoints.

    Args:
        image_size: (W, H), where the files do not say it; fps likewise.
        person: a point x, y or a box x0, y0, x1, y1 in pixels on the first frame that shows anybody; without it the
            person seen longest and surest is followed.
    Raises:
        InputError: says what is wrong, and in which file.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.")
    if path.is_file() and path.suffix == ".npz" and "header" in read_npz(path):
        return _ours(path, image_size, fps, view)
    clip = _read(path)
    size = image_size or clip.image_size
    if size is None:
        raise InputError(f"{path.name} does not say how large its images are.", "Give --image-size W H.")
    rate = fps or clip.fps
    if rate is None:
        raise InputError(f"{path.name} does not say how many frames a second it has.", "Give --fps F.")
    frames = _in_pixels(clip, size, path)
    positions, confidence = people.follow(frames, person)
    _check_shown(positions, path)
    complete(positions, confidence)
    header = {
        "unit": "px", "frame": "image", "fps": float(rate), "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": [int(size[0]), int(size[1])], "source": "", "view": view, "source_skeleton": clip.skeleton,
    }  # fmt: skip
    return Keypoints2D(header, positions, confidence, np.arange(len(positions)) / rate)


def write_openpose(folder: Path, keypoints: Keypoints2D, *, stem: str = "clip") -> None:
    """Write one OpenPose JSON file a frame; points that are not seen are 0, 0, 0, as OpenPose writes them."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "pose_keypoints_2d": BODY, "face_keypoints_2d": FACE,
        "hand_left_keypoints_2d": LEFT_HAND, "hand_right_keypoints_2d": RIGHT_HAND,
    }  # fmt: skip
    seen = np.isfinite(keypoints.positions).all(axis=-1) & (keypoints.confidence > 0)
    rows = np.concatenate([keypoints.positions, keypoints.confidence[..., None]], axis=-1)
    rows = np.where(seen[..., None], rows, 0.0)
    for index, frame in enumerate(rows):
        person: dict[str, Any] = {"person_id": [-1]}
        person |= {name: [float(v) for v in frame[block].ravel()] for name, block in parts.items()}
        shown = [person] if seen[index].any() else []
        text = json.dumps({"version": 1.3, "people": shown}, allow_nan=False)
        (folder / f"{stem}_{index:012d}_keypoints.json").write_text(text, encoding="utf-8")


def _read(path: Path) -> Clip:
    if path.is_dir():
        return read_folder(path)
    if path.suffix in (".npy", ".npz"):
        return read_arrays(path)
    return read_json_clip(path)


def _ours(path: Path, image_size: tuple[int, int] | None, fps: float | None, view: str) -> Keypoints2D:
    keypoints = Keypoints2D.load(path)
    if list(keypoints.header["joints"]) != list(OPENPOSE_137):
        raise InputError(f"{path.name} holds {len(keypoints.header['joints'])} joints in an order of its own.")
    if image_size and tuple(image_size) != keypoints.image_size:
        raise InputError(f"{path.name} is of {keypoints.image_size} px images; --image-size says {image_size}.")
    times = keypoints.times if fps is None else np.arange(len(keypoints.times)) / fps
    header = {"fps": fps or keypoints.fps, "view": view or keypoints.header.get("view", "")}
    return replace(keypoints, times=times).with_header(**header)


def _in_pixels(clip: Clip, size: tuple[int, int], path: Path) -> list[list[people.Person]]:
    """Scale coordinates that run from 0 to 1 (or -1 to 1) up to pixels; missing points become NaN and 0."""
    everything = [person.positions[person.confidence > 0] for frame in clip.frames for person in frame]
    points = np.concatenate(everything) if everything else np.zeros((0, 2))
    points = points[np.isfinite(points).all(axis=-1)]
    scale, shift = np.ones(2), np.zeros(2)
    if len(points) and np.abs(points).max() <= 2.0:
        scale = np.array(size, float)
        if points.min() < -0.25:  # -1..1, as OpenPose's --keypoint_scale 4
            scale, shift = scale / 2, np.ones(2)
    elif len(points) and np.median(np.abs(points)) > 8 * max(size):
        raise InputError(
            f"{path.name}: keypoints lie around {np.median(np.abs(points)):,.0f} px in images of "
            f"{size[0]} x {size[1]} px.",
            "Check --image-size.",
        )
    return [[_cleaned(person, scale, shift) for person in frame] for frame in clip.frames]


def _cleaned(person: people.Person, scale: Array, shift: Array) -> people.Person:
    seen = (person.confidence > 0) & np.isfinite(person.positions).all(axis=-1)
    positions = np.where(seen[:, None], (person.positions + shift) * scale, np.nan)
    return people.Person(positions, np.where(seen, np.clip(person.confidence, 0.0, 1.0), 0.0), person.track)


def _check_shown(positions: Array, path: Path) -> None:
    shown = int(np.isfinite(positions[:, BODY]).all(axis=-1).any(axis=-1).sum())
    total = len(positions)
    if shown < min(MIN_FRAMES, total) or shown == 0:
        raise InputError(
            f"{path.name}: {shown} of {total} frames show a person; at least {MIN_FRAMES} are needed.",
            "Choose a clip in which the whole person is in view.",
        )
