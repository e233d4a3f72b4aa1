"""The published networks of triangulation, on a person who stands as people mostly do before rigs at random."""

from __future__ import annotations

import pytest
import torch

from inference.nets import joint_volume, view_trust
from inference.nets.joint_volume import JointVolume
from inference.nets.settle import facing
from inference.nets.view_trust import Views
from inference.runtime.weights import registry
from inference.training import rigs
from inference.training.captures import Errors

GOOD = Errors(
    jitter=0.006, offset=0.006, wrong=0.0, missing=0.0, clean=0.0, bias=0.0, swaps=0.0, limbs=0.0, parts=0.0, feet=0.0
)
SOUND = rigs.RigErrors(views_missing=0.0, swaps=0.0, ghosts=0.0, calibration=0.0, height=0.02)
LEFT_ARM = [6, 7]


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def standing(volume: JointVolume, count: int, *, frames: int = 24, seed: int = 1) -> rigs.Scene:
    """Frames of the usual pose, somewhat moved, before `count` cameras and a good detector."""
    g = torch.Generator().manual_seed(seed)
    people = volume.settle.typical * 1.65 * (1 + 0.05 * torch.randn(frames, 25, 3, generator=g))
    people = people - people[..., 2].amin(1)[:, None, None] * torch.tensor([0.0, 0.0, 1.0])
    return rigs.film(people, count, g, GOOD, SOUND)


def with_outliers(views: Views, g: torch.Generator) -> Views:
    """One view of every point sees it somewhere else, and says so half-heartedly."""
    which = torch.randint(0, views.score.shape[1], views.score[:, :1].shape, generator=g)
    wrong = torch.zeros_like(views.score, dtype=torch.bool).scatter_(1, which, value=True)
    away = torch.randn(views.directions.shape, generator=g) * 0.12
    score = torch.where(wrong, views.score * 0.6, views.score)
    return views._replace(
        directions=torch.where(wrong[..., None], views.directions + away, views.directions), score=score
    )


def missed(points: torch.Tensor, scene: rigs.Scene) -> torch.Tensor:
    return (points - scene.truth).norm(dim=-1)


def test_both_networks_are_published_with_their_figures():
    entries = registry()
    for name in ("view-trust", "joint-volume"):
        assert entries[name].net == name and entries[name].metrics
        assert entries[name].bytes < 40e6


def test_a_view_that_errs_is_hardly_believed(trust, volume):
    scene = standing(volume, 4)
    views = with_outliers(scene.views, torch.Generator().manual_seed(2))
    plain = missed(view_trust.solve(views, (views.score > 0).float())[0], scene)
    ours = missed(trust(views).points, scene)
    known = ours.isfinite()
    assert ours[known].mean() < 0.4 * plain[known].mean()
    assert ours[known].median() < 0.03


def test_two_cameras_and_the_look_of_people_beat_two_cameras(trust, volume):
    scene = standing(volume, 2, frames=48)
    views = with_outliers(scene.views, torch.Generator().manual_seed(2))
    placed, trusted = joint_volume.place(volume, trust, views)
    algebraic, ours = (missed(points, scene).clamp_max(1.0) for points in (trusted.points, placed.points))
    known = algebraic.isfinite()
    assert ours[known].mean() < 0.7 * algebraic[known].mean()


def test_an_arm_that_no_camera_sees_is_placed_and_known_to_be_doubtful(trust, volume):
    scene = standing(volume, 4)
    score = scene.views.score.clone()
    score[:, :, LEFT_ARM] = 0.0
    views = scene.views._replace(score=score)
    placed, trusted = joint_volume.place(volume, trust, views)
    assert trusted.points[:, LEFT_ARM].isnan().all()
    assert missed(placed.points, scene)[:, LEFT_ARM].mean() < 0.2
    rest = [j for j in range(25) if j not in LEFT_ARM]
    assert placed.error[:, LEFT_ARM].median() > 2 * placed.error[:, rest].median()


def test_expected_errors_are_neither_boastful_nor_timid(trust, volume):
    scene = standing(volume, 4, frames=64)
    for points, error in (trust(scene.views)[::2], joint_volume.place(volume, trust, scene.views)[0][:2]):
        inside = (missed(points, scene) <= error).float().mean()
        assert 0.35 < inside < 0.95


def test_the_order_of_cameras_does_not_matter(trust, volume):
    views = standing(volume, 5).views
    order = [3, 0, 4, 1, 2]
    mixed = Views(*[value[:, order] for value in views[:4]], height=views.height)
    for one, other in ((trust(views).points, trust(mixed).points),
                       (joint_volume.place(volume, trust, views)[0].points,
                        joint_volume.place(volume, trust, mixed)[0].points)):  # fmt: skip
        assert torch.allclose(one, other, atol=5e-4, equal_nan=True)


def test_a_view_in_which_nobody_is_found_changes_nothing_for_the_worse(trust, volume):
    scene = standing(volume, 4)
    score = scene.views.score.clone()
    score[:, 3] = 0.0
    blind = scene.views._replace(score=score)
    fewer = Views(*[value[:, :3] for value in scene.views[:4]], height=scene.views.height)
    for net in (lambda v: trust(v).points, lambda v: joint_volume.place(volume, trust, v)[0].points):
        one, other = (missed(net(views), scene).nanmean() for views in (blind, fewer))
        assert (one - other).abs() < 0.005


def test_what_one_view_alone_sees_has_no_linear_answer(trust, volume):
    views = standing(volume, 3).views
    score = views.score.clone()
    score[:, 1:, 4] = 0.0
    alone = views._replace(score=score)
    placed, trusted = joint_volume.place(volume, trust, alone)
    assert trusted.points[:, 4].isnan().all()
    assert placed.points.isfinite().all() and placed.error.isfinite().all()


def test_people_face_one_way_inside(volume):
    people = volume.settle.typical[None] @ torch.tensor([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    turned = people @ facing(people).mT
    across = turned[0, 12] - turned[0, 9] + turned[0, 5] - turned[0, 2]
    assert across[0] > 0
    assert abs(float(across[1])) < 1e-4
