"""Rotations agree with scipy, an independent implementation, and invert each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from inference.core import rotations

FINITE = st.floats(-3.0, 3.0)
VECTORS = arrays(float, (5, 3), elements=FINITE)


def _scipy(quaternion: np.ndarray) -> Rotation:
    return Rotation.from_quat(quaternion[..., [1, 2, 3, 0]])


@given(VECTORS)
def test_rotation_vectors_become_the_matrices_that_scipy_makes(rotvec: np.ndarray) -> None:
    assert np.allclose(rotations.matrix_from_rotvec(rotvec), Rotation.from_rotvec(rotvec).as_matrix(), atol=1e-12)


@given(VECTORS)
def test_matrices_become_quaternions_and_back(rotvec: np.ndarray) -> None:
    matrix = Rotation.from_rotvec(rotvec).as_matrix()
    quaternion = rotations.quaternion_from_matrix(matrix)
    assert np.allclose(np.linalg.norm(quaternion, axis=-1), 1.0)
    assert np.allclose(rotations.matrix_from_quaternion(quaternion), matrix, atol=1e-10)


@given(VECTORS, VECTORS)
def test_the_product_rotates_by_the_second_first(a: np.ndarray, b: np.ndarray) -> None:
    qa, qb = rotations.quaternion_from_rotvec(a), rotations.quaternion_from_rotvec(b)
    expected = (Rotation.from_rotvec(a) * Rotation.from_rotvec(b)).as_matrix()
    assert np.allclose(rotations.matrix_from_quaternion(rotations.multiply(qa, qb)), expected, atol=1e-12)


@given(VECTORS, VECTORS)
def test_rotating_a_vector_is_multiplying_by_the_matrix(rotvec: np.ndarray, vectors: np.ndarray) -> None:
    expected = Rotation.from_rotvec(rotvec).apply(vectors)
    assert np.allclose(rotations.rotate(rotations.quaternion_from_rotvec(rotvec), vectors), expected, atol=1e-10)


@given(VECTORS, VECTORS)
def test_between_turns_one_direction_into_the_other(a: np.ndarray, b: np.ndarray) -> None:
    a, b = a + 0.01, b - 0.01
    keep = (np.linalg.norm(a, axis=-1) > 1e-3) & (np.linalg.norm(b, axis=-1) > 1e-3)
    a, b = rotations.unit(a[keep]), rotations.unit(b[keep])
    assert np.allclose(rotations.rotate(rotations.between(a, b), a), b, atol=1e-6)


def test_between_opposite_directions_is_a_half_turn() -> None:
    a = np.eye(3)
    assert np.allclose(rotations.rotate(rotations.between(a, -a), a), -a, atol=1e-9)


@pytest.mark.parametrize("off", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-9])
def test_between_nearly_opposite_directions_still_meets_the_other(off: float) -> None:
    rng = np.random.default_rng(0)
    a = rotations.unit(rng.normal(size=(200, 3)))
    b = rotations.unit(-a + off * rng.normal(size=a.shape))
    assert np.allclose(rotations.rotate(rotations.between(a, b), a), b, atol=1e-6)


@given(VECTORS, VECTORS, st.floats(0.0, 1.0))
def test_slerp_moves_at_constant_speed(a: np.ndarray, b: np.ndarray, t: float) -> None:
    qa, qb = rotations.quaternion_from_rotvec(a), rotations.quaternion_from_rotvec(b)
    part = (_scipy(qa).inv() * _scipy(rotations.slerp(qa, qb, t))).magnitude()
    whole = (_scipy(qa).inv() * _scipy(qb)).magnitude()
    assert np.allclose(part, t * whole, atol=1e-6)


def test_continuous_quaternions_never_flip() -> None:
    angle = np.linspace(0, 4 * np.pi, 200)
    quaternions = rotations.quaternion_from_matrix(Rotation.from_rotvec(angle[:, None] * [0, 0, 1.0]).as_matrix())
    steps = np.sum(rotations.continuous(quaternions)[1:] * rotations.continuous(quaternions)[:-1], axis=-1)
    assert steps.min() > 0.99


def test_twist_is_the_turn_about_the_axis() -> None:
    axis = np.array([0.0, 1.0, 0.0])
    swing = rotations.quaternion_from_rotvec(np.array([0.4, 0.0, -0.3]))
    twist = rotations.quaternion_from_rotvec(0.7 * axis)
    assert np.isclose(rotations.twist_angle(rotations.multiply(swing, twist), axis), 0.7)
