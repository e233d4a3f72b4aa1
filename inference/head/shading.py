"""What shading says of the faces in photos, held against the surface that is being fitted."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..core.cameras import look_at_rotation
from ..nets.face_relief import FaceRelief, Relief
from ..nets.neus import Field
from ..nets.neus_render import Grid, NearConfig, near_surface
from .crop import Square, of_points
from .seen import Seen
from .views import Views

Array = np.ndarray


class Shading:
    """What `face_relief` reads from the faces of all photos, against the normals and depths of a field."""

    def __init__(self, net: FaceRelief, views: Views) -> None:
        self.views, size = views, net.config.side
        parts: list[list[Tensor]] = []
        for index, (photo, camera) in enumerate(zip(views.photos, views.cameras, strict=True)):
            square = of_points(photo.landmarks)
            crop = torch.from_numpy(square.cut(photo.image, size).copy()).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                relief = Relief(*(value.cpu() for value in net(crop.to(next(net.parameters()).device))))
            back = np.linalg.inv(np.vstack([square.matrix(size), [0, 0, 1]]))
            v, u = np.indices((size, size))
            places = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ back[:2].T
            mask = cv2.warpAffine(photo.mask, square.matrix(size), (size, size), flags=cv2.INTER_LINEAR).ravel() > 0.9
            oval = cv2.fillPoly(np.zeros((size, size), np.uint8), [self._oval(photo, square, size)], [1]).ravel() > 0
            known = torch.from_numpy(mask & oval)
            sure = relief.normal_error.view(-1)
            known &= sure < 2 * sure[known].median() if known.any() else known
            towards = np.append((square.centre - camera.matrix[:2, 2]) / camera.matrix[0, 0], 1.0)
            c, s = np.cos(square.angle), np.sin(square.angle)
            turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]) @ look_at_rotation(towards)
            count = int(known.sum())
            parts.append([
                torch.full((count,), index), torch.from_numpy(places).float()[known],
                relief.normal[0].view(3, -1).T[known], relief.depth.view(-1)[known],
                sure[known], relief.depth_error.view(-1)[known],
                torch.from_numpy(turn).float().expand(count, 3, 3), torch.full((count,), float(square.side)),
            ])  # fmt: skip
        columns = [torch.cat(column).to(views.pixels.device) for column in zip(*parts, strict=True)]
        self.view, self.places, self.normal, self.depth, self.normal_error, self.depth_error, self.turn, self.side = (
            columns
        )

    @staticmethod
    def _oval(photo: Seen, square: Square, size: int) -> Array:
        points = photo.landmarks @ square.matrix(size)[:, :2].T + square.matrix(size)[:, 2]
        return cv2.convexHull(points.astype(np.float32)).round().astype(np.int32)

    def misses(self, field: Field, grid: Grid, count: int, g: torch.Generator) -> Tensor:
        """Mean of normal and depth errors, in expected errors."""
        which = torch.randint(0, len(self.view), (count,), generator=g)
        origins, directions = self.views.rays_of(self.view[which], self.places[which])
        with torch.no_grad():
            near = near_surface(field, grid, origins, directions, NearConfig(jitter=False))
            both = near.hit & near.active
            at = near.depths.mean(1)[both[near.active]]
        which, origins, directions = which[both], origins[both], directions[both]
        distance, gradient, _ = field.surface(origins.detach() + directions.detach() * at[:, None])
        slope = (gradient * directions).sum(-1).clamp_max(-0.2).detach()
        along = at - distance[:, 0] / slope
        normal = functional.normalize(gradient, dim=-1)
        rotation = self.views.moved()[0][self.view[which]]
        seen = torch.einsum("nij,njk,nk->ni", self.turn[which], rotation, normal)
        off = (seen - self.normal[which]).norm(dim=-1) / self.normal_error[which]
        focal = self.views.moved()[2][self.view[which]]
        deep = off.new_zeros(())
        for view in range(len(self.views.photos)):
            mine = self.view[which] == view
            if mine.sum() < 20:
                continue
            mean = along[mine].mean()
            relief = (along[mine] - mean) * focal[mine] / (mean * self.side[which][mine])
            wanted = self.depth[which][mine]
            deep = deep + ((relief - wanted + wanted.mean()).abs() / self.depth_error[which][mine]).sum()
        return (off.clamp_max(6).sum() + deep) / max(len(which), 1)
