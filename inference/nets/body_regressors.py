"""Published regressors of body parameters, to run their weights.

HMR's as SPIN has it (Kanazawa 2018, Kolotouros 2019), and STRAPS' (Sengupta 2020). Both give SMPL's parameters, for
which a user needs a model file of their own. Attributes are named as in the published checkpoints. Where a checkpoint
has an encoder, pictures are read, else features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .gc_ssn import rotation_from_six
from .pose_resnet import BasicBlock, Bottleneck

JOINTS, SHAPES, CAMERA = 24, 10, 3


class SmplEstimate(NamedTuple):
    """rotations (B, 24, 3, 3), shape (B, 10), camera (B, 3): scale and place in [-1, 1] of the crop."""

    rotations: Tensor
    shape: Tensor
    camera: Tensor


class _Trunk(nn.Module):
    """A residual network up to its mean features, named as torchvision's."""

    def __init__(self, depths: tuple[int, ...], inputs: int, *, bottleneck: bool) -> None:
        super().__init__()
        block = Bottleneck if bottleneck else BasicBlock
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = 64
        for stage, depth in enumerate(depths):
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(block(before, 64 << stage, stride, "simple"))
                before = (64 << stage) * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def features(self, images: Tensor) -> Tensor:
        """(B, C) of pictures (B, inputs, H, W)."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean((2, 3))


class SpinRegressor(_Trunk):
    """Pictures (B, 3, 224, 224), or features (B, 2048), to SMPL's parameters; three residual passes without activation.

    The linear layers follow one another with nothing but dropout between them, as in SPIN's port of HMR.
    """

    def __init__(self, *, encoder: bool, features: int = 2048, hidden: int = 1024) -> None:
        nn.Module.__init__(self)
        if encoder:
            super().__init__((3, 4, 6, 3), 3, bottleneck=True)
        self.encoder = encoder
        inputs = features + JOINTS * 6 + SHAPES + CAMERA
        self.fc1, self.drop1 = nn.Linear(inputs, hidden), nn.Dropout()
        self.fc2, self.drop2 = nn.Linear(hidden, hidden), nn.Dropout()
        self.decpose, self.decshape = nn.Linear(hidden, JOINTS * 6), nn.Linear(hidden, SHAPES)
        self.deccam = nn.Linear(hidden, CAMERA)
        for name, size in (("init_pose", JOINTS * 6), ("init_shape", SHAPES), ("init_cam", CAMERA)):
            self.register_buffer(name, torch.zeros(1, size))

    def forward(self, seen: Tensor, iterations: int = 3) -> SmplEstimate:
        """See the class."""
        seen = self.features(seen) if self.encoder else seen
        count = len(seen)
        pose, shape, camera = (
            getattr(self, name).expand(count, -1) for name in ("init_pose", "init_shape", "init_cam")
        )
        for _ in range(iterations):
            x = self.drop1(self.fc1(torch.cat([seen, pose, shape, camera], 1)))
            x = self.drop2(self.fc2(x))
            pose, shape, camera = pose + self.decpose(x), shape + self.decshape(x), camera + self.deccam(x)
        return SmplEstimate(rotation_from_six(pose.view(count, JOINTS, 6)), shape, camera)


class StrapsIterations(nn.Module):
    """Features to parameters by residual passes of three linear layers, with activation."""

    def __init__(self, features: int, widths: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features + outputs, widths[0])
        self.fc2 = nn.Linear(widths[0], widths[1])
        self.fc3 = nn.Linear(widths[1], outputs)

    def forward(self, features: Tensor, start: Tensor, iterations: int) -> Tensor:
        """(B, outputs)."""
        value = start.expand(len(features), -1)
        for _ in range(iterations):
            x = torch.relu(self.fc1(torch.cat([features, value], 1)))
            value = value + self.fc3(torch.relu(self.fc2(x)))
        return value


class StrapsRegressor(nn.Module):
    """Silhouette and heat maps (B, 18, 256, 256), or features (B, 512), to SMPL's parameters.

    `start` (157,): camera, pose, shape that the passes begin with; no key of a checkpoint holds it.
    """

    start: Tensor

    def __init__(self, *, inputs: int, widths: tuple[int, int] = (512, 512), features: int = 512) -> None:
        super().__init__()
        if inputs:
            self.image_encoder = _Trunk((2, 2, 2, 2), inputs, bottleneck=False)
        self.ief_module = StrapsIterations(features, widths, CAMERA + JOINTS * 6 + SHAPES)
        upright = torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(JOINTS)
        start = torch.cat([torch.tensor([0.9, 0.0, 0.0]), upright, torch.zeros(SHAPES)])
        self.register_buffer("start", start, persistent=False)

    def forward(self, seen: Tensor, iterations: int = 3) -> SmplEstimate:
        """See the class."""
        features = self.image_encoder.features(seen) if seen.ndim == 4 else seen
        value = self.ief_module(features, self.start, iterations)
        camera, pose, shape = value.split([CAMERA, JOINTS * 6, SHAPES], 1)
        return SmplEstimate(rotation_from_six(pose.view(-1, JOINTS, 6)), shape, camera)
