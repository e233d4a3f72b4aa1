"""The shape of a face in one picture: normals, how deep everything lies, and how sure that is.

A small U-Net (Ronneberger 2015) over an upright crop of the face. It is trained on rendered people of exactly known
shape (`training/face_relief.py`) and tells the fit of a head what shading says, which landmarks do not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "face-relief"
SCHEMA = 1


@dataclass(frozen=True)
class ReliefConfig:
    """Shape of the network: side of the crop in pixels, channels of the first level."""

    side: int = 96
    width: int = 20
    levels: int = 4

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Relief(NamedTuple):
    """What a crop shows, each (B, ..., S, S).

    normal (B, 3): unit, in the frame of a camera that looks at the crop's middle, x right, y down, z away; depth
    (B, 1): along the ray, less its mean over the face, in sides of the crop at the face's distance; normal_error,
    depth_error (B, 1): expected absolute errors.
    """

    normal: Tensor
    depth: Tensor
    normal_error: Tensor
    depth_error: Tensor


class FaceRelief(nn.Module):
    """Crop (B, 3, S, S) in [0, 1] to its relief."""

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**k for k in range(config.levels)]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([3, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.last = nn.Conv2d(widths[0], 6, 1)

    def forward(self, crop: Tensor) -> Relief:
        """See the class."""
        x, passed = (crop - 0.45) / 0.25, []
        for index, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if index else x)
            passed.append(x)
        for block, beside in zip(self.up, passed[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), beside], 1))
        out = self.last(x)
        normal = functional.normalize(out[:, :3] + out.new_tensor([0.0, 0.0, -1.0])[:, None, None], dim=1)
        errors = functional.softplus(out[:, 4:]) + 1e-3
        return Relief(normal, out[:, 3:4], errors[:, :1], 0.1 * errors[:, 1:])


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (inputs, outputs):
        layers += [nn.Conv2d(size, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


def build(config: dict[str, Any]) -> FaceRelief:
    """Build the network that a header describes."""
    return FaceRelief(ReliefConfig(**config))
