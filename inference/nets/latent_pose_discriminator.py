"""Whether a picture is real, and of whom: the projection discriminator of latent pose (Miyato 2018; Burkov 2020).

Attributes are named as in the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .spectral import SpectralConv2d, SpectralEmbedding, SpectralLinear

NAME = "latent-pose-discriminator"
SCHEMA = 1


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of the network.

    size: side of its pictures, px; width, widest: channels after the first block and at most; identity: numbers of an
    identity; blocks: residual blocks in all; rows: identities that it knows.
    """

    size: int = 256
    width: int = 64
    widest: int = 512
    identity: int = 512
    blocks: int = 7
    rows: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class EncoderBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, (half the size), beside a shortcut from behind the first ReLU.

    The original's first ReLU overwrites its input, so that its shortcut, and whoever else holds that input, sees it
    rectified.
    """

    def __init__(self, inputs: int, outputs: int, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.block = nn.ModuleDict({"2": SpectralConv2d(inputs, outputs, 3), "5": SpectralConv2d(outputs, outputs, 3)})
        self.skip = nn.ModuleDict({"0": SpectralConv2d(inputs, outputs, 1)} if down or inputs != outputs else {})

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W), rectified already, to (B, outputs, H, W) or half that."""
        first, second = self.block.values()
        y = second(torch.relu(first(x)))
        for layer in self.skip.values():
            x = layer(x)
        return functional.avg_pool2d(y, 2) + functional.avg_pool2d(x, 2) if self.down else x + y


class Discriminator(nn.Module):
    """Scores of pictures and what it saw in them."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.down_block = nn.ModuleDict({
            "0": SpectralConv2d(3, config.width, 3), "2": SpectralConv2d(config.width, config.width, 3)
        })  # fmt: skip
        self.skip = nn.ModuleDict({"0": SpectralConv2d(3, config.width, 1)})
        halvings, inputs, blocks = min(int(math.log2(config.size)) - 2, config.blocks), config.width, []
        for index in range(1, config.blocks):
            down = index < halvings
            outputs = min(inputs * 2, config.widest) if down else inputs
            if index == config.blocks - 1:
                outputs = config.identity
            blocks.append(EncoderBlock(inputs, outputs, down=down))
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.linear = SpectralLinear(config.identity, 1, eps=1e-4)
        self.embed = SpectralEmbedding(config.rows, config.identity)

    def forward(self, images: Tensor, who: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Scores (B,) of pictures (B, 3, S, S) of people (B, identity), rows of `embed`, and features of every block.

        All features but the last are rectified.
        """
        first, second = self.down_block.values()
        x = functional.avg_pool2d(second(torch.relu(first(images))) + self.skip["0"](images), 2)
        found = []
        for block in self.blocks:
            x = torch.relu(x)
            found.append(x)
            x = block(x)
        found.append(x)
        pooled = torch.relu(x).sum((2, 3))
        score = self.linear(pooled)[:, 0]
        return (score if who is None else score + (pooled * who).sum(1)), found


def build(config: dict[str, Any]) -> Discriminator:
    """Build the network that a header describes."""
    return Discriminator(DiscriminatorConfig(**config))
