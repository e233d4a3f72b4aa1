"""NeuS in the published arithmetic, and scenes that share layers."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from inference.nets import import_original
from inference.nets.head_shape import RINGS, SPOKES, Bend
from inference.nets.multi_neus import Coefficients, Kind, LowRank, MultiNeus, MultiNeusConfig
from inference.nets.neus import CPU, PAPER, Background, ColorNet, Neus, NeusConfig, SdfNet, encode
from inference.nets.neus_render import RenderConfig, finer, near_far, render, sample
from inference.protocol.errors import WeightsError

SMALL = NeusConfig(width=48, depth=3, skip=2, points=2, features=8, color_width=16, color_depth=2, directions=1)


@pytest.fixture(autouse=True)
def seed():
    """The same numbers every time."""
    torch.manual_seed(5)


def millions(net: nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


def ball(count: int = 4000) -> torch.Tensor:
    directions = functional.normalize(torch.randn(count, 3), dim=-1)
    return directions * torch.rand(count, 1) ** (1 / 3)


def rays(count: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """From 3 away towards places near the centre."""
    origins = functional.normalize(torch.randn(count, 3), dim=-1) * 3
    return origins, functional.normalize(torch.randn(count, 3) * 0.25 - origins, dim=-1)


class Ball(nn.Module):
    """A red sphere, as a field whose distance is exact."""

    def __init__(self, radius: float = 0.5, s: float = 400.0) -> None:
        super().__init__()
        self.radius, self.sharpness = radius, torch.tensor(s)

    def distance(self, points):
        return points.norm(dim=-1, keepdim=True) - self.radius, points

    def surface(self, points, *, create_graph=True):  # noqa: ARG002
        return points.norm(dim=-1, keepdim=True) - self.radius, functional.normalize(points, dim=-1), points

    def radiance(self, points, normals, directions, features):  # noqa: ARG002
        return torch.tensor([1.0, 0.2, 0.1]).expand_as(points)


def test_networks_have_as_many_parameters_as_the_published_ones() -> None:
    assert millions(SdfNet(PAPER)) == pytest.approx(0.529, abs=1e-3)
    assert millions(ColorNet(PAPER)) == pytest.approx(0.273, abs=1e-3)
    assert SdfNet(PAPER).config.sdf_shapes[3] == (256, 217)


@pytest.mark.parametrize("config", [PAPER, CPU])
def test_an_untrained_scene_is_a_sphere(config: NeusConfig) -> None:
    points = ball()
    distance = SdfNet(config)(points)[:, 0]
    off = (distance - (points.norm(dim=-1) - 0.5)).abs()
    assert off.mean() < 0.1 and distance[points.norm(dim=-1) < 0.1].max() < 0


def test_encodings_keep_the_point_and_double_its_waves() -> None:
    x = torch.tensor([[0.3, -0.2, 0.9]])
    out = encode(x, 6)
    assert out.shape == (1, 39)
    torch.testing.assert_close(out[:, :3], x)
    torch.testing.assert_close(out[:, 9:12], torch.sin(2 * x))
    torch.testing.assert_close(out[:, 36:], torch.cos(32 * x))


def published_sdf(state: dict[str, torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """The published forward pass, line by line, on its own keys."""
    inputs = encode(points, 6)
    x = inputs
    for layer in range(9):
        if layer == 4:
            x = torch.cat([x, inputs], 1) / math.sqrt(2)
        v, g = state[f"lin{layer}.weight_v"], state[f"lin{layer}.weight_g"]
        x = x @ (g * v / v.norm(dim=1, keepdim=True)).T + state[f"lin{layer}.bias"]
        if layer < 8:
            x = torch.log1p(torch.exp(-(100 * x).abs())) / 100 + x.clamp_min(0)
    return x


def published_state(shapes: list[tuple[int, int]], prefix: str = "") -> dict[str, torch.Tensor]:
    state = {}
    for index, (inputs, outputs) in enumerate(shapes):
        state[f"{prefix}lin{index}.bias"] = torch.randn(outputs) * 0.1
        state[f"{prefix}lin{index}.weight_g"] = torch.rand(outputs, 1) + 0.5
        state[f"{prefix}lin{index}.weight_v"] = torch.randn(outputs, inputs)
    return state


def test_published_distances_and_colours_come_out_the_same() -> None:
    state = published_state(PAPER.sdf_shapes)
    points = ball(50)
    net = import_original("neus-sdf", state)
    torch.testing.assert_close(net(points), published_sdf(state, points), rtol=1e-4, atol=1e-5)
    state = published_state(PAPER.color_shapes)
    normals, directions, features = (
        torch.randn(50, 3),
        functional.normalize(torch.randn(50, 3), dim=-1),
        torch.randn(50, 256),
    )
    x = torch.cat([points, encode(directions, 4), normals, features], -1)
    for layer in range(5):
        v, g = state[f"lin{layer}.weight_v"], state[f"lin{layer}.weight_g"]
        x = x @ (g * v / v.norm(dim=1, keepdim=True)).T + state[f"lin{layer}.bias"]
        x = x.relu() if layer < 4 else torch.sigmoid(x)
    found = import_original("neus-color", {f"module.{key}": value for key, value in state.items()})
    torch.testing.assert_close(found(points, normals, directions, features), x, rtol=1e-4, atol=1e-6)


def test_a_published_background_and_sharpness_come_out_the_same() -> None:
    state = {key: torch.randn_like(value) * 0.1 for key, value in Background().state_dict().items()}
    assert state["pts_linears.5.weight"].shape == (256, 256 + 84) and len(state) == 24
    net = import_original("neus-nerf", state)
    points, directions = torch.rand(20, 4), functional.normalize(torch.randn(20, 3), dim=-1)
    encoded = encode(points, 10)
    x = encoded
    for layer in range(8):
        x = (x @ state[f"pts_linears.{layer}.weight"].T + state[f"pts_linears.{layer}.bias"]).relu()
        if layer == 4:
            x = torch.cat([encoded, x], -1)
    density = x @ state["alpha_linear.weight"].T + state["alpha_linear.bias"]
    x = torch.cat([x @ state["feature_linear.weight"].T + state["feature_linear.bias"], encode(directions, 4)], -1)
    x = (x @ state["views_linears.0.weight"].T + state["views_linears.0.bias"]).relu()
    color = x @ state["rgb_linear.weight"].T + state["rgb_linear.bias"]
    for ours, theirs in zip(net(points, directions), (density, color), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    sharp = import_original("neus-variance", {"variance": torch.tensor(0.3)})
    torch.testing.assert_close(sharp(torch.zeros(2, 3)), torch.full((2, 1), math.exp(3.0)))


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(WeightsError, match="neus-sdf"):
        import_original("neus-sdf", {"conv.weight": torch.zeros(3)})


def test_a_sharp_ball_is_seen_where_it_is() -> None:
    origins, directions = rays(200)
    field = Ball()
    out = render(field, origins, directions, RenderConfig(jitter=False))  # type: ignore[arg-type]
    nearest = (torch.linalg.cross(origins, directions)).norm(dim=-1)
    hits = nearest < 0.45
    expected = -(origins * directions).sum(-1)[hits] - (0.25 - nearest[hits] ** 2).sqrt()
    assert out.opacity[hits].min() > 0.99 and out.opacity[nearest > 0.55].max() < 0.01
    assert (out.depth[hits] - expected).abs().max() < 0.01
    assert (out.color[hits] - torch.tensor([1.0, 0.2, 0.1])).abs().max() < 0.02
    assert out.weights.sum(-1).max() < 1 + 1e-4 and out.eikonal < 1e-8


def test_finer_depths_gather_at_the_surface() -> None:
    origins, directions = torch.tensor([[0.0, 0.0, -3.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    near, far = near_far(origins, directions)
    assert (near.item(), far.item()) == (2.0, 4.0)
    depths = near + (far - near) * torch.linspace(0, 1, 64)
    distance = (depths - 3.0).abs() - 0.5
    more = finer(origins, directions, depths, distance, 16, 512.0)
    assert (more - 2.5).abs().max() < 0.05
    assert sample(Ball(), origins, directions, RenderConfig()).diff().min() >= 0  # type: ignore[arg-type]


def test_colour_and_mask_teach_every_weight_and_the_sharpness() -> None:
    net = Neus(SMALL, background=True)
    origins, directions = rays()
    out = render(net.field(), origins, directions, RenderConfig(8, 8, 2, 4), background=net.nerf)
    (out.color.mean() + out.opacity.mean() + 0.1 * out.eikonal).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert net.variance_network.variance.grad != 0


def test_colours_leave_a_surface_where_they_may_not_move_it() -> None:
    field = Neus(SMALL).field()
    origins, directions = rays()
    depths = sample(field, origins, directions, RenderConfig(8, 8, 2))
    moving, still = (render(field, origins, directions, RenderConfig(moves=m), depths=depths) for m in (True, False))
    assert torch.equal(moving.color, still.color)
    offsets = [
        torch.autograd.grad(seen.color.mean(), field.sdf[-1][1], retain_graph=True)[0] for seen in (moving, still)
    ]
    assert offsets[0][0] != 0 and offsets[1][0] == 0  # of the distance
    assert offsets[1][1:].abs().max() > 0  # of the features


@pytest.mark.parametrize(("kind", "tied"), [("independent", False), ("low-rank", False), ("low-rank", True)])
def test_scenes_share_some_layers_and_own_others(kind: Kind, tied: bool) -> None:
    net = MultiNeus(MultiNeusConfig(scenes=3, kind=kind, tied=tied, rank=5, sdf=(1,), color=(0,), net=SMALL))
    points = ball(500)
    for scene in range(3):
        distance = net.field(scene).distance(points)[0][:, 0]
        assert (distance - (points.norm(dim=-1) - 0.5)).abs().mean() < 0.15
    net.field(1).distance(points)[0].sum().backward()
    own = net.own_parameters()[0].grad
    assert own is not None
    assert own[1].abs().max() > 0 and own[0].abs().max() == 0 and own[2].abs().max() == 0
    names = {id(p) for p in net.own_parameters()} | {id(p) for p in net.shared_parameters()}
    assert names == {id(p) for p in net.parameters()}


@pytest.mark.parametrize(("kind", "tied"), [("independent", False), ("low-rank", False), ("low-rank", True)])
def test_a_new_scene_is_the_average_of_all(kind: Kind, tied: bool) -> None:
    net = MultiNeus(MultiNeusConfig(scenes=3, kind=kind, tied=tied, rank=4, sdf=(0, 2), color=(1,), net=SMALL))
    with torch.no_grad():
        for parameter in net.own_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = [net.field(scene) for scene in range(3)]
    scene = net.add_scene()
    assert scene == 3
    new = net.field(scene)
    for index in (0, 2):
        mean = torch.stack([field.sdf[index][0] for field in before]).mean(0)
        torch.testing.assert_close(new.sdf[index][0], mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(new.sdf[1][0], before[0].sdf[1][0])
    alone = net.only(scene)
    points = ball(20)
    torch.testing.assert_close(alone.field(0).distance(points)[0], new.distance(points)[0])


def test_a_scene_alone_stays_on_the_device_of_all_also_where_space_is_bent() -> None:
    """Nothing of it is left behind: on torch's empty device any tensor from elsewhere would be refused."""
    net = MultiNeus(MultiNeusConfig(scenes=3, kind="low-rank", rank=4, sdf=(0, 2), color=(1,), net=SMALL)).to("meta")
    bend = Bend(torch.zeros(RINGS, SPOKES)).to(torch.device("meta"))
    field = net.only(1).field(0)._replace(bend=bend)
    assert field.distance(ball(20).to("meta"))[0].device.type == "meta"


def row(scene: int, parameter: torch.nn.Parameter) -> torch.Tensor:
    return parameter[scene]


def test_a_low_rank_layer_begins_at_its_start() -> None:
    start = (torch.randn(6, 4), torch.randn(6))
    layer = LowRank(Coefficients(40, 12), start, spread=0.3)
    mean = torch.stack([layer.effective(partial(row, scene))[0] for scene in range(40)]).mean(0)
    torch.testing.assert_close(mean, start[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.effective(partial(row, 7))[1], start[1], rtol=1e-4, atol=1e-5)
