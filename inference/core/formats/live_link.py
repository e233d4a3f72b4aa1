"""Faces in the CSV files that Live Link Face writes on a phone, in and out.

A row a frame: timecode HH:MM:SS:FF.mmm, how many shapes follow (0 where no face was seen), the 52 shapes, and yaw,
pitch and roll of the head and of both eyes in radians. Axes are ARKit's: x to the face's left, y up, z out of the face.
"""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_text
from ..artifacts import FaceTrack
from ..face_shapes import SHAPES, find_shape
from ..rotations import euler_from_matrix, matrix_from_euler, matrix_from_quaternion, quaternion_from_matrix, slerp

Array = np.ndarray
_TURNS = ("HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw",
          "RightEyePitch", "RightEyeRoll")  # fmt: skip
_HEADS = {name.lower(): name for name in ("Timecode", "BlendShapeCount", *_TURNS)}
# ARKit's order of the shapes, as the phone writes them
_ORDER = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthRight", "mouthLeft", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft",
    "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
_FROM_ARKIT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # to x left, y backwards, z up
_RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 120.0)
_PHONE_RATES = (24.0, 25.0, 30.0, 60.0)  # of takes shorter than a second, which do not count to a second's end
_MAX_BYTES, _MAX_ROWS = 1 << 30, 1_000_000
_TIMECODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:\.\d+)?)")
_LEAST = 10  # of the 52 shapes
_REPEATED = 0.1  # of the rows, whose times may not rise


def read_live_link(path: Path, fps: float | None = None) -> FaceTrack:
    """Read a face; `fps`: where the timecodes are not to be believed.

    Raises:
        InputError: not such a file, damaged, or without a frame that shows a face.
    """
    names, rows = _rows(path)
    columns = {find_shape(name): place for place, name in enumerate(names) if name not in _TURNS and find_shape(name)}
    columns = {shape: place for shape, place in columns.items() if shape in SHAPES}
    if len(columns) < _LEAST or "Timecode" not in names:
        text = f"{path.name} has columns of {len(columns)} of the 52 shapes, and {len(names)} in all."
        raise InputError(text, "Give the CSV that Live Link Face writes beside its film.")
    values, codes = _values(rows, names, path.name)
    times, rate, kept = _times(codes, fps, path.name)
    values = values[kept]
    seen = np.isfinite(values[:, list(columns.values())]).all(1)
    if not seen.any():
        raise InputError(f"{path.name} shows a face in none of its {len(times)} frames.", "Choose another take.")
    weights = np.zeros((len(times), len(SHAPES)))
    for shape, place in columns.items():
        weights[:, SHAPES.index(shape)] = np.nan_to_num(values[:, place]).clip(0, 1)
    turned = np.zeros((len(times), 9))
    for k, name in enumerate(_TURNS):
        if name in names:
            turned[:, k] = np.nan_to_num(values[:, names.index(name)])
    header = {
        "unit": "m", "frame": "camera, upright", "fps": rate, "skeleton": "arkit52", "shapes": list(SHAPES),
        "source": str(path), "visemes": [], "missing": [name for name in SHAPES if name not in columns],
    }  # fmt: skip
    rotations, eyes = _rotation(turned[:, :3]), np.stack([_rotation(turned[:, 3:6]), _rotation(turned[:, 6:])], 1)
    weights, rotations, eyes = _held(weights, seen), _held_turns(rotations, seen), _held_turns(eyes, seen)
    return FaceTrack(header, weights, rotations, np.zeros((len(times), 3)), eyes, seen.astype(float), times)


def write_live_link(path: Path, track: FaceTrack) -> None:
    """Write a face as Live Link Face does; frames without a face have no values.

    Raises:
        ResourceError: the disk is full.
    """
    names = [str(name) for name in track.header["shapes"]]
    places = [names.index(name) if name in names else -1 for name in _ORDER]
    turned = np.concatenate([_angles(track.rotations), _angles(track.eyes[:, 0]), _angles(track.eyes[:, 1])], 1)
    rate = _rate_above(track.fps - 1e-3)  # by which readers count
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in _ORDER), *_TURNS])
    for t, time_s in enumerate(track.times - track.times[0]):
        row = [_timecode(float(time_s), rate)]
        if track.confidence[t] > 0:
            shown = [track.weights[t, place] if place >= 0 else 0.0 for place in places]
            row += ["61", *(f"{value:.9f}" for value in [*shown, *turned[t]])]
        else:
            row += ["0", *[""] * (len(_ORDER) + len(_TURNS))]
        writer.writerow(row)
    atomic_write_text(path, text.getvalue())


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Names of columns, and rows of texts."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path.name} has {path.stat().st_size:,} bytes; at most {_MAX_BYTES:,} are read.")
        text = path.read_text(encoding="utf-8-sig")
        table = [row for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path.name} cannot be read: {reason}.") from error
    if len(table) < 2 or len(table) > _MAX_ROWS:
        raise InputError(f"{path.name} has {max(len(table) - 1, 0)} frames; 1 to {_MAX_ROWS:,} are read.")
    names = [name.strip() for name in table[0]]
    return [_HEADS.get(name.lower(), name) for name in names], table[1:]


def _values(rows: list[list[str]], names: list[str], file: str) -> tuple[Array, list[str]]:
    """(T, C) numbers, NaN where there is none, and the timecodes."""
    code, out = names.index("Timecode"), np.full((len(rows), len(names)), np.nan)
    for t, row in enumerate(rows):
        for place, word in enumerate(row[: len(names)]):
            if place == code or not word.strip():
                continue
            try:
                out[t, place] = float(word)
            except ValueError as error:
                raise InputError(f"{file}, row {t + 2}: {word[:30]!r} is not a number.") from error
    out[~np.isfinite(out)] = np.nan
    if "BlendShapeCount" in names:
        out[np.nan_to_num(out[:, names.index("BlendShapeCount")]) == 0] = np.nan
    return out, [row[code].strip() if len(row) > code else "" for row in rows]


def _times(codes: list[str], fps: float | None, file: str) -> tuple[Array, float, Array]:
    """(T,) seconds from the first frame, frames a second, and which of the rows these are.

    Phones that are busy write a frame twice, or one with the time of the one before; a few such rows are left out.
    """
    parts = [_TIMECODE.fullmatch(code) for code in codes]
    if fps is None and any(part is None for part in parts):
        row = parts.index(None)
        text = f"{file}, row {row + 2}: {codes[row][:30]!r} is no timecode."
        raise InputError(text, "Say how many frames a second it has: --fps 60.")
    if fps is not None:
        return np.arange(len(codes)) / fps, fps, np.ones(len(codes), bool)
    numbers = np.array([[float(word) for word in part.groups()] for part in parts if part])
    rate = _rate_above(numbers[:, 3].max(), _RATES if np.ptp(numbers[:, 2]) else _PHONE_RATES)
    times = numbers[:, :3] @ [3600.0, 60.0, 1.0] + numbers[:, 3] / rate
    times = np.where(times < times[0], times + 86400.0, times)  # past midnight
    kept = np.append(True, times[1:] > np.maximum.accumulate(times)[:-1])
    if (~kept).mean() > _REPEATED:
        row = int(np.argmin(np.diff(times))) + 1
        hint = "Say how many frames a second it has: --fps 60."
        raise InputError(f"{file}: its timecodes do not rise at row {row + 2}.", hint)
    times = times[kept]
    median = 1.0 / float(np.median(np.diff(times))) if len(times) > 1 else rate
    return times - times[0], round(median, 3), kept


def _rate_above(frames: float, rates: tuple[float, ...] = _RATES) -> float:
    """The lowest usual rate of timecodes that count further than so many frames in a second."""
    return next((rate for rate in rates if rate > frames), math.floor(frames) + 1)


def _timecode(time_s: float, rate: float) -> str:
    whole = int(time_s + 1e-9)
    frame = min((time_s - whole) * rate, rate - 0.001)  # never rounded up to the next second's
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{max(frame, 0.0):06.3f}"


def _rotation(turned: Array) -> Array:
    """(T, 4) of yaw, pitch and roll (T, 3) in ARKit's axes."""
    matrix = matrix_from_euler(turned[:, [1, 0, 2]], "ZXY")
    return quaternion_from_matrix(_FROM_ARKIT @ matrix @ _FROM_ARKIT.T)


def _angles(rotations: Array) -> Array:
    """(T, 3) yaw, pitch and roll of rotations (T, 4)."""
    matrix = _FROM_ARKIT.T @ matrix_from_quaternion(rotations) @ _FROM_ARKIT
    return euler_from_matrix(matrix, "ZXY")[:, [1, 0, 2]]


def _held(values: Array, seen: Array) -> Array:
    """Interpolate (T, C) values where nothing was seen."""
    rows = np.flatnonzero(seen)
    return np.stack([np.interp(np.arange(len(seen)), rows, column[rows]) for column in values.T], 1)


def _held_turns(rotations: Array, seen: Array) -> Array:
    """The same of rotations (T, ..., 4)."""
    rows, at = np.flatnonzero(seen), np.arange(len(seen))
    low = rows[np.clip(np.searchsorted(rows, at, "right") - 1, 0, len(rows) - 1)]
    high = rows[np.clip(np.searchsorted(rows, at, "left"), 0, len(rows) - 1)]
    part = ((at - low) / np.maximum(high - low, 1)).clip(0, 1)
    return slerp(rotations[low], rotations[high], part.reshape(-1, *[1] * (rotations.ndim - 2)))
