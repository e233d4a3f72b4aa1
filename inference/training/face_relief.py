"""Train `nets/face_relief.py` on rendered faces: avatars with expressions, and people drawn from the head model.

python -m inference.training.face_relief inference/training/recipes/face_relief.toml --data DIR --out DIR

It photographs first (files `faces_*.npz` in `--out`, which are kept), resumes from its checkpoint, and stops when a
file `cancel` appears there. Nobody of `portraits.held_out` is among the people.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..core.cameras import look_at_rotation, project
from ..head.crop import square
from ..nets import face_relief
from ..nets.face_relief import FaceRelief, Relief, ReliefConfig
from . import portraits
from .algebraic import checkpoint, restore, save_weights
from .lifter import schedule
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job
from .studio import heads
from .studio.portrait import Light, Portrait
from .studio.render import look_at

Array = np.ndarray
_FACE_M = 0.11  # about the tip of the nose
_CHECKED = ("Asian_F_1", "Black_M_1", "White_M_2")  # avatars that say when to stop
_OVER = 2  # rendered pixels a side of each that is kept


def photograph(head: heads.Head, views: int, side: int, rng: np.random.Generator) -> dict[str, Array]:
    """`views` crops (V, S, S, 3) uint8 of a head, masks, normals int8 / 127 and depths float16 as `Relief` has them."""
    portrait, found = Portrait(head), {name: [] for name in ("images", "masks", "normals", "depths")}
    middle = head.landmarks[:6].mean(0)
    for _ in range(views):
        at, up = np.radians(np.clip(rng.normal() * 28, -65, 65)), np.radians(np.clip(rng.normal() * 10, -25, 25))
        distance = np.exp(rng.uniform(np.log(0.35), np.log(2.0)))
        eye = middle + distance * np.array([np.sin(at) * np.cos(up), -np.cos(at) * np.cos(up), np.sin(up)])
        camera = look_at("face", (2, 2), 1000.0, eye, middle, roll_rad=rng.normal() * 0.04)
        seen = square(project(camera, head.landmarks[:2]), project(camera, head.landmarks[4:6]))
        pixels = side * _OVER
        focal = 1000.0 * pixels / (seen.side * np.exp(rng.normal() * 0.05))
        towards = np.append((seen.centre - camera.matrix[:2, 2]) / 1000.0, 1.0) @ camera.rotation
        turned = look_at_rotation(camera.rotation @ towards) @ camera.rotation
        shift = (pixels - 1) / 2 + rng.normal(size=2) * 0.02 * pixels
        matrix = np.array([[focal, 0, shift[0]], [0, focal, shift[1]], [0, 0, 1.0]])
        camera = replace(camera, size=(pixels, pixels), matrix=matrix, rotation=turned, translation=-turned @ eye)
        image, mask, depth = portrait.photograph(camera, Light.drawn(rng), supersample=1)
        normal, relief, known = _shape(camera.matrix, depth, head.landmarks[2] @ turned.T + camera.translation)
        smaller = (side, _OVER, side, _OVER)
        cover = mask.reshape(smaller).mean((1, 3))
        mixed = image.astype(np.float32).reshape(*smaller, 3).mean((1, 3)) / np.maximum(cover, 1e-3)[..., None]
        found["images"].append(mixed.clip(0, 255).astype(np.uint8))
        found["masks"].append((127 * cover).astype(np.uint8) + 128 * known.reshape(smaller).all((1, 3)))
        found["normals"].append((127 * normal.reshape(*smaller, 3).mean((1, 3))).round().astype(np.int8))
        found["depths"].append(relief.reshape(smaller).mean((1, 3)).astype(np.float16))
    return {name: np.stack(values) for name, values in found.items()}


def _shape(matrix: Array, depth: Array, nose: Array) -> tuple[Array, Array, Array]:
    """Normals (H, W, 3), relief (H, W) and where both are known (H, W), from depths along the optical axis."""
    v, u = np.indices(depth.shape)
    rays = np.stack([(u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1], np.ones(depth.shape)], -1)
    points = rays * depth[..., None]
    right, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normal = np.cross(down, right)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-12)
    known = (depth > 0) & (np.linalg.norm(points - nose, axis=-1) < _FACE_M)
    jump = np.maximum(np.abs(right[..., 2]), np.abs(down[..., 2]))
    known &= jump < 0.006
    along = np.linalg.norm(points, axis=-1)
    mean = along[known].mean() if known.any() else 1.0
    return normal * known[..., None], np.where(known, (along - mean) * matrix[0, 0] / (mean * len(depth)), 0.0), known


def people(recipe: dict[str, Any], data: Path) -> list[tuple[str, int]]:
    """Names to photograph, and views of each."""
    avatars = [name for name in heads.valid_names(data) if name not in portraits.HELD_OUT]
    drawn = [f"ict_{seed}" for seed in range(2000, 2000 + recipe["drawn"])]
    return [*((name, recipe["avatar_views"]) for name in avatars), *((name, recipe["drawn_views"]) for name in drawn)]


def film(name: str, views: int, data: Path, side: int) -> dict[str, Array]:
    """Photograph somebody, avatars with several expressions."""
    rng = np.random.default_rng(int(name[4:]) if name.startswith("ict_") else sum(map(ord, name)))
    if name.startswith("ict_"):
        return photograph(heads.make_ict(data, int(name[4:]), expression=0.5).canonical(), views, side, rng)
    with np.load(data / "heads_valid" / f"{name}.npz", allow_pickle=False) as arrays:
        shapes = [str(item) for item in arrays["expr_names"]]
    parts = []
    for index in range(4):
        chosen = rng.choice(shapes, 3, replace=False) if index else []
        head = heads.load_valid(data, name, {shape: float(rng.uniform(0, 0.7)) for shape in chosen})
        neutral = heads.load_valid(data, name)
        head = replace(head, landmarks=neutral.landmarks).canonical()
        parts.append(photograph(head, views // 4, side, rng))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def main() -> None:
    """Photograph, then train."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, required=True)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    recipe = read_recipe(options.recipe, options.set)
    for name, views in run.each("photograph", people(recipe, options.data)):
        path = options.out / f"faces_{name}.npz"
        if not path.exists():
            np.savez(path.with_suffix(".partial.npz"), **film(name, views, options.data, recipe["net"]["side"]))  # type: ignore[arg-type]
            path.with_suffix(".partial.npz").replace(path)
            LOG.info("%s", name)
    train(recipe, run)


def load(paths: list[Path]) -> list[Tensor]:
    """Images, masks, normals and depths of files, one after another."""
    parts = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            parts.append([arrays[name] for name in ("images", "masks", "normals", "depths")])
    return [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]


def train(recipe: dict[str, Any], run: Run) -> FaceRelief:
    """Train, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    files = sorted(run.out.glob("faces_*.npz"))
    checked = [path for path in files if path.stem[6:] in _CHECKED]
    bank, held = load([path for path in files if path not in checked]), load(checked or files[:1])
    net = FaceRelief(ReliefConfig(**recipe["net"])).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe["lr"], weight_decay=1e-3)
    step, last = restore(run.out, net, optimiser), recipe["steps"]
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    began = saved = time.monotonic()
    running = torch.zeros(2)
    while run.goes_on(step, last):
        for group in optimiser.param_groups:
            group["lr"] = recipe["lr"] * schedule(step, last, 50, last // 2)
        crop, *truth = batch(bank, torch.randint(0, len(bank[0]), (recipe["batch"],), generator=g), g)
        found = losses(net(crop), *truth)
        optimiser.zero_grad()
        found.sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        running += found.detach()
        step += 1
        if step % 50 == 0:
            pace = 1e3 * (time.monotonic() - began) / 50
            LOG.info("step %d normal %.4f depth %.4f, %.0f ms", step, *(running / 50).tolist(), pace)
            running, began = torch.zeros(2), time.monotonic()
        if time.monotonic() - saved > 120 or step == last:
            checkpoint(run.out, step, net, optimiser)
            LOG.info("left out: %s", figures := measure(net, held))
            save_weights(run.out / "face_relief.safetensors", net, face_relief, recipe, {"steps": step, **figures})
            saved = time.monotonic()
    return net


def batch(bank: list[Tensor], which: Tensor, g: torch.Generator, *, changed: bool = True) -> tuple[Tensor, ...]:
    """Crops (B, 3, S, S) before backgrounds, and truth: normals, depths, known."""
    images, masks, normals, depths = (part[which] for part in bank)
    known = masks >= 128
    cover = (masks % 128).float().div(127)[:, None]
    crop = images.permute(0, 3, 1, 2).float() / 255
    tone = torch.rand(len(which), 3, 1, 1, generator=g)
    other = crop[torch.randperm(len(which), generator=g)].flip(2)
    behind = torch.where(torch.rand(len(which), 1, 1, 1, generator=g) < 0.5, tone, other)
    crop = crop * cover + behind * (1 - cover)
    normal, depth = normals.permute(0, 3, 1, 2).float() / 127, depths.float()[:, None]
    if changed:
        gain = torch.exp(0.25 * torch.randn(len(which), 1, 1, 1, generator=g)) * torch.exp(
            0.12 * torch.randn(len(which), 3, 1, 1, generator=g)
        )
        crop = (crop * gain).clamp(0, 1) ** torch.exp(0.2 * torch.randn(len(which), 1, 1, 1, generator=g))
        if torch.rand(1, generator=g) < 0.4:
            crop = functional.interpolate(functional.avg_pool2d(crop, 2), scale_factor=2.0, mode="bilinear")
        crop = (crop + 0.02 * torch.randn(crop.shape, generator=g)).clamp(0, 1)
        flip = torch.rand(len(which), 1, 1, 1, generator=g) < 0.5
        crop, depth = torch.where(flip, crop.flip(3), crop), torch.where(flip, depth.flip(3), depth)
        mirrored = normal.flip(3) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        normal, known = torch.where(flip, mirrored, normal), torch.where(flip[:, 0], known.flip(2), known)
    return crop, normal, depth, known[:, None].float()


def losses(found: Relief, normal: Tensor, depth: Tensor, known: Tensor) -> Tensor:
    """(2,) negative log-likelihoods of Laplace distributions, of normals and of depths."""
    off = (found.normal - normal).norm(dim=1, keepdim=True)
    mean = (found.depth * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp_min(1)
    deep = (found.depth - mean - depth).abs()
    total = known.sum().clamp_min(1)
    return torch.stack([
        ((off / found.normal_error + found.normal_error.log()) * known).sum() / total,
        ((deep / found.depth_error + found.depth_error.log()) * known).sum() / total,
    ])  # fmt: skip


@torch.no_grad()
def measure(net: FaceRelief, held: list[Tensor]) -> dict[str, float]:
    """Mean angle in degrees and depth in millimetres (of a crop 190 mm wide) of those left out, and of a flat guess."""
    crop, normal, depth, known = batch(held, torch.arange(0, len(held[0]), 4), torch.Generator(), changed=False)
    parts = [net(part) for part in crop.split(32)]
    seen = torch.cat([part.normal for part in parts])
    deep = torch.cat([part.depth for part in parts])
    angle = torch.rad2deg(torch.acos((seen * functional.normalize(normal, dim=1)).sum(1, keepdim=True).clamp(-1, 1)))
    mean = (deep * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp_min(1)
    average = (depth * known).sum(0) / known.sum(0).clamp_min(1)
    total = known.sum()
    return {
        "degrees": round(float((angle * known).sum() / total), 2),
        "mm": round(float(190 * ((deep - mean - depth).abs() * known).sum() / total), 2),
        "mm_of_average": round(float(190 * ((average - depth).abs() * known).sum() / total), 2),
    }


if __name__ == "__main__":
    main()
