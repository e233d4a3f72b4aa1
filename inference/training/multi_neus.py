r"""Train what heads have in common (`nets/multi_neus.py`) on portraits of many people (`portraits.py`).

python -m inference.training.multi_neus inference/training/recipes/multi_neus.toml --data DIR --portraits DIR \\
    --points FILE --out DIR [--device cuda] [--set net.rank=8]

`--points` is what `face_points.py` wrote; without it the prior knows no face points. It resumes from the checkpoint in
`--out` and stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..nets import multi_neus
from ..nets.multi_neus import MultiNeus, MultiNeusConfig
from ..nets.neus import Field, NeusConfig
from ..nets.neus_render import Grid, look
from . import portraits
from .algebraic import checkpoint, restore, save_weights
from .lifter import schedule
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job

_CLAMPED = 0.1  # of the sphere: how far away distances still matter
_REFRESHED = 25  # steps of a scene between two looks at where its surface is


class Bank:
    """All scenes in memory, and where their surfaces were last found."""

    def __init__(self, folder: Path, names: list[str], points: Path | None = None, device: str = "cpu") -> None:
        self.names, self.device = [name for name in names if (folder / f"{name}.npz").exists()], device
        self.scenes = [portraits.load(folder / f"{name}.npz") for name in self.names]
        self.samples = [
            torch.from_numpy(np.concatenate([s.points, s.distances[:, None], s.normals], -1).astype(np.float32))
            for s in self.scenes
        ]
        self.landmarks = face_points(points, self.names) if points else torch.zeros(len(self.names), 0, 3)
        self.inside = [np.flatnonzero(s.masks > 0) for s in self.scenes]
        self.grids: dict[int, tuple[int, Grid]] = {}

    def distances(self, scene: int, count: int, g: torch.Generator) -> Tensor:
        """(count, 7) points, distances and normals of a scene."""
        samples = self.samples[scene]
        return samples[torch.randint(0, len(samples), (count,), generator=g)].to(self.device)

    def rays(self, scene: int, count: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Origins, directions, colours (count, 3) and masks (count,) of all pictures, mostly of what is there."""
        s = self.scenes[scene]
        anywhere = torch.randint(0, s.masks.size, (count,), generator=g).numpy()
        there = self.inside[scene][torch.randint(0, len(self.inside[scene]), (count,), generator=g).numpy()]
        picked = np.where(torch.rand(count, generator=g).numpy() < 0.7, there, anywhere)
        view, rows, columns = np.unravel_index(picked, s.masks.shape)
        pixels = np.stack([columns, rows, np.ones(count)], -1)
        local = np.einsum("nij,nj->ni", np.linalg.inv(s.matrices)[view], pixels)
        directions = np.einsum("nij,ni->nj", s.rotations[view], local)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        origins = -np.einsum("nij,ni->nj", s.rotations, s.translations)[view]
        found = origins, directions, s.images[view, rows, columns] / 255.0, s.masks[view, rows, columns] / 255.0
        return tuple(torch.from_numpy(value.astype(np.float32)).to(self.device) for value in found)  # type: ignore[return-value]

    def grid(self, scene: int, field: Field) -> Grid:
        """Where the surface of a scene is, as it was found some steps ago."""
        age, grid = self.grids.get(scene, (_REFRESHED, None))
        if grid is None or age >= _REFRESHED:
            age, grid = 0, Grid.of(field, 40)
        self.grids[scene] = age + 1, grid
        return grid


def face_points(path: Path, names: list[str]) -> Tensor:
    """(N, 478, 3) points of scenes, NaN where they are not known."""
    with np.load(path, allow_pickle=False) as arrays:
        known = dict(zip(arrays["names"].tolist(), arrays["points"], strict=True))
    empty = np.full((478, 3), np.nan, np.float32)
    return torch.from_numpy(np.stack([known.get(name, empty) for name in names]))


def main() -> None:
    """Read the recipe and train."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--points", type=Path)
    parser.add_argument("--device", default="cpu")
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    recipe = read_recipe(options.recipe, options.set)
    names = portraits.names(options.data, recipe["people"])
    train(recipe, Bank(options.portraits, names, options.points, options.device), run)


def train(recipe: dict[str, Any], bank: Bank, run: Run) -> MultiNeus:
    """Train both phases, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    net = build(recipe, len(bank.scenes), bank.landmarks.shape[1]).to(bank.device)
    net.landmarks = bank.landmarks.to(bank.device)
    first = 0 if recipe["images_only"] else recipe["distances"]["steps"]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    step, last = restore(run.out, net, optimiser), first + recipe["pictures"]["steps"]
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    began = saved = time.monotonic()
    running: dict[str, float] = {}
    while run.goes_on(step, last):
        by_distances = step < first
        part = recipe["distances"] if by_distances else recipe["pictures"]
        at, total = (step, first) if by_distances else (step - first, last - first)
        for group in optimiser.param_groups:
            group["lr"] = part["lr"] * schedule(at, total, part.get("warmup", 100), total // 2)
        if by_distances:
            losses = distance_losses(net, bank, part, g)
        else:
            losses = picture_losses(net, bank, part, g, heard=part.get("distance", 0.0))
        optimiser.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        if torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0).isfinite():
            optimiser.step()
        for name, value in losses.items():
            running[name] = running.get(name, 0.0) + float(value)
        step += 1
        if step % 100 == 0:
            pace = 1e3 * (time.monotonic() - began) / 100
            LOG.info("step %d %s, %.0f ms", step, {n: round(v / 100, 5) for n, v in running.items()}, pace)
            running, began = {}, time.monotonic()
        if time.monotonic() - saved > 180 or step in (first, last):
            checkpoint(run.out, step, net, optimiser)
            saved = time.monotonic()
    checkpoint(run.out, step, net, optimiser)
    save_weights(run.out / "heads.safetensors", net, multi_neus, recipe, {"steps": step, "scenes": len(bank.scenes)})
    (run.out / "scenes.json").write_text(json.dumps(bank.names))
    return net


def build(recipe: dict[str, Any], scenes: int, landmarks: int = 0) -> MultiNeus:
    """The untrained net of a recipe."""
    own = {name: tuple(recipe["net"][name]) for name in ("sdf", "color")}
    shape = NeusConfig(**recipe["shape"])
    return MultiNeus(MultiNeusConfig(scenes, **{**recipe["net"], **own}, landmarks=landmarks, net=shape))


def distance_losses(net: MultiNeus, bank: Bank, part: dict[str, Any], g: torch.Generator) -> dict[str, Tensor]:
    """How far the fields of some scenes are from their samples."""
    losses = {name: torch.zeros((), device=bank.device) for name in ("distance", "eikonal", "normals")}
    for scene in torch.randint(0, len(bank.scenes), (part["scenes"],), generator=g).tolist():
        found = sample_losses(net, scene, bank.distances(scene, part["points"], g), part)
        losses = {name: losses[name] + value / part["scenes"] for name, value in found.items()}
    return losses | {"apart": part["apart"] * apart(net)}


def apart(net: MultiNeus) -> Tensor:
    """How far coefficients are from each other: what is near keeps what lies between two heads a head."""
    return sum((c.value.var(0).sum() for c in net.coefficients), torch.zeros(()))  # type: ignore[union-attr]


def sample_losses(net: MultiNeus, scene: int, samples: Tensor, part: dict[str, Any]) -> dict[str, Tensor]:
    """Distance, eikonal and normal losses of one scene's samples (N, 7)."""
    points, wanted, normals = samples.split([3, 1, 3], -1)
    distance, gradient, _ = net.field(scene).surface(points)
    miss = (distance.clamp(-_CLAMPED, _CLAMPED) - wanted.clamp(-_CLAMPED, _CLAMPED)).abs().mean()
    length = gradient.norm(dim=-1)
    near = (normals.abs().sum(-1) > 0) & (wanted[:, 0].abs() < 0.02)
    along = functional.cosine_similarity(gradient, normals, dim=-1)
    away = ((1 - along) * near).sum() / near.sum().clamp_min(1)
    return {
        "distance": 10 * miss, "eikonal": part["eikonal"] * (length - 1).square().mean(),
        "normals": part.get("normals", 0.05) * away,
    }  # fmt: skip


def picture_losses(
    net: MultiNeus, bank: Bank, part: dict[str, Any], g: torch.Generator, *, heard: float
) -> dict[str, Tensor]:
    """How far pictures of some scenes are from what is rendered, and their samples where heard."""
    losses: dict[str, Tensor] = {}
    for scene in torch.randint(0, len(bank.scenes), (part["scenes"],), generator=g).tolist():
        field = net.field(scene)
        found = render_losses(field, bank.grid(scene, field), bank.rays(scene, part["rays"], g), part)
        if heard:
            samples = sample_losses(net, scene, bank.distances(scene, part["points"], g), part)
            found |= {f"sampled {name}": heard * value for name, value in samples.items()}
        losses = {name: losses.get(name, 0.0) + value / part["scenes"] for name, value in found.items()}
    return losses | {"apart": part["apart"] * apart(net)}


def render_losses(
    field: Field, grid: Grid, rays: tuple[Tensor, Tensor, Tensor, Tensor], part: dict[str, Any]
) -> dict[str, Tensor]:
    """Colour inside the mask and unit slopes, of sections about the surface (Wang 2021, section 3.3).

    The mask speaks by how near each ray comes (Yariv 2020, section 3.4).
    """
    origins, directions, wanted, mask = rays
    a, seen, missed = look(field, grid, origins, directions, mask)
    inside = (mask[a] > 0.5).float()[:, None]
    return {
        "color": ((seen.color - wanted[a]).abs() * inside).sum() / (inside.sum() + 1e-5) / 3,
        "eikonal": part["eikonal"] * seen.eikonal,
        "mask": part["mask"] * missed.sum() / len(mask),
    }


if __name__ == "__main__":
    main()
