"""What is known of heads before one is seen: how the learnt scenes differ, in few numbers, and how probable these are.

A new scene begins at the average of all. The published method (Multi-NeuS, Burkov 2022) then moves its own coefficients
freely; here they move first along the principal directions in which the learnt scenes differ, of unit variance each,
so that an implausible head costs something. Face points follow the same directions, which lets the 478 points of a
detector speak about the shape.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from ..nets.face_relief import FaceRelief
from ..nets.head_shape import HeadShape
from ..nets.multi_neus import MultiNeus
from ..nets.neus import Field


@dataclass(frozen=True)
class Span:
    """Principal directions of the scenes' own parameters.

    mean (D,), basis (D, K): one block of parameters after another, each direction as long as its standard deviation;
    points (P, 3) and point_basis (P, 3, K): of the face points, in the unit sphere.
    """

    mean: Tensor
    basis: Tensor
    points: Tensor
    point_basis: Tensor

    @property
    def size(self) -> int:
        """How many directions."""
        return self.basis.shape[1]

    def rows(self, z: Tensor) -> Tensor:
        """(D,) parameters of the scene at z (K,)."""
        return self.mean + self.basis @ z

    def face(self, z: Tensor) -> Tensor:
        """(P, 3) face points of the scene at z (K,), in the unit sphere."""
        return self.points + self.point_basis @ z


def span_of(blocks: list[Tensor], landmarks: Tensor, size: int, *, weight: float = 1.0) -> Span:
    """Find the directions of blocks (N, ...) of N scenes, together with landmarks (N, P, 3), NaN where unknown.

    Args:
        weight: of the landmarks against all blocks together.
    """
    flat = torch.cat([block.detach().reshape(len(block), -1) for block in blocks], 1)
    mean = flat.mean(0)
    apart = flat - mean
    scaled = apart / apart.square().sum(1).mean().sqrt().clamp_min(1e-12)
    known = landmarks.isfinite().flatten(1).all(1)
    points = landmarks[known].mean(0) if known.any() else landmarks.new_zeros(landmarks.shape[1:])
    moved = torch.where(known[:, None], landmarks.flatten(1) - points.flatten(), 0.0)
    both = scaled
    if known.any() and weight:
        both = torch.cat([scaled, weight * moved / moved[known].square().sum(1).mean().sqrt().clamp_min(1e-12)], 1)
    left, values, _ = torch.linalg.svd(both, full_matrices=False)
    size = min(size, int((values > 1e-4 * values[0]).sum()))
    scores = left[:, :size] * len(flat) ** 0.5  # of unit variance
    regressed = torch.linalg.lstsq(scores[known], moved[known]).solution if known.any() else moved.new_zeros(size, 0)
    return Span(
        mean, apart.T @ scores / len(flat), points,
        regressed.T.reshape(*landmarks.shape[1:], size) if known.any() else points.new_zeros(*points.shape, size),
    )  # fmt: skip


class Prior:
    """A trained net of many heads, the spans of its scenes' shapes and colours, what reads shading and whole heads."""

    def __init__(
        self, net: MultiNeus, relief: FaceRelief | None = None, reader: HeadShape | None = None, *,
        shape: int = 64, color: int = 32,
    ) -> None:  # fmt: skip
        self.net, self.relief, self.reader = net, relief, reader
        own = net.own_parameters()
        sdf = {id(p) for p in net.own_parameters_of(net.sdf)}
        self.shape_own = [p for p in own if id(p) in sdf]
        self.color_own = [p for p in own if id(p) not in sdf]
        self.shape = span_of(self.shape_own, net.landmarks, shape)  # type: ignore[arg-type]
        self.color = span_of(self.color_own, net.landmarks[:, :0], color, weight=0.0)  # type: ignore[arg-type]

    def to(self, device: torch.device) -> None:
        """Move everything to a device."""
        self.net.to(device)
        if self.relief is not None:
            self.relief.to(device)
        for name in ("shape", "color"):
            span = getattr(self, name)
            setattr(self, name, Span(*(getattr(span, f.name).to(device) for f in fields(span))))

    def field(self, shape: Tensor, color: Tensor) -> Field:
        """The scene at coordinates (K,) and (L,)."""
        return self.net.field_of(self.rows(shape, color).__getitem__)

    def rows(self, shape: Tensor, color: Tensor) -> dict[nn.Parameter, Tensor]:
        """What each parameter with a row for each scene is there."""
        rows: dict[nn.Parameter, Tensor] = {}
        for own, values in ((self.shape_own, self.shape.rows(shape)), (self.color_own, self.color.rows(color))):
            at = 0
            for parameter in own:
                size = parameter[0].numel()
                rows[parameter] = values[at : at + size].view(parameter.shape[1:])
                at += size
        return rows
