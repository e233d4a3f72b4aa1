"""A new person's head out of the prior of heads: scene N + 1, fitted to photos in stages.

Multi-NeuS (Burkov 2022): first the new scene's own layers alone, from the average of all scenes, then everything and
the cameras. Here the first stage moves along the directions in which the learnt scenes differ (`prior`), with the face
points of the photos and how probable a head is; the second holds the surface near that wherever no picture speaks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from .. import nets
from ..core.cameras import Camera, level_rotation, look_at_rotation, pinhole
from ..nets.face_relief import FaceRelief
from ..nets.multi_neus import MultiNeus
from ..nets.neus import Field
from ..nets.neus_render import Grid, NearConfig, RenderConfig, near_surface, render
from ..protocol.errors import Cancelled, InputError, WeightsError
from ..protocol.events import Reporter
from ..protocol.files import atomic_write
from ..runtime import weights
from .camera import Placed, place
from .crop import Square, of_points
from .frame import CENTRE, RADIUS, from_sphere
from .prior import Prior
from .seen import Seen

Array = np.ndarray
Preview = Callable[[Array, int], None]
_BOTTOM = -0.6  # of the sphere: below, photos show clothes that the scenes do not agree on
_SPLIT = 0.05  # of the pixels are kept to see when to stop
_NEAR, _STILL = NearConfig(), NearConfig(jitter=False)
_SAVED_S = 60.0


@dataclass(frozen=True)
class FitSettings:
    """How long and how finely a head is fitted.

    side: pixels of the head's longer side in the pictures that are fitted; first, second: steps of the two stages.
    """

    side: int = 200
    first: int = 200
    second: int = 500
    rays: int = 448
    seed: int = 0
    device: str = "cpu"
    first_lr: float = 0.04
    second_lr: float = 3e-4
    camera_lr: float = 1e-4
    color_weight: float = 2000.0  # against the face points and the prior, in the first stage; in the unit of likelihood
    mask_weight: float = 2000.0
    shading_weight: float = 150.0
    held: float = 10.0  # of the first stage's surface in the second
    shaped: float = 0.05  # of what shading says, in the second stage

    @staticmethod
    def of(quality: str, *, seed: int = 0, device: str = "cpu") -> FitSettings:
        """The settings of a quality."""
        known = {
            "draft": FitSettings(side=128, first=120, second=0),
            "default": FitSettings(),
            "high": FitSettings(side=288, first=300, second=2500),
        }
        return replace(known[quality], seed=seed, device=device)


@dataclass(frozen=True)
class Fitted:
    """A person's head.

    field: its surface and colours in the unit sphere; cameras in the frame of heads, metres; landmarks (478, 3) metres
    in that frame; figures: what the fit reached.
    """

    field: Field
    cameras: tuple[Camera, ...]
    landmarks: Array
    figures: dict[str, float]


def load_prior(path: Path | None = None) -> Prior:
    """Read a prior of heads; the published one where no path is given.

    Raises:
        WeightsError: missing, damaged or not a prior of heads.
    """
    path = path or weights.locate("heads")
    net = nets.load(path)
    if not isinstance(net, MultiNeus) or net.config.scenes < 2:
        raise WeightsError(f"{path.name} holds no prior of heads.", "Give a file that training.multi_neus wrote.")
    return Prior(net, nets.load(weights.locate("face-relief")))  # type: ignore[arg-type]


def fit(
    photos: list[Seen], prior: Prior, settings: FitSettings, report: Reporter, *,
    folder: Path | None = None, preview: Preview | None = None,
) -> Fitted:  # fmt: skip
    """Fit a head to one photo or several.

    Args:
        folder: where checkpoints are kept and found again; None keeps none.
        preview: is given a picture of the head (H, W, 3) uint8 sRGB and the step, every few seconds.

    Raises:
        InputError: the photos' face points fit no head.
        Cancelled: from `report`.
    """
    torch.manual_seed(settings.seed)
    placed = place(photos, prior.shape)
    work = Fitting(photos, prior, placed, settings, report, folder, preview)
    work.resume()
    try:
        work.first()
        work.second()
    except Cancelled:
        work.save()
        raise
    return work.result()


class _Views(nn.Module):
    """Pixels of all photos, and cameras that may move: turn, shift and focal length relative to where they began."""

    def __init__(self, photos: list[Seen], cameras: tuple[Camera, ...], settings: FitSettings) -> None:
        super().__init__()
        self.photos, self.cameras = photos, cameras
        self.change = nn.Parameter(torch.zeros(len(photos), 7))
        pixels, colors, masks, views = [], [], [], []
        for index, (photo, camera) in enumerate(zip(photos, cameras, strict=True)):
            found = _pixels(photo, camera, settings.side)
            pixels.append(found[0])
            colors.append(found[1])
            masks.append(found[2])
            views.append(torch.full((len(found[0]),), index))
        self.pixels, self.colors = torch.cat(pixels), torch.cat(colors)
        self.masks, self.views = torch.cat(masks), torch.cat(views)
        held = torch.rand(len(self.pixels), generator=torch.Generator().manual_seed(0)) < _SPLIT
        self.kept, self.held = torch.nonzero(~held)[:, 0], torch.nonzero(held & (self.masks > 0.9))[:, 0]
        inside = self.masks[self.kept] > 0.5
        self.inside, self.outside = self.kept[inside], self.kept[~inside]
        for name in ("rotation", "translation"):
            stacked = np.stack([getattr(camera, name) for camera in cameras])
            self.register_buffer(name, torch.from_numpy(stacked).float())
        self.register_buffer("matrix", torch.from_numpy(np.stack([c.matrix for c in cameras])).float())

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
        rotation = torch.linalg.matrix_exp(cross) @ self.rotation  # type: ignore[operator]
        return rotation, self.translation + self.change[:, 3:6], self.matrix[:, 0, 0] * self.change[:, 6].exp()  # type: ignore[operator,index]

    def rays(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions (R, 3) of numbered pixels in the unit sphere."""
        return self.rays_of(self.views[which], self.pixels[which])

    def rays_of(self, view: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions (R, 3) through pixels (R, 2) of views (R,), in the unit sphere."""
        rotation, translation, focal = self.moved()
        local = torch.cat([
            (pixels - self.matrix[view, :2, 2]) / focal[view, None],  # type: ignore[index]
            torch.ones(len(view), 1),
        ], -1)  # fmt: skip
        turn = rotation[view]
        directions = functional.normalize(torch.einsum("rij,ri->rj", turn, local), dim=-1)
        origins = -torch.einsum("rij,ri->rj", turn, translation[view])
        return (origins - torch.from_numpy(CENTRE).float()) / RADIUS, directions

    def projected(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (V, P, 2) and depths (V, P) metres of points (P, 3) in the unit sphere."""
        rotation, translation, focal = self.moved()
        world = points * RADIUS + torch.from_numpy(CENTRE).float()
        local = torch.einsum("vij,pj->vpi", rotation, world) + translation[:, None]
        depth = local[..., 2].clamp_min(1e-3)
        return local[..., :2] / depth[..., None] * focal[:, None, None] + self.matrix[:, None, :2, 2], depth  # type: ignore[index]

    def to_cameras(self) -> tuple[Camera, ...]:
        """The cameras as they stand, of the photos' own sizes."""
        rotation, translation, focal = (value.detach().double().numpy() for value in self.moved())
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
    local = np.concatenate([(places - matrix[:2, 2]) / matrix[0, 0], np.ones((*u.shape, 1))], -1) @ camera.rotation
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    origin = (camera.centre - CENTRE) / RADIUS
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


class _Shading:
    """What `face_relief` reads from the faces of all photos, against the normals and depths of a field."""

    def __init__(self, net: FaceRelief, views: _Views) -> None:
        self.views, size = views, net.config.side
        parts: list[list[Tensor]] = []
        for index, (photo, camera) in enumerate(zip(views.photos, views.cameras, strict=True)):
            square = of_points(photo.landmarks)
            crop = torch.from_numpy(square.cut(photo.image, size).copy()).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                relief = net(crop)
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
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
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
            near = near_surface(field, grid, origins, directions, _STILL)
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
        deep = torch.zeros(())
        for view in range(len(self.views.photos)):
            mine = self.view[which] == view
            if mine.sum() < 20:
                continue
            mean = along[mine].mean()
            relief = (along[mine] - mean) * focal[mine] / (mean * self.side[which][mine])
            wanted = self.depth[which][mine]
            deep = deep + ((relief - wanted + wanted.mean()).abs() / self.depth_error[which][mine]).sum()
        return (off.clamp_max(6).sum() + deep) / max(len(which), 1)


class Fitting:
    """One fit, step by step."""

    def __init__(  # noqa: PLR0917
        self, photos: list[Seen], prior: Prior, placed: Placed, settings: FitSettings, report: Reporter,
        folder: Path | None, preview: Preview | None,
    ) -> None:  # fmt: skip
        self.prior, self.settings, self.report, self.folder, self.preview = prior, settings, report, folder, preview
        self.views = _Views(photos, placed.cameras, settings)
        self.shading = _Shading(prior.relief, self.views) if prior.relief and settings.shading_weight else None
        self.z = nn.Parameter(torch.from_numpy(placed.z).float())
        self.tint = nn.Parameter(torch.zeros(prior.color.size))
        self.net: MultiNeus | None = None
        self.at = 0  # steps done, of both stages
        self.stopped = False
        self.figures: dict[str, float] = {}
        self.saved = self.shown = time.monotonic()
        self.g = torch.Generator().manual_seed(settings.seed)
        self.seen_px = torch.from_numpy(np.stack([photo.landmarks for photo in photos])).float()
        self.guessed = torch.from_numpy(np.stack([photo.depth for photo in photos])).float()

    # The first stage

    def first(self) -> None:
        """Move along the directions of the prior, with face points, pictures and silhouettes."""
        s = self.settings
        for parameter in self.prior.net.parameters():
            parameter.requires_grad_(False)
        groups = [
            {"params": [self.z, self.tint], "lr": s.first_lr},
            {"params": [self.views.change], "lr": s.camera_lr * 5},
        ]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
        rates = [group["lr"] for group in optimiser.param_groups]
        grid = None
        while self.at < s.first:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, 2 * (s.first - self.at) / s.first)
            field = self.prior.field(self.z, self.tint)
            if grid is None or self.at % 10 == 0:
                grid = Grid.of(_fixed(field), 40)
            color, mask, _ = self._pictures(field, grid)
            loss = s.color_weight * color + s.mask_weight * mask + self._points()
            loss = loss + self.z.square().sum() + self.tint.square().sum()
            if self.shading:
                loss = loss + s.shading_weight * self.shading.misses(field, grid, 300, self.g)
            optimiser.zero_grad()
            (loss / 1000).backward()
            optimiser.step()
            self._count({"color": float(color.detach()), "mask": float(mask.detach())}, field, grid)
        self.figures["psnr_first"] = self._psnr(_fixed(self.prior.field(self.z, self.tint)))
        self.save()

    def _pictures(self, field: Field, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Colour, mask and eikonal losses of some rays."""
        which = self.views.drawn(self.settings.rays, self.g)
        origins, directions = self.views.rays(which)
        near = near_surface(field, grid, origins.detach(), directions.detach(), _NEAR)
        mask, wanted = self.views.masks[which], self.views.colors[which]
        a = near.active
        seen = render(field, origins[a], directions[a], RenderConfig(), depths=near.depths)
        inside = (mask[a] > 0.9).float()[:, None]
        color = ((seen.color - wanted[a]).abs() * inside).sum() / (inside.sum() + 1e-5) / 3
        unsure = a | (mask > 0.5)
        unsure &= ~(near.hit & (mask > 0.5))  # what is inside and hit teaches nothing
        points = origins[unsure] + directions[unsure] * near.closest[unsure, None]
        deep = field.distance(points)[0][:, 0]
        missed = functional.binary_cross_entropy_with_logits(-40.0 * deep, mask[unsure], reduction="sum")
        return color, missed / len(which), seen.eikonal

    def _points(self) -> Tensor:
        """What the face points say, as `camera.place` weighs it."""
        pixels, depth = self.views.projected(self.prior.shape.face(self.z))
        focal = self.views.moved()[2]
        metre = (depth.mean(1) / focal)[:, None]
        miss = (pixels - self.seen_px) * metre[..., None] / 0.006
        behind = depth - depth.mean(1, keepdim=True) - (self.guessed - self.guessed.mean(1, keepdim=True)) * metre
        return miss.square().sum() + (behind / 0.03).square().sum()

    # The second stage

    def second(self) -> None:
        """Free everything, and the cameras."""
        s = self.settings
        if not s.second or self.stopped:
            return
        fixed = _fixed(self.prior.field(self.z, self.tint))
        if self.net is None:
            self.net = self.alone()
        net = self.net
        for parameter in net.parameters():
            parameter.requires_grad_(True)
        optimiser = torch.optim.Adam(
            [{"params": list(net.parameters()), "lr": s.second_lr}, {"params": [self.views.change], "lr": 0.0}]
        )
        points, wanted = self._anchors(fixed)
        grid, best, worse = None, -math.inf, 0
        last = s.first + s.second
        while self.at < last:
            part = (self.at - s.first) / s.second
            optimiser.param_groups[0]["lr"] = s.second_lr * min(1.0, 2 * (1 - part))
            optimiser.param_groups[1]["lr"] = s.camera_lr * (part > 1 / 3) * (1 - part)
            field = net.field(0)
            if grid is None or self.at % 20 == 0:
                grid = Grid.of(_fixed(field), 48)
            color, mask, eikonal = self._pictures(field, grid)
            some = torch.randint(0, len(points), (1500,), generator=self.g)
            away = (field.distance(points[some])[0][:, 0] - wanted[some]).abs().mean()
            loss = color + 0.5 * mask + 0.1 * eikonal + s.held * away
            if self.shading:
                loss = loss + s.shaped * self.shading.misses(field, grid, 300, self.g)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            self._count({"color": float(color.detach()), "mask": float(mask.detach())}, field, grid)
            if (self.at - s.first) % 100 == 0:
                psnr = self._psnr(_fixed(net.field(0)))
                worse = 0 if psnr > best else worse + 1
                best = max(best, psnr)
                if worse >= 3:
                    break
        self.stopped = True
        self.figures["psnr_second"] = self._psnr(_fixed(net.field(0)))
        self.save()

    def alone(self) -> MultiNeus:
        """A net of one scene, which is the first stage's."""
        rows = self.prior.rows(self.z.detach(), self.tint.detach())
        net = self.prior.net.only(0)
        with torch.no_grad():
            for ours, theirs in zip(net.own_parameters(), self.prior.net.own_parameters(), strict=True):
                ours[0] = rows[theirs]
        return net

    @torch.no_grad()
    def _anchors(self, fixed: Field) -> tuple[Tensor, Tensor]:
        """Points about the first stage's surface, and its distances there."""
        points = torch.rand(60000, 3, generator=self.g) * 2 - 1
        found = fixed.distance(points)[0][:, 0]
        near = points[found.abs() < 0.12]
        return near, fixed.distance(near)[0][:, 0]

    # Between

    def _count(self, losses: dict[str, float], field: Field, grid: Grid) -> None:
        self.at += 1
        total = self.settings.first + self.settings.second
        for name, value in losses.items():
            self.figures[name] = 0.95 * self.figures.get(name, value) + 0.05 * value
        self.report.progress("surface", self.at, total)
        now = time.monotonic()
        if self.preview and (now - self.shown > 5 or self.at == 20):
            self.preview(picture(_fixed(field), grid=grid, size=96), self.at)
            self.shown = time.monotonic()
        if now - self.saved > _SAVED_S:
            self.save()

    @torch.no_grad()
    def _psnr(self, field: Field) -> float:
        """Of pixels that were not fitted."""
        which = self.views.held[:2000]
        if not len(which):
            return float("nan")
        origins, directions = self.views.rays(which)
        near = near_surface(field, Grid.of(field, 48), origins, directions, _STILL)
        seen = render(field, origins[near.active], directions[near.active], RenderConfig(), depths=near.depths)
        color = torch.zeros(len(which), 3)
        color[near.active] = seen.color
        return float(-10 * torch.log10((color - self.views.colors[which]).square().mean().clamp_min(1e-8)))

    def save(self) -> None:
        """Keep a checkpoint, where there is a folder for it."""
        self.saved = time.monotonic()
        if self.folder is None:
            return
        tensors = {"z": self.z.detach(), "tint": self.tint.detach(), "change": self.views.change.detach()}
        if self.net is not None:
            tensors |= {f"net.{name}": value.contiguous() for name, value in self.net.state_dict().items()}
        note = {"at": str(self.at), "stopped": str(int(self.stopped)), "settings": repr(self.settings)}
        content = save({name: value.clone() for name, value in tensors.items()}, metadata=note)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.folder / "fit.safetensors", lambda stream: stream.write(content))

    def resume(self) -> None:
        """Take up a checkpoint of the same settings, where there is one."""
        path = self.folder / "fit.safetensors" if self.folder else None
        if path is None or not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                note = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except Exception as error:
            raise WeightsError(
                f"The checkpoint {path} is damaged: {error}", "Delete it, or give --overwrite."
            ) from error
        if note.get("settings") != repr(self.settings):
            return
        with torch.no_grad():
            self.z.copy_(tensors["z"])
            self.tint.copy_(tensors["tint"])
            self.views.change.copy_(tensors["change"])
        inside = {name[4:]: value for name, value in tensors.items() if name.startswith("net.")}
        if inside:
            self.net = self.alone()
            self.net.load_state_dict(inside)
        self.at, self.stopped = int(note["at"]), note["stopped"] == "1"

    def result(self) -> Fitted:
        """What was reached."""
        field = _fixed(self.net.field(0) if self.net is not None else self.prior.field(self.z, self.tint))
        face = from_sphere(self.prior.shape.face(self.z).detach().double().numpy())
        figures = {**self.figures, "steps": float(self.at)}
        return Fitted(field, self.views.to_cameras(), face, figures)


def _fixed(field: Field) -> Field:
    """The same without a history."""
    return Field(
        tuple((w.detach(), b.detach()) for w, b in field.sdf), tuple((w.detach(), b.detach()) for w, b in field.color),
        field.sharpness.detach(), field.config,
    )  # fmt: skip


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
    local = np.stack([u.ravel(), v.ravel(), np.ones(u.size)], -1) @ np.linalg.inv(camera.matrix).T @ camera.rotation
    directions = functional.normalize(torch.from_numpy(local).float(), dim=-1)
    origin = torch.from_numpy((camera.centre - CENTRE) / RADIUS).float().expand(len(directions), 3)
    grid = grid or Grid.of(field, 64)
    out, opacity = torch.full((len(directions), 3), 0.5), torch.zeros(len(directions))
    for rows in torch.arange(len(directions)).split(4096 if plain else 16384):
        if plain:
            some, depths = rows, None
        else:
            near = near_surface(field, grid, origin[rows], directions[rows], _STILL)
            some, depths = rows[near.active], near.depths
        seen = render(field, origin[some], directions[some], RenderConfig(), depths=depths)
        color = seen.color
        if shaded:
            normal = functional.normalize(seen.normal, dim=-1)
            light = functional.normalize(torch.tensor([0.4, -0.8, 0.5]), dim=0)
            color = (0.25 + 0.7 * (normal @ light).clamp_min(0))[:, None].expand(-1, 3) * seen.opacity[:, None]
        out[some], opacity[some] = color + 0.5 * (1 - seen.opacity[:, None]), seen.opacity
    return out.view(*u.shape, 3).numpy(), opacity.view(u.shape).numpy() > 0.5
