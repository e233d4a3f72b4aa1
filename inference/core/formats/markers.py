"""Markers in space, C3D or TRC -> Keypoints3D: metres, Z up, the joints of a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...protocol.errors import InputError
from .. import upright
from ..artifacts import MAX_FPS, Keypoints3D
from ..skeletons import MIN_FRAMES, OPENPOSE_137
from .c3d import is_c3d, read_c3d
from .marker_sets import NEEDED, SETS, Body, Markers, find_landmarks
from .trc import Y_UP_FROM_Z_UP, read_trc

Array = np.ndarray
_UNITS = {
    "m": 1.0, "meters": 1.0, "metres": 1.0, "meter": 1.0, "cm": 0.01, "centimeters": 0.01, "mm": 0.001,
    "millimeters": 0.001, "in": 0.0254, "inch": 0.0254, "inches": 0.0254, "ft": 0.3048, "dm": 0.1,
}  # fmt: skip
_PEOPLE_M = (0.6, 2.6)
_GUESSED = {"Nose": 0.6, "LEye": 0.6, "REye": 0.6, "LEar": 0.6, "REar": 0.6}  # placed by the average head
_PALM, _FINGERS = 0.6, 0.1  # confidence of a palm that three markers turn, and of fingers that nobody saw
_MOST_LABELS = 24  # named in a refusal


def read_markers(path: Path, *, fps: float | None = None) -> Keypoints3D:
    """Read one person's markers and find the joints in them.

    `header["notes"]` says what was guessed: the unit, checked against a person's size; the axis that is up; who.

    Args:
        fps: frames a second; it overrules the file's.
    Raises:
        InputError: unreadable, or labels from which hips, knees, ankles and shoulders cannot be told: names them.
    """
    path = Path(path)
    markers = read_c3d(path) if is_c3d(path) else read_trc(path)
    rate = fps or markers.fps
    if not 0 < rate < MAX_FPS:
        raise InputError(f"{path.name} does not say how many frames a second it has.", "Give --fps F.")
    notes: list[str] = []
    columns, landmarks = _one_person(markers, notes)
    positions = markers.positions[:, columns]
    positions = positions @ _turn(markers, landmarks, positions, notes).T
    positions = positions * _metres(markers, landmarks, positions, notes)
    joints = Body(landmarks, positions).joints()
    missing = [f"{side}{part}" for part in NEEDED for side in "LR" if f"{side}{part}" not in joints]
    if missing:
        raise _refusal(markers, missing)
    return _keypoints(path, joints, rate, notes)


def _one_person(markers: Markers, notes: list[str]) -> tuple[list[int], dict[str, int]]:
    """Columns of the subject of whom most is seen, and the landmarks among them."""
    subjects: dict[str, list[int]] = {}
    for column, label in enumerate(markers.labels):
        if not label.startswith("*"):  # Vicon's mark of a point that nobody named
            subjects.setdefault(label.rpartition(":")[0], []).append(column)
    best: tuple[float, str, list[int], dict[str, int]] = (-1.0, "", [], {})
    people = []
    for subject, columns in subjects.items():
        landmarks = _landmarks([markers.labels[column] for column in columns])
        seen = np.isfinite(markers.positions[:, [columns[i] for i in landmarks.values()]]).all(axis=-1).sum()
        if len(landmarks) >= 2 * len(NEEDED):
            people.append(subject or "(no name)")
        if len(landmarks) and float(seen) > best[0]:
            best = (float(seen), subject, columns, landmarks)
    if not best[3]:
        raise _refusal(markers, [f"{side}{part}" for part in NEEDED for side in "LR"])
    if len(people) > 1:
        notes.append(f"{markers.name} holds {', '.join(people)}; {best[1] or people[0]}, seen most, was taken.")
    return best[2], best[3]


def _landmarks(labels: list[str]) -> dict[str, int]:
    """Landmarks of labels, which may all begin with a name that stands before an underscore."""
    found = find_landmarks(labels)
    start = {label.partition("_")[0] for label in labels}
    if len(found) < 2 * len(NEEDED) and len(start) == 1:
        shorter = find_landmarks([label.partition("_")[2] for label in labels])
        return max(found, shorter, key=len)
    return found


def _turn(markers: Markers, landmarks: dict[str, int], positions: Array, notes: list[str]) -> Array:
    """(3, 3) rotation to Z up, by how the person stands or, where that is unclear, by what the file says."""
    high = _middle(landmarks, positions, ("shoulder.#", "#Shoulder", "shoulder_centre.#"))
    low = _middle(landmarks, positions, ("ankle.#", "#Ankle", "ankle_centre.#"))
    axis = upright.find_up(high - low)
    if not axis:
        axis = markers.up or "+Z"
        notes.append(f"The person in {markers.name} does not stand along any axis; {axis} was taken to be up.")
    elif axis != "+Z":
        notes.append(f"{axis} is up in {markers.name}: along it the shoulders are over the ankles.")
    return Y_UP_FROM_Z_UP.T if axis == "+Y" else upright.to_z_up(axis)


def _middle(landmarks: dict[str, int], positions: Array, names: tuple[str, ...]) -> Array:
    """(T, 3) halfway between left and right of the first of the landmarks ('#' is L or R) that both sides have."""
    for name in names:
        pair = [landmarks.get(name.replace("#", side), -1) for side in "LR"]
        if min(pair) >= 0:
            return positions[:, pair].mean(axis=1)
    return np.full((len(positions), 3), np.nan)


def _metres(markers: Markers, landmarks: dict[str, int], positions: Array, notes: list[str]) -> float:
    """Metres in a unit of the file: as it says, if that makes a person, else as makes one."""
    height = Body(landmarks, positions).height()
    said = _UNITS.get(markers.unit.strip().lower(), 0.0)
    if not np.isfinite(height) or _PEOPLE_M[0] <= height * said <= _PEOPLE_M[1]:
        return said or 0.001
    name, factor = upright.guess_unit(height)
    if not name:
        raise InputError(
            f"{markers.name} shows somebody {height:.4g} {markers.unit or 'units'} high; in no unit is that a person.",
            "Check that the labels belong to their markers.",
        )
    claim = f"says {markers.unit}" if markers.unit else "does not say its unit"
    notes.append(
        f"{markers.name} {claim}; it was taken to be in {name}, which makes a person of {height * factor:.2f} m."
    )
    return factor


def _keypoints(path: Path, joints: dict[str, Array], fps: float, notes: list[str]) -> Keypoints3D:
    count = len(next(iter(joints.values())))
    positions = np.full((count, len(OPENPOSE_137), 3), np.nan)
    trust = np.ones(len(OPENPOSE_137))
    for name, place in joints.items():
        row = OPENPOSE_137.index(name)
        positions[:, row] = np.where(np.isfinite(place).all(axis=-1, keepdims=True), place, np.nan)
        if "Hand" in name:
            trust[row] = _PALM if name.endswith(("Wrist", "1")) else _FINGERS
        trust[row] = _GUESSED.get(name, trust[row])
    seen = np.isfinite(positions).all(axis=-1)
    whole = seen[:, [OPENPOSE_137.index(f"{side}Hip") for side in "LR"]].all(axis=1).sum()
    if whole < MIN_FRAMES:
        raise InputError(f"{path.name}: {whole} of {count} frames show both hips; at least {MIN_FRAMES} are needed.")
    header = {
        "unit": "m", "frame": "world", "fps": float(fps), "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "cameras": [], "sources": [], "markers": path.name, "notes": notes,
    }  # fmt: skip
    return Keypoints3D(header, positions, seen * trust, seen, np.arange(count) / fps)


def _refusal(markers: Markers, missing: list[str]) -> InputError:
    labels = ", ".join(label[:24] for label in markers.labels[:_MOST_LABELS])
    more = f" and {len(markers.labels) - _MOST_LABELS} more" if len(markers.labels) > _MOST_LABELS else ""
    return InputError(
        f"{markers.name} has the labels {labels or 'of nothing'}{more}; {', '.join(missing)} cannot be told from them.",
        f"Label it as a known set does: {SETS}.",
    )
