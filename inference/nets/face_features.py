"""What a network of our own sees in rendered faces: feature maps that stand in for VGG's, and who somebody is.

Plain 3x3 convolutions (Simonyan 2015) with average pooling, trained to tell rendered people apart and to read their
expression and turn of the head (`training/face_features.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

NAME = "face-features"
SCHEMA = 1
_CELLS = 4  # a side, of the last maps, that the heads see


@dataclass(frozen=True)
class FeaturesConfig:
    """Shape of the network: channels of each level, numbers that say who somebody is and how they look."""

    widths: tuple[int, ...] = (16, 32, 64, 96)
    identity: int = 128
    coefficients: int = 58

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return {**asdict(self), "widths": list(self.widths)}


class FaceFeatures(nn.Module):
    """Pictures (B, 3, S, S) in [0, 1] of people before black."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config
        inputs, levels = 3, []
        for width in config.widths:
            levels.append(nn.ModuleList([_unit(inputs, width), _unit(width, width)]))
            inputs = width
        self.levels = nn.ModuleList(levels)
        self.who = nn.Linear(_CELLS**2 * inputs, config.identity)
        self.how = nn.Linear(_CELLS**2 * inputs, config.coefficients)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps after every activation."""
        x, found = 2 * images - 1, []
        for index, level in enumerate(self.levels):
            x = functional.avg_pool2d(x, 2) if index else x
            for unit in level:  # type: ignore[union-attr]
                x = unit(x)
                found.append(x)
        return found

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Who: (B, identity) unit vectors; how: (B, coefficients)."""
        pooled = functional.adaptive_avg_pool2d(self(images)[-1], _CELLS).flatten(1)
        return functional.normalize(self.who(pooled), dim=1), self.how(pooled)


def build(config: dict[str, Any]) -> FaceFeatures:
    """Build the network that a header describes."""
    return FaceFeatures(FeaturesConfig(**{**config, "widths": tuple(config["widths"])}))


def _unit(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
