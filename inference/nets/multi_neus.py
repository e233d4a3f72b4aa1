"""Many scenes of one kind in shared layers: what heads have in common, and what makes each its own.

Multi-NeuS (Burkov 2022): N copies of NeuS share most layers. The rest are scene-specific, either with weights of their
own (*independent*), or as combinations of r learned weight sets with each scene's r coefficients (*low-rank*). A new
scene begins at the average of all. The effective weights of a scene are formed once a step, not once a point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .neus import CPU, Field, Layer, NeusConfig, NormedLinear, Variance, plain_layer, sharpness, sphere_layers

NAME = "multi-neus"
SCHEMA = 1
Kind = Literal["independent", "low-rank"]
Own = Callable[[nn.Parameter], Tensor]  # what a scene has in place of a parameter with a row for each scene


@dataclass(frozen=True)
class MultiNeusConfig:
    """Shape of the networks.

    sdf, color: which layers are each scene's own, counted from 0; rank: weight sets of a low-rank layer; tied: the
    layers of a net share a scene's coefficients; spread: of the sets about the first one, relative to its size;
    landmarks: points that are known of each scene, in the unit sphere. The published search of the placement is only a
    figure, so it is a setting here.
    """

    scenes: int
    kind: Kind = "low-rank"
    rank: int = 1000
    tied: bool = False
    sdf: tuple[int, ...] = (1, 3)
    color: tuple[int, ...] = (1,)
    spread: float = 0.3
    landmarks: int = 0
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

    def effective(self, own: Own) -> Layer:
        """Weight (out, in) and bias of one scene."""
        return own(self.weight), own(self.bias)

    def own(self) -> list[tuple[nn.Module, str]]:
        """Where the parameters stand of which each row is one scene's."""
        return [(self, "weight"), (self, "bias")]


class Coefficients(nn.Module):
    """How much of each of r weight sets a scene takes."""

    def __init__(self, scenes: int, rank: int) -> None:
        super().__init__()
        spread = 0.1 / rank**0.5 * torch.randn(scenes, rank)
        self.value = nn.Parameter(1.0 / rank + spread - spread.mean(1, keepdim=True))  # of sum 1


class LowRank(nn.Module):
    """A layer that is each scene's own combination of r shared ones, without weight normalisation."""

    def __init__(self, coefficients: Coefficients, start: Layer, spread: float) -> None:
        super().__init__()
        weight, bias = start
        rank = coefficients.value.shape[1]
        size = weight.square().mean().sqrt().clamp_min(1e-3)
        self.weight = nn.Parameter(weight + spread * size * torch.randn(rank, *weight.shape))
        self.bias = nn.Parameter(bias.expand(rank, -1).clone())
        self.kept_in = (coefficients,)  # a tuple, so that only the net that shares it registers it
        with torch.no_grad():  # so that all scenes begin near the start, and their average at it
            self.weight += weight - torch.einsum("r,roi->oi", coefficients.value.mean(0), self.weight)

    def effective(self, own: Own) -> Layer:
        """Weight (out, in) and bias of one scene."""
        c = own(self.kept_in[0].value)
        return (c @ self.weight.flatten(1)).view(self.weight.shape[1:]), c @ self.bias

    def own(self) -> list[tuple[nn.Module, str]]:
        """Where the parameters stand of which each row is one scene's."""
        return [(self.kept_in[0], "value")]


class Shared(nn.Module):
    """A layer that all scenes have in common."""

    def __init__(self, start: Layer) -> None:
        super().__init__()
        self.layer = NormedLinear(start[0].shape[1], start[0].shape[0])
        self.layer.set(*start)

    def effective(self, own: Own) -> Layer:  # noqa: ARG002 - the same for all
        """Weight (out, in) and bias."""
        return self.layer.effective()

    def own(self) -> list[tuple[nn.Module, str]]:
        """Nothing."""
        return []


class MultiNeus(nn.Module):
    """Scenes that share layers."""

    def __init__(self, config: MultiNeusConfig) -> None:
        super().__init__()
        self.config, net = config, config.net
        starts = sphere_layers(net)
        self.coefficients = nn.ModuleList()
        self.sdf = nn.ModuleList(self._layers(starts, config.sdf))
        starts = [plain_layer(*shape) for shape in net.color_shapes]
        self.color = nn.ModuleList(self._layers(starts, config.color))
        self.variance_network = Variance()
        self.variance = nn.Parameter(torch.zeros(config.scenes))  # of each scene, beside the shared one
        self.register_buffer("landmarks", torch.full((config.scenes, config.landmarks, 3), float("nan")))

    def _layers(self, starts: list[Layer], own: tuple[int, ...]) -> list[nn.Module]:
        scenes, layers, first = self.config.scenes, [], len(self.coefficients)
        for index, start in enumerate(starts):
            if index not in own:
                layers.append(Shared(start))
            elif self.config.kind == "independent":
                layers.append(Independent(scenes, start))
            else:
                if not (self.config.tied and len(self.coefficients) > first):
                    self.coefficients.append(Coefficients(scenes, self.config.rank))
                layers.append(LowRank(self.coefficients[-1], start, self.config.spread))  # type: ignore[arg-type]
        return layers

    def field(self, scene: int) -> Field:
        """The plain weights of one scene."""
        return self.field_of(lambda parameter: parameter[scene])

    def field_of(self, own: Own) -> Field:
        """The plain weights of a scene of which `own` gives the rows, one for each of `own_parameters`."""
        return Field(
            tuple(layer.effective(own) for layer in self.sdf),  # type: ignore[operator]
            tuple(layer.effective(own) for layer in self.color),  # type: ignore[operator]
            sharpness(self.variance_network.variance + own(self.variance)),
            self.config.net,
        )

    def add_scene(self) -> int:
        """Append a scene that begins at the average of all; gives its number. Optimisers must be made anew."""
        for module, name in self._own():
            value = getattr(module, name).detach()
            setattr(module, name, nn.Parameter(torch.cat([value, value.mean(0, keepdim=True)])))
        self.config = replace(self.config, scenes=self.config.scenes + 1)
        return self.config.scenes - 1

    def _own(self) -> list[tuple[nn.Module, str]]:
        layers = [place for layer in (*self.sdf, *self.color) for place in layer.own()]  # type: ignore[operator]
        return list(dict.fromkeys([*layers, (self, "variance")]))

    def own_parameters_of(self, layers: nn.ModuleList) -> list[nn.Parameter]:
        """Parameters with a row for each scene in some of the layers."""
        places = dict.fromkeys(place for layer in layers for place in layer.own())  # type: ignore[operator]
        return [getattr(module, name) for module, name in places]

    def own_parameters(self) -> list[nn.Parameter]:
        """Parameters whose rows are the scenes'; the rest is shared."""
        return [getattr(module, name) for module, name in self._own()]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that all scenes have in common."""
        own = {id(parameter) for parameter in self.own_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def only(self, scene: int) -> MultiNeus:
        """A net of this scene alone, which is smaller to keep; its weights are its own."""
        alone = MultiNeus(replace(self.config, scenes=1)).to(self.variance.device)
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
