"""Imagined captures of many cameras: one person, random rigs, detectors that err, calibrations that lie a little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..core.skeletons import MIRROR_137
from ..nets.view_trust import Views
from . import captures
from .captures import chance, rand, rotation
from .observed import Observed, spoil


@dataclass(frozen=True)
class RigErrors:
    """What is wrong beside the detector's errors; shares are of scenes unless said otherwise."""

    views_missing: float = 0.06  # of views: nobody found
    swaps: float = 0.06  # of views: left and right exchanged
    ghosts: float = 0.04  # of points: seen on somebody or something else
    hidden: float = 0.0  # a limb, the legs or the head is seen by no camera, behind a table say
    calibration: float = 0.5  # have a calibration that errs
    turned_deg: tuple[float, float] = (0.2, 1.0)
    moved_m: tuple[float, float] = (0.005, 0.02)
    height: float = 0.05  # standard deviation of what is believed of the person's height


# The detector of the benches: points 0.7 % of the box off in the middle, about 4 px where a picture has 1000; one in
# eight somewhere else (a limb misplaced, a ghost, sides exchanged), one in five not found; a twentieth of the views
# sees nobody. With what half of the calibrations err, rays pass 33 mm from the truth in the middle; those of mediapipe
# on rendered people (`studio.detections`) 41 mm.
DETECTOR = captures.Errors(
    jitter=0.012, offset=0.012, wrong=0.10, missing=0.10, clean=0.0, bias=0.4, swaps=0.01, limbs=0.08, parts=0.10,
    feet=0.05,
)  # fmt: skip
RIG = RigErrors(views_missing=0.05, swaps=0.04, ghosts=0.05)


class Scene(NamedTuple):
    """What is seen, and the truth (B, J, 3), metres."""

    views: Views
    truth: Tensor


def film(  # noqa: PLR0917 - what a capture is made of
    people: Tensor, count: int, g: torch.Generator, errors: captures.Errors, rig: RigErrors,
    observed: Observed | None = None,
) -> Scene:  # fmt: skip
    """See people (B, J, 3), z up, with `count` cameras each; `observed`: bodies with a real detector's errors.

    Of (S, T, J, 3) every T frames are seen by the same cameras, and the scene has S T frames.
    """
    people = people if people.ndim == 4 else people[:, None]
    batch, frames, points = people.shape[:3]
    people = torch.where(chance(g, 0.5, batch)[:, None, None, None], people, captures.mirrored(people))
    floor = people[:, :, :25, 2].amin((1, 2))
    centre = people[:, frames // 2, 8] * torch.tensor([1.0, 1.0, 0.0]) + functional.pad(floor[:, None], (2, 0))
    off = functional.pad(torch.randn(batch, 2, generator=g).clamp(-2, 2) * 0.6, (0, 1))
    people = people - centre[:, None, None] + off[:, None, None]
    turn, place, focal, size = _cameras(batch, count, g)
    camera = torch.einsum("bvij,btkj->bvtki", turn, people) + place[:, :, None, None]
    pixels = camera[..., :2] / camera[..., 2:].clamp_min(0.15) * focal[..., None, None, None]
    flat = [part.flatten(0, 1) for part in (pixels, camera)]
    seen, valid = captures.detect(flat[0], flat[1], size.flatten(0, 1), g, errors)
    if observed is not None:
        seen[:, :, :25], found = spoil(observed, flat[0][:, :, :25], g)
        valid[:, :, :25] &= found
    # (S, V, T, ...) to (S T, V, ...)
    seen, valid = (part.unflatten(0, (batch, count)).transpose(1, 2).flatten(0, 1) for part in (seen, valid))
    pixels = pixels.transpose(1, 2).flatten(0, 1)
    turn, place, focal = (part.repeat_interleave(frames, 0) for part in (turn, place, focal))
    box = (pixels[:, :, :25].amax(2) - pixels[:, :, :25].amin(2)).norm(dim=-1)
    swap = chance(g, rig.swaps, batch * frames, count)[..., None, None]
    seen = torch.where(swap, seen[:, :, MIRROR_137[:points]], seen)
    valid = torch.where(swap[..., 0], valid[:, :, MIRROR_137[:points]], valid)
    seen = seen + _ghosts(seen.shape[:3], g, rig.ghosts) * box[..., None, None]
    valid &= ~chance(g, rig.views_missing, batch, count, 1).repeat_interleave(frames, 0)
    if rig.hidden:
        valid &= ~hidden(batch, points, rig.hidden, g).repeat_interleave(frames, 0)[:, None]
    miss = (seen - pixels).norm(dim=-1) / box[..., None]
    score = _scores(miss, g) * valid
    turn, place = _believed(turn, place, frames, g, rig)
    height = stature(people[:, frames // 2]) * (1 + rig.height * torch.randn(batch, generator=g).clamp(-3, 3))
    views = Views(seen / focal[..., None, None], score, turn, place, height.repeat_interleave(frames))
    return Scene(views, people.flatten(0, 1))


def hidden(batch: int, points: int, share: float, g: torch.Generator) -> Tensor:
    """(B, J) true for the points of one limb or more, in a share of the rows."""
    limbs = captures.OCCLUDED[:, :points]
    return limbs[torch.randint(0, len(limbs), (batch,), generator=g)] & chance(g, share, batch, 1)


def stature(people: Tensor) -> Tensor:
    """(B,) about how tall people (B, J, 3) stand, whatever they do; as `motion.rig_checks.measured_height` says."""

    def length(a: int, b: int) -> Tensor:
        return (people[:, a] - people[:, b]).norm(dim=-1)

    leg = 0.5 * (length(9, 10) + length(12, 13) + length(10, 11) + length(13, 14))
    return 1.06 * (leg + length(8, 1) + length(1, 0))


def part(scene: Scene, which: slice) -> Scene:
    """Some of the frames."""
    return Scene(Views(*(value[which] for value in scene.views)), scene.truth[which])


def _cameras(batch: int, count: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotations, translations, focal lengths in pixels and sizes of rigs on rings of 2 to 6 m."""
    radius = rand(g, batch, 1, low=2.2, high=6.0) * (1 + 0.15 * torch.randn(batch, count, generator=g)).clamp(0.6, 1.5)
    spread = rand(g, batch, 1, low=0.35, high=1.0) * 2 * math.pi  # some rigs stand on one side
    even = (torch.arange(count) + 0.35 * torch.randn(batch, count, generator=g)) / count * spread
    azimuth = even + rand(g, batch, 1, high=2 * math.pi)
    height = rand(g, batch, count, low=0.4, high=3.0)
    eye = torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), height], -1)
    target = torch.randn(batch, count, 3, generator=g) * 0.15 + torch.tensor([0.0, 0.0, 0.95])
    z = torch.nn.functional.normalize(target - eye, dim=-1)
    x = torch.nn.functional.normalize(torch.linalg.cross(z, torch.tensor([0.0, 0.0, 1.0]).expand_as(z)), dim=-1)
    turn = torch.stack([x, torch.linalg.cross(z, x), z], -2)
    roll = torch.nn.functional.pad(torch.randn(batch, count, 1, generator=g) * math.radians(3), (2, 0))
    turn = rotation(roll) @ turn
    place = -(turn @ eye[..., None])[..., 0]
    sizes = torch.tensor(captures.SIZES, dtype=torch.float32)
    size = sizes[torch.randint(0, len(sizes), (batch, 1), generator=g)].expand(-1, count, -1)
    fraction = rand(g, batch, count, low=0.4, high=0.9)
    focal = fraction * size[..., 1].minimum(1.4 * size[..., 0]) * (target - eye).norm(dim=-1) / 1.75
    return turn, place, focal, size


def _ghosts(shape: torch.Size, g: torch.Generator, share: float) -> Tensor:
    """(B, V, J, 2) of the person's box: points found somewhere else, alone or a whole limb's worth together."""
    batch, views, points = shape
    alone = chance(g, share, batch, views, points)[..., None] * torch.randn(batch, views, points, 2, generator=g) * 0.25
    together = chance(g, 0.5 * share, batch, views, 1)[..., None] * torch.randn(batch, views, 1, 2, generator=g) * 0.5
    return alone + together


def _scores(miss: Tensor, g: torch.Generator) -> Tensor:
    """Scores in (0.02, 1] that fall with the error, as a detector's do: in tendency, and by its own habits."""
    habit = rand(g, *miss.shape[:2], 1, low=0.5, high=1.0)
    tolerance = rand(g, *miss.shape[:2], 1, low=0.02, high=0.15)
    told = torch.exp(-(miss / tolerance).square() * rand(g, *miss.shape))  # some errors are confident
    return (habit * told + 0.12 * torch.randn(miss.shape, generator=g)).clamp(0.02, 1.0)


def _believed(turn: Tensor, place: Tensor, frames: int, g: torch.Generator, rig: RigErrors) -> tuple[Tensor, Tensor]:
    """What the calibration says, the same for `frames` frames, of cameras that stand a little elsewhere."""
    batch, count = len(place) // frames, place.shape[1]
    errs = chance(g, rig.calibration, batch, 1, 1)
    angle = rand(g, batch, 1, 1, low=math.radians(rig.turned_deg[0]), high=math.radians(rig.turned_deg[1]))
    shift = rand(g, batch, 1, 1, low=rig.moved_m[0], high=rig.moved_m[1])
    wrong = rotation(torch.randn(batch, count, 3, generator=g) * angle / 1.7 * errs).repeat_interleave(frames, 0)
    moved = (torch.randn(batch, count, 3, generator=g) * shift * errs).repeat_interleave(frames, 0)
    return wrong @ turn, (wrong @ place[..., None])[..., 0] + moved
