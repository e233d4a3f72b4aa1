"""A new person's head out of the prior of heads: scene N + 1, fitted to photos in stages.

Multi-NeuS (Burkov 2022): first the new scene's own layers alone, from the average of all scenes, then everything and
the cameras. Here the first stage moves along the directions in which the learnt scenes differ (`prior`), with face
points and how probable a head is, and then to where one look and outlines have it (`settle`); the second holds the
surface near that wherever no picture speaks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .. import nets
from ..core.cameras import Camera
from ..nets.head_shape import Bend, directions
from ..nets.multi_neus import MultiNeus
from ..nets.neus import Field
from ..nets.neus_render import Grid, NearConfig, RenderConfig, look, near_surface, render
from ..protocol.errors import Cancelled, WeightsError
from ..protocol.events import Reporter
from ..protocol.files import atomic_write
from ..runtime import weights
from .camera import DEPTH_M, POINT_M, Placed, place
from .follow import FRONT, follow, reach
from .frame import RADIUS, from_sphere, to_sphere
from .guess import guess
from .prior import Prior
from .render import picture
from .seen import Seen
from .settle import settle
from .shading import Shading
from .views import Views

Array = np.ndarray
Preview = Callable[[Array, int], None]
_NOSE, _FACE_M = 1, 0.11  # the detector's point on the tip of the nose; how far about it the face reaches, metres
_ABOUT = 0.02  # how far about the face points are, of the unit sphere
_PREVIEW = 144  # pixels a side
_SAVED_S = 60.0
_FORMAT = 2  # of checkpoints


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
    color_weight: float = 600.0  # against the face points and the prior, in the first stage; in the unit of likelihood
    mask_weight: float = 1000.0
    shading_weight: float = 200.0
    follow: int = 600  # steps in which the first stage's surface moves to where one look has it; 0 for no look
    follow_lr: float = 1e-3
    followed: int = 1000  # points a step
    held: float = 20.0  # of the first stage's surface in the second

    @staticmethod
    def of(quality: str, *, seed: int = 0, device: str = "cpu") -> FitSettings:
        """The settings of a quality."""
        known = {
            "draft": FitSettings(side=128, first=80, second=120),
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
    relief, reader = (nets.load(weights.locate(name)) for name in ("face-relief", "head-shape"))
    return Prior(net, relief, reader)  # type: ignore[arg-type]


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
    kept = folder / "placed.safetensors" if folder else None
    if kept is not None and kept.exists():
        placed = Placed.load(kept, photos)
    else:
        placed = begin(photos, prior, settings, report)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            placed.save(kept)
    if placed.alone:
        few = f"{len(placed.alone)} of {len(photos)} photos have nothing in common with the others"
        text = f"{few}, {photos[placed.alone[0]].name} for one: their faces are small or blurred, or not alike."
        report.warning("photos-unlike", text)
    work = Fitting(photos, prior, placed, settings, report, folder, preview)
    work.resume()
    with _one_thread():
        try:
            work.first()
            work.second()
        except Cancelled:
            work.save()
            raise
    return work.result()


def begin(photos: list[Seen], prior: Prior, settings: FitSettings, report: Reporter) -> Placed:
    """Where cameras stood, and what head it is: by one look and the photos, or by face points where no look is wanted.

    Raises:
        InputError: the photos' face points fit no head.
        Cancelled: from `report`.
    """
    if prior.reader is None or not settings.follow:
        return place(photos, prior.shape)

    def heard() -> None:
        report.progress("surface", 0, settings.first + settings.second)

    return settle(photos, guess(prior.reader, photos), prior.shape, heard)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several threads gain little on products so small, and on a busy machine they wait for each other without end."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Fitting:
    """One fit, step by step."""

    def __init__(  # noqa: PLR0917
        self, photos: list[Seen], prior: Prior, placed: Placed, settings: FitSettings, report: Reporter,
        folder: Path | None, preview: Preview | None,
    ) -> None:  # fmt: skip
        self.prior, self.settings, self.report, self.folder, self.preview = prior, settings, report, folder, preview
        device = torch.device(settings.device)
        prior.to(device)
        self.views = Views(photos, placed.cameras, settings.side).to(device)
        self.shading = Shading(prior.relief, self.views) if prior.relief and settings.shading_weight else None
        self.known = placed.radii if settings.follow else None
        self.face = torch.from_numpy(to_sphere(placed.face)).float().to(device)
        self.z = nn.Parameter(torch.from_numpy(placed.z).float().to(device))
        self.tint = nn.Parameter(torch.zeros(prior.color.size, device=device))
        self.net: MultiNeus | None = None
        self.bend: Bend | None = None
        self.begun: MultiNeus | None = None  # as the first stage left it
        self.at = 0  # steps done, of both stages
        self.stopped = False
        self.figures: dict[str, float] = {}
        self.saved = self.shown = time.monotonic()
        self.g = torch.Generator().manual_seed(settings.seed)
        self.seen_px = torch.from_numpy(np.stack([photo.landmarks for photo in photos])).float().to(device)
        self.guessed = torch.from_numpy(np.stack([photo.depth for photo in photos])).float().to(device)

    # The first stage

    def first(self) -> None:
        """Move along the directions of the prior, with face points, pictures and silhouettes."""
        s = self.settings
        for parameter in self.prior.net.parameters():
            parameter.requires_grad_(False)
        groups = [
            {"params": [self.z, self.tint], "lr": s.first_lr},
            {"params": [self.views.change], "lr": s.camera_lr * 5 * (self.known is None)},
        ]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
        rates = [group["lr"] for group in optimiser.param_groups]
        grid = None
        while self.at < s.first:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, 2 * (s.first - self.at) / s.first)
            field = self.prior.field(self.z, self.tint)
            if grid is None or self.at % 10 == 0:
                grid = Grid.of(field.fixed(), 40)
            color, mask, _ = self._pictures(field, grid, 2.0)  # hair that nobody has must not bend the face
            loss = s.color_weight * color + s.mask_weight * mask + self._points()
            loss = loss + self.z.square().sum() + self.tint.square().sum()
            if self.shading:
                loss = loss + s.shading_weight * self.shading.misses(field, grid, 300, self.g)
            optimiser.zero_grad()
            (loss / 1000).backward()
            optimiser.step()
            self._count({"color": float(color.detach()), "mask": float(mask.detach())}, field, grid)
        if self.net is None:
            self.save()
            net = self.alone()
            if self.known is not None:
                self.g.manual_seed(s.seed)  # so that a surface that moves again moves there again
                self.bend = follow(net, self.known, s.follow, s.followed, s.follow_lr, self._heard, self.g)
            self.net, self.begun = net, deepcopy(net)
            self.figures["psnr_first"] = self._psnr(self._field(self.net))
        self.save()

    def _pictures(
        self, field: Field, grid: Grid, worst: float = math.inf, *, moves: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Colour, mask and eikonal losses of some rays; no ray's mask counts more than `worst`.

        moves: whether colours move the surface.
        """
        which = self.views.drawn(self.settings.rays, self.g)
        origins, directions = self.views.rays(which)
        mask, wanted = self.views.masks[which], self.views.colors[which]
        a, seen, missed = look(field, grid, origins, directions, mask, moves=moves)
        inside = (mask[a] > 0.9).float()[:, None]
        color = ((seen.color - wanted[a]).abs() * inside).sum() / (inside.sum() + 1e-5) / 3
        return color, missed.clamp_max(worst).sum() / len(which), seen.eikonal

    def _points(self) -> Tensor:
        """What the face points say, as `camera.place` weighs it; or the points of the head, where that is known."""
        if self.known is not None:
            return ((self.prior.shape.face(self.z) - self.face) * (RADIUS / POINT_M)).square().sum()
        pixels, depth = self.views.projected(self.prior.shape.face(self.z))
        focal = self.views.moved()[2]
        metre = (depth.mean(1) / focal)[:, None]
        miss = (pixels - self.seen_px) * metre[..., None] / POINT_M
        behind = depth - depth.mean(1, keepdim=True) - (self.guessed - self.guessed.mean(1, keepdim=True)) * metre
        return miss.square().sum() + (behind / DEPTH_M).square().sum()

    # The second stage

    def second(self) -> None:
        """Free everything, and the cameras."""
        s = self.settings
        if not s.second or self.stopped:
            return
        assert self.net is not None and self.begun is not None  # of the first stage
        net, before = self.net, self._field(self.begun).fixed()
        for parameter in net.parameters():
            parameter.requires_grad_(True)
        optimiser = torch.optim.Adam(
            [{"params": list(net.parameters()), "lr": s.second_lr}, {"params": [self.views.change], "lr": 0.0}]
        )
        points, wanted, weight = self._anchors(before)
        grid, best, worse = None, -math.inf, 0
        many = len(self.views.photos) > 1  # the colours of one photo say nothing of how deep they lie
        last = s.first + s.second
        while self.at < last:
            part = (self.at - s.first) / s.second
            optimiser.param_groups[0]["lr"] = s.second_lr * min(1.0, 2 * (1 - part))
            optimiser.param_groups[1]["lr"] = s.camera_lr * (part > 1 / 3) * (1 - part)
            field = self._field(net)
            if grid is None or self.at % 20 == 0:
                grid = Grid.of(field.fixed(), 48)
            color, mask, eikonal = self._pictures(field, grid, moves=many)
            some = torch.randint(0, len(points), (1500,), generator=self.g)
            away = ((field.distance(points[some])[0][:, 0] - wanted[some]).abs() * weight[some]).mean()
            loss = color + mask + 0.1 * eikonal + s.held * away
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            self._count({"color": float(color.detach()), "mask": float(mask.detach())}, field, grid)
            if (self.at - s.first) % 100 == 0:
                psnr = self._psnr(self._field(net))
                worse = 0 if psnr > best else worse + 1
                best = max(best, psnr)
                if worse >= 3:
                    break
        self.stopped = True
        self.figures["psnr_second"] = self._psnr(self._field(net))
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
    def _anchors(self, before: Field) -> tuple[Tensor, Tensor, Tensor]:
        """Points about the first stage's surface, its distances there, and weights: hair is freer than the face.

        Half of them are about the face, which a cube of points hardly meets: shading would bend it unseen.
        """
        points = (torch.rand(60000, 3, generator=self.g) * 2 - 1).to(self.z.device)
        found = before.distance(points)[0][:, 0]
        rays, far = torch.from_numpy(directions()).float(), torch.from_numpy(reach(before) / RADIUS).float()[:, None]
        face = (rays * far)[(rays[:, 1] < FRONT) & far[:, 0].isfinite()].repeat(2, 1)
        face = face + _ABOUT * torch.randn(face.shape, generator=self.g)
        near = torch.cat([points[found.abs() < 0.12], face.to(self.z.device)])
        nose = self.prior.shape.face(self.z)[_NOSE]
        weight = ((_FACE_M / RADIUS - (near - nose).norm(dim=1)) / 0.15).clamp(0.2, 1.0)
        return near, before.distance(near)[0][:, 0], weight

    # Between

    def _field(self, net: MultiNeus) -> Field:
        return net.field(0)._replace(bend=self.bend)

    def _heard(self) -> None:
        self.report.progress("surface", self.at, self.settings.first + self.settings.second)

    def _count(self, losses: dict[str, float], field: Field, grid: Grid) -> None:
        self.at += 1
        total = self.settings.first + self.settings.second
        for name, value in losses.items():
            self.figures[name] = 0.95 * self.figures.get(name, value) + 0.05 * value
        self.report.progress("surface", self.at, total)
        now = time.monotonic()
        if self.preview and (now - self.shown > 5 or self.at == 20):
            self.preview(picture(field.fixed(), grid=grid, size=_PREVIEW), self.at)
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
        near = near_surface(field, Grid.of(field, 48), origins, directions, NearConfig(jitter=False))
        seen = render(field, origins[near.active], directions[near.active], RenderConfig(), depths=near.depths)
        color = torch.zeros_like(self.views.colors[which])
        color[near.active] = seen.color
        return float(-10 * torch.log10((color - self.views.colors[which]).square().mean().clamp_min(1e-8)))

    def save(self) -> None:
        """Keep a checkpoint, where there is a folder for it."""
        self.saved = time.monotonic()
        if self.folder is None:
            return
        tensors = {"z": self.z.detach(), "tint": self.tint.detach(), "change": self.views.change.detach()}
        for part, net in (("net", self.net), ("begun", self.begun)):
            if net is not None:
                tensors |= {f"{part}.{name}": value.contiguous() for name, value in net.state_dict().items()}
        if self.bend is not None:
            tensors["bend"] = self.bend.outwards
        note = {"at": str(self.at), "stopped": str(int(self.stopped)), "settings": self._settings()}
        content = save({name: value.clone() for name, value in tensors.items()}, metadata=note)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.folder / "fit.safetensors", lambda stream: stream.write(content))

    def _settings(self) -> str:
        """What a checkpoint must have been written with."""
        return f"{_FORMAT} {self.settings!r}"

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
            raise WeightsError(f"The checkpoint {path} is damaged: {error}", "Delete it.") from error
        if note.get("settings") != self._settings():
            return
        with torch.no_grad():
            self.z.copy_(tensors["z"])
            self.tint.copy_(tensors["tint"])
            self.views.change.copy_(tensors["change"])
        if any(name.startswith("net.") for name in tensors):
            self.net, self.begun = self.alone(), self.alone()
            for part, net in (("net.", self.net), ("begun.", self.begun)):
                inside = {name: value for name, value in tensors.items() if name.startswith(part)}
                net.load_state_dict({name.removeprefix(part): value for name, value in inside.items()})
        if "bend" in tensors:
            self.bend = Bend(tensors["bend"]).to(self.z.device)
        self.at, self.stopped = int(note["at"]), note["stopped"] == "1"

    def result(self) -> Fitted:
        """What was reached."""
        field = (self.prior.field(self.z, self.tint) if self.net is None else self._field(self.net)).fixed()
        points = self.prior.shape.face(self.z) if self.known is None else self.face
        face = from_sphere(points.detach().double().cpu().numpy())
        figures = {**self.figures, "steps": float(self.at)}
        return Fitted(field, self.views.to_cameras(), face, figures)
