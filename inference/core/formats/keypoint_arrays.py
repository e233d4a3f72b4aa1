"""Keypoints as arrays: FreeMoCap's .npy files, and plain positions with confidence in .npy or .npz."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...protocol.errors import InputError
from ..artifacts import UNREADABLE, first_line
from . import layouts
from .layouts import BODY_LAYOUTS, FACES, HANDS, KNOWN_COUNTS, Layout
from .people import Sightings

Array = np.ndarray
_PARTS = ("body", "left_hand", "right_hand", "face")
_SUBFOLDERS = ("", "raw_data", "output_data", "output_data/raw_data")


def find_arrays(folder: Path) -> list[Path]:
    """Give the .npy files of a folder, or of a recording's usual places below it."""
    found = [sorted((folder / name).glob("*.npy")) for name in _SUBFOLDERS]
    return [file for files in found for file in files]


def read_npz_file(path: Path, arrays: dict[str, Array]) -> Sightings:
    """Read `positions` or `keypoints` (T, P, 2) px, and `confidence` or `scores` (T, P), of an .npz.

    Raises:
        InputError: they are not there, or no keypoints.
    """
    points = next((arrays[name] for name in ("positions", "keypoints") if name in arrays), None)
    if points is None:
        raise InputError(f"{path.name} holds {', '.join(sorted(arrays)[:8]) or 'nothing'}, and no positions.")
    score = next((arrays[name] for name in ("confidence", "scores", "keypoint_scores") if name in arrays), None)
    return _sightings(_scored(points, score, path), path)


def read_npy_file(path: Path, view: str = "") -> Sightings:
    """Read (frames, points, 2 or 3), or one camera of FreeMoCap's (cameras, frames, points, 2 or 3).

    Raises:
        InputError: another shape, or points in space.
    """
    points = _load(path)
    if points.ndim == 4:
        points = points[_camera(path, len(points), view)]
        if points.shape[-1] == 3 and not _is_score(points[..., 2]):
            points = points[..., :2]  # the third is MediaPipe's guess of depth
    return _sightings(_scored(points, None, path), path)


def read_array_folder(path: Path, files: Sequence[Path], view: str = "") -> Sightings:
    """Read FreeMoCap's image-space array of all cameras, or one array for body, each hand and face.

    Raises:
        InputError: neither is there, or frames differ in number.
    """
    whole = [file for file in files if _load(file).ndim == 4]
    if len(whole) == 1 or len(files) == 1:
        return read_npy_file((whole or list(files))[0], view)
    parts = {part: next((file for file in files if part in file.stem.lower()), None) for part in _PARTS}
    if len(whole) > 1 or parts["body"] is None:
        raise InputError(f"{path.name} holds {len(files)} arrays, and it is not clear which of them to read.")
    layout, points = _assemble({part: file for part, file in parts.items() if file})
    return _table(layout, points)


def _load(path: Path) -> Array:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # a header that lies about the size is refused
    except UNREADABLE as error:
        raise InputError(f"{path.name} is not a readable array: {first_line(error)}") from error


def _camera(path: Path, count: int, view: str) -> int:
    """Which of several cameras a view means: `2` the third, or FILE, FILE_2, FILE_3 for a file named several times."""
    if count == 1:
        return 0
    match = re.fullmatch(rf"{re.escape(path.stem)}(?:_(\d{{1,3}}))?", view)
    index = int(view) if re.fullmatch(r"\d{1,3}", view) else (int(match[1] or 1) - 1 if match else -1)
    if not 0 <= index < count:
        raise InputError(
            f"{path.name} holds {count} cameras, and the view {view!r} names none of them.",
            f"Give the file {count} times, once for each camera in its order, or save one array for each.",
        )
    return index


def _scored(points: Array, score: Array | None, path: Path) -> Array:
    """(T, P, 3) x, y, score of arrays in image space; everything 0 where a point is missing."""
    if points.ndim != 3 or points.shape[2] not in (2, 3) or points.dtype.kind not in "fiu":
        raise InputError(
            f"{path.name} has shape {points.shape} of {points.dtype}, expected (frames, points, 2) px and scores."
        )
    points = _floats(points)
    if np.isinf(points).any():
        raise InputError(f"{path.name} holds infinite values.")
    if (largest := np.abs(np.nan_to_num(points)).max(initial=0.0)) > layouts.MAX_VALUE:
        raise InputError(f"{path.name} holds {largest:.3g}, which is no position.")
    if points.shape[2] == 3:
        if not _is_score(points[..., 2]):
            low, high = np.nanmin(points[..., 2]), np.nanmax(points[..., 2])
            raise InputError(
                f"{path.name} holds points in space ({low:,.1f} to {high:,.1f} along the third axis), not pixels.",
                "Give what each camera saw: x, y and a score.",
            )
        score = points[..., 2] if score is None else score
    score = np.ones(points.shape[:2]) if score is None else score
    if score.shape != points.shape[:2] or score.dtype.kind not in "fiu":
        raise InputError(f"{path.name}: scores have shape {score.shape}, expected {points.shape[:2]}.")
    out = np.concatenate([points[..., :2], _floats(score)[..., None]], axis=-1)
    missing = ~np.isfinite(out).all(axis=-1) | (out[..., 2] <= 0)
    return np.where(missing[..., None], 0.0, out)


def _floats(values: Array) -> Array:
    with np.errstate(invalid="ignore"):  # bits that are a NaN of another kind
        return np.array(values, float)


def _is_score(values: Array) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size == 0 or (finite.min() >= 0.0 and finite.max() <= 1.0 + 1e-6))


def _layout(points: Array, path: Path) -> Layout:
    shown = points[(points[..., -1] > 0).any(axis=1)]
    layout = layouts.choose(shown[..., [0, 1, -1]])
    if layout is None:
        raise InputError(f"{path.name}: a body of {points.shape[1]} points is not known; {KNOWN_COUNTS} are.")
    return layout


def _assemble(files: dict[str, Path]) -> tuple[Layout, Array]:
    """Body, hands and face of several arrays side by side."""
    known = {"left_hand": {21: HANDS[0]}, "right_hand": {21: HANDS[1]}, "face": FACES}
    known["body"] = {count: candidates[0] for count, candidates in BODY_LAYOUTS.items()}
    layout, columns = Layout("", ()), []
    for part, file in files.items():
        points = _scored(_load(file), None, file)
        if points.shape[1] not in known[part]:
            counts = ", ".join(map(str, known[part]))
            raise InputError(f"{file.name}: a {part} of {points.shape[1]} points is not known; {counts} are.")
        if columns and len(points) != len(columns[0]):
            raise InputError(f"{file.name} has {len(points)} frames and the body has {len(columns[0])}.")
        layout = Layout(
            layout.name or known[part][points.shape[1]].name, layout.joints + known[part][points.shape[1]].joints
        )
        columns.append(points)
    return layout, np.concatenate(columns, axis=1)


def _sightings(points: Array, path: Path) -> Sightings:
    return _table(_layout(points, path), points)


def _table(layout: Layout, points: Array) -> Sightings:
    return Sightings(layout, np.arange(len(points)), points, np.full(len(points), -1), len(points))
