"""Rotations of joints, in whichever way programs lay them out, to matrices."""

from __future__ import annotations

import math

import numpy as np

from ...protocol.errors import InputError
from ..rotations import matrix_from_rotvec, nearest_rotation, unit

Array = np.ndarray
_LARGEST, _LARGEST_RAD = 1e6, 20.0
CONVERT = (
    "Convert it where it was made, arrays only: numpy.savez('clip.npz', poses=poses, trans=trans, fps=30), where poses "
    "are (frames, 72) rotation vectors of the 24 joints."
)


def read_rotations(array: Array, joints: tuple[int, ...], what: str, name: str) -> Array:
    """(T, J, 3, 3) of rotation vectors, matrices or the first two columns of them, however they are laid out."""
    array = np.asarray(array, float)
    if not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > _LARGEST:
        raise InputError(f"{name}: its {what} hold values that are not finite, or far too large.")
    kinds = {count * size: (count, size) for count in joints for size in (3, 6, 9)}
    batch = [array.shape[1:]] if array.shape[:1] == (1,) else []
    for shape in (array.shape, *batch, (1, *array.shape)):  # as it is; a batch of one; a single frame
        if len(shape) > 1 and math.prod(shape[1:]) in kinds:
            count, size = kinds[math.prod(shape[1:])]
            return _READ[size](array.reshape(shape[0], count, size), what, name)
    sizes = ", ".join(str(size) for size in sorted(kinds))
    raise InputError(
        f"{name}: its {what} have the shape {array.shape}; one person's have (frames, n) with n one of {sizes}.",
        CONVERT,
    )


def _from_vectors(vectors: Array, what: str, name: str) -> Array:
    largest = float(np.linalg.norm(vectors, axis=-1).max(initial=0.0))
    if largest > _LARGEST_RAD:
        raise InputError(f"{name}: its {what} turn by up to {largest:.0f} rad; they may be in degrees.")
    return matrix_from_rotvec(vectors)


def _from_nine(rows: Array, what: str, name: str) -> Array:
    matrices = rows.reshape(*rows.shape[:-1], 3, 3)
    off = float(np.abs(matrices @ np.swapaxes(matrices, -1, -2) - np.eye(3)).max(initial=0.0))
    if off > 0.1 or (np.linalg.det(matrices) < 0).any():
        raise InputError(f"{name}: its {what} are not rotation matrices; they are off by {off:.2g}.")
    return nearest_rotation(matrices)


def _from_six(values: Array, what: str, name: str) -> Array:
    """Two vectors of a matrix (Zhou 2019): its first rows, as PyTorch3D has them, or its first columns, interleaved.

    Which, is told by which pair is at right angles.
    """
    rows = values.reshape(*values.shape[:-1], 2, 3)
    columns = np.swapaxes(values.reshape(*values.shape[:-1], 3, 2), -1, -2)
    bent = [float(np.abs(np.sum(p[..., 0, :] * p[..., 1, :], axis=-1)).mean()) for p in (rows, columns)]
    pair = rows if bent[0] <= bent[1] else columns
    if np.linalg.norm(np.cross(pair[..., 0, :], pair[..., 1, :]), axis=-1).min(initial=1.0) < 1e-6:
        raise InputError(f"{name}: its {what} have six numbers a joint that make no rotation.")
    first = unit(pair[..., 0, :])
    second = unit(pair[..., 1, :] - np.sum(first * pair[..., 1, :], axis=-1, keepdims=True) * first)
    matrix = np.stack([first, second, np.cross(first, second)], axis=-2)
    return matrix if pair is rows else np.swapaxes(matrix, -1, -2)


_READ = {3: _from_vectors, 6: _from_six, 9: _from_nine}
