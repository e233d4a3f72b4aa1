"""From a volume of evidence to a volume of joints: an encoder and decoder of 3D convolutions (Moon 2018).

The deep form of learnable triangulation (Iskakov 2019, section 3.2) has five levels and layers at its back, the small
one of VoxelPose (Tu 2020) two levels and none. Attributes are named as in the published checkpoints.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

NAME = "v2v"
SCHEMA = 1


@dataclass(frozen=True)
class V2VConfig:
    """Shape of the network.

    first, kernel: channels of the first layer and its reach; widths: of the full-size level and of each halved one
    below it, so the volume's side is a multiple of 2 ** (len(widths) - 1); fronts: residual blocks before the first
    halving; back: whether a residual block and two 1x1x1 layers stand before the output.
    """

    inputs: int = 32
    joints: int = 17
    first: int = 16
    kernel: int = 7
    widths: tuple[int, ...] = (32, 64, 128, 128, 128, 128)
    fronts: int = 3
    back: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


SMALL = V2VConfig(first=8, widths=(16, 32, 64), fronts=1, back=False)


class Basic3D(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        convolution = nn.Conv3d(inputs, outputs, kernel, padding=kernel // 2)
        self.block = nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, D, D, D) to (N, outputs, D, D, D)."""
        return self.block(x)


class Residual3D(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.res_branch = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU(),
            nn.Conv3d(outputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs),
        )  # fmt: skip
        self.skip_con = (
            nn.Sequential()
            if inputs == outputs
            else nn.Sequential(nn.Conv3d(inputs, outputs, 1), nn.BatchNorm3d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, D, D, D) to (N, outputs, D, D, D)."""
        return torch.relu(self.res_branch(x) + self.skip_con(x))


class Upsample3D(nn.Module):
    """Transposed convolution that doubles the side, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.ConvTranspose3d(inputs, outputs, 2, 2), nn.BatchNorm3d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, D, D, D) to (N, outputs, 2D, 2D, 2D)."""
        return self.block(x)


class EncoderDecoder(nn.Module):
    """Halve, look, and double again, with a residual block across at every level."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = len(widths) - 1
        self.pool = nn.MaxPool3d(2)
        for level in range(1, self.levels + 1):
            above, below = widths[level - 1], widths[level]
            setattr(self, f"skip_res{level}", Residual3D(above, above))
            setattr(self, f"encoder_res{level}", Residual3D(above, below))
            setattr(self, f"decoder_res{level}", Residual3D(below, below))
            setattr(self, f"decoder_upsample{level}", Upsample3D(below, above))
        self.mid_res = Residual3D(widths[-1], widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, widths[0], D, D, D) to the same."""
        skipped = []
        for level in range(1, self.levels + 1):
            skipped.append(getattr(self, f"skip_res{level}")(x))
            x = getattr(self, f"encoder_res{level}")(self.pool(x))
        x = self.mid_res(x)
        for level in range(self.levels, 0, -1):
            x = getattr(self, f"decoder_res{level}")(x)
            x = getattr(self, f"decoder_upsample{level}")(x) + skipped.pop()
        return x


class V2V(nn.Module):
    """A volume of joints from a volume of evidence."""

    def __init__(self, config: V2VConfig) -> None:
        super().__init__()
        self.config = config
        wide = config.widths[0]
        fronts = [Residual3D(config.first if i == 0 else wide, wide) for i in range(config.fronts)]
        self.front_layers = nn.Sequential(Basic3D(config.inputs, config.first, config.kernel), *fronts)
        self.encoder_decoder = EncoderDecoder(config.widths)
        back = [Residual3D(wide, wide), Basic3D(wide, wide, 1), Basic3D(wide, wide, 1)] if config.back else []
        self.back_layers = nn.Sequential(*back)
        self.output_layer = nn.Conv3d(wide, config.joints, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, D, D, D) to (N, joints, D, D, D)."""
        return self.output_layer(self.back_layers(self.encoder_decoder(self.front_layers(x))))


def build(config: dict[str, Any]) -> V2V:
    """Build the network that a header describes."""
    return V2V(V2VConfig(**{**config, "widths": tuple(config["widths"])}))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
