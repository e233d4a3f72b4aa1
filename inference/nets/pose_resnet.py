"""Heat maps of joints, and how far each view can be trusted, from pictures (Xiao 2018; Iskakov 2019, section 3.1).

A ResNet (He 2016) and three transposed convolutions give heat maps at a quarter of the picture's size; an optional
head on the last residual stage gives numbers in (0, 1) for every picture. Attributes are named as in the published
checkpoints.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

NAME = "pose-resnet"
SCHEMA = 1
_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB


@dataclass(frozen=True)
class PoseResNetConfig:
    """Shape of the network.

    layers: 18, 34, 50, 101 or 152; style: where a bottleneck strides, in its 3x3 ("simple") or first 1x1 ("caffe");
    algebraic, volumetric: numbers that the confidence heads of either name give, 0 for no head.
    """

    layers: int = 50
    joints: int = 17
    style: Literal["simple", "caffe"] = "simple"
    deconv: tuple[int, ...] = (256, 256, 256)
    algebraic: int = 0
    volumetric: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Seen(NamedTuple):
    """heatmaps (N, J, H/4, W/4); features (N, C, H/4, W/4); confidences (N, n) of either head, None without one."""

    heatmaps: Tensor
    features: Tensor
    algebraic: Tensor | None
    volumetric: Tensor | None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, _style: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H / stride, W / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + _passed(self.downsample, x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, style: str) -> None:
        super().__init__()
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 width, H / stride, W / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + _passed(self.downsample, x))


class ConfidenceHead(nn.Module):
    """Numbers in (0, 1) for a picture, from its last residual stage (N, C, h, w) with h, w >= 4."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(inputs, 512, 3, 1, 1), nn.BatchNorm2d(512), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(512, 256, 3, 1, 1), nn.BatchNorm2d(256), nn.MaxPool2d(2), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, outputs), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, outputs) in (0, 1)."""
        return self.head(self.features(x).flatten(2).mean(-1))


class PoseResNet(nn.Module):
    """Heat maps of joints from pictures."""

    def __init__(self, config: PoseResNetConfig) -> None:
        super().__init__()
        self.config = config
        block = BasicBlock if config.layers < 50 else Bottleneck
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        width = 64
        for stage, depth in enumerate(_DEPTHS[config.layers]):
            blocks = []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(block(width, 64 << stage, stride, config.style))
                width = (64 << stage) * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        if config.algebraic:
            self.alg_confidences = ConfidenceHead(width, config.algebraic)
        if config.volumetric:
            self.vol_confidences = ConfidenceHead(width, config.volumetric)
        deconv: list[nn.Module] = []
        for inputs, outputs in zip((width, *config.deconv[:-1]), config.deconv, strict=True):
            deconv += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.deconv_layers = nn.Sequential(*deconv)
        self.final_layer = nn.Conv2d(config.deconv[-1], config.joints, 1)

    def forward(self, images: Tensor) -> Seen:
        """See (N, 3, H, W) pictures, H and W multiples of 32, at least 128 px with a confidence head."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        algebraic = self.alg_confidences(x) if self.config.algebraic else None
        volumetric = self.vol_confidences(x) if self.config.volumetric else None
        features = self.deconv_layers(x)
        return Seen(self.final_layer(features), features, algebraic, volumetric)


def normalise(images: Tensor, *, bgr: bool = False) -> Tensor:
    """Standardise (..., 3, H, W) RGB pictures in [0, 1] with ImageNet's statistics.

    `bgr` repeats a quirk of the published weights: their pictures were blue first, normalised with numbers meant for
    red first.
    """
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    return ((images.flip(-3) if bgr else images) - mean) / std


def build(config: dict[str, Any]) -> PoseResNet:
    """Build the network that a header describes."""
    return PoseResNet(PoseResNetConfig(**{**config, "deconv": tuple(config["deconv"])}))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _passed(shortcut: nn.Module | None, x: Tensor) -> Tensor:
    return x if shortcut is None else shortcut(x)
