"""Learnable triangulation of pictures from several cameras (Iskakov 2019): algebraic and volumetric.

Both take pictures (B, V, 3, H, W) and the projection matrices (B, V, 3, 4) of those very pictures, crop and resize
included, and give joints in the unit of the matrices. With `compatible` the arithmetic of the published code is
repeated, quirks included; without it, the corrected one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import pose_resnet, v2v
from .pose_resnet import PoseResNet, PoseResNetConfig
from .v2v import V2V, V2VConfig

Aggregation = Literal["sum", "max", "softmax", "conf", "conf_norm"]
_LEAST = 1e-5  # added to confidences after they were divided by their sum


class Algebraic(NamedTuple):
    """joints (B, J, 3); points (B, V, J, 2) px; heatmaps (B, V, J, h, w) sum to one; confidences (B, V, J)."""

    joints: Tensor
    points: Tensor
    heatmaps: Tensor
    confidences: Tensor


class Volumetric(NamedTuple):
    """joints (B, J, 3); features (B, V, C, h, w); volumes (B, J, D, D, D) sum to one; grid (B, D, D, D, 3)."""

    joints: Tensor
    features: Tensor
    volumes: Tensor
    grid: Tensor


@dataclass(frozen=True)
class AlgebraicConfig:
    """heatmap_multiplier: sharpness of the soft-argmax; softmax False divides rectified maps by their mass instead."""

    backbone: PoseResNetConfig = field(default_factory=lambda: PoseResNetConfig(algebraic=17))
    heatmap_multiplier: float = 100.0
    softmax: bool = True
    compatible: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


@dataclass(frozen=True)
class VolumetricConfig:
    """side: of the cube, in the unit of the matrices; size: nodes along it, both ends included.

    vertical: the axis about which grids turn in training.
    """

    backbone: PoseResNetConfig = field(default_factory=PoseResNetConfig)
    volume: V2VConfig = field(default_factory=V2VConfig)
    aggregation: Aggregation = "softmax"
    side: float = 2500.0
    size: int = 64
    volume_multiplier: float = 1.0
    vertical: int = 2
    compatible: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class AlgebraicNet(nn.Module):
    """Joints by weighted linear triangulation of soft maxima; the weights come from the pictures."""

    def __init__(self, config: AlgebraicConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = PoseResNet(config.backbone)

    def forward(self, images: Tensor, projections: Tensor) -> Algebraic:
        """See pictures (B, V, 3, H, W) of cameras (B, V, 3, 4)."""
        batch, views = images.shape[:2]
        seen = self.backbone(images.flatten(0, 1))
        points, heatmaps = soft_argmax_2d(seen.heatmaps * self.config.heatmap_multiplier, softmax=self.config.softmax)
        grow = [full / small for full, small in zip(images.shape[:-3:-1], heatmaps.shape[:-3:-1], strict=True)]
        points = points * points.new_tensor(grow)
        points, heatmaps = points.unflatten(0, (batch, views)), heatmaps.unflatten(0, (batch, views))
        given = torch.ones_like(points[..., 0]) if seen.algebraic is None else seen.algebraic.view(batch, views, -1)
        confidences = given / given.sum(dim=1, keepdim=True) + _LEAST
        return Algebraic(triangulate(projections, points, confidences), points, heatmaps, confidences)


class VolumetricNet(nn.Module):
    """Joints as soft maxima of a volume into which features of all views were cast."""

    def __init__(self, config: VolumetricConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = PoseResNet(config.backbone)
        for parameter in self.backbone.final_layer.parameters():
            parameter.requires_grad_(False)  # its heat maps are not used
        self.process_features = nn.Sequential(nn.Conv2d(config.backbone.deconv[-1], config.volume.inputs, 1))
        self.volume_net = V2V(config.volume)

    def forward(self, images: Tensor, projections: Tensor, centre: Tensor) -> Volumetric:
        """See pictures (B, V, 3, H, W) of cameras (B, V, 3, 4) around a rough pelvis (B, 3)."""
        config, (batch, views) = self.config, images.shape[:2]
        seen = self.backbone(images.flatten(0, 1))
        features = self.process_features(seen.features).unflatten(0, (batch, views))
        grid = cube(centre, config.side, config.size)
        if self.training:
            grid = turned(grid, centre, config.vertical)
        scale = [small / full for small, full in zip(features.shape[:-3:-1], images.shape[:-3:-1], strict=True)]
        projections = projections * projections.new_tensor([*scale, 1.0])[:, None]
        cast, inside = unproject(features, projections, grid, compatible=config.compatible)
        confidences = None if seen.volumetric is None else seen.volumetric.view(batch, views, -1)
        seen_by = None if config.compatible else inside
        volumes = self.volume_net(aggregate(cast, config.aggregation, confidences, seen_by))
        joints, volumes = soft_argmax_3d(volumes * config.volume_multiplier, grid)
        return Volumetric(joints, features, volumes, grid)


def soft_argmax_2d(maps: Tensor, *, softmax: bool = True) -> tuple[Tensor, Tensor]:
    """Centre of mass (N, J, 2), x and y in cells, of maps (N, J, h, w), and the maps as weights."""
    height, width = maps.shape[-2:]
    weights = maps.flatten(2).softmax(-1) if softmax else torch.relu(maps.flatten(2))
    weights = weights.view_as(maps)
    x = (weights.sum(-2) * torch.arange(width, device=maps.device, dtype=maps.dtype)).sum(-1)
    y = (weights.sum(-1) * torch.arange(height, device=maps.device, dtype=maps.dtype)).sum(-1)
    points = torch.stack([x, y], -1)
    return (points if softmax else points / weights.sum((-2, -1))[..., None]), weights


def soft_argmax_3d(volumes: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Expected place (B, J, 3) in volumes (B, J, D, D, D) over a grid (B, D, D, D, 3), and the volumes as weights."""
    weights = volumes.flatten(2).softmax(-1).view_as(volumes)
    return torch.einsum("bjxyz,bxyzc->bjc", weights, grid), weights


def triangulate(projections: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Weighted linear triangulation, differentiable in points and weights (Iskakov 2019, equations 4-5).

    In double precision: in single, with millimetres, it is off by 0.2 mm.

    Args:
        projections: (B, V, 3, 4); points: (B, V, J, 2) px; weights: (B, V, J), which multiply the equations.
    Returns:
        (B, J, 3) in the projections' unit and the points' precision.
    """
    p, uv, w = projections.double(), points.double(), weights.double()
    rows = uv[..., None] * p[:, :, None, 2:3] - p[:, :, None, :2]  # (B, V, J, 2, 4)
    rows = (rows * w[..., None, None]).transpose(1, 2).flatten(2, 3)  # (B, J, 2V, 4)
    solution = torch.linalg.svd(rows, full_matrices=False)[2][..., -1, :]
    return (solution[..., :3] / solution[..., 3:]).to(points.dtype)


def cube(centre: Tensor, side: float, size: int) -> Tensor:
    """Nodes (B, D, D, D, 3) of cubes about centres (B, 3), axes in the order x, y, z."""
    steps = torch.linspace(-side / 2, side / 2, size, device=centre.device, dtype=centre.dtype)
    nodes = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1)
    return nodes + centre[:, None, None, None]


def turned(grid: Tensor, centre: Tensor, vertical: int) -> Tensor:
    """Turn each grid (B, D, D, D, 3) by a random angle about the vertical through its centre (B, 3)."""
    angle = 2 * torch.pi * torch.rand(len(grid), device=grid.device, dtype=grid.dtype)
    first, second = (axis for axis in range(3) if axis != vertical)
    turn = torch.eye(3, device=grid.device, dtype=grid.dtype).repeat(len(grid), 1, 1)
    turn[:, first, first] = turn[:, second, second] = angle.cos()
    turn[:, first, second], turn[:, second, first] = -angle.sin(), angle.sin()
    about = centre[:, None, None, None]
    return torch.einsum("bij,bxyzj->bxyzi", turn, grid - about) + about


def unproject(maps: Tensor, projections: Tensor, grid: Tensor, *, compatible: bool = False) -> tuple[Tensor, Tensor]:
    """Cast maps into a volume: each node takes what it is seen at.

    Args:
        maps: (B, V, C, h, w); projections: (B, V, 3, 4) to their cells; grid: (B, D, D, D, 3).
        compatible: swap height and width and divide by the size rather than the size less one, as published.
    Returns:
        (B, V, C, D, D, D), zero behind a camera and outside its map, and (B, V, 1, D, D, D) whether a camera sees it.
    """
    batch, views, channels, height, width = maps.shape
    side = grid.shape[1:4]
    nodes = grid.flatten(1, 3)
    seen = torch.einsum("bvij,bnj->bvni", projections[..., :3], nodes) + projections[:, :, None, :, 3]
    depth = seen[..., 2]
    uv = seen[..., :2] / torch.where(depth == 0, torch.ones_like(depth), depth)[..., None]
    across, down = (height, width) if compatible else (width - 1, height - 1)
    where = 2 * uv / uv.new_tensor([across, down]) - 1
    sampled = functional.grid_sample(maps.flatten(0, 1), where.flatten(0, 1)[:, None], align_corners=True)
    in_front = depth > 0
    inside = in_front & (where.abs() <= 1).all(-1)
    cast = torch.where(in_front[:, :, None], sampled.view(batch, views, channels, -1), sampled.new_zeros(()))
    return cast.unflatten(-1, side), inside[:, :, None].unflatten(-1, side)


def aggregate(cast: Tensor, how: Aggregation, confidences: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
    """Merge the views of (B, V, C, D, D, D) into (B, C, D, D, D).

    Args:
        how: "sum"; "max"; "softmax" weighs each view by its own value; "conf" by its confidences (B, V, C), and
            "conf_norm" by their shares of the sum over views.
        seen: (B, V, 1, D, D, D) leaves views that do not see a node out; None lets them count with their zeros.
    """
    if how in ("conf", "conf_norm"):
        if confidences is None:
            raise ValueError(f"Aggregation {how!r} needs confidences.")
        weights = confidences if how == "conf" else confidences / confidences.sum(dim=1, keepdim=True)
        return torch.einsum("bvcxyz,bvc->bcxyz", cast, weights)
    if how == "sum":
        return cast.sum(1)
    if seen is None:
        return cast.amax(1) if how == "max" else (cast * cast.softmax(1)).sum(1)
    low = cast.masked_fill(~seen, -torch.inf)
    anyone = seen.any(1)
    if how == "max":
        return torch.where(anyone, low.amax(1), cast.new_zeros(()))
    low = torch.where(anyone[:, None], low, cast)  # where nobody sees all are zero, and so is their mean
    return (cast * low.softmax(1)).sum(1)


class AlgebraicModule:
    """How `nets.load` builds the algebraic network."""

    NAME, SCHEMA = "triangulation-algebraic", 1

    @staticmethod
    def build(config: dict[str, Any]) -> AlgebraicNet:
        """Build the network that a header describes."""
        backbone = pose_resnet.build(config["backbone"]).config
        return AlgebraicNet(AlgebraicConfig(**{**config, "backbone": backbone}))


class VolumetricModule:
    """How `nets.load` builds the volumetric network."""

    NAME, SCHEMA = "triangulation-volumetric", 1

    @staticmethod
    def build(config: dict[str, Any]) -> VolumetricNet:
        """Build the network that a header describes."""
        parts = {"backbone": pose_resnet.build(config["backbone"]).config, "volume": v2v.build(config["volume"]).config}
        return VolumetricNet(VolumetricConfig(**{**config, **parts}))


def coordinate_loss(joints: Tensor, truth: Tensor, valid: Tensor, *, scale: float = 0.1, most: float = 400.0) -> Tensor:
    """Squared error that grows slowly beyond `most`: of joints (B, J, 3) with valid (B, J) (released configuration)."""
    error = ((joints - truth) * scale).square() * valid[..., None]
    error = torch.where(error > most, error.clamp_min(most).pow(0.1) * most**0.9, error)
    return error.sum() / (3 * valid.sum().clamp_min(1))


def volume_loss(volumes: Tensor, grid: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of volumes (B, J, D, D, D) at the nodes nearest to the true joints (B, J, 3).

    Joints that are not valid (B, J) count in the divisor, as published.
    """
    distance = torch.cdist(truth, grid.flatten(1, 3))
    nearest = distance.argmin(-1, keepdim=True)
    found = volumes.flatten(2).gather(-1, nearest)[..., 0]
    return (-torch.log(found + 1e-6) * valid).sum() / valid.numel()
