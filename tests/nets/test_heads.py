"""Heads to train on: in one frame, where their landmarks say, and photographed by exact cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.core.cameras import project
from inference.head.frame import MEAN_LANDMARKS, similarity
from inference.training.studio import heads
from inference.training.studio.render import look_at


def test_a_similarity_is_found_again() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(9, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    scale, rotation, move = similarity(points, 1.7 * points @ turn.T + [1.0, -2.0, 0.5])
    assert scale == pytest.approx(1.7) and np.allclose(rotation, turn) and np.allclose(move, [1.0, -2.0, 0.5])


def test_mirrored_points_are_not_met_by_a_mirror() -> None:
    points = np.random.default_rng(3).normal(size=(9, 3))
    _, rotation, _ = similarity(points, points * [-1.0, 1.0, 1.0])
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.data
@pytest.mark.parametrize("source", ["avatar", "model"])
def test_a_head_faces_us_and_its_landmarks_lie_on_it(data_dir: Path, source: str) -> None:
    head = (
        heads.load_valid(data_dir, heads.valid_names(data_dir)[5])
        if source == "avatar"
        else heads.make_ict(data_dir, 4)
    )
    left, right, nose, chin = head.landmarks[:4]
    assert left[0] > 0.02 and right[0] < -0.02 and abs(left[2] - right[2]) < 0.005
    assert nose[1] < left[1] and nose[2] < left[2] and 0.045 < nose[2] - chin[2] < 0.1
    distance = np.linalg.norm(head.surface().vertices[:, None] - head.landmarks[None, 2:], axis=-1).min(0)
    assert distance.max() < 1e-6
    canonical = head.canonical().landmarks
    assert np.linalg.norm(canonical - MEAN_LANDMARKS, axis=1).max() < 0.012
    assert head.face_texture.max() < len(head.textures) and head.faces.max() < len(head.vertices)


@pytest.mark.data
def test_a_portrait_shows_the_head_where_the_camera_says(data_dir: Path) -> None:
    from inference.training.studio.portrait import Light, Portrait

    head = heads.make_ict(data_dir, 7)
    camera = look_at("c", (96, 96), 260.0, np.array([0.3, -1.0, 0.1]), np.zeros(3))
    image, mask, depth = Portrait(head).photograph(camera, Light.drawn(np.random.default_rng(0)), supersample=1)
    assert image.shape == (96, 96, 3) and 0.1 < mask.mean() < 0.9 and image[mask == 0].max() == 0
    u, v = project(camera, head.landmarks[2]).round().astype(int)
    along = (head.landmarks[2] @ camera.rotation.T + camera.translation)[2]
    assert mask[v, u] == 1 and depth[v, u] == pytest.approx(along, abs=0.01)
