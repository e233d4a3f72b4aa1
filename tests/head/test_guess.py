"""What one look says is laid on a head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.head.frame import CENTRE
from inference.head.guess import guess, smoothed
from inference.head.seen import Seen
from inference.nets.head_shape import HeadShape, ShapeConfig, directions

REACH = 0.1


@pytest.fixture
def net() -> HeadShape:
    """Always sees a ball of 100 mm, sure to a millimetre."""
    net = HeadShape(ShapeConfig(side=0, hidden=8, modes=1, point_modes=1)).eval()
    net.mean.fill_(REACH)
    net.seen_size.fill_(1.0)
    net.point_mean.copy_(torch.from_numpy(face()))
    net.swap[2:] = torch.arange(2, 478).view(-1, 2).flip(1).flatten()
    return net


def face(scale: float = 1.0) -> np.ndarray:
    """Points in pairs, left and right, after two in the middle."""
    points = CENTRE + REACH * np.array([0.0, -1.0, 0.0]) + np.random.default_rng(0).normal(size=(478, 3)) * 0.02
    points[2::2] = points[3::2] * [-1, 1, 1]
    points[0, 0] = 0.0
    points[1] = CENTRE + [0.0, -REACH, -0.03]
    return CENTRE + scale * (points - CENTRE)


def photo() -> Seen:
    marks = np.random.default_rng(1).normal(size=(478, 2)) * 20 + 100
    marks[[33, 133]], marks[[263, 362]] = [80, 80], [120, 80]
    marks[61], marks[291] = [85, 130], [115, 130]
    return Seen("p", np.zeros((200, 200, 3), np.uint8), np.ones((200, 200), np.float32), marks, np.zeros(478), None,
                np.full(2, 99.5))  # fmt: skip


def test_a_face_is_laid_on_a_head_whatever_its_size(net: HeadShape) -> None:
    larger = np.full(len(directions()), 1.1 * REACH)
    assert np.abs(guess(net, [photo()]).face_on(larger) - larger).max() < 1e-3


def test_a_head_gets_the_looks_face_and_keeps_its_hair(net: HeadShape) -> None:
    nose, behind = directions() @ [0.0, -REACH, -0.03] / np.hypot(REACH, 0.03), directions()[:, 1] > 0.3
    net.mean.copy_(torch.from_numpy(REACH + 0.003 * (nose > 0.97)))
    head = REACH + 0.02 * behind
    change = guess(net, [photo()]).face_on(head) - head
    assert 0.0022 < change[nose > 0.99].mean() < 0.0035
    assert np.abs(change[behind]).max() < 1e-4


def test_each_photo_alone_has_its_own_points(net: HeadShape) -> None:
    net.point_basis.fill_(1.0)
    net.last.weight.data.fill_(1.0)
    other = photo()
    found = guess(net, [photo(), replace(other, depth=np.linspace(-40, 40, 478))])
    assert len(found.by_photo) == 2 and not np.allclose(*found.by_photo)
    assert np.allclose(found.by_photo[0], guess(net, [photo()]).points, atol=1e-6)


def test_strands_are_smoothed_and_slopes_stay() -> None:
    places = REACH * directions()
    strands = 0.002 * (np.arange(len(places)) % 128 % 2 * 2 - 1)
    front = directions()[:, 1] < -0.8
    slope = 0.05 * places[:, 0]
    left = np.abs(smoothed(places, slope + strands, 0.0015) - slope)[front]
    assert left.mean() < 4e-4 and left.max() < 0.002
