"""GC-SSN: silhouette and 2D joints to a parametric body, and back again.

The generator is a small CNN over mask and heat maps and an iterative regressor over its features and the joints'
coordinates (STRAPS, Sengupta 2020; HMR, Kanazawa 2018, for the residual iterations from mean parameters). The
way back is a projection of joints and a separable splat of skin points, both differentiable, so that a body can be held
against what it was read from, and read again: cycle consistency.

The view frame is level with the camera: x right, y forward, z up. Crops are [-1, 1] square, x right, y down, on a
camera that looks at the middle of the crop; `half` is half the crop's side at distance one (its field of view).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .gc_body import KEYPOINTS, PARENTS, PARTS, Posed

NAME = "gc-ssn"
SCHEMA = 1
NEAR = 0.15  # points nearer than this part of the body's distance do not come closer still
SIGMA_PX, DENSITY_M2, POWER = 0.45, 0.2, 4  # of a splat at 64 px; 1,200 points cover exact silhouettes to 2 %


@dataclass(frozen=True)
class GcConfig:
    """side: of the crop in pixels; width: channels of the first convolution; shape: length of the shape vector.

    whole: whether the network speaks of parts turned from rest to the view, rather than relative to their parents;
    heat, coordinates: whether the CNN sees the joints as heat maps, and the regressor their coordinates.
    """

    side: int = 64
    width: int = 16
    hidden: int = 512
    iterations: int = 3
    shape: int = 18
    whole: bool = True
    heat: bool = True
    coordinates: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Seen(NamedTuple):
    """What is known of pictures: mask (B, S, S) in [0, 1], or None; joints (B, K, 2), confidence (B, K), half (B,)."""

    mask: Tensor | None
    joints: Tensor
    confidence: Tensor
    half: Tensor


class Estimate(NamedTuple):
    """shape (B, S), rotations (B, 22, 3, 3) local, camera (B, 3): crop halves a metre, and the pelvis' place."""

    shape: Tensor
    rotations: Tensor
    camera: Tensor


def rotation_from_six(six: Tensor) -> Tensor:
    """(..., 6) to matrices (..., 3, 3): two columns, row by row, made orthonormal (Zhou 2019)."""
    pair = six.unflatten(-1, (3, 2))
    first = functional.normalize(pair[..., 0], dim=-1)
    second = pair[..., 1] - (first * pair[..., 1]).sum(-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -1)


def six_from_rotation(matrix: Tensor) -> Tensor:
    """(..., 3, 3) to (..., 6), the inverse of `rotation_from_six`."""
    return matrix[..., :2].flatten(-2)


def project(points: Tensor, camera: Tensor, half: Tensor) -> Tensor:
    """Points (B, N, 3) relative to the pelvis, metres, to crop coordinates (B, N, 2).

    Perspective, not weak: the pelvis is 1 / (scale * half) metres away.
    """
    scale = camera[:, None, 0]
    depth = (1 + half[:, None] * scale * points[..., 1]).clamp(min=NEAR)
    x = (scale * points[..., 0] + camera[:, None, 1]) / depth
    y = (-scale * points[..., 2] + camera[:, None, 2]) / depth
    return torch.stack([x, y], -1)


def splat(points: Tensor, scale: Tensor, side: int) -> Tensor:
    """Silhouettes (B, S, S) in [0, 1) of projected skin points (B, N, 2): 1 - exp(-(sum of Gaussians)^4), separable.

    `scale` (B,) is the camera's: the sum is divided by what it is where points lie as densely as on a body.
    """
    metre = scale * (side / 2)  # in pixels
    sigma = SIGMA_PX * side / 64
    pixel = (points + 1) * (side / 2) - 0.5
    grid = torch.arange(side, device=points.device, dtype=points.dtype)
    narrow = -0.5 / sigma**2
    # clamped because the exponential is ten times slower where it underflows
    across = torch.exp((narrow * (grid - pixel[..., 0, None]) ** 2).clamp(min=-40.0))
    down = torch.exp((narrow * (grid - pixel[..., 1, None]) ** 2).clamp(min=-40.0))
    usual = points.shape[1] / DENSITY_M2 * (sigma / metre) ** 2
    return 1 - torch.exp(-((down.transpose(1, 2) @ across / usual[:, None, None]) ** POWER))


def heat_maps(joints: Tensor, confidence: Tensor, side: int) -> Tensor:
    """(B, K, S, S) Gaussians about joints (B, K, 2), as high as they are sure; as wide as STRAPS has them."""
    grid = torch.arange(side, device=joints.device, dtype=joints.dtype)
    pixel = (joints.clamp(-2, 2) + 1) * (side / 2) - 0.5
    sigma = max(1.0, side / 64)
    bump = torch.exp((-0.5 * ((grid - pixel[..., None]) / sigma) ** 2).clamp(min=-40.0))  # (B, K, 2, S)
    return confidence[..., None, None] * bump[..., 1, :, None] * bump[..., 0, None, :]


class Generator(nn.Module):
    """What is seen, to a body."""

    mean: Tensor

    def __init__(self, config: GcConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.Conv2d(1, w, 5, 2, 2)
        first = w + len(KEYPOINTS) * config.heat
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in ((first, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)))
        self.features = 8 * w * 2
        known = (3 * len(KEYPOINTS) * config.coordinates) + 1
        self.size = 6 * len(PARTS) + config.shape + 3
        self.read = nn.Sequential(nn.Linear(self.features + known, config.hidden), nn.ReLU())
        self.regressor = nn.Sequential(
            nn.Linear(config.hidden + self.size, config.hidden), nn.ReLU(),
            nn.Linear(config.hidden, config.hidden), nn.ReLU(),
        )  # fmt: skip
        self.out = nn.Linear(config.hidden, self.size)
        nn.init.xavier_uniform_(self.out.weight, gain=0.01)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("mean", torch.zeros(self.size))

    def forward(self, seen: Seen) -> Estimate:
        """See the class."""
        return self.split(self.values(seen))

    def values(self, seen: Seen) -> Tensor:
        """(B, D) parameters in single precision, also where the layers work in half."""
        known = [self.look(seen), seen.half[:, None]]
        if self.config.coordinates:
            sure = seen.confidence[..., None]
            known.append(torch.cat([seen.joints.clamp(-2, 2) * (sure > 0), sure], -1).flatten(1))
        feature = self.read(torch.cat(known, 1))
        value = self.mean.expand(len(feature), -1)
        for _ in range(self.config.iterations):
            value = value + self.out(self.regressor(torch.cat([feature, value], 1)))
        return value

    def look(self, seen: Seen) -> Tensor:
        """(B, F) what the CNN makes of mask and heat maps; without masks, nothing."""
        if seen.mask is None:
            return seen.joints.new_zeros(len(seen.joints), self.features)
        x = self.stem(seen.mask[:, None])
        if self.config.heat:
            x = torch.cat([x, heat_maps(seen.joints, seen.confidence, self.config.side // 2)], 1)
        for stage in self.stages:
            x = stage(x)
        x = functional.relu(x)
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)

    def split(self, value: Tensor) -> Estimate:
        """The parameters (B, D) by their names."""
        six, shape, camera = value.split([6 * len(PARTS), self.config.shape, 3], 1)
        rotations = rotation_from_six(six.unflatten(1, (len(PARTS), 6)))
        if self.config.whole:
            above = rotations[:, PARENTS[1:]].transpose(2, 3)
            rotations = torch.cat([rotations[:, :1], above @ rotations[:, 1:]], 1)
        return Estimate(shape, rotations, torch.cat([functional.softplus(camera[:, :1]), camera[:, 1:]], 1))

    def begin(self, shape: Tensor, rotations: Tensor) -> None:
        """Start from the mean shape (S,) and rotations (22, 3, 3), in the middle of the crop."""
        if self.config.whole:
            turned = [rotations[0]]
            for part, parent in enumerate(PARENTS[1:], 1):
                turned.append(turned[parent] @ rotations[part])
            rotations = torch.stack(turned)
        camera = torch.tensor([0.3, 0.0, 0.0])  # softplus: 0.85 crop halves a metre
        self.mean.copy_(torch.cat([six_from_rotation(rotations).flatten(), shape, camera]))


class _Stage(nn.Module):
    """Half the size, twice the channels: a strided residual block, then a plain one."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(before, after, 1, 2)
        self.first, self.second = nn.Conv2d(before, after, 3, 2, 1), nn.Conv2d(after, after, 3, 1, 1)
        self.norm = nn.GroupNorm(8, after)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        return self.skip(x) + self.second(functional.relu(self.norm(self.first(x))))


def render(posed: Posed, keypoints: Tensor, camera: Tensor, half: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """What a body shows: its silhouette (B, S, S) and its keypoints (B, K, 2) in the crop."""
    mask = splat(project(posed.points, camera, half), camera[:, 0], side)
    return mask, project(keypoints, camera, half)


def soft_iou(mask: Tensor, other: Tensor) -> Tensor:
    """(B,) overlap of soft masks (B, S, S)."""
    both = (mask * other).sum((1, 2))
    return both / ((mask + other).sum((1, 2)) - both).clamp(min=1e-6)


def build(config: dict[str, Any]) -> Generator:
    """Make the network that a weights file describes."""
    return Generator(GcConfig(**config))
