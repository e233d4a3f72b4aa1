"""The shape of a whole head from the face in one picture, in few numbers, and what is wrong about it.

A head is how far it reaches from a point inside it along fixed directions, hair included: a mean and principal modes
of that over many people (Blanz and Vetter 1999, of radii instead of vertices). A small convolutional network reads the
crop of the face and the detector's points, and says the modes' coefficients and where in space the points are. What it
sees in several photos of one person is weighed, number by number, before it is put together.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "head-shape"
SCHEMA = 1
POINTS = 478
RINGS, SPOKES = 72, 128
_FINE_RINGS, _FINE_DEG, _LAST_DEG = 54, 75.0, 165.0
_POLE = 1e-9  # in the square of the unit


@dataclass(frozen=True)
class ShapeConfig:
    """Shape of the network.

    side: of the crop, pixels, 0 for points alone; fold: so many by so many pixels are seen together; width: channels of
    the first level; pool: cells of the last level that are seen as one, across; hidden: of what joins both; modes: of
    the radii; point_modes: of where the detector's points are; error_modes: of what is wrong about the radii of people
    who were not learnt from; dropout: while it learns.
    """

    side: int = 96
    fold: int = 1
    width: int = 24
    levels: int = 4
    pool: int = 4
    hidden: int = 384
    modes: int = 96
    point_modes: int = 48
    error_modes: int = 0
    dropout: float = 0.2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Guess(NamedTuple):
    """What photos say: radii (B, V) metres, points (B, 478, 3) metres in the frame of heads."""

    radii: Tensor
    points: Tensor


@cache
def _rings() -> np.ndarray:
    """(RINGS,) radians by which each ring is away from -y."""
    fine = (np.arange(_FINE_RINGS) + 0.5) / _FINE_RINGS * _FINE_DEG
    return np.radians(np.concatenate([fine, np.linspace(_FINE_DEG, _LAST_DEG, RINGS - _FINE_RINGS + 1)[1:]]))


@cache
def directions() -> np.ndarray:
    """(V, 3) unit vectors in rings about -y, where faces look, close to each other over the face; not to be changed."""
    away = _rings()[:, None]
    around = 2 * np.pi * (np.arange(SPOKES) + 0.5) / SPOKES
    parts = np.broadcast_arrays(np.sin(away) * np.sin(around), -np.cos(away), np.sin(away) * np.cos(around))
    return np.stack(parts, -1).reshape(-1, 3)


def about(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four directions about unit vectors (N, 3), and how much each counts there (bilinear): (N, 4) and (N, 4)."""
    rings = _rings()
    away, around = np.arccos(np.clip(-rays[:, 1], -1, 1)), np.arctan2(rays[:, 0], rays[:, 2]) % (2 * np.pi)
    ring = np.clip(np.searchsorted(rings, away) - 1, 0, RINGS - 2)
    a = np.clip((away - rings[ring]) / (rings[ring + 1] - rings[ring]), 0, 1)
    spoke = np.floor(around / (2 * np.pi) * SPOKES - 0.5)
    b = around / (2 * np.pi) * SPOKES - 0.5 - spoke
    left, right = (spoke.astype(int) + step for step in (0, 1))
    corners = [r * SPOKES + s % SPOKES for r in (ring, ring + 1) for s in (left, right)]
    return np.stack(corners, -1), np.stack([(1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b], -1)


@dataclass(frozen=True)
class Bend:
    """Points (..., 3) about the middle of a head, each moved towards it by `outwards` (RINGS, SPOKES) in its direction.

    What is asked there has, where it is asked for, its surface so much further out.
    """

    outwards: Tensor

    def to(self, device: torch.device) -> Bend:
        """The same on a device."""
        return Bend(self.outwards.to(device))

    def __call__(self, points: Tensor) -> Tensor:
        """See the class; twice differentiable."""
        ends = self.outwards[[0, -1]].mean(1, keepdim=True).expand(2, SPOKES)  # where all spokes meet
        known = torch.cat([ends[:1], self.outwards, ends[1:]])
        edges = torch.from_numpy(np.concatenate([[0.0], _rings(), [np.pi]])).to(points)
        x, y, z = points.unbind(-1)
        beside = x * x + z * z
        away = torch.atan2((beside + _POLE).sqrt(), -y)
        ring = (torch.searchsorted(edges, away.detach().contiguous()) - 1).clamp(0, RINGS)
        a = ((away - edges[ring]) / (edges[ring + 1] - edges[ring])).clamp(0, 1)
        on = beside < _POLE  # the axis, where around has no slope
        around = torch.atan2(x.masked_fill(on, 0.0), z.masked_fill(on, 1.0)) * (SPOKES / (2 * math.pi)) - 0.5
        spoke = around.detach().floor()
        b, spoke = around - spoke, spoke.long()
        left, right = spoke % SPOKES, (spoke + 1) % SPOKES
        low, high = ((1 - b) * known[there, left] + b * known[there, right] for there in (ring, ring + 1))
        return points - functional.normalize(points, dim=-1) * ((1 - a) * low + a * high)[..., None]


@cache
def chart(side: int, edge_deg: float) -> np.ndarray:
    """(side * side, 3) unit vectors to the cells of a chart about -y, rows from above, equal angles apart.

    edge_deg: how far about -y it reaches at the middles of its sides.
    """
    step = (np.arange(side) + 0.5) / side * 2 - 1
    right, up = np.meshgrid(step, -step)
    away = np.hypot(right, up)
    angle = np.radians(edge_deg) * away
    parts = np.sin(angle) * right / away, -np.cos(angle), np.sin(angle) * up / away
    return np.stack(parts, -1).reshape(-1, 3)


def triangles() -> np.ndarray:
    """(F, 3) of the surface through all directions, facing outwards, closed at the tip of the nose."""
    ring, spoke = np.meshgrid(np.arange(RINGS - 1), np.arange(SPOKES), indexing="ij")
    a, b = ring * SPOKES + spoke, ring * SPOKES + (spoke + 1) % SPOKES
    c, d = a + SPOKES, b + SPOKES
    quads = np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)], 2).reshape(-1, 3)
    spokes = np.arange(1, SPOKES - 1)
    return np.concatenate([quads, np.stack([np.zeros_like(spokes), spokes + 1, spokes], -1)]).astype(np.int32)


def mirrored() -> np.ndarray:
    """(V,) the direction that each becomes where left and right change places."""
    return (np.arange(RINGS)[:, None] * SPOKES + np.arange(SPOKES)[::-1]).ravel()


def seen_mirrored(points: Tensor, swap: Tensor) -> Tensor:
    """Points (..., 478, 3) of a crop as its mirror image has them; swap (478,): the point that each becomes."""
    return points[..., swap, :] * points.new_tensor([-1.0, 1.0, 1.0]) + points.new_tensor([1.0, 0.0, 0.0])


class HeadShape(nn.Module):
    """P photos of each of B people, crop (B, P, 3, S, S) in [0, 1] and points (B, P, 478, 3) in sides, to a `Guess`."""

    mean: Tensor
    basis: Tensor
    point_mean: Tensor
    point_basis: Tensor
    seen_mean: Tensor
    seen_size: Tensor
    swap: Tensor
    errors: Tensor

    def __init__(self, config: ShapeConfig) -> None:
        super().__init__()
        self.config, count = config, RINGS * SPOKES
        for name, shape in (
            ("mean", (count,)), ("basis", (count, config.modes)), ("point_mean", (POINTS, 3)),
            ("point_basis", (3 * POINTS, config.point_modes)), ("seen_mean", (POINTS, 3)), ("seen_size", (1,)),
            ("errors", (count, config.error_modes)),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("swap", torch.arange(POINTS))  # the point that each becomes in a mirror
        widths = [config.width * 2**k for k in range(config.levels)] if config.side else []
        self.down = (
            nn.ModuleList(_block(a, b) for a, b in zip([3 * config.fold**2, *widths[:-1]], widths, strict=True))
            if widths
            else nn.ModuleList()
        )
        cells = (
            (config.side // config.fold // 2 ** (config.levels - 1) // config.pool) ** 2 * widths[-1] if widths else 0
        )
        self.see = nn.Linear(cells, config.hidden) if cells else None
        self.points = nn.Linear(3 * POINTS, config.hidden)
        self.gate = nn.Linear(config.hidden, config.hidden)
        self.inner = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(2))
        self.last = nn.Linear(config.hidden, config.modes + config.point_modes)
        for layer in (self.gate, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def see_photos(self, crop: Tensor | None, points: Tensor) -> Tensor:
        """(N, hidden) of photos, crop (N, 3, S, S) and points (N, 478, 3)."""
        x = self.points((points - self.seen_mean).flatten(1) / self.seen_size)
        if self.see is not None:
            assert crop is not None
            y = functional.pixel_unshuffle((crop - 0.45) / 0.25, self.config.fold)
            for index, block in enumerate(self.down):
                y = block(functional.avg_pool2d(y, 2) if index else y)
            x = x + self.see(functional.avg_pool2d(y, self.config.pool).flatten(1))
        return x

    def coefficients(self, seen: Tensor) -> Tensor:
        """(B, modes + point_modes), each of unit variance, of people by what is seen in P photos (B, P, hidden)."""
        x = (self.gate(seen).softmax(1) * seen).sum(1)
        for norm, layer in zip(self.norms, self.inner, strict=True):
            x = x + layer(functional.dropout(functional.silu(norm(x)), self.config.dropout, self.training))
        return self.last(functional.dropout(functional.silu(x), self.config.dropout, self.training))

    def shape_of(self, coefficients: Tensor) -> Guess:
        """What coefficients mean."""
        shape, place = coefficients.split([self.config.modes, self.config.point_modes], -1)
        return Guess(
            self.mean + shape @ self.basis.T, self.point_mean + (place @ self.point_basis.T).unflatten(-1, (-1, 3))
        )

    def forward(self, crop: Tensor | None, points: Tensor) -> Guess:
        """See the class."""
        seen = self.see_photos(None if crop is None else crop.flatten(0, 1), points.flatten(0, 1))
        return self.shape_of(self.coefficients(seen.unflatten(0, points.shape[:2])))

    def seen_twice(self, crop: Tensor | None, points: Tensor) -> Guess:
        """The mean of what pictures and their mirror images say."""
        both = None if crop is None else torch.cat([crop, crop.flip(-1)])
        flip = points.new_tensor([-1.0, 1.0, 1.0])
        seen = self(both, torch.cat([points, seen_mirrored(points, self.swap)]))
        (radii, other), (places, others) = (part.chunk(2) for part in seen)
        turned = torch.from_numpy(mirrored()).to(radii.device)
        return Guess((radii + other[:, turned]) / 2, (places + others[:, self.swap] * flip) / 2)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (inputs, outputs):
        layers += [nn.Conv2d(size, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


def build(config: dict[str, Any]) -> HeadShape:
    """Build the network that a header describes."""
    return HeadShape(ShapeConfig(**config))
