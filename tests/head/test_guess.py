"""What one look says is laid on a head, and pulls a field towards it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.head.frame import CENTRE, RADIUS
from inference.head.guess import guess
from inference.head.seen import Seen
from inference.nets.head_shape import HeadShape, ShapeConfig
from inference.nets.neus import Field

REACH = 0.1


@pytest.fixture
def net() -> HeadShape:
    """Always sees a ball of 100 mm, sure to a millimetre."""
    net = HeadShape(ShapeConfig(side=0, hidden=8, modes=1, point_modes=1)).eval()
    net.mean.fill_(REACH)
    net.error.fill_(0.001)
    net.seen_size.fill_(1.0)
    net.point_mean.copy_(torch.from_numpy(face()))
    return net


def face() -> np.ndarray:
    points = CENTRE + REACH * np.array([0.0, -1.0, 0.0]) + np.random.default_rng(0).normal(size=(478, 3)) * 0.02
    points[1] = CENTRE + [0.0, -REACH, -0.03]
    return points


class Ball(Field):
    """A ball about somewhere."""

    def distance(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        middle, radius = torch.as_tensor(self.color[0]), torch.as_tensor(self.color[1])
        return (points - middle).norm(dim=-1, keepdim=True) - radius, points


def ball(x: float, radius: float) -> Field:
    return Ball((), (torch.tensor([x, 0.0, 0.0]), torch.tensor(radius)), torch.ones(1), None)  # type: ignore[arg-type]


def photo() -> Seen:
    marks = np.random.default_rng(1).normal(size=(478, 2)) * 20 + 100
    marks[[33, 133]], marks[[263, 362]] = [80, 80], [120, 80]
    marks[61], marks[291] = [85, 130], [115, 130]
    return Seen("p", np.zeros((200, 200, 3), np.uint8), np.ones((200, 200), np.float32), marks, np.zeros(478), None,
                np.full(2, 99.5))  # fmt: skip


def test_a_guess_lies_on_the_face_that_the_fit_begins_with(net: HeadShape) -> None:
    found = guess(net, [photo()], 1.1 * face() + [0.01, 0.0, 0.0])
    off = found.points.numpy() * RADIUS + CENTRE - (1.1 * CENTRE + [0.01, 0.0, 0.0])
    assert np.allclose(np.linalg.norm(off, axis=1), 1.1 * REACH, atol=1e-5)


def test_another_surface_costs_more_but_one_far_off_pulls_less(net: HeadShape) -> None:
    found = guess(net, [photo()], face())
    cost = [float(found.misses(ball(0.0, r / RADIUS), 200, torch.Generator().manual_seed(0)))
            for r in (REACH, 0.101, 0.102, 0.120, 0.121)]  # fmt: skip
    assert cost[0] == pytest.approx(0, abs=1e-3) and cost[1] == pytest.approx(0.9, abs=0.1)
    assert cost[2] - cost[1] > 3 * (cost[4] - cost[3]) > 0
