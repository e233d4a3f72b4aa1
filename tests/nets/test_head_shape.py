"""Heads as radii: the directions, their mirror image, the network's numbers, and people mixed of avatars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from inference.head.frame import MEAN_LANDMARKS
from inference.nets.head_shape import RINGS, SPOKES, HeadShape, ShapeConfig, build, directions, mirrored, triangles
from inference.training import head_people
from inference.training import head_shape as training
from inference.training.studio import heads, mixed
from inference.training.studio.portrait import Portrait

SMALL = ShapeConfig(side=32, width=4, levels=2, hidden=16, modes=5, point_modes=3)


def test_directions_are_closed_towards_the_face_and_turned_outwards() -> None:
    mesh = trimesh.Trimesh(0.1 * directions(), triangles(), process=False)
    assert mesh.is_winding_consistent
    assert (mesh.face_normals * mesh.triangles_center).sum(1).min() > 0
    edges, count = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    assert (mesh.vertices[np.unique(edges[count == 1]), 1] > 0.09).all()  # open at the back of the neck alone


def test_a_mirrored_head_has_its_left_on_the_right() -> None:
    swapped = directions()[mirrored()]
    assert np.abs(swapped * [-1, 1, 1] - directions()).max() < 1e-12


@pytest.mark.parametrize("side", [0, 32])
def test_an_untrained_network_says_the_mean_and_comes_back_from_its_config(side: int) -> None:
    net = HeadShape(ShapeConfig(**{**SMALL.to_dict(), "side": side})).eval()
    net.mean += 0.1
    crop = torch.rand(2, 3, 3, 32, 32) if side else None
    found = net(crop, torch.rand(2, 3, 478, 3) + net.seen_size)
    assert found.radii.shape == (2, len(directions())) and found.points.shape == (2, 478, 3)
    again = build(net.config.to_dict())
    again.load_state_dict(net.state_dict())


def test_modes_are_found_where_some_numbers_are_missing() -> None:
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 2, generator=g) @ torch.randn(2, 30, generator=g) + 5.0
    gaps = rows.clone()
    gaps[torch.rand(rows.shape, generator=g) < 0.2] = float("nan")
    mean, basis = training.modes_with_gaps(gaps, 2, rounds=30)
    fitted = torch.linalg.lstsq(basis, (rows - mean).T).solution
    assert (basis @ fitted - (rows - mean).T).abs().mean() < 0.1


def test_photos_of_somebody_are_drawn_again_only_where_there_are_no_others() -> None:
    g = torch.Generator().manual_seed(0)
    drawn = torch.stack([training.different(torch.tensor([1, 2, 5]), 3, g) for _ in range(60)])
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, 1, 0] != drawn[:, 1, 1]).all() and drawn[:, 1].max() == 1
    assert all(len(row.unique()) == 3 for row in drawn[:, 2]) and len(drawn[:, 2].unique()) == 5


@pytest.mark.data
def test_somebody_mixed_is_a_head_in_the_frame_of_heads(data_dir: Path) -> None:
    names = tuple(heads.valid_names(data_dir)[:4])
    head = mixed.make(data_dir, 3, names)
    assert np.abs(head.vertices - mixed.make(data_dir, 3, names).vertices).max() == 0
    assert np.linalg.norm(head.landmarks - MEAN_LANDMARKS, axis=1).max() < 0.02
    radii = head_people.reach(Portrait(head))
    nose = np.argmin(directions()[:, 1])
    assert 0.09 < radii[nose] < 0.14
    assert np.isfinite(radii).mean() > 0.9
    skin = head_people.closed(np.nan_to_num(head_people.bare(head, directions()), nan=0.1))
    scale, rotation, move = head_people.lay(head.moved(1.03, np.eye(3), np.array([0.003, 0.0, 0.002])), skin)
    assert scale == pytest.approx(1 / 1.03, abs=0.01)
    assert np.abs(rotation - np.eye(3)).max() < 0.02 and np.abs(move).max() < 0.01


@pytest.mark.data
def test_a_wig_is_worn_in_place_of_another(data_dir: Path) -> None:
    names = tuple(heads.valid_names(data_dir))
    donor, *_ = wearers = mixed.wigs(data_dir, names)
    for head in (mixed.make(data_dir, 3, (donor, *names[:3])), heads.make_ict(data_dir, 3, hair=False).canonical()):
        worn = mixed.wigged(data_dir, head, wearers[-1], np.random.default_rng(0))
        hair = worn.vertices[np.unique(worn.faces[worn.face_texture == len(head.textures)])]
        assert hair[:, 2].max() > head.landmarks[0, 2] + 0.05 and worn.skin.sum() == head.skin.sum()
        assert np.abs(hair).max() < 0.35


def test_shares_of_a_mixture_sum_to_one_as_do_their_squares() -> None:
    found = mixed.shares(3, np.random.default_rng(0))
    assert found.sum() == pytest.approx(1) and np.square(found).sum() == pytest.approx(1)


def test_curtains_of_hair_count_behind_the_face_and_not_before_it() -> None:
    radii, skin = np.full(len(directions()), 0.16), np.full(len(directions()), 0.1)
    skin[::7] = np.nan
    found = training.learnt_reach(radii, skin)
    nose, back = np.argmin(directions()[1:, 1]) + 1, np.argmax(directions()[1:, 1]) + 1
    assert found[nose] == pytest.approx(0.1) and found[back] == pytest.approx(0.16)
    assert (found[::7] == 0.16).all() and np.isfinite(found).all()
    open_below = np.where(np.arange(len(radii)) % 5, radii, np.nan)
    assert np.isnan(training.learnt_reach(open_below, skin)[::5]).all()


def test_eyes_and_teeth_close_holes_of_the_skin_and_hair_before_them_does_not() -> None:
    radii, skin = np.full((RINGS, SPOKES), 0.1), np.full((RINGS, SPOKES), 0.1)
    skin[20:26, 30:36] = 0.08
    radii[20:26, 30:33], radii[20:26, 33:36] = 0.097, 0.13
    found = training.learnt_reach(radii.ravel(), skin.ravel()).reshape(RINGS, SPOKES)
    assert found[22, 31] == pytest.approx(0.097) and found[22, 34] == pytest.approx(0.1)
    assert found[10, 10] == pytest.approx(0.1)


def test_a_network_goes_on_in_other_modes_where_it_was() -> None:
    g = torch.Generator().manual_seed(0)
    old, new, count = HeadShape(SMALL).eval(), HeadShape(SMALL).eval(), len(directions())
    both = torch.linalg.qr(torch.randn(count, 5, generator=g))[0]
    old.mean.copy_(0.1 + both[:, 0])
    old.basis.copy_(both @ torch.randn(5, 5, generator=g))
    old.point_mean.copy_(torch.randn(478, 3, generator=g))
    old.point_basis.copy_(torch.linalg.qr(torch.randn(1434, 3, generator=g))[0])
    torch.nn.init.normal_(old.last.weight, generator=g)
    torch.nn.init.normal_(old.last.bias, generator=g)
    old.seen_size.fill_(2.0)
    new.mean.copy_(old.mean + both[:, 1])
    new.basis.copy_(both * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    new.point_mean.copy_(old.point_mean)
    new.point_basis.copy_(3 * old.point_basis.flip(1))
    training.take_up(new, old, training.Modes(new.mean, new.basis, torch.ones(count)))
    crop, points = torch.rand(2, 1, 3, 32, 32, generator=g), torch.rand(2, 1, 478, 3, generator=g)
    before, after = old(crop, points), new(crop, points)
    assert (before.radii - after.radii).abs().max() < 1e-3 and (before.points - after.points).abs().max() < 1e-3
    assert (before.radii - old.mean).abs().max() > 0.1


def test_what_is_kept_lies_between_what_was_before_and_what_was_learnt() -> None:
    torch.manual_seed(0)
    net = HeadShape(SMALL)
    before = {name: value.detach() + 1.0 for name, value in net.named_parameters()}
    kept = training.between(net, before, 0.25)
    for (name, value), (_, mine) in zip(kept.named_parameters(), net.named_parameters(), strict=True):
        assert torch.allclose(value, mine + 0.75) and torch.allclose(value, before[name] - 0.25)


def test_a_picture_and_its_mirror_image_say_mirrored_heads() -> None:
    torch.manual_seed(0)
    net = HeadShape(SMALL).eval()
    for value in (net.last.weight, net.mean, net.basis, net.point_mean, net.point_basis):
        torch.nn.init.normal_(value)
    net.seen_size.fill_(1.0)
    net.swap.copy_(torch.arange(478).flip(0))
    crop, points, flip = torch.rand(2, 2, 3, 32, 32), torch.rand(2, 2, 478, 3), torch.tensor([-1.0, 1.0, 1.0])
    seen = net.seen_twice(crop, points)
    other = net.seen_twice(crop.flip(-1), points.flip(2) * flip + torch.tensor([1.0, 0.0, 0.0]))
    assert (seen.radii[:, torch.from_numpy(mirrored())] - other.radii).abs().max() < 1e-4
    assert (seen.points.flip(1) * flip - other.points).abs().max() < 1e-4
    assert (seen.radii - net(crop, points).radii).abs().max() > 0.1


def test_photos_of_one_person_count_in_any_order_and_the_same_twice_as_once() -> None:
    torch.manual_seed(0)
    net = HeadShape(SMALL).eval()
    for value in (net.last.weight, net.gate.weight, net.mean, net.basis, net.point_mean, net.point_basis):
        torch.nn.init.normal_(value)
    net.seen_size.fill_(1.0)
    crop, points = torch.rand(1, 3, 3, 32, 32), torch.rand(1, 3, 478, 3)
    seen = net(crop, points).radii
    assert (seen - net(crop.flip(1), points.flip(1)).radii).abs().max() < 1e-4
    assert (seen - net(crop[:, :2], points[:, :2]).radii).abs().max() > 0.1
    once, twice = net(crop[:, :1], points[:, :1]), net(crop[:, [0, 0]], points[:, [0, 0]])
    assert (once.radii - twice.radii).abs().max() < 1e-4
