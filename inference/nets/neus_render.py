"""Pictures of a signed distance field by volume rendering that is unbiased at its surface (NeuS, Wang 2021).

Depths are found coarse to fine; between two depths lies a section, whose opacity follows from the distances at its
ends as the slope at its middle extrapolates them. All lengths are those of the unit sphere that the scene fills.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .neus import Background, Field

_SPHERE, _RELAXED = 1.0, 1.2
_STEEP = 40.0  # of the sphere's unit: how a ray's nearest distance becomes the probability that it sees something


@dataclass(frozen=True)
class RenderConfig:
    """How rays are sampled: `uniform` depths, then `rounds` that add `fine` in all; `outside` for a background.

    moves: whether what is seen has a gradient by the surface, or by features and colours alone.
    """

    uniform: int = 64
    fine: int = 64
    rounds: int = 4
    outside: int = 32
    jitter: bool = True
    moves: bool = True


class Rendered(NamedTuple):
    """What R rays see.

    color (R, 3); opacity (R,); normal (R, 3) weighted gradients; depth (R,); weights (R, S); eikonal: the mean of
    (|gradient| - 1)^2 over sections near the sphere.
    """

    color: Tensor
    opacity: Tensor
    normal: Tensor
    depth: Tensor
    weights: Tensor
    eikonal: Tensor


def near_far(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Depths (R, 1) one before and one behind the point of each ray that is nearest to the centre; unit directions."""
    middle = -(origins * directions).sum(-1, keepdim=True)
    return middle - _SPHERE, middle + _SPHERE


@torch.no_grad()
def sample(field: Field, origins: Tensor, directions: Tensor, config: RenderConfig) -> Tensor:
    """(R, S) depths, sorted: uniform ones, and more where the surface seems to be."""
    near, far = near_far(origins, directions)
    steps = torch.linspace(0.0, 1.0, config.uniform, device=origins.device)
    depths = near + (far - near) * steps
    if config.jitter:
        depths = depths + (torch.rand(len(origins), 1, device=origins.device) - 0.5) * 2.0 / config.uniform
    if not config.fine:
        return depths
    distance = _distances(field, origins, directions, depths)
    for index in range(config.rounds):
        more = finer(origins, directions, depths, distance, config.fine // config.rounds, 64.0 * 2**index)
        merged, order = torch.sort(torch.cat([depths, more], -1), dim=-1)
        if index + 1 < config.rounds:
            both = torch.cat([distance, _distances(field, origins, directions, more)], -1)
            distance = torch.gather(both, 1, order)
        depths = merged
    return depths


def _distances(field: Field, origins: Tensor, directions: Tensor, depths: Tensor) -> Tensor:
    points = origins[:, None] + directions[:, None] * depths[..., None]
    return field.distance(points.flatten(0, 1))[0].view(depths.shape)


def finer(  # noqa: PLR0917 - the published arguments
    origins: Tensor, directions: Tensor, depths: Tensor, distance: Tensor, count: int, s: float
) -> Tensor:
    """(R, count) depths where sections of sharpness `s` would be seen."""
    radius = (origins[:, None] + directions[:, None] * depths[..., None]).norm(dim=-1)
    inside = (radius[:, :-1] < _SPHERE) | (radius[:, 1:] < _SPHERE)
    step = depths[:, 1:] - depths[:, :-1]
    middle = (distance[:, 1:] + distance[:, :-1]) / 2
    slope = (distance[:, 1:] - distance[:, :-1]) / (step + 1e-5)
    before = functional.pad(slope[:, :-1], (1, 0))
    slope = torch.minimum(before, slope).clamp(-1e3, 0.0) * inside
    alpha = _opacity(middle, slope, step, s)
    return _inverted(depths, _visible(alpha) * alpha, count)


def _opacity(distance: Tensor, slope: Tensor, length: Tensor, s: Tensor | float) -> Tensor:
    """Opacity of sections of a length, with the distance and its slope along the ray at their middles."""
    first = torch.sigmoid((distance - slope * length * 0.5) * s)
    last = torch.sigmoid((distance + slope * length * 0.5) * s)
    return (first - last + 1e-5) / (first + 1e-5)


def _visible(alpha: Tensor) -> Tensor:
    """What is left of the light before each section."""
    return functional.pad(torch.cumprod(1.0 - alpha + 1e-7, -1)[:, :-1], (1, 0), value=1.0)


def _inverted(bins: Tensor, weights: Tensor, count: int) -> Tensor:
    """Depths at which the cumulated weights reach the middles of `count` equal parts."""
    pdf = weights + 1e-5
    cdf = functional.pad(torch.cumsum(pdf / pdf.sum(-1, keepdim=True), -1), (1, 0))
    at = torch.linspace(0.5 / count, 1.0 - 0.5 / count, count, device=bins.device).expand(len(bins), count).contiguous()
    index = torch.searchsorted(cdf.contiguous(), at, right=True)
    below, above = (index - 1).clamp_min(0), index.clamp_max(cdf.shape[-1] - 1)
    low, high = torch.gather(cdf, 1, below), torch.gather(cdf, 1, above)
    width = torch.where(high - low < 1e-5, torch.ones_like(low), high - low)
    first, second = torch.gather(bins, 1, below), torch.gather(bins, 1, above)
    return first + (at - low) / width * (second - first)


def render(
    field: Field, origins: Tensor, directions: Tensor, config: RenderConfig, *, cosine: float = 1.0,
    depths: Tensor | None = None, background: Background | None = None,
) -> Rendered:  # fmt: skip
    """See along R rays.

    Args:
        origins, directions: (R, 3), unit directions.
        cosine: 0 to 1, how far slopes are taken as they are, which is annealed up where there are no masks.
        depths: (R, S) where to look instead of sampling.
        background: what is seen outside the sphere; without one it is black.
    """
    given = depths is not None
    depths = sample(field, origins, directions, config) if depths is None else depths
    lengths = depths[:, 1:] - depths[:, :-1]
    last = lengths[:, -1:] if given else lengths.new_full((len(depths), 1), 2.0 / config.uniform)
    lengths = torch.cat([lengths, last], -1)
    middles = depths + lengths / 2
    rays, sections = depths.shape
    points = (origins[:, None] + directions[:, None] * middles[..., None]).flatten(0, 1)
    looked = directions[:, None].expand(-1, sections, -1).flatten(0, 1)
    distance, gradient, features = field.surface(points, create_graph=config.moves and torch.is_grad_enabled())
    if not config.moves:
        distance, gradient = distance.detach(), gradient.detach()
    color = field.radiance(points, gradient, looked, features).view(rays, sections, 3)
    towards = (looked * gradient).sum(-1, keepdim=True)
    slope = -(functional.relu(-towards * 0.5 + 0.5) * (1.0 - cosine) + functional.relu(-towards) * cosine)
    alpha = _opacity(distance, slope, lengths.reshape(-1, 1), field.sharpness).view(rays, sections).clamp(0.0, 1.0)
    radius = points.norm(dim=-1).view(rays, sections)
    if background is not None:
        inside = (radius < _SPHERE).float()
        behind, far_color = _outside(background, origins, directions, middles, config)
        alpha = torch.cat([alpha * inside + behind[:, :sections] * (1 - inside), behind[:, sections:]], -1)
        mixed = color * inside[..., None] + far_color[:, :sections] * (1 - inside)[..., None]
        color = torch.cat([mixed, far_color[:, sections:]], 1)
    weights = alpha * _visible(alpha)
    near = weights[:, :sections]
    relaxed = (radius < _RELAXED).float()
    length = gradient.view(rays, sections, 3).norm(dim=-1)
    eikonal = (relaxed * (length - 1).square()).sum() / (relaxed.sum() + 1e-5)
    return Rendered(
        (weights[..., None] * color).sum(1), weights.sum(-1),
        (near[..., None] * gradient.view(rays, sections, 3)).sum(1), (near * middles).sum(-1), weights, eikonal,
    )  # fmt: skip


class Grid:
    """Distances of a field at the nodes of a cube around the unit sphere, so that empty space costs no network."""

    def __init__(self, values: Tensor) -> None:
        self.values = values[None, None]  # (1, 1, Z, Y, X)

    @staticmethod
    @torch.no_grad()
    def of(field: Field, resolution: int = 48, chunk: int = 65536) -> Grid:
        """Ask the field at resolution^3 nodes of [-1, 1]^3."""
        device = field.sdf[0][0].device
        line = torch.linspace(-1.0, 1.0, resolution, device=device)
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        points = torch.stack([x, y, z], -1).view(-1, 3)
        found = torch.cat([field.distance(part)[0][:, 0] for part in points.split(chunk)])
        return Grid(found.view(resolution, resolution, resolution))

    @staticmethod
    @torch.no_grad()
    def refined(field: Field, resolution: int, coarse: int = 40, near: float = 0.04, chunk: int = 65536) -> Grid:
        """A fine grid that asks the field only where a coarse one says that the surface is near."""
        rough = Grid.of(field, coarse, chunk)
        values = functional.interpolate(rough.values, [resolution] * 3, mode="trilinear", align_corners=True)[0, 0]
        z, y, x = torch.nonzero(values.abs() < near, as_tuple=True)
        points = torch.stack([x, y, z], -1) / (resolution - 1) * 2 - 1.0
        values[z, y, x] = torch.cat([field.distance(part)[0][:, 0] for part in points.split(chunk)])
        return Grid(values)

    def at(self, points: Tensor) -> Tensor:
        """(...,) distances of points (..., 3) between the nodes."""
        flat = points.reshape(1, 1, 1, -1, 3)
        return functional.grid_sample(self.values, flat, align_corners=True, padding_mode="border").view(
            points.shape[:-1]
        )


@dataclass(frozen=True)
class NearConfig:
    """How rays are sampled about a surface that is roughly known.

    coarse: looks into the grid; fine: sections about the surface; margin: rays that pass the surface farther away see
    nothing; band: the smallest half width of the sections, all in the unit of the sphere.
    """

    coarse: int = 48
    fine: int = 14
    margin: float = 0.08
    band: float = 0.02
    jitter: bool = True


class Near(NamedTuple):
    """Where R rays meet a surface.

    active (R,) bool: what is worth rendering; depths (A, S) of the active ones; hit (R,) bool; closest (R,): the depth
    at which each ray is deepest inside, or nearest.
    """

    active: Tensor
    depths: Tensor
    hit: Tensor
    closest: Tensor


@torch.no_grad()
def near_surface(field: Field, grid: Grid, origins: Tensor, directions: Tensor, config: NearConfig) -> Near:
    """Find where rays first enter, by the grid and two steps of the secant method, and lay sections there."""
    middle = -(origins * directions).sum(-1, keepdim=True)
    off = (origins + directions * middle).square().sum(-1, keepdim=True)
    half = (_SPHERE - off).clamp_min(1e-4).sqrt()
    steps = torch.linspace(-1.0, 1.0, config.coarse, device=origins.device)
    depths = middle + half * steps
    distance = grid.at(origins[:, None] + directions[:, None] * depths[..., None])
    inside = distance <= 0
    hit = inside.any(-1) & (off[:, 0] < _SPHERE)
    nearest, deepest = distance.min(-1)
    active = (nearest < config.margin) & (off[:, 0] < _SPHERE)
    closest = depths.gather(1, deepest[:, None])[:, 0]
    first = inside.float().argmax(-1).clamp_min(1)[:, None]
    t0, t1 = depths.gather(1, first - 1)[:, 0], depths.gather(1, first)[:, 0]
    f0, f1 = distance.gather(1, first - 1)[:, 0], distance.gather(1, first)[:, 0]
    slope = ((f1 - f0) / (t1 - t0).clamp_min(1e-6)).clamp_max(-0.15)
    at = torch.where(hit, t0 - f0 / slope, closest)
    which = hit & active
    for _ in range(2):
        found = field.distance(origins[which] + directions[which] * at[which][:, None])[0][:, 0]
        at[which] = at[which] - (found / slope[which]).clamp(-0.1, 0.1)
    width = (5.0 / field.sharpness.detach()).clamp(config.band, 0.3)
    spread = torch.linspace(-1.0, 1.0, config.fine, device=origins.device) * 1.2
    sections = at[active][:, None] + width * spread
    if config.jitter:
        sections = sections + width * (torch.rand(len(sections), 1, device=origins.device) - 0.5) * 2.4 / config.fine
    return Near(active, sections, hit, closest)


class Looked(NamedTuple):
    """What R rays see of a surface that is roughly known.

    active (R,) bool; seen: what the active ones render; missed (M,): cross entropies of the masks of those rays that
    the surface should meet and does not, or nearly meets, by how near each comes (Yariv 2020, section 3.4).
    """

    active: Tensor
    seen: Rendered
    missed: Tensor


def look(field: Field, grid: Grid, origins: Tensor, directions: Tensor, mask: Tensor, *, moves: bool = True) -> Looked:
    """Render R rays about the surface and hold them against their masks (R,) in [0, 1].

    moves: as in `RenderConfig`.
    """
    near = near_surface(field, grid, origins.detach(), directions.detach(), NearConfig())
    a = near.active
    seen = render(field, origins[a], directions[a], RenderConfig(moves=moves), depths=near.depths)
    unsure = (a | (mask > 0.5)) & ~(near.hit & (mask > 0.5))  # what is inside and hit teaches nothing
    deep = field.distance(origins[unsure] + directions[unsure] * near.closest[unsure, None])[0][:, 0]
    return Looked(a, seen, functional.binary_cross_entropy_with_logits(-_STEEP * deep, mask[unsure], reduction="none"))


def _outside(
    net: Background, origins: Tensor, directions: Tensor, middles: Tensor, config: RenderConfig
) -> tuple[Tensor, Tensor]:
    """Opacity (R, S + O) and colour (R, S + O, 3) of a background, at the scene's sections and at some beyond."""
    _, far = near_far(origins, directions)
    steps = torch.linspace(1e-3, 1.0 - 1.0 / (config.outside + 1.0), config.outside, device=origins.device)
    beyond = far / torch.flip(steps, (-1,)) + 1.0 / config.uniform
    depths, _ = torch.sort(torch.cat([middles, beyond.expand(len(origins), -1)], -1), dim=-1)
    lengths = torch.cat([depths[:, 1:] - depths[:, :-1], depths.new_full((len(depths), 1), 2.0 / config.uniform)], -1)
    points = origins[:, None] + directions[:, None] * (depths + lengths / 2)[..., None]
    radius = points.norm(dim=-1, keepdim=True).clamp(1.0, 1e10)
    points = torch.cat([points / radius, 1.0 / radius], -1)
    density, color = net(points, directions[:, None].expand(-1, depths.shape[1], -1))
    return 1.0 - torch.exp(-functional.softplus(density[..., 0]) * lengths), torch.sigmoid(color)
