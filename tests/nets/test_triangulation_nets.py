"""Learnable triangulation: the published arithmetic, and gradients all the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.nets import import_original
from inference.nets.pose_resnet import PoseResNet, PoseResNetConfig
from inference.nets.triangulation import (
    AlgebraicConfig,
    AlgebraicNet,
    VolumetricConfig,
    VolumetricNet,
    aggregate,
    coordinate_loss,
    cube,
    soft_argmax_2d,
    soft_argmax_3d,
    triangulate,
    turned,
    unproject,
    volume_loss,
)
from inference.nets.v2v import SMALL, V2V, V2VConfig
from inference.protocol.errors import WeightsError


@pytest.fixture(autouse=True)
def seed():
    """The same numbers every time."""
    torch.manual_seed(3)


def rig(views: int, size: int = 128) -> torch.Tensor:
    """(1, V, 3, 4) cameras on a ring of 4.5 m that look at the origin; millimetres."""
    matrices = []
    for angle in torch.linspace(0.2, 5.0, views):
        back = torch.tensor([torch.cos(angle), torch.sin(angle), 0.2])
        z = -back / back.norm()
        x = torch.linalg.cross(z, torch.tensor([0.0, 0.0, 1.0]))
        x = x / x.norm()
        turn = torch.stack([x, torch.linalg.cross(z, x), z])
        k = torch.tensor([[1.1 * size, 0, size / 2], [0, 1.1 * size, size / 2], [0, 0, 1.0]])
        matrices.append(k @ torch.cat([turn, (turn @ (-4500 * back))[:, None]], 1))
    return torch.stack(matrices)[None]


def project(matrices: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(1, V, J, 2) px of points (1, J, 3)."""
    seen = torch.einsum("bvij,bkj->bvki", matrices[..., :3], points) + matrices[:, :, None, :, 3]
    return seen[..., :2] / seen[..., 2:]


def test_networks_have_as_many_parameters_as_the_published_ones():
    def millions(net):
        return sum(p.numel() for p in net.parameters()) / 1e6

    assert millions(PoseResNet(PoseResNetConfig(layers=18, algebraic=17))) == pytest.approx(19.2, abs=0.05)
    assert millions(PoseResNet(PoseResNetConfig(layers=152, algebraic=17))) == pytest.approx(79.5, abs=0.05)
    assert millions(V2V(V2VConfig())) == pytest.approx(11.94, abs=0.01)


def test_linear_triangulation_finds_the_points_that_were_projected():
    truth = 700 * torch.randn(1, 17, 3)
    points = project(rig(4).double(), truth.double()).float()
    found = triangulate(rig(4), points, torch.rand(1, 4, 17) + 0.1)
    assert (found - truth).norm(dim=-1).max() < 0.5


def test_a_view_of_no_weight_does_not_count():
    truth = 700 * torch.randn(1, 17, 3)
    points = project(rig(4), truth)
    points[:, 2] += 60.0
    weights = torch.ones(1, 4, 17)
    weights[:, 2] = 1e-6
    assert (triangulate(rig(4), points, weights) - truth).norm(dim=-1).max() < 1.0


def test_weights_multiply_the_equations_one_joint_at_a_time():
    matrices, points, weights = rig(3), 128 * torch.rand(1, 3, 5, 2), torch.rand(1, 3, 5)
    found = triangulate(matrices, points, weights)
    for joint in range(5):
        rows = []
        for view in range(3):
            p, (u, v) = matrices[0, view].double().numpy(), points[0, view, joint].double().tolist()
            w = float(weights[0, view, joint])
            rows += [w * (u * p[2] - p[0]), w * (v * p[2] - p[1])]
        x = np.linalg.svd(np.array(rows))[2][-1]
        assert np.allclose(found[0, joint].numpy(), x[:3] / x[3], rtol=1e-4)


def test_soft_maxima_are_expectations_over_rows_and_columns():
    maps = torch.full((1, 1, 5, 9), -50.0)
    maps[0, 0, 3, 6] = 50.0
    assert torch.allclose(soft_argmax_2d(maps)[0], torch.tensor([[[6.0, 3.0]]]))
    maps = torch.zeros(1, 1, 5, 9)
    maps[0, 0, 1, 2], maps[0, 0, 1, 4] = 1.0, 3.0
    assert torch.allclose(soft_argmax_2d(maps, softmax=False)[0], torch.tensor([[[3.5, 1.0]]]))


def test_nodes_take_what_they_are_seen_at():
    height, width = 24, 32
    ramp = torch.stack(torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij"))
    matrices = rig(2, 24)
    grid = cube(torch.zeros(1, 3), 800.0, 4)
    cast, seen = unproject(ramp.flip(0)[None, None].repeat(1, 2, 1, 1, 1), matrices, grid)
    where = project(matrices, grid.flatten(1, 3)).unflatten(2, (4, 4, 4)).movedim(-1, 2)
    assert seen.all()
    assert torch.allclose(cast, where, atol=1e-3)


def test_the_published_sampling_swaps_height_and_width_and_divides_by_the_size():
    matrices, grid = rig(1, 24), cube(torch.zeros(1, 3), 800.0, 4)
    ramp = torch.arange(24.0).expand(24, 24)[None, None, None]
    cast, _ = unproject(ramp, matrices, grid, compatible=True)
    where = project(matrices, grid.flatten(1, 3)).unflatten(2, (4, 4, 4))
    assert torch.allclose(cast[:, :, 0], where[..., 0] * 23 / 24, atol=1e-3)


def test_nodes_behind_a_camera_see_nothing():
    matrices = rig(1)
    grid = cube(torch.zeros(1, 3), 20_000.0, 8)
    depth = torch.einsum("j,bxyzj->bxyz", matrices[0, 0, 2, :3], grid) + matrices[0, 0, 2, 3]
    cast, seen = unproject(torch.ones(1, 1, 1, 16, 16), matrices, grid)
    assert (cast[0, 0, 0][depth[0] <= 0] == 0).all()
    assert not seen[0, 0, 0][depth[0] <= 0].any()


@pytest.mark.parametrize("how", ["sum", "max", "softmax", "conf", "conf_norm"])
def test_views_are_merged_as_published(how):
    cast, trust = torch.randn(1, 3, 4, 2, 2, 2), torch.rand(1, 3, 4)
    merged = aggregate(cast, how, trust)[0]
    views = cast[0].numpy()
    exps = np.exp(views)
    weights = trust[0].numpy()[..., None, None, None]
    expected = {
        "sum": views.sum(0), "max": views.max(0), "softmax": (views * exps / exps.sum(0)).sum(0),
        "conf": (views * weights).sum(0), "conf_norm": (views * weights / weights.sum(0)).sum(0),
    }[how]  # fmt: skip
    assert np.allclose(merged.numpy(), expected, atol=1e-5)


def test_views_that_do_not_see_a_node_are_left_out():
    cast = torch.tensor([-2.0, 0.0]).view(1, 2, 1, 1, 1, 1)
    seen = torch.tensor([True, False]).view(1, 2, 1, 1, 1, 1)
    for how in ("max", "softmax"):
        assert aggregate(cast, how, seen=seen).item() == pytest.approx(-2.0)
        assert aggregate(0 * cast, how, seen=seen & False).item() == 0.0


def test_a_turned_grid_stays_about_its_centre():
    centre = torch.tensor([[100.0, 200.0, 900.0]])
    grid = cube(centre, 2500.0, 6)
    after = turned(grid, centre, 2)
    assert torch.allclose(after.mean((1, 2, 3)), centre, atol=0.1)
    assert torch.allclose((after - centre).norm(dim=-1), (grid - centre).norm(dim=-1), atol=0.1)
    assert torch.allclose(after[..., 2], grid[..., 2])


def test_the_expectation_over_a_volume_is_a_place():
    grid = cube(torch.tensor([[10.0, 20.0, 30.0]]), 700.0, 8)
    volumes = torch.full((1, 1, 8, 8, 8), -40.0)
    volumes[0, 0, 1, 5, 2] = 40.0
    assert torch.allclose(soft_argmax_3d(volumes, grid)[0][0, 0], grid[0, 1, 5, 2])


def test_losses_are_the_published_ones():
    joints, truth = torch.tensor([[[0.0, 100.0, 1000.0]]]), torch.zeros(1, 1, 3)
    expected = (10.0**2 + (100.0**2) ** 0.1 * 400**0.9) / 3
    assert coordinate_loss(joints, truth, torch.ones(1, 1)).item() == pytest.approx(expected, rel=1e-5)
    grid = cube(torch.zeros(1, 3), 700.0, 8)
    even = torch.full((1, 2, 8, 8, 8), 1 / 512)
    valid = torch.tensor([[1.0, 0.0]])
    assert volume_loss(even, grid, torch.zeros(1, 2, 3), valid).item() == pytest.approx(np.log(512) / 2, rel=1e-3)


@pytest.mark.parametrize("layers", [18, 50])
def test_gradients_flow_from_space_to_the_first_convolution(layers):
    images, matrices, truth = torch.rand(2, 2, 3, 128, 128), rig(2).repeat(2, 1, 1, 1), torch.zeros(2, 17, 3)
    algebraic = AlgebraicNet(AlgebraicConfig(PoseResNetConfig(layers=layers, algebraic=17, deconv=(32, 32, 32))))
    volumetric = VolumetricNet(
        VolumetricConfig(PoseResNetConfig(layers=layers, deconv=(32, 32, 32)), V2VConfig(8, widths=(16, 32)), size=8)
    )
    for net, joints in (
        (algebraic, algebraic(images, matrices).joints),
        (volumetric, volumetric(images, matrices, truth[:, 0]).joints),
    ):
        coordinate_loss(joints, truth, torch.ones(2, 17)).backward()
        gradient = net.backbone.conv1.weight.grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_original_weights_are_recognised_by_their_keys():
    algebraic = AlgebraicNet(AlgebraicConfig(PoseResNetConfig(layers=18, joints=19, algebraic=19), compatible=True))
    state = {f"module.{key}": value for key, value in algebraic.state_dict().items()}
    again = import_original("triangulation-algebraic", state)
    images, matrices = torch.rand(1, 2, 3, 128, 128), rig(2)
    with torch.no_grad():
        assert torch.equal(again(images, matrices).joints, algebraic.eval()(images, matrices).joints)
    volume = V2V(V2VConfig(inputs=17, first=SMALL.first, widths=SMALL.widths, fronts=1, back=False))
    assert import_original("v2v", volume.state_dict()).config == volume.config
    backbone = PoseResNet(PoseResNetConfig(layers=50, volumetric=32))
    assert import_original("pose-resnet", backbone.state_dict()).config == backbone.config
    net = VolumetricNet(VolumetricConfig(PoseResNetConfig(layers=18, volumetric=32), aggregation="conf"))
    assert import_original("triangulation-volumetric", net.state_dict()).config == replace(net.config, compatible=True)


def test_other_weights_are_refused_by_name():
    with pytest.raises(WeightsError, match="not those of 'v2v'"):
        import_original("v2v", PoseResNet(PoseResNetConfig(layers=18)).state_dict())
    with pytest.raises(WeightsError, match="is not one of"):
        import_original("vgg", {})
