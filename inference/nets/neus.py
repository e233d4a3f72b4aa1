"""A scene as a signed distance and a colour at every point (NeuS, Wang 2021, with the published code's defaults).

The modules hold parameters under the published names; what renders and trains works on a `Field`, the plain weights of
one scene, formed once a step, so that many scenes can share the same arithmetic (`multi_neus`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "neus"
SCHEMA = 1
_BETA = 100.0  # of softplus
_RADIUS = 0.5  # of the sphere that an untrained net is

Layer = tuple[Tensor, Tensor]  # weight (out, in) and bias (out,)


@dataclass(frozen=True)
class NeusConfig:
    """Shape of the networks.

    points, directions: bands of the positional encodings; skip: the layer of the distance net that sees the point
    again.
    """

    width: int = 256
    depth: int = 8
    skip: int = 4
    points: int = 6
    features: int = 256
    color_width: int = 256
    color_depth: int = 4
    directions: int = 4

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)

    @property
    def sdf_shapes(self) -> list[tuple[int, int]]:
        """(in, out) of every layer of the distance net."""
        encoded = 3 + 6 * self.points
        inputs = [encoded, *[self.width] * self.depth]
        outputs = [*[self.width] * self.depth, 1 + self.features]
        if 0 < self.skip <= self.depth:
            outputs[self.skip - 1] = self.width - encoded
        return list(zip(inputs, outputs, strict=True))

    @property
    def color_shapes(self) -> list[tuple[int, int]]:
        """(in, out) of every layer of the colour net: point, encoded direction, normal, features -> RGB."""
        inputs = [3 + 3 + 6 * self.directions + 3 + self.features, *[self.color_width] * self.color_depth]
        return list(zip(inputs, [*[self.color_width] * self.color_depth, 3], strict=True))


PAPER = NeusConfig()
CPU = NeusConfig(width=64, depth=5, skip=3, points=4, features=64, color_width=64, color_depth=3, directions=3)


def encode(x: Tensor, bands: int) -> Tensor:
    """(..., C) to (..., C (1 + 2 bands)): x, then sine and cosine of 2^k x, as NeRF does without pi."""
    parts = [x]
    for k in range(bands):
        parts += [torch.sin(x * 2.0**k), torch.cos(x * 2.0**k)]
    return torch.cat(parts, -1)


class Field(NamedTuple):
    """The weights of one scene.

    sharpness: s = 1 / standard deviation of the rendering's sections; bend: from points (..., 3) to where the distance
    net is asked for them, None for there.
    """

    sdf: tuple[Layer, ...]
    color: tuple[Layer, ...]
    sharpness: Tensor
    config: NeusConfig
    bend: Callable[[Tensor], Tensor] | None = None

    def distance(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance (..., 1), positive outside, and features (..., F) of points (..., 3) in the unit sphere."""
        out = run_sdf(self.sdf, points if self.bend is None else self.bend(points), self.config)
        return out[..., :1], out[..., 1:]

    def fixed(self) -> Field:
        """The same without a history; it shares its numbers, so what is learnt later changes it, too."""
        layers = [tuple((w.detach(), b.detach()) for w, b in part) for part in (self.sdf, self.color)]
        return self._replace(sdf=layers[0], color=layers[1], sharpness=self.sharpness.detach())

    def surface(self, points: Tensor, *, create_graph: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """As `distance`, with the gradient (..., 3) of the distance between them."""
        with torch.enable_grad():
            points = points if points.requires_grad else points.detach().requires_grad_()
            distance, features = self.distance(points)
            (gradient,) = torch.autograd.grad(distance.sum(), points, create_graph=create_graph, retain_graph=True)
        return distance, gradient, features

    def radiance(self, points: Tensor, normals: Tensor, directions: Tensor, features: Tensor) -> Tensor:
        """Colours (..., 3) in (0, 1); normals are raw gradients, directions unit vectors from the camera."""
        return run_color(self.color, points, normals, directions, features, self.config)


def run_sdf(layers: tuple[Layer, ...], points: Tensor, config: NeusConfig) -> Tensor:
    """(..., 1 + F) distance and features."""
    encoded = encode(points, config.points)
    x = encoded
    for index, (weight, bias) in enumerate(layers):
        if index == config.skip:
            x = torch.cat([x, encoded], -1) / math.sqrt(2)
        x = functional.linear(x, weight, bias)
        if index < len(layers) - 1:
            x = functional.softplus(x, beta=_BETA)
    return x


def run_color(  # noqa: PLR0917 - what a colour is made of
    layers: tuple[Layer, ...], points: Tensor, normals: Tensor, directions: Tensor, features: Tensor, config: NeusConfig
) -> Tensor:
    """(..., 3) colours."""
    x = torch.cat([points, encode(directions, config.directions), normals, features], -1)
    for index, (weight, bias) in enumerate(layers):
        x = functional.linear(x, weight, bias)
        if index < len(layers) - 1:
            x = torch.relu(x)
    return torch.sigmoid(x)


class NormedLinear(nn.Module):
    """A linear layer whose rows have a direction and a length of their own (weight normalisation, Salimans 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight_g = nn.Parameter(torch.ones(outputs, 1))
        self.weight_v = nn.Parameter(torch.zeros(outputs, inputs))

    def set(self, weight: Tensor, bias: Tensor) -> None:
        """Take over the plain weights of a layer."""
        with torch.no_grad():
            self.weight_v.copy_(weight)
            self.weight_g.copy_(weight.norm(dim=1, keepdim=True))
            self.bias.copy_(bias)

    def effective(self) -> Layer:
        """Weight (out, in) and bias."""
        return self.weight_g * self.weight_v / self.weight_v.norm(dim=1, keepdim=True), self.bias


class SdfNet(nn.Module):
    """Signed distance and features of points."""

    def __init__(self, config: NeusConfig) -> None:
        super().__init__()
        self.config = config
        for index, start in enumerate(sphere_layers(config)):
            layer = NormedLinear(start[0].shape[1], start[0].shape[0])
            layer.set(*start)
            setattr(self, f"lin{index}", layer)

    def effective(self) -> tuple[Layer, ...]:
        """Plain weights of every layer."""
        return tuple(getattr(self, f"lin{index}").effective() for index in range(len(self.config.sdf_shapes)))

    def forward(self, points: Tensor) -> Tensor:
        """(..., 1 + F) of points (..., 3)."""
        return run_sdf(self.effective(), points, self.config)


class ColorNet(nn.Module):
    """Colour of points, seen along directions."""

    def __init__(self, config: NeusConfig) -> None:
        super().__init__()
        self.config = config
        for index, (inputs, outputs) in enumerate(config.color_shapes):
            layer = NormedLinear(inputs, outputs)
            layer.set(*plain_layer(inputs, outputs))
            setattr(self, f"lin{index}", layer)

    def effective(self) -> tuple[Layer, ...]:
        """Plain weights of every layer."""
        return tuple(getattr(self, f"lin{index}").effective() for index in range(len(self.config.color_shapes)))

    def forward(self, points: Tensor, normals: Tensor, directions: Tensor, features: Tensor) -> Tensor:
        """(..., 3) colours in (0, 1)."""
        return run_color(self.effective(), points, normals, directions, features, self.config)


class Variance(nn.Module):
    """The sharpness of a scene, one number."""

    def __init__(self, start: float = 0.3) -> None:
        super().__init__()
        self.variance = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1) of the same sharpness for (N, ...)."""
        return x.new_ones(len(x), 1) * sharpness(self.variance)


def sharpness(variance: Tensor) -> Tensor:
    """S = exp(10 v), kept between 1e-6 and 1e6."""
    return torch.exp(10.0 * variance).clamp(1e-6, 1e6)


class Background(nn.Module):
    """What lies outside the unit sphere: a NeRF over (x, y, z, 1 / r) (NeRF++, Zhang 2020)."""

    def __init__(self, width: int = 256, depth: int = 8, points: int = 10, directions: int = 4, skip: int = 4) -> None:
        super().__init__()
        self.points, self.directions, self.skip = points, directions, skip
        seen, looked = 4 + 8 * points, 3 + 6 * directions
        inputs = [seen, *(width + seen if index == skip else width for index in range(depth - 1))]
        self.pts_linears = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.views_linears = nn.ModuleList([nn.Linear(looked + width, width // 2)])
        self.feature_linear = nn.Linear(width, width)
        self.alpha_linear = nn.Linear(width, 1)
        self.rgb_linear = nn.Linear(width // 2, 3)

    def forward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Raw density (..., 1) and raw colour (..., 3) of points (..., 4) seen along directions (..., 3)."""
        encoded = encode(points, self.points)
        x = encoded
        for index, layer in enumerate(self.pts_linears):
            x = torch.relu(layer(x))
            if index == self.skip:
                x = torch.cat([encoded, x], -1)
        density, x = self.alpha_linear(x), self.feature_linear(x)
        x = torch.cat([x, encode(directions, self.directions)], -1)
        for layer in self.views_linears:
            x = torch.relu(layer(x))
        return density, self.rgb_linear(x)


class Neus(nn.Module):
    """One scene. `background` is for pictures without masks."""

    def __init__(self, config: NeusConfig = PAPER, *, background: bool = False) -> None:
        super().__init__()
        self.config = config
        self.sdf_network, self.color_network = SdfNet(config), ColorNet(config)
        self.variance_network = Variance()
        self.nerf = Background() if background else None

    def field(self) -> Field:
        """The scene's plain weights."""
        variance = self.variance_network.variance
        return Field(self.sdf_network.effective(), self.color_network.effective(), sharpness(variance), self.config)


@torch.no_grad()
def sphere_layers(config: NeusConfig) -> list[Layer]:
    """Weights with which the distance net begins as a sphere of radius 0.5 (Atzmon 2020, SAL).

    What narrow layers and softplus do to it is mended in the last layer, by the smallest change that does.
    """
    layers = [_sphere_layer(config, index) for index in range(len(config.sdf_shapes))]
    directions = functional.normalize(torch.randn(4096, 3), dim=-1)
    points = directions * torch.linspace(0.02, 1.1, 4096)[:, None]
    weight, bias = layers[-1]
    size = weight.shape[1]
    layers[-1] = torch.eye(size), torch.zeros(size)
    hidden = run_sdf(tuple(layers), points, config)
    missing = points.norm(dim=-1) - _RADIUS - (hidden @ weight[0] + bias[0])
    known = torch.cat([hidden, torch.ones(len(points), 1)], -1).double()
    ridge = 1e-3 * len(points) * torch.eye(size + 1).double() * known.square().mean()
    change = torch.linalg.solve(known.T @ known + ridge, known.T @ missing.double()).float()
    weight[0] += change[:-1]
    bias[0] += change[-1]
    layers[-1] = weight, bias
    return layers


def _sphere_layer(config: NeusConfig, index: int) -> Layer:
    inputs, outputs = config.sdf_shapes[index]
    encoded = 3 + 6 * config.points
    if index == len(config.sdf_shapes) - 1:
        weight = torch.randn(outputs, inputs) * 1e-4 + math.sqrt(math.pi) / math.sqrt(inputs)
        return weight, torch.full((outputs,), -_RADIUS)
    weight = torch.randn(outputs, inputs) * math.sqrt(2) / math.sqrt(outputs)
    if index == 0:
        weight[:, 3:] = 0.0
    elif index == config.skip:
        weight[:, -(encoded - 3) :] = 0.0
    return weight, torch.zeros(outputs)


def plain_layer(inputs: int, outputs: int) -> Layer:
    """Weights with which a linear layer begins in torch."""
    layer = nn.Linear(inputs, outputs)
    return layer.weight.detach(), layer.bias.detach()


def build(config: dict[str, Any]) -> Neus:
    """Build the network that a header describes."""
    return Neus(NeusConfig(**config))
