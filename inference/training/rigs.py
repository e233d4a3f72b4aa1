"""Imagined captures of many cameras: one person, random rigs, detectors that err, calibrations that lie a little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.skeletons import MIRROR_137
from ..nets.view_trust import Views
from . import captures
from .captures import chance, rand, rotation


@dataclass(frozen=True)
class RigErrors:
    """What is wrong beside the detector's errors; shares are of scenes unless said otherwise."""

    views_missing: float = 0.06  # of views: nobody found
    swaps: float = 0.06  # of views: left and right exchanged
    ghosts: float = 0.04  # of points: seen on somebody or something else
    calibration: float = 0.5  # have a calibration that errs
    turned_deg: tuple[float, float] = (0.1, 1.0)
    moved_m: tuple[float, float] = (0.002, 0.02)
    height: float = 0.08  # standard deviation of what is believed of the person's height


class Scene(NamedTuple):
    """What is seen, and the truth (B, J, 3), metres."""

    views: Views
    truth: Tensor


def film(people: Tensor, count: int, g: torch.Generator, errors: captures.Errors, rig: RigErrors) -> Scene:
    """See people (B, J, 3), z up, with `count` cameras each."""
    batch, points = people.shape[:2]
    people = torch.where(chance(g, 0.5, batch)[:, None, None], people, captures.mirrored(people[:, None])[:, 0])
    floor = people[:, :25, 2].amin(1)
    centre = people[:, 8] * torch.tensor([1.0, 1.0, 0.0]) + torch.nn.functional.pad(floor[:, None], (2, 0))
    off = torch.nn.functional.pad(torch.randn(batch, 2, generator=g).clamp(-2, 2) * 0.6, (0, 1))
    people = people - centre[:, None] + off[:, None]
    turn, place, focal, size = _cameras(batch, count, g)
    camera = torch.einsum("bvij,bkj->bvki", turn, people) + place[:, :, None]
    pixels = camera[..., :2] / camera[..., 2:].clamp_min(0.15) * focal[..., None, None]
    flat = [part.flatten(0, 1)[:, None] for part in (pixels, camera)]
    seen, valid = captures.detect(flat[0], flat[1], size.flatten(0, 1), g, errors)
    seen, valid = (part[:, 0].unflatten(0, (batch, count)) for part in (seen, valid))
    box = (pixels[:, :, :25].amax(2) - pixels[:, :, :25].amin(2)).norm(dim=-1)
    swap = chance(g, rig.swaps, batch, count)[..., None, None]
    seen = torch.where(swap, seen[:, :, MIRROR_137[:points]], seen)
    valid = torch.where(swap[..., 0], valid[:, :, MIRROR_137[:points]], valid)
    seen = seen + _ghosts(seen.shape[:3], g, rig.ghosts) * box[..., None, None]
    valid &= ~chance(g, rig.views_missing, batch, count, 1)
    miss = (seen - pixels).norm(dim=-1) / box[..., None]
    score = _scores(miss, g) * valid
    turn, place = _believed(turn, place, g, rig)
    height = people[:, :25, 2].amax(1) - people[:, :25, 2].amin(1)
    height = (height.clamp_min(0.9) * (1 + rig.height * torch.randn(batch, generator=g))).clamp(0.7, 2.4)
    return Scene(Views(seen / focal[..., None, None], score, turn, place, height), people)


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


def _believed(turn: Tensor, place: Tensor, g: torch.Generator, rig: RigErrors) -> tuple[Tensor, Tensor]:
    """What the calibration says of cameras that stand a little elsewhere."""
    batch, count = place.shape[:2]
    errs = chance(g, rig.calibration, batch, 1, 1)
    angle = rand(g, batch, 1, 1, low=math.radians(rig.turned_deg[0]), high=math.radians(rig.turned_deg[1]))
    shift = rand(g, batch, 1, 1, low=rig.moved_m[0], high=rig.moved_m[1])
    wrong = rotation(torch.randn(batch, count, 3, generator=g) * angle / 1.7 * errs)
    return wrong @ turn, (wrong @ place[..., None])[..., 0] + torch.randn(place.shape, generator=g) * shift * errs
