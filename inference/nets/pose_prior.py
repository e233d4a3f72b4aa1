"""How people stand: a denoiser of poses, learnt from recorded motion (Vincent 2011; score distillation, Poole 2022).

A pose is the local rotations of all parts but the first, as six numbers each, and which way is up for the pelvis: the
heading does not count. What the denoiser would change about a pose is how unlike a human pose it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .gc_body import PARTS
from .gc_ssn import six_from_rotation

NAME = "pose-prior"
SCHEMA = 1


@dataclass(frozen=True)
class PriorConfig:
    """hidden: width of the layers; low, high: the noise that it is trained on."""

    hidden: int = 512
    layers: int = 3
    low: float = 0.02
    high: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


def pose_vector(rotations: Tensor) -> Tensor:
    """Local rotations (B, 22, 3, 3) to poses (B, 129), the first part by its up direction alone."""
    return torch.cat([six_from_rotation(rotations[:, 1:]).flatten(1), rotations[:, 0, 2]], 1)


class PosePrior(nn.Module):
    """Noisy poses (B, D) and their noise (B,) to clean ones."""

    mean: Tensor
    spread: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.size = 6 * (len(PARTS) - 1) + 3
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("spread", torch.ones(self.size))
        self.first = nn.Linear(self.size + 1, config.hidden)
        self.hidden = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.layers))
        self.last = nn.Linear(config.hidden, self.size)

    def forward(self, pose: Tensor, noise: Tensor) -> Tensor:
        """See the class. Preconditioned after Karras 2022, so that at no noise it changes nothing."""
        var, sigma = self.spread**2, noise[:, None]
        total = (var + sigma**2).sqrt()
        x = (pose - self.mean) / total
        x = self.first(torch.cat([x, sigma.log() / 4], 1))
        for layer in self.hidden:
            x = x + layer(nn.functional.silu(x))
        keep = var / (var + sigma**2)
        return self.mean + keep * (pose - self.mean) + sigma * self.spread / total * self.last(nn.functional.silu(x))

    def correction(self, rotations: Tensor, noise: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, D) what human poses like these would add to these poses, as seen through `noise` (B,); no gradient."""
        with torch.no_grad():
            pose = pose_vector(rotations)
            shaken = pose if generator is None else pose + noise[:, None] * torch.randn(pose.shape, generator=generator)
            return self(shaken, noise) - pose


def build(config: dict[str, Any]) -> PosePrior:
    """Make the network that a weights file describes."""
    return PosePrior(PriorConfig(**config))
