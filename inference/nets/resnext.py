"""One descriptor from one picture by a residual network (He 2016), with grouped bottlenecks (ResNeXt, Xie 2017).

Parameters are named as torchvision's, whose wheel does not import beside a torch that is built for processors alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .pose_resnet import BasicBlock

DEPTHS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnext50": (3, 4, 6, 3)}


class GroupedBottleneck(nn.Module):
    """A grouped 3x3 convolution between two 1x1 ones, beside a shortcut; `width` counts as in a plain bottleneck."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, groups: int = 32, base: int = 4) -> None:
        super().__init__()
        inner, outputs = width * base // 64 * groups, width * self.expansion
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 width, H / stride, W / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResidualEncoder(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1] to descriptors (N, outputs).

    kind: "resnext50" (32x4d), or "resnet18" and "resnet10" of plain blocks; width: channels of the first stage, 64 in
    the published ones; small pictures (`fine`) keep their size in the first convolution, which is 3x3 then.
    """

    def __init__(self, kind: str, outputs: int, *, width: int = 64, fine: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3 if fine else 7, 1 if fine else 2, 1 if fine else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs, expansion = width, GroupedBottleneck.expansion if kind == "resnext50" else 1
        for stage, depth in enumerate(DEPTHS[kind]):
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride, wide = 2 if stage and not index else 1, width << stage
                if kind == "resnext50":
                    blocks.append(GroupedBottleneck(inputs, wide, stride))
                else:
                    blocks.append(BasicBlock(inputs, wide, stride, "simple"))
                inputs = wide * expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))
