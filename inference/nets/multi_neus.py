"""Many scenes of one kind in shared layers: what heads have in common, and what makes each its own.

Multi-NeuS (Burkov 2022): N copies of NeuS share most layers. The rest are scene-specific, either with weights of their
own (*independent*), or as combinations of r learned weight sets with each scene's r coefficients (*low-rank*). A new
scene begins at the average of all. The effective weights of a scene are formed once a step, not once a point.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from .neus import CPU, Field, Layer, NeusConfig, NormedLinear, Variance, plain_layer, sharpness, sphere_layers

NAME = "multi-neus"
SCHEMA = 1
Kind = Literal["independent", "low-rank"]


@dataclass(frozen=True)
class MultiNeusConfig:
    """Shape of the networks.

    sdf, color: which layers are each scene's own, counted from 0; rank: weight sets of a low-rank layer; spread: of
    the sets about the first one, relative to its size. The published search of the placement is only a figure, so it
    is a setting here.
    """

    scenes: int
    kind: Kind = "low-rank"
    rank: int = 1000
    sdf: tuple[int, ...] = (1, 3)
    color: tuple[int, ...] = (1,)
    spread: float = 0.3
    net: NeusConfig = field(default_factory=lambda: CPU)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Independent(nn.Module):
    """A layer of which each scene has its own."""

    def __init__(self, scenes: int, start: Layer) -> None:
        super().__init__()
        self.weight = nn.Parameter(start[0].expand(scenes, -1, -1).clone())
        self.bias = nn.Parameter(start[1].expand(scenes, -1).clone())

    def effective(self, scene: int) -> Layer:
        """Weight (out, in) and bias of one scene."""
        return self.weight[scene], self.bias[scene]

    def add_average(self) -> None:
        """Append a scene that is the average of all."""
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), self.weight.detach().mean(0, keepdim=True)]))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), self.bias.detach().mean(0, keepdim=True)]))

    def own(self) -> list[nn.Parameter]:
        """Parameters of which each row is one scene's."""
        return [self.weight, self.bias]


class LowRank(nn.Module):
    """A layer that is each scene's own combination of r shared ones, without weight normalisation."""

    def __init__(self, scenes: int, rank: int, start: Layer, spread: float) -> None:
        super().__init__()
        weight, bias = start
        size = weight.square().mean().sqrt().clamp_min(1e-3)
        self.weight = nn.Parameter(weight + spread * size * torch.randn(rank, *weight.shape))
        self.bias = nn.Parameter(bias.expand(rank, -1).clone())
        coefficients = 0.1 / rank**0.5 * torch.randn(scenes, rank)
        self.coefficients = nn.Parameter(1.0 / rank + coefficients - coefficients.mean(1, keepdim=True))  # of sum 1
        with torch.no_grad():  # so that all scenes begin near the start, and their average at it
            self.weight += weight - torch.einsum("r,roi->oi", self.coefficients.mean(0), self.weight)

    def effective(self, scene: int) -> Layer:
        """Weight (out, in) and bias of one scene."""
        c = self.coefficients[scene]
        return (c @ self.weight.flatten(1)).view(self.weight.shape[1:]), c @ self.bias

    def add_average(self) -> None:
        """Append a scene that is the average of all."""
        self.coefficients = nn.Parameter(
            torch.cat([self.coefficients.detach(), self.coefficients.detach().mean(0, keepdim=True)])
        )

    def own(self) -> list[nn.Parameter]:
        """Parameters of which each row is one scene's."""
        return [self.coefficients]


class Shared(nn.Module):
    """A layer that all scenes have in common."""

    def __init__(self, start: Layer) -> None:
        super().__init__()
        self.layer = NormedLinear(start[0].shape[1], start[0].shape[0])
        self.layer.set(*start)

    def effective(self, scene: int) -> Layer:  # noqa: ARG002 - the same for all
        """Weight (out, in) and bias."""
        return self.layer.effective()

    def add_average(self) -> None:
        """Nothing is any scene's own."""

    def own(self) -> list[nn.Parameter]:
        """None."""
        return []


class MultiNeus(nn.Module):
    """Scenes that share layers."""

    def __init__(self, config: MultiNeusConfig) -> None:
        super().__init__()
        self.config, net = config, config.net
        starts = sphere_layers(net)
        self.sdf = nn.ModuleList(self._layer(start, index in config.sdf) for index, start in enumerate(starts))
        starts = [plain_layer(*shape) for shape in net.color_shapes]
        self.color = nn.ModuleList(self._layer(start, index in config.color) for index, start in enumerate(starts))
        self.variance_network = Variance()
        self.variance = nn.Parameter(torch.zeros(config.scenes))  # of each scene, beside the shared one

    def _layer(self, start: Layer, own: bool) -> nn.Module:  # noqa: FBT001 - which of two kinds
        if not own:
            return Shared(start)
        if self.config.kind == "independent":
            return Independent(self.config.scenes, start)
        return LowRank(self.config.scenes, self.config.rank, start, self.config.spread)

    def field(self, scene: int) -> Field:
        """The plain weights of one scene."""
        return Field(
            tuple(layer.effective(scene) for layer in self.sdf),  # type: ignore[operator]
            tuple(layer.effective(scene) for layer in self.color),  # type: ignore[operator]
            sharpness(self.variance_network.variance + self.variance[scene]),
            self.config.net,
        )

    def add_scene(self) -> int:
        """Append a scene that begins at the average of all; gives its number. Optimisers must be made anew."""
        for layer in (*self.sdf, *self.color):
            layer.add_average()  # type: ignore[operator]
        variance = self.variance.detach()
        self.variance = nn.Parameter(torch.cat([variance, variance.mean(0, keepdim=True)]))
        self.config = replace(self.config, scenes=self.config.scenes + 1)
        return self.config.scenes - 1

    def own_parameters(self) -> list[nn.Parameter]:
        """Parameters whose rows are the scenes'; the rest is shared."""
        layers = [parameter for layer in (*self.sdf, *self.color) for parameter in layer.own()]  # type: ignore[operator]
        return [*layers, self.variance]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that all scenes have in common."""
        own = {id(parameter) for parameter in self.own_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def only(self, scene: int) -> MultiNeus:
        """A net of this scene alone, which is smaller to keep; its weights are its own."""
        alone = MultiNeus(replace(self.config, scenes=1))
        own = {id(parameter) for parameter in self.own_parameters()}
        with torch.no_grad():
            for (_, ours), (_, theirs) in zip(alone.named_parameters(), self.named_parameters(), strict=True):
                ours.copy_(theirs[scene : scene + 1] if id(theirs) in own else theirs)
        return alone


def build(config: dict[str, Any]) -> MultiNeus:
    """Build the network that a header describes."""
    net = NeusConfig(**config["net"])
    return MultiNeus(
        MultiNeusConfig(**{**config, "net": net, "sdf": tuple(config["sdf"]), "color": tuple(config["color"])})
    )
