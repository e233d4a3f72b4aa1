"""One descriptor from one picture by MobileNetV2 (Sandler 2018), parameters named as torchvision's."""

from __future__ import annotations

from torch import Tensor, nn

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_LAST = 1280


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation; added to the input where it fits."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        layers = [_unit(inputs, inner, 1, 1)] if expand > 1 else []
        layers += [_unit(inner, inner, 3, stride, groups=inner), nn.Conv2d(inner, outputs, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return x + self.conv(x) if self.added else self.conv(x)


class MobileNetV2(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1] to descriptors (N, outputs).

    width: of all channels against the published ones; stride: of the first convolution, 1 for small pictures.
    """

    def __init__(self, outputs: int, *, width: float = 1.0, stride: int = 2) -> None:
        super().__init__()
        inputs = _rounded(32 * width)
        layers: list[nn.Module] = [_unit(3, inputs, 3, stride)]
        for expand, channels, depth, first in _STAGES:
            for index in range(depth):
                layers.append(InvertedResidual(inputs, _rounded(channels * width), 1 if index else first, expand))
                inputs = _rounded(channels * width)
        last = _rounded(_LAST * width)
        self.features = nn.Sequential(*layers, _unit(inputs, last, 1, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.classifier(self.features(images).mean((2, 3)))


def _unit(inputs: int, outputs: int, kernel: int, stride: int, *, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


def _rounded(channels: float) -> int:
    """To a multiple of eight, and never less than nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
