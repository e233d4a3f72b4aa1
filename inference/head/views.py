"""The pixels of all photos that a head is fitted to, and their cameras, which may move while it is fitted."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core.cameras import Camera, rays
from ..protocol.errors import InputError
from .frame import CENTRE, RADIUS
from .seen import Seen

_BOTTOM = -0.6  # of the sphere: below, photos show clothes that the scenes do not agree on
_SPLIT = 0.05  # of the pixels are kept to see when to stop


class Views(nn.Module):
    """Pixels of all photos, and cameras that may move: turn, shift and focal length relative to where they began."""

    pixels: Tensor  # (N, 2) px of each photo
    colors: Tensor  # (N, 3)
    masks: Tensor  # (N,)
    views: Tensor  # (N,) which photo
    held: Tensor  # numbers of pixels that are not fitted
    inside: Tensor
    outside: Tensor
    rotation: Tensor
    translation: Tensor
    matrix: Tensor
    middle: Tensor

    def __init__(self, photos: list[Seen], cameras: tuple[Camera, ...], side: int) -> None:
        super().__init__()
        self.photos, self.cameras = photos, cameras
        self.change = nn.Parameter(torch.zeros(len(photos), 7))
        pixels, colors, masks, views = [], [], [], []
        for index, (photo, camera) in enumerate(zip(photos, cameras, strict=True)):
            found = _pixels(photo, camera, side)
            pixels.append(found[0])
            colors.append(found[1])
            masks.append(found[2])
            views.append(torch.full((len(found[0]),), index))
        self._keep("pixels", torch.cat(pixels))
        self._keep("colors", torch.cat(colors))
        self._keep("masks", torch.cat(masks))
        self._keep("views", torch.cat(views))
        held = torch.rand(len(self.pixels), generator=torch.Generator().manual_seed(0)) < _SPLIT
        inside = self.masks > 0.5
        self._keep("held", torch.nonzero(held & (self.masks > 0.9))[:, 0])
        self._keep("inside", torch.nonzero(~held & inside)[:, 0])
        self._keep("outside", torch.nonzero(~held & ~inside)[:, 0])
        for name in ("rotation", "translation", "matrix"):
            self._keep(name, torch.from_numpy(np.stack([getattr(camera, name) for camera in cameras])).float())
        self._keep("middle", torch.from_numpy(CENTRE).float())

    def _keep(self, name: str, value: Tensor) -> None:
        """A buffer moves with the module between devices."""
        self.register_buffer(name, value)

    def drawn(self, count: int, g: torch.Generator) -> Tensor:
        """Numbers of pixels, somewhat more of them inside."""
        into = count * 3 // 5
        return torch.cat([
            part[torch.randint(0, len(part), (size,), generator=g)]
            for part, size in ((self.inside, into), (self.outside, count - into)) if len(part)
        ])  # fmt: skip

    def moved(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations (V, 3, 3), translations (V, 3) metres and focal lengths (V,) as they stand."""
        x, y, z = self.change[:, :3].unbind(-1)
        o = torch.zeros_like(x)
        cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).view(-1, 3, 3)
        rotation = torch.linalg.matrix_exp(cross) @ self.rotation
        return rotation, self.translation + self.change[:, 3:6], self.matrix[:, 0, 0] * self.change[:, 6].exp()

    def rays(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions (R, 3) of numbered pixels in the unit sphere."""
        return self.rays_of(self.views[which], self.pixels[which])

    def rays_of(self, view: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions (R, 3) through pixels (R, 2) of views (R,), in the unit sphere."""
        rotation, translation, focal = self.moved()
        local = torch.cat([
            (pixels - self.matrix[view, :2, 2]) / focal[view, None],
            torch.ones_like(pixels[:, :1]),
        ], -1)  # fmt: skip
        turn = rotation[view]
        directions = functional.normalize(torch.einsum("rij,ri->rj", turn, local), dim=-1)
        origins = -torch.einsum("rij,ri->rj", turn, translation[view])
        return (origins - self.middle) / RADIUS, directions

    def projected(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (V, P, 2) and depths (V, P) metres of points (P, 3) in the unit sphere."""
        rotation, translation, focal = self.moved()
        world = points * RADIUS + self.middle
        local = torch.einsum("vij,pj->vpi", rotation, world) + translation[:, None]
        depth = local[..., 2].clamp_min(1e-3)
        return local[..., :2] / depth[..., None] * focal[:, None, None] + self.matrix[:, None, :2, 2], depth

    def to_cameras(self) -> tuple[Camera, ...]:
        """The cameras as they stand, of the photos' own sizes."""
        rotation, translation, focal = (value.detach().double().cpu().numpy() for value in self.moved())
        found = []
        for index, camera in enumerate(self.cameras):
            matrix = camera.matrix.copy()
            matrix[0, 0] = matrix[1, 1] = focal[index]
            found.append(replace(camera, matrix=matrix, rotation=rotation[index], translation=translation[index]))
        return tuple(found)


def _pixels(photo: Seen, camera: Camera, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places (N, 2) px, colours (N, 3) and masks (N,) of a photo's pixels that see the sphere.

    They lie on a grid so coarse that the sphere is `side` * 1.3 wide.
    """
    matrix = camera.matrix
    centre = camera.rotation @ CENTRE + camera.translation
    middle = matrix[:2, :2] @ (centre[:2] / centre[2]) + matrix[:2, 2]
    radius = matrix[0, 0] * RADIUS / math.sqrt(max(centre[2] ** 2 - RADIUS**2, 1e-4))
    step = max(2 * radius / (1.3 * side), 1.0)
    height, width = photo.mask.shape
    scale = 1 / step
    size = max(round(width * scale), 8), max(round(height * scale), 8)
    image = cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(photo.mask, size, interpolation=cv2.INTER_AREA)
    v, u = np.meshgrid(np.arange(size[1]), np.arange(size[0]), indexing="ij")
    places = np.stack([(u + 0.5) * width / size[0] - 0.5, (v + 0.5) * height / size[1] - 0.5], -1)
    local, origin = rays(camera, places), (camera.centre - CENTRE) / RADIUS
    along = -(local @ origin)
    nearest = origin + local * along[..., None]
    inside = np.linalg.norm(places - middle, axis=-1) < 0.98 * radius
    known = inside & (nearest[..., 2] > np.where(mask > 0.5, _BOTTOM, _BOTTOM + 0.1))
    if known.sum() < 500:
        raise InputError(f"Too little of the head is seen in {photo.name}.", "Use a photo that shows the whole head.")
    return (
        torch.from_numpy(places[known]).float(), torch.from_numpy(image[known]).float() / 255,
        torch.from_numpy(mask[known]).float(),
    )  # fmt: skip
