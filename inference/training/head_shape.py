"""Train `nets/head_shape.py`, which reads the shape of a head from a photo of its face, on rendered people.

python -m inference.training.head_shape photograph --data DIR --out DIR [--people N]
python -m inference.training.head_shape learn --people DIR --out DIR [--recipe FILE] [--set net.side=0] [--begin FILE]

`photograph` keeps of everybody (`head_people`) how far the head reaches in all directions, crops of the face with what
the detector reads there, and where in space that is; who is there already is not drawn again. `learn` goes on from its
checkpoint.
"""

from __future__ import annotations

import argparse
import time
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import grey_closing
from torch import Tensor
from torch.nn import functional

from .. import nets
from ..face.mirror import mirrored_points
from ..face.response import load_response
from ..head.frame import CENTRE
from ..head.guess import EDGE_M, FACE_M
from ..nets import head_shape
from ..nets.head_shape import RINGS, SPOKES, HeadShape, ShapeConfig, directions, mirrored, seen_mirrored
from .algebraic import checkpoint, restore, save_weights
from .head_people import MARGIN, NOSE_TIP, SIDE, draw
from .lifter import schedule
from .muon import adam_and_muon, scale_rates
from .script import LOG, Run, add_changes, read_recipe, work_as_job

Array = np.ndarray
RECIPE = Path(__file__).parent / "recipes" / "head_shape.toml"
_HELD = 20  # one person in so many is not learnt from
_NECK_M = -0.1  # height below which heads end
_OPEN, _OPEN_M = 0.5, 0.1  # a direction in which fewer people have anything counts nothing
_NOISE = 0.0015  # of a crop's side, added to points
_SPREAD_M, _PLACE_M = 0.001, 0.01
_TOGETHER = 3  # photos of somebody that are read at once
_ACROSS = 13  # rings or spokes: holes of eyes and mouths are narrower


class Bank:
    """Photos of all people in memory, and their heads as coefficients of modes.

    Everybody's photos stand in a row, `count` of them from `first` on; people `held` are not learnt from, `learnt` are.
    """

    def __init__(self, folder: Path, modes: int, point_modes: int) -> None:
        files = sorted(path for path in folder.glob("*_*.npz") if not path.stem.endswith("partial"))
        who: list[int] = []
        parts: list[list[Array]] = []
        radii: list[Array] = []
        for number, path in enumerate(files):
            with np.load(path, allow_pickle=False) as arrays:
                parts.append([arrays[name] for name in ("images", "masks", "points", "places")])
                radii.append(learnt_reach(arrays["radii"], arrays["skin"]))
            who += [number] * len(parts[-1][0])
        self.names = [path.stem for path in files]
        self.who = torch.tensor(who)
        self.count = torch.bincount(self.who)
        self.first = self.count.cumsum(0) - self.count
        self.images, self.masks, self.points, self.places = (
            torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True)
        )
        held = torch.tensor([zlib.crc32(name.encode()) % _HELD == 0 for name in self.names])
        self.held, self.learnt = (torch.nonzero(part)[:, 0] for part in (held, ~held))
        reach = torch.from_numpy(np.stack(radii)).float()
        other = reach[:, torch.from_numpy(mirrored())]
        self.span = span(torch.cat([reach[~held], other[~held]]), modes)
        self.wanted = torch.stack([self.span.coefficients(part) for part in (reach, other)], 1)[self.who]  # (P, 2, K)
        self.radii = reach
        self.swap = torch.from_numpy(mirrored_points(load_response().mean))
        places = self.places[torch.isin(self.who, self.learnt)]
        both = torch.cat([places, places[:, self.swap] * torch.tensor([-1.0, 1.0, 1.0])]).flatten(1)
        self.point_mean, self.point_basis = modes_with_gaps(both, point_modes)

    def some_of(self, people: Tensor, g: torch.Generator) -> Tensor:
        """(B, _TOGETHER) photos of each."""
        return self.first[people, None] + different(self.count[people], _TOGETHER, g)


def different(count: Tensor, some: int, g: torch.Generator) -> Tensor:
    """(B, some) numbers below count (B,), none of them again before all are there."""
    most = int(count.max())
    order = torch.rand(len(count), most, generator=g).masked_fill(torch.arange(most) >= count[:, None], 2).argsort(1)
    return order.gather(1, torch.arange(some) % count[:, None])


def learnt_reach(radii: Array, skin: Array) -> Array:
    """(V,) metres: how far a head reaches, but to the skin over the face, curtains of hair before it or not.

    Eyes and teeth count as skin: what is seen in a hole of it, no further out than what closes the hole.
    """
    grid = np.nan_to_num(skin).reshape(RINGS, SPOKES)
    lids, lips = grey_closing(grid, (1, _ACROSS), mode="wrap"), grey_closing(grid, (_ACROSS, 1), mode="nearest")
    skin = np.where(np.isfinite(radii), np.clip(radii, skin, np.maximum(lids, lips).ravel()), skin)
    places = CENTRE + directions() * np.where(np.isfinite(skin), skin, radii)[:, None]
    share = np.clip((FACE_M + EDGE_M - np.linalg.norm(places - NOSE_TIP, axis=1)) / EDGE_M, 0, 1)
    known = np.isfinite(skin) & np.isfinite(radii)
    return np.where(known, share * skin + (1 - share) * radii, radii)


class Modes(NamedTuple):
    """mean (V,) and basis (V, K), each mode as long as its standard deviation; weight (V,) of directions."""

    mean: Tensor
    basis: Tensor
    weight: Tensor

    def coefficients(self, radii: Tensor) -> Tensor:
        """(N, K) of radii (N, V), NaN where nothing is."""
        off = torch.nan_to_num(radii - self.mean, nan=0.0) * self.weight
        scaled = self.basis * self.weight[:, None]
        return off @ scaled / scaled.square().sum(0)


def span(radii: Tensor, modes: int) -> Modes:
    """Principal modes of radii (N, V), each direction by its area and in its own spread; faces count three times."""
    mean = torch.nan_to_num(radii.nanmean(0), nan=_OPEN_M)
    off = torch.nan_to_num(radii - mean, nan=0.0)
    rays = torch.from_numpy(directions()).float()
    ring = (-rays[:, 1]).acos().view(RINGS, SPOKES)[:, 0]
    area = (torch.gradient(ring)[0] * ring.sin())[:, None].expand(-1, SPOKES).flatten() * mean.square()
    places = torch.from_numpy(CENTRE).float() + rays * mean[:, None]
    face = ((places - torch.from_numpy(NOSE_TIP)).norm(dim=1) < FACE_M).float()
    below = (places[:, 2] < _NECK_M).float()
    share = area * (1 + 8 * face) * (1 - 0.95 * below) * (radii.isfinite().float().mean(0) > _OPEN) + 1e-9
    weight = (share / share.sum()).sqrt() / off.square().mean(0).sqrt().clamp_min(_SPREAD_M)
    torch.manual_seed(0)
    _, values, right = torch.svd_lowrank(off * weight, modes + 16, niter=4)
    return Modes(mean, right[:, :modes] * values[:modes] / len(off) ** 0.5 / weight[:, None], weight)


def modes_with_gaps(rows: Tensor, modes: int, rounds: int = 6) -> tuple[Tensor, Tensor]:
    """Mean (D,) and principal modes (D, K), as long as their standard deviations, of rows (N, D) with NaN (by EM)."""
    known = rows.isfinite()
    mean = rows.nanmean(0)
    off, right, values = torch.nan_to_num(rows - mean, nan=0.0), torch.zeros(0), torch.zeros(0)
    for _ in range(rounds):
        left, values, right = torch.svd_lowrank(off, modes, niter=2)
        off = torch.where(known, off, (left * values) @ right.T)
    return mean + off.mean(0), right * values / len(off) ** 0.5


def learn(recipe: dict[str, Any], people: Path, run: Run, begin: Path | None = None) -> HeadShape:
    """Learn, or go on where a run was stopped; begin: weights to begin with."""
    torch.manual_seed(recipe["seed"])
    bank = Bank(people, recipe["net"]["modes"], recipe["net"]["point_modes"])
    net = HeadShape(ShapeConfig(**recipe["net"]))
    prepare(net, bank)
    if begin is not None:
        other = nets.load(begin).float()
        assert isinstance(other, HeadShape)
        take_up(net, other, bank.span)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimisers = adam_and_muon(
        net, lambda name, value: value.ndim == 2 and not name.startswith("last"),
        lr=recipe["lr"], muon_lr=recipe["muon_lr"], decay=1e-2, muon_decay=recipe["decay"],
    )  # fmt: skip
    step, last = restore(run.out, net, *optimisers), recipe["steps"]
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    began = saved = time.monotonic()
    running = torch.zeros(2)
    while run.goes_on(step, last):
        scale_rates(optimisers, schedule(step, last, 50, last // 3))
        photos = bank.count[bank.learnt].float()  # everybody as often as there are photos of them
        some = bank.learnt[photos.multinomial(recipe["batch"] // _TOGETHER, generator=g)]
        rows = bank.some_of(some, g).flatten()
        flip = (torch.rand(len(some), generator=g) < 0.5).repeat_interleave(_TOGETHER)
        points, wanted, places = batch(bank, rows, flip, g)
        crop = pictures(bank, rows, flip, net.config.side, g) if net.config.side else None
        with torch.autocast("cpu", torch.bfloat16):
            seen = net.see_photos(crop, points)
            alone, each = net.coefficients(seen[:, None]), seen.unflatten(0, (-1, _TOGETHER))
            fused = [net.coefficients(each[:, :count]) for count in range(2, _TOGETHER + 1)]
        found = losses(net, bank.span, alone.float(), wanted, places)
        met = places.unflatten(0, (-1, _TOGETHER))
        for count, together in enumerate(fused, 2):
            mine = losses(net, bank.span, together.float(), wanted[::_TOGETHER], met[:, :count].nanmean(1))
            found = found + mine / len(fused)
        net.zero_grad()
        found.sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        running += found.detach()
        step += 1
        if step % 100 == 0:
            pace = 1e3 * (time.monotonic() - began) / 100
            LOG.info("step %d radii %.4f points %.4f, %.0f ms", step, *(running / 200).tolist(), pace)
            running, began = torch.zeros(2), time.monotonic()
        if time.monotonic() - saved > 300 or step == last:
            checkpoint(run.out, step, net, *optimisers)
            LOG.info("left out: %s", figures := measure(net, bank))
            kept = between(net, before, recipe["share"]) if begin else net
            if step == last:
                kept.errors.copy_(errors_of(kept, bank))
            save_weights(run.out / "head_shape.safetensors", kept, head_shape, recipe, {"steps": step, **figures})
            saved = time.monotonic()
    return net


@torch.no_grad()
def prepare(net: HeadShape, bank: Bank) -> None:
    """Give a network the modes of a bank, and how points are scaled."""
    net.mean.copy_(bank.span.mean)
    net.basis.copy_(bank.span.basis)
    net.point_mean.copy_(bank.point_mean.view(-1, 3))
    net.point_basis.copy_(bank.point_basis)
    points = bank.points[torch.isin(bank.who, bank.learnt)]
    both = torch.cat([points, seen_mirrored(points, bank.swap)])
    net.seen_mean.copy_(both.mean(0))
    net.swap.copy_(bank.swap)
    net.seen_size.copy_((both - both.mean(0)).square().mean().sqrt())


@torch.no_grad()
def take_up(net: HeadShape, other: HeadShape, modes: Modes) -> None:
    """Let a network say what another one of its shape says, in its own modes."""
    state, points = other.state_dict(), net.point_basis / net.point_basis.square().sum(0)
    net.load_state_dict({name: state[name] for name, _ in net.named_parameters()}, strict=False)
    net.seen_mean.copy_(other.seen_mean)
    net.seen_size.copy_(other.seen_size)
    kept = net.config.modes
    shape = modes.coefficients(modes.mean + other.basis.T)
    place = other.point_basis.T @ points
    bias, weight = state["last.bias"], state["last.weight"]
    net.last.weight.copy_(torch.cat([shape.T @ weight[:kept], place.T @ weight[kept:]]))
    off = (other.point_mean - net.point_mean).flatten() @ points
    net.last.bias.copy_(
        torch.cat([modes.coefficients(other.mean[None])[0] + bias[:kept] @ shape, off + bias[kept:] @ place])
    )


def between(net: HeadShape, before: dict[str, Tensor], share: float) -> HeadShape:
    """A network a share of the way from weights before to those of `net` (Wortsman et al., CVPR 2022)."""
    found = deepcopy(net)
    for name, value in found.named_parameters():
        value.data.lerp_(before[name], 1 - share)
    return found


def batch(bank: Bank, which: Tensor, flip: Tensor, g: torch.Generator, *, noise: float = _NOISE) -> tuple[Tensor, ...]:
    """Points (B, 478, 3), coefficients (B, K) and places (B, 478, 3), mirrored where `flip` (B,)."""
    points, wanted, places = bank.points[which], bank.wanted[which], bank.places[which]
    turned = flip[:, None, None]
    points = points + noise * torch.randn(points.shape, generator=g)
    points = torch.where(turned, seen_mirrored(points, bank.swap), points)
    places = torch.where(turned, places[:, bank.swap] * torch.tensor([-1.0, 1.0, 1.0]), places)
    return points, torch.where(flip[:, None], wanted[:, 1], wanted[:, 0]), places


def pictures(bank: Bank, which: Tensor, flip: Tensor, side: int, g: torch.Generator, *, changed: bool = True) -> Tensor:
    """Crops (B, 3, S, S) before other backgrounds, in other light and sharpness where `changed`."""
    inner, count = slice(MARGIN, SIDE - MARGIN), len(which)
    crop = bank.images[which][:, inner, inner].permute(0, 3, 1, 2).float() / 255
    cover = bank.masks[which][:, None, inner, inner].float() / 255
    tone = torch.rand(count, 3, 1, 1, generator=g)
    other = crop[torch.randperm(count, generator=g)].flip(2)
    crop = crop * cover + torch.where(torch.rand(count, 1, 1, 1, generator=g) < 0.5, tone, other) * (1 - cover)
    if changed:
        gain = 0.25 * torch.randn(count, 1, 1, 1, generator=g) + 0.12 * torch.randn(count, 3, 1, 1, generator=g)
        crop = (crop * gain.exp()).clamp(0, 1) ** torch.exp(0.2 * torch.randn(count, 1, 1, 1, generator=g))
        if torch.rand(1, generator=g) < 0.4:
            crop = functional.interpolate(functional.avg_pool2d(crop, 2), scale_factor=2.0, mode="bilinear")
        crop = (crop + 0.02 * torch.randn(crop.shape, generator=g)).clamp(0, 1)
    if side != crop.shape[-1]:
        crop = functional.interpolate(crop, [side, side], mode="bilinear", antialias=True)
    return torch.where(flip[:, None, None, None], crop.flip(3), crop)


def losses(net: HeadShape, modes: Modes, found: Tensor, wanted: Tensor, places: Tensor) -> Tensor:
    """(2,) mean squares: of radii in their spread, of places in centimetres."""
    shape, place = found.split([net.config.modes, net.config.point_modes], -1)
    size = (modes.basis * modes.weight[:, None]).square().sum(0)
    off = ((shape - wanted).square() * size).sum(1).mean()
    known = places.isfinite()
    miss = (net.point_mean + (place @ net.point_basis.T).unflatten(-1, (-1, 3)) - torch.nan_to_num(places)) * known
    return torch.stack([off, miss.square().sum() / known.sum().clamp_min(1) / _PLACE_M**2])


@torch.no_grad()
def errors_of(net: HeadShape, bank: Bank) -> Tensor:
    """(V, K) metres: principal modes of what is wrong about the radii of people left out, seen in one photo."""
    net.eval()
    g, off = torch.Generator().manual_seed(0), []
    for people in bank.held.split(32):
        rows = bank.some_of(people, g).flatten()
        flip, side = torch.zeros(len(rows), dtype=torch.bool), net.config.side
        points = batch(bank, rows, flip, g, noise=0.0)[0]
        crop = pictures(bank, rows, flip, side, g, changed=False)[:, None] if side else None
        off.append(bank.radii[bank.who[rows]] - net.seen_twice(crop, points[:, None]).radii)
    net.train()
    found = torch.cat(off)
    modes = span(torch.cat([found, found[:, torch.from_numpy(mirrored())]]), net.config.error_modes).basis
    return functional.pad(modes, (0, net.config.error_modes - modes.shape[1]))  # of few people there are fewer


@torch.no_grad()
def measure(net: HeadShape, bank: Bank) -> dict[str, float]:
    """Mean radial errors over the face, mm, of people left out in one photo, two and three, and of the mean head."""
    net.eval()
    g, parts = torch.Generator().manual_seed(0), []
    for people in bank.held.split(32):
        rows = bank.some_of(people, g).flatten()
        flip = torch.zeros(len(rows), dtype=torch.bool)
        side, (points, _, places) = net.config.side, batch(bank, rows, flip, g, noise=0.0)
        seen = net.see_photos(pictures(bank, rows, flip, side, g, changed=False) if side else None, points)
        each, truth = seen.unflatten(0, (-1, _TOGETHER)), bank.radii[people]
        one, *more = (net.shape_of(net.coefficients(each[:, :count])) for count in range(1, _TOGETHER + 1))
        miss = (one.points - places[::_TOGETHER]).norm(dim=-1)
        parts.append((*((radii - truth).abs() for radii in (one.radii, *(two.radii for two in more), net.mean)), miss))
    net.train()
    base = torch.from_numpy(CENTRE).float() + torch.from_numpy(directions()).float() * net.mean[:, None]
    face = (base - torch.from_numpy(NOSE_TIP)).norm(dim=1) < FACE_M
    *off, miss = (torch.cat(column) for column in zip(*parts, strict=True))
    figures = {"points_mm": round(1e3 * float(miss.nanmean()), 2)}
    for kind in ("ict", "mix"):
        mine = torch.tensor([bank.names[k].startswith(kind) for k in bank.held])
        for name, each in zip(("", "_two", "_three", "_mean"), off, strict=True):
            figures[f"{kind}{name}_mm"] = round(1e3 * float(each[mine][:, face].nanmean()), 3)
    return figures


def main() -> None:
    """Photograph or learn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("photograph", "learn"))
    parser.add_argument("--out", type=Path, required=True, help="what comes out; also where the job folder is")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--people", help="how many to photograph; the folder of those to learn from")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--begin", type=Path, help="weights to begin with")
    add_changes(parser)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    if options.what == "photograph":
        draw(options.data, int(options.people), run)
    else:
        learn(read_recipe(options.recipe, options.set), Path(options.people), run, options.begin)


if __name__ == "__main__":
    main()
