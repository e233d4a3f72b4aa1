"""Rotations as arrays: quaternions wxyz, matrices, rotation vectors. All functions broadcast over leading axes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Array = np.ndarray
_TINY = 1e-12


def unit(vectors: Array) -> Array:
    """Scale (..., N) vectors to length one; vectors shorter than 1e-12 stay as they are."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length < _TINY, 1.0, length)


def cross(a: Array, b: Array) -> Array:
    """Cross product of (..., 3) vectors; several times faster than numpy's."""
    a0, a1, a2 = _parts(a)
    b0, b1, b2 = _parts(b)
    out = np.empty(np.broadcast(a, b).shape)
    out[..., 0], out[..., 1], out[..., 2] = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
    return out


def _parts(values: Array) -> Iterator[Array]:
    return (values[..., i] for i in range(values.shape[-1]))


def multiply(a: Array, b: Array) -> Array:
    """Hamilton product of (..., 4) quaternions: rotate by `b` first, then by `a`."""
    aw, ax, ay, az = _parts(a)
    bw, bx, by, bz = _parts(b)
    out = np.empty(np.broadcast(a, b).shape)
    out[..., 0] = aw * bw - ax * bx - ay * by - az * bz
    out[..., 1] = aw * bx + ax * bw + ay * bz - az * by
    out[..., 2] = aw * by - ax * bz + ay * bw + az * bx
    out[..., 3] = aw * bz + ax * by - ay * bx + az * bw
    return out


def conjugate(quaternion: Array) -> Array:
    """Inverse of unit (..., 4) quaternions."""
    return quaternion * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(quaternion: Array, vectors: Array) -> Array:
    """Rotate (..., 3) vectors by unit (..., 4) quaternions."""
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    t = 2.0 * cross(xyz, vectors)
    return vectors + w * t + cross(xyz, t)


def matrix_from_quaternion(quaternion: Array) -> Array:
    """(..., 3, 3) rotation matrices of (..., 4) quaternions, which need not be normalised."""
    w, x, y, z = _parts(unit(quaternion))
    out = np.empty((*quaternion.shape[:-1], 3, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return out


def quaternion_from_matrix(matrix: Array) -> Array:
    """(..., 4) unit quaternions with w >= 0 of (..., 3, 3) rotation matrices.

    The largest of the four components is computed first (Shepperd 1978), so no rotation is ill-conditioned.
    """
    d0, d1, d2 = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    difference, total = matrix - np.swapaxes(matrix, -1, -2), matrix + np.swapaxes(matrix, -1, -2)
    wx, wy, wz = difference[..., 2, 1], difference[..., 0, 2], difference[..., 1, 0]
    xy, xz, yz = total[..., 0, 1], total[..., 0, 2], total[..., 1, 2]
    # Four candidates, each exact up to a positive factor; choose the one with the largest pivot.
    w = np.stack([1 + d0 + d1 + d2, wx, wy, wz], axis=-1)
    x = np.stack([wx, 1 + d0 - d1 - d2, xy, xz], axis=-1)
    y = np.stack([wy, xy, 1 - d0 + d1 - d2, yz], axis=-1)
    z = np.stack([wz, xz, yz, 1 - d0 - d1 + d2], axis=-1)
    candidates = np.stack([w, x, y, z], axis=-2)  # (..., 4 candidates, 4 components)
    pivots = np.stack([w[..., 0], x[..., 1], y[..., 2], z[..., 3]], axis=-1)
    best = np.argmax(pivots, axis=-1)[..., None, None]
    quaternion = unit(np.take_along_axis(candidates, best, axis=-2)[..., 0, :])
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_from_rotvec(rotvec: Array) -> Array:
    """(..., 4) unit quaternions of (..., 3) rotation vectors, radians."""
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    # sin(a / 2) / a, with its Taylor series where a is small
    scale = np.where(angle < 1e-6, 0.5 - angle**2 / 48.0, np.sin(angle / 2) / np.where(angle < 1e-6, 1.0, angle))
    return np.concatenate([np.cos(angle / 2), rotvec * scale], axis=-1)


def rotvec_from_quaternion(quaternion: Array) -> Array:
    """(..., 3) rotation vectors of length at most pi, radians, of unit (..., 4) quaternions."""
    q = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, q[..., :1])
    scale = np.where(sine < 1e-9, 2.0, angle / np.where(sine < 1e-9, 1.0, sine))
    return q[..., 1:] * scale


def matrix_from_rotvec(rotvec: Array) -> Array:
    """(..., 3, 3) rotation matrices of (..., 3) rotation vectors (Rodrigues), radians."""
    return matrix_from_quaternion(quaternion_from_rotvec(np.asarray(rotvec, float)))


def rotvec_from_matrix(matrix: Array) -> Array:
    """(..., 3) rotation vectors, radians, of (..., 3, 3) rotation matrices."""
    return rotvec_from_quaternion(quaternion_from_matrix(np.asarray(matrix, float)))


def matrix_from_euler(angles: Array, order: str = "XYZ") -> Array:
    """(..., 3, 3) rotation matrices of (..., 3) angles about x, y and z, radians, in Blender's order.

    "XYZ" turns about x first and about z last, all about fixed axes.
    """
    angles = np.asarray(angles, float)
    sine, cosine = np.sin(angles), np.cos(angles)
    out = np.broadcast_to(np.eye(3), (*angles.shape, 3))
    for letter in order:
        axis = "XYZ".index(letter)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.zeros((*angles.shape, 3))
        turn[..., axis, axis] = 1.0
        turn[..., i, i] = turn[..., j, j] = cosine[..., axis]
        turn[..., j, i], turn[..., i, j] = sine[..., axis], -sine[..., axis]
        out = turn @ out
    return out


def euler_from_matrix(matrix: Array, order: str = "XYZ") -> Array:
    """(T, ..., 3) angles of x, y and z, radians, of (T, ..., 3, 3) rotations, in the order Blender turns them.

    Of the two ways to say a rotation, and of all full turns, each frame takes those nearest to the frame before.
    """
    i, j, k = ("XYZ".index(axis) for axis in order)
    sign = 1.0 if order in ("XYZ", "YZX", "ZXY") else -1.0
    m = np.swapaxes(matrix, -1, -2)  # m[..., column, row]
    cosine = np.hypot(m[..., i, i], m[..., i, j])
    locked = cosine < 1e-6
    first = np.where(locked, np.arctan2(-m[..., k, j], m[..., j, j]), np.arctan2(m[..., j, k], m[..., k, k]))
    last = np.where(locked, 0.0, np.arctan2(m[..., i, j], m[..., i, i]))
    middle = np.arctan2(-m[..., i, k], cosine)
    one = np.empty(matrix.shape[:-1])
    one[..., i], one[..., j], one[..., k] = first, middle, last
    other = np.empty_like(one)
    other[..., i], other[..., j], other[..., k] = first + np.pi, np.pi - middle, last + np.pi
    one, other = sign * one, sign * other
    if not len(one):
        return one
    # From one way to the other is as far as back, so each frame only tells whether to change over.
    kept, changed = (np.abs(_half_turn(angles[1:] - one[:-1])).sum(-1) for angles in (one, other))
    swapped = np.zeros(one.shape[:-1], bool)
    np.logical_xor.accumulate(changed < kept, axis=0, out=swapped[1:])
    angles = np.where(swapped[..., None], other, one)
    angles[0] = _half_turn(angles[0])
    angles[1:] -= 2 * np.pi * np.cumsum(np.round(np.diff(angles, axis=0) / (2 * np.pi)), axis=0)
    return angles


def _half_turn(angles: Array) -> Array:
    """Angles less full turns, within half a turn."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def slerp(a: Array, b: Array, t: Array | float) -> Array:
    """Go from (..., 4) `a` (t = 0) to `b` (t = 1) along the shorter arc; t broadcasts over (...)."""
    b = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    step = rotvec_from_quaternion(multiply(conjugate(a), b))
    return multiply(a, quaternion_from_rotvec(step * np.asarray(t, float)[..., None]))


def continuous(quaternions: Array) -> Array:
    """Flip signs along axis 0 of (T, ..., 4) so that neighbours lie in the same half-space."""
    if len(quaternions) < 2:
        return quaternions
    dots = np.sum(quaternions[1:] * quaternions[:-1], axis=-1)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * signs[..., None]], axis=0)


def between(a: Array, b: Array) -> Array:
    """Shortest rotation (..., 4) that turns (..., 3) `a` into `b`; opposite directions turn about any normal."""
    a, b = unit(a), unit(b)
    normal = cross(a, b)
    w = 1.0 + np.sum(a * b, axis=-1, keepdims=True)
    other = cross(a, np.where(np.abs(a[..., :1]) < 0.9, np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])))
    opposite = w < 1e-13  # 5e-7 radians from it; before, the normal is long enough
    return unit(np.concatenate([np.where(opposite, 0.0, w), np.where(opposite, other, normal)], axis=-1))


def frame_from_axes(y: Array, x: Array) -> Array:
    """(..., 3, 3) rotation whose second column is along `y` and whose first is as near to `x` as it can be."""
    y = unit(y)
    x = unit(x - np.sum(x * y, axis=-1, keepdims=True) * y)
    return np.stack([x, y, cross(x, y)], axis=-1)


def twist_angle(quaternion: Array, axis: Array) -> Array:
    """Angle (...) in (-pi, pi], radians, by which (..., 4) turns about the unit (..., 3) axis (swing-twist)."""
    along = np.sum(quaternion[..., 1:] * axis, axis=-1)
    angle = 2.0 * np.arctan2(along, quaternion[..., 0])
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def rotate_onto(
    source: Array, target: Array, weights: Array, *, towards: Array | None = None
) -> tuple[Array, Array, Array]:
    """Rotate (N, K, 3) points `source` onto `target` with (N, K) weights, least squares (Kabsch 1976).

    `towards` (N, 3, 3), scaled by how much it counts in square metres, decides what the points leave open.
    Returns:
        (N, 3, 3) rotations, and the weighted centres (N, 3) of source and target: target ~ R (source - c_s) + c_t.
    """
    share = (weights / np.maximum(weights.sum(axis=1, keepdims=True), _TINY))[..., None]
    centre_s, centre_t = np.sum(share * source, axis=1), np.sum(share * target, axis=1)
    a, b = source - centre_s[:, None], target - centre_t[:, None]
    cross = np.swapaxes(weights[..., None] * b, 1, 2) @ a
    return nearest_rotation(cross if towards is None else cross + towards), centre_s, centre_t


def nearest_rotation(matrix: Array) -> Array:
    """(..., 3, 3) rotation nearest to a matrix."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., 2] *= np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)[..., None]
    return u @ vt
