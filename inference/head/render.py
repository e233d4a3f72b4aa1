"""Pictures of a head's field, rendered about its surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from ..core.cameras import Camera, level_rotation, pinhole, rays
from ..nets.neus import Field
from ..nets.neus_render import Grid, NearConfig, RenderConfig, near_surface, render
from .frame import CENTRE, RADIUS

Array = np.ndarray


def picture(
    field: Field, *, azimuth: float = 0.0, elevation: float = 0.05, size: int = 256, grid: Grid | None = None,
    shaded: bool = False,
) -> Array:  # fmt: skip
    """(size, size, 3) uint8 sRGB picture of a head from `azimuth` radians to its left, on grey; shaded: as clay."""
    level = np.cos(elevation)
    eye = CENTRE + 1.1 * np.array([np.sin(azimuth) * level, -np.cos(azimuth) * level, np.sin(elevation)])
    rotation = level_rotation(CENTRE - eye)
    camera = replace(pinhole("view", (size, size), 2.4 * size), rotation=rotation, translation=-rotation @ eye)
    seen, _ = picture_from(field, camera, grid=grid, shaded=shaded)
    return (seen.clip(0, 1) * 255).astype(np.uint8)


@torch.no_grad()
def picture_from(
    field: Field, camera: Camera, *, step: int = 1, grid: Grid | None = None, shaded: bool = False, plain: bool = False
) -> tuple[Array, Array]:
    """What a camera in the frame of heads sees: colours (H, W, 3) in [0, 1] on grey, and where it sees the head (H, W).

    Args:
        step: only every n-th pixel of a row and of a column.
        plain: by the sampling of NeuS instead of about the surface.
    """
    width, height = camera.size
    v, u = np.meshgrid(np.arange(0, height, step), np.arange(0, width, step), indexing="ij")
    device = field.sharpness.device
    directions = torch.from_numpy(rays(camera, np.stack([u.ravel(), v.ravel()], -1))).float().to(device)
    origin = torch.from_numpy((camera.centre - CENTRE) / RADIUS).float().to(device).expand(len(directions), 3)
    grid = grid or Grid.of(field, 64)
    out, opacity = torch.full_like(directions, 0.5), torch.zeros_like(directions[:, 0])
    for rows in torch.arange(len(directions), device=device).split(4096 if plain else 16384):
        if plain:
            some, depths = rows, None
        else:
            near = near_surface(field, grid, origin[rows], directions[rows], NearConfig(jitter=False))
            some, depths = rows[near.active], near.depths
        seen = render(field, origin[some], directions[some], RenderConfig(), depths=depths)
        color = seen.color
        if shaded:
            normal = functional.normalize(seen.normal, dim=-1)
            light = functional.normalize(normal.new_tensor([0.4, -0.8, 0.5]), dim=0)
            color = (0.25 + 0.7 * (normal @ light).clamp_min(0))[:, None].expand(-1, 3) * seen.opacity[:, None]
        out[some], opacity[some] = color + 0.5 * (1 - seen.opacity[:, None]), seen.opacity
    return out.view(*u.shape, 3).cpu().numpy(), opacity.view(u.shape).cpu().numpy() > 0.5
