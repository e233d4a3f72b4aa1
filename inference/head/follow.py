"""How a fitted surface moves to where one look and the photos have it (`settle.py`), which no head of the prior has.

All layers learn the moved distances. What so small a net can't learn of wings of noses and lips, some tenths of a
millimetre, stays beside it as a bend of the space in which it is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import normalize

from ..nets.head_shape import RINGS, SPOKES, Bend, directions
from ..nets.multi_neus import MultiNeus
from ..nets.neus import Field
from ..nets.neus_render import Grid
from .frame import CENTRE, LANDMARKS, MEAN_LANDMARKS, RADIUS
from .guess import FIRST_M, LAST_M, smoothed
from .outlines import LOWEST_M, steepness

Array = np.ndarray
FRONT = -0.26  # y of directions towards the face
_ABOUT_HEAD, _ABOUT_FACE = (3, 0.04), (12, 0.01)  # points of each direction that learn what moves, and how far off
_KEPT = 0.12  # of the unit sphere: how far about the surface they are at most
_LOOKS, _HALVINGS = 96, 9  # by which a surface is looked for along a direction
_THROAT_M = 0.095  # how far about the tip of the nose looks know throats, too
_NECK_M = 0.03  # over how much what is known passes into necks
_BEND_M, _BENDS = 0.002, 2  # how far space is bent at most, and how often what is left is looked at
_GRAIN_M = 0.0015  # standard deviation of its smoothing
_ODD_M = 0.0005  # what is left across the surface counts half then


def follow(  # noqa: PLR0917
    net: MultiNeus, known: Array, steps: int, points: int, lr: float, heard: Callable[[], None], g: torch.Generator
) -> Bend:
    """Let the only scene of a net learn its surface moved to radii (V,) metres; what it could not learn, as a bend.

    Args:
        points: of each step.
        heard: is called every step; what it raises stops this.
    """
    before = net.field(0).fixed()
    found = reach(before)
    share = np.minimum(share_known(known), share_known(np.nan_to_num(found)))
    change = np.where(np.isfinite(found), share * (known - np.nan_to_num(found)), 0.0)
    places, distance, features = moved(before, found, change, g)
    optimiser = torch.optim.Adam(net.sdf.parameters(), lr=lr)
    for step in range(steps):
        heard()
        optimiser.param_groups[0]["lr"] = lr * (1 - step / steps)
        some = torch.randint(0, len(places), (points,), generator=g)
        seen = net.field(0).distance(places[some])
        loss = (seen[0][:, 0] - distance[some]).abs().mean() + 0.01 * (seen[1] - features[some]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return bend_to(net.field(0).fixed(), found + change, heard)


def bend_to(field: Field, wanted: Array, heard: Callable[[], None]) -> Bend:
    """The bend that brings a field's surface to radii (V,) metres, NaN for anywhere, as far as `_BEND_M` reaches."""
    radii = np.nan_to_num(wanted, nan=FIRST_M)
    outwards, from_middle = np.zeros(len(wanted)), directions() * radii[:, None]
    places, across = CENTRE + from_middle, 1 / steepness(radii, from_middle)
    device, bend = field.sharpness.device, Bend(torch.zeros(RINGS, SPOKES))
    for _ in range(_BENDS):
        heard()
        left = np.nan_to_num(wanted - reach(field._replace(bend=bend.to(device))))
        weight = across / (1 + np.square(left * across / _ODD_M))
        mean = smoothed(places, weight * left, _GRAIN_M) / smoothed(places, weight, _GRAIN_M)
        outwards = np.clip(outwards + mean, -_BEND_M, _BEND_M)
        bend = Bend(torch.from_numpy(outwards / RADIUS).float().view(RINGS, SPOKES))
    return bend.to(device)


def share_known(radii: Array) -> Array:
    """(V,) from 1 to 0 down the neck, whose end no look knows; radii (V,) metres."""
    places = CENTRE + directions() * radii[:, None]
    above = places[:, 2] - LOWEST_M
    near = _THROAT_M - np.linalg.norm(places - MEAN_LANDMARKS[LANDMARKS.index("nose")], axis=1)
    return np.clip(np.maximum(above, near) / _NECK_M + 1, 0, 1)


@torch.no_grad()
def reach(field: Field) -> Array:
    """(V,) metres from the centre to a field's surface, NaN where there is none."""
    rays = torch.from_numpy(directions()).float().to(field.sharpness.device)
    line = torch.linspace(FIRST_M, LAST_M, _LOOKS, device=rays.device) / RADIUS
    inside = Grid.of(field, 64).at(rays[:, None] * line[:, None]) < 0
    first = inside.float().argmax(1).clamp_min(1)
    outer, inner = line[first - 1], line[first]
    for _ in range(_HALVINGS):
        middle = (outer + inner) / 2
        within = field.distance(rays * middle[:, None])[0][:, 0] < 0
        outer, inner = torch.where(within, outer, middle), torch.where(within, middle, inner)
    found = torch.where(inside.any(1), (outer + inner) / 2, torch.nan)
    return found.double().cpu().numpy() * RADIUS


@torch.no_grad()
def moved(field: Field, found: Array, change: Array, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, 3) of the unit sphere about a surface of radii (V,), and its distances (N,) and features (N, F) there.

    That is, after the radii have changed by (V,) metres: what was below a point comes to it.
    """
    rays = torch.from_numpy(directions()).float()
    surface = rays * torch.from_numpy((np.nan_to_num(found) + change) / RADIUS).float()[:, None]
    known = torch.from_numpy(np.isfinite(found))
    parts = []
    for there, count, about in ((known, *_ABOUT_HEAD), (known & (rays[:, 1] < FRONT), *_ABOUT_FACE)):
        some = surface[there].repeat(count, 1)
        parts.append(some + torch.randn(some.shape, generator=g) * about * torch.rand(len(some), 1, generator=g))
    points = torch.cat([*parts, torch.rand(len(parts[0]), 3, generator=g) * 2 - 1])
    away, which = KDTree(directions()).query(normalize(points, dim=1).numpy(), k=4)
    weight = 1 / (away + 1e-3)
    by = torch.from_numpy((weight * change[which]).sum(1) / weight.sum(1) / RADIUS).float()
    points = points.to(field.sharpness.device)
    distance, features = field.distance(points - (by[:, None] * normalize(points.cpu(), dim=1)).to(points.device))
    kept = distance[:, 0].abs() < _KEPT
    return points[kept], distance[kept, 0], features[kept]
