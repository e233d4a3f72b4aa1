"""Train what heads have in common (`nets/multi_neus.py`) on portraits of many people (`portraits.py`).

python -m inference.training.multi_neus inference/training/recipes/multi_neus.toml --portraits DIR --out DIR

It resumes from the checkpoint in `--out` and stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..nets import multi_neus
from ..nets.multi_neus import MultiNeus, MultiNeusConfig
from ..nets.neus import NeusConfig
from ..nets.neus_render import RenderConfig, render
from . import portraits
from .algebraic import checkpoint, restore, save_weights
from .lifter import schedule

LOG = logging.getLogger("understudy.training")
SAMPLING = RenderConfig(uniform=32, fine=32, rounds=2)
_CLAMPED = 0.1  # of the sphere: how far away distances still matter


class Bank:
    """All scenes in memory."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.names = [name for name in names if (folder / f"{name}.npz").exists()]
        self.scenes = [portraits.load(folder / f"{name}.npz") for name in self.names]
        self.samples = [
            torch.from_numpy(np.concatenate([s.points, s.distances[:, None], s.normals], -1).astype(np.float32))
            for s in self.scenes
        ]

    def distances(self, scene: int, count: int, g: torch.Generator) -> Tensor:
        """(count, 7) points, distances and normals of a scene."""
        samples = self.samples[scene]
        return samples[torch.randint(0, len(samples), (count,), generator=g)]

    def rays(self, scene: int, count: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Origins, directions, colours (count, 3) and masks (count,) of one picture, mostly of what is there."""
        s = self.scenes[scene]
        view = int(torch.randint(0, len(s.images), (1,), generator=g))
        height, width = s.masks[view].shape
        anywhere = torch.randint(0, height * width, (count,), generator=g)
        there = torch.from_numpy(np.flatnonzero(s.masks[view] > 0))
        picked = torch.where(
            torch.rand(count, generator=g) < 0.7,
            there[torch.randint(0, len(there), (count,), generator=g)], anywhere,
        )  # fmt: skip
        rows, columns = picked // width, picked % width
        pixels = torch.stack([columns, rows, torch.ones_like(rows)], -1).double()
        inverse, turn = torch.from_numpy(np.linalg.inv(s.matrices[view])), torch.from_numpy(s.rotations[view])
        directions = functional.normalize(pixels @ inverse.T @ turn, dim=-1).float()
        origin = -(turn.T @ torch.from_numpy(s.translations[view])).float()
        color = torch.from_numpy(s.images[view])[rows, columns].float() / 255
        return origin.expand(count, 3), directions, color, torch.from_numpy(s.masks[view])[rows, columns].float() / 255


def main() -> None:
    """Read the recipe and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    handlers = [logging.FileHandler(options.out / "train.log"), logging.StreamHandler()]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    recipe = tomllib.loads(options.recipe.read_text(encoding="utf-8"))
    train(recipe, Bank(options.portraits, portraits.names(options.data, recipe["people"])), options.out)


def train(recipe: dict[str, Any], bank: Bank, out: Path) -> MultiNeus:
    """Train both phases, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    net = build(recipe, len(bank.scenes))
    first = 0 if recipe["images_only"] else recipe["distances"]["steps"]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    step, last = restore(out, net, optimiser), first + recipe["pictures"]["steps"]
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    began = saved = time.monotonic()
    running: dict[str, float] = {}
    while step < last and not (out / "cancel").exists():
        by_distances = step < first
        part = recipe["distances"] if by_distances else recipe["pictures"]
        at, total = (step, first) if by_distances else (step - first, last - first)
        for group in optimiser.param_groups:
            group["lr"] = part["lr"] * schedule(at, total, part.get("warmup", 100), total // 2)
        if by_distances:
            losses = distance_losses(net, bank, part, g)
        else:
            losses = picture_losses(net, bank, part, g, heard=0.0 if recipe["images_only"] else part["distance"])
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
            checkpoint(out, step, net, optimiser)
            saved = time.monotonic()
    checkpoint(out, step, net, optimiser)
    save_weights(out / "heads.safetensors", net, multi_neus, recipe, {"steps": step, "scenes": len(bank.scenes)})
    (out / "scenes.json").write_text(json.dumps(bank.names))
    return net


def build(recipe: dict[str, Any], scenes: int) -> MultiNeus:
    """The untrained net of a recipe."""
    own = {name: tuple(recipe["net"][name]) for name in ("sdf", "color")}
    return MultiNeus(MultiNeusConfig(scenes, **{**recipe["net"], **own}, net=NeusConfig(**recipe["shape"])))


def distance_losses(net: MultiNeus, bank: Bank, part: dict[str, Any], g: torch.Generator) -> dict[str, Tensor]:
    """How far the fields of some scenes are from their samples."""
    losses = {name: torch.zeros(()) for name in ("distance", "eikonal", "normals")}
    for scene in torch.randint(0, len(bank.scenes), (part["scenes"],), generator=g).tolist():
        found = sample_losses(net, scene, bank.distances(scene, part["points"], g), part)
        losses = {name: losses[name] + value / part["scenes"] for name, value in found.items()}
    return losses


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
    """How far one scene's picture is from what is rendered (the losses of NeuS), and its samples where heard."""
    scene = int(torch.randint(0, len(bank.scenes), (1,), generator=g))
    origins, directions, color, mask = bank.rays(scene, part["rays"], g)
    seen = render(net.field(scene), origins, directions, SAMPLING)
    losses = render_losses(seen.color, seen.opacity, seen.eikonal, color, mask, part)
    if heard:
        samples = sample_losses(net, scene, bank.distances(scene, 1000, g), part)
        losses |= {f"sampled {name}": heard * value for name, value in samples.items()}
    return losses


def render_losses(  # noqa: PLR0917 - what is compared
    color: Tensor, opacity: Tensor, eikonal: Tensor, wanted: Tensor, mask: Tensor, part: dict[str, Any]
) -> dict[str, Tensor]:
    """Colour inside the mask, the mask itself, and unit slopes (Wang 2021, section 3.3)."""
    inside = (mask > 0.5).float()[:, None]
    opacity = opacity.clamp(1e-3, 1 - 1e-3)
    return {
        "color": ((color - wanted).abs() * inside).sum() / (inside.sum() + 1e-5) / 3,
        "eikonal": part["eikonal"] * eikonal,
        "mask": part["mask"] * functional.binary_cross_entropy(opacity, mask),
    }


if __name__ == "__main__":
    main()
