"""Surfaces move to where a head is known to reach, and what a net can't learn of it is kept as a bend."""

from __future__ import annotations

import numpy as np
import torch

from inference.head.follow import bend_to, moved, reach, share_known
from inference.head.frame import CENTRE, RADIUS
from inference.nets.head_shape import RINGS, SPOKES, Bend, directions
from inference.nets.neus import Field


class Ball(Field):
    """A ball about the middle of the sphere."""

    def distance(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points = points if self.bend is None else self.bend(points)
        return points.norm(dim=-1, keepdim=True) - self.sdf[0][0], points


def ball(radius: float) -> Field:
    radius_there = torch.tensor(radius / RADIUS)
    return Ball(((radius_there, radius_there),), (), torch.ones(1), None)  # type: ignore[arg-type]


def test_the_reach_of_a_field_is_found_and_nothing_where_nothing_is() -> None:
    assert np.allclose(reach(ball(0.12)), 0.12, atol=1e-4)
    assert np.isnan(reach(ball(0.01))).all()


def test_heads_and_throats_are_known_and_necks_and_shoulders_are_not() -> None:
    radii = np.full(len(directions()), 0.16)
    share, places = share_known(radii), CENTRE + 0.16 * directions()
    front = places[:, 1] < CENTRE[1]
    assert (share[places[:, 2] > -0.07] == 1).all() and (share[~front & (places[:, 2] < -0.1)] == 0).all()
    throat = np.array([0.0, 0.03, -0.078])  # the underside of a chin
    out = throat - CENTRE
    nearest = (directions() @ out).argmax()
    assert share_known(np.full(len(radii), np.linalg.norm(out)))[nearest] > 0.99


def test_what_moves_takes_distances_along() -> None:
    change = np.full(len(directions()), 0.004)
    points, distance, features = moved(ball(0.1), np.full(len(change), 0.1), change, torch.Generator().manual_seed(0))
    assert torch.allclose(distance, points.norm(dim=1) - 0.104 / RADIUS, atol=1e-5)
    assert features.shape == points.shape


def bumps(size: float) -> np.ndarray:
    """(V,) waves all over a head, up to `size`, 25 degrees long."""
    return size * np.prod(np.cos(14 * directions()), axis=1)


def test_a_surface_that_is_nearly_right_is_bent_until_it_is() -> None:
    wanted = 0.1 + bumps(0.0015)
    wanted[:5] = np.nan  # where nothing is known, nothing changes
    found = reach(ball(0.1)._replace(bend=bend_to(ball(0.1), wanted, lambda: None)))
    assert np.abs(found - wanted)[5:].mean() < 1e-4 and np.isfinite(found).all()


def test_space_is_not_bent_far() -> None:
    bend = bend_to(ball(0.1), np.full(len(directions()), 0.11), lambda: None)
    assert np.allclose(reach(ball(0.1)._replace(bend=bend)), 0.102, atol=1e-4)


def test_slopes_of_a_bent_space_are_its_own_also_where_spokes_meet() -> None:
    bend = Bend(torch.from_numpy(bumps(0.01)).view(RINGS, SPOKES))
    rng = np.random.default_rng(0)
    away = np.concatenate([rng.uniform(0, 0.012, 50), rng.uniform(0.012, 3.1, 200), np.pi - rng.uniform(0, 0.04, 50)])
    around = rng.uniform(0, 2 * np.pi, len(away))
    parts = np.sin(away) * np.sin(around), -np.cos(away), np.sin(away) * np.cos(around)
    points = torch.from_numpy(np.stack(parts, -1) * rng.uniform(0.4, 0.8, (len(away), 1)))
    slopes = torch.autograd.functional.jacobian(lambda x: bend(x).sum(0), points).movedim(1, 0)
    steps = torch.stack(
        [(bend(points + s) - bend(points - s)) / 2e-7 for s in 1e-7 * torch.eye(3, dtype=points.dtype)], -1
    )
    assert (slopes - steps).abs().max() < 1e-3
    assert (steps - torch.eye(3)).abs().max() < 1.0


def test_slopes_on_the_axis_are_as_beside_it() -> None:
    """Where marching cubes have a line of their lattice, through the bridge of the nose and the back of the head."""
    bend = Bend(torch.from_numpy(bumps(0.01)).view(RINGS, SPOKES))
    for y in (-0.5, 0.5):
        points = torch.tensor([[0.0, y, 0.0], [1e-3, y, 0.0], [0.0, y, -1e-3]], dtype=torch.float64)
        slopes = torch.autograd.functional.jacobian(lambda x: bend(x).sum(0), points).movedim(1, 0)
        assert (slopes - torch.eye(3)).abs().max() < 0.5
        assert (bend(points) - points).norm(dim=1).std() < 1e-4


def test_a_bend_is_differentiated_twice() -> None:
    bend, points = Bend(torch.from_numpy(bumps(0.01)).view(RINGS, SPOKES)), torch.randn(4, 3, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(bend, points.requires_grad_())
