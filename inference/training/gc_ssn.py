"""Train GC-SSN (`nets/gc_ssn.py`) without labels, or with them, on bodies filmed by `gc_bank`.

python -m inference.training.gc_ssn inference/training/recipes/gc_ssn.toml --data DIR --prior FILE --body FILE --out DIR
       [--set cycle=0 ...]

`regime = "self"`: the network sees silhouettes and joints alone. Its body is held against them (joints, silhouette), a
prior over poses says how unlike people it is, and the body - a little changed, from another side - is rendered and must
be read as what it is (cycle). `regime = "paired"`: the truth behind each picture is given (GC-N). It films first (files
`bank_*.npz` in `--out`, which are kept), resumes from its checkpoint, and stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..core.rotations import matrix_from_rotvec
from ..nets import gc_ssn
from ..nets.gc_body import EVALUATED, GcBody, Posed, usual_spread
from ..nets.gc_ssn import Estimate, GcConfig, Generator, Seen, project, render, rotation_from_six, soft_iou, splat
from ..nets.pose_prior import PosePrior, pose_vector
from . import motions
from .algebraic import checkpoint, restore, save_weights
from .body_points import take_out
from .gc_bank import MARGIN, Bank, film, rest_directions
from .lifter import schedule
from .muon import adam_and_muon, scale_rates
from .pose_prior import load, load_body
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job


@dataclass
class Banks:
    """Bodies to train on, filmed and as joints alone, and people left out."""

    train: Bank
    joints: Bank
    held: Bank


@dataclass
class Trainer:
    """What every step needs."""

    recipe: dict[str, Any]
    net: Generator
    body: GcBody
    joints: GcBody  # the same without skin
    prior: PosePrior
    g: torch.Generator


def main() -> None:
    """Film, then train."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prior", type=Path, required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--bank", type=Path, help="folder of filmed bodies; --out where it is not given")
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    recipe = read_recipe(options.recipe, options.set)
    body, prior = load_body(options.body).requires_grad_(requires_grad=False), load(options.prior)
    folder = options.bank or options.out
    banks = {name: folder / f"bank_{name}.npz" for name in ("train", "joints", "val")}
    for name, path in banks.items():
        if not path.exists():
            filmed(name, recipe, body, options.data, run).save(path)
    train(recipe, Banks(*(Bank.load(path) for path in banks.values())), body, prior, run)


def filmed(name: str, recipe: dict[str, Any], body: GcBody, data: Path, run: Run) -> Bank:
    """Film people of a split; "joints": many more to train on, without masks."""
    rng = np.random.default_rng(recipe["seed"] + ("val", "test", "train", "joints").index(name) + 1)
    masked = name != "joints"
    recorded = motions.load(data, name if masked else "train", rest_directions())
    dense = take_out(16000, 1, spread=False) if masked else None
    body = body if masked else body.thinned(600)
    return film(recorded, body, dense, recipe[name], rng, run=run, varied=name in {"train", "joints"})


def train(recipe: dict[str, Any], banks: Banks, body: GcBody, prior: PosePrior, run: Run) -> Generator:
    """Train, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    net = Generator(GcConfig(**recipe["net"])).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.begin(*mean_body(prior, body))
    inside = {"read.0.weight", "regressor.0.weight", "regressor.2.weight"}
    optimisers = adam_and_muon(
        net, lambda name, _: name in inside, lr=recipe["lr"], muon_lr=recipe["muon_lr"], decay=1e-4
    )
    step, last = restore(run.out, net, *optimisers), recipe["steps"]
    thin, bare = (body.thinned(points).requires_grad_(requires_grad=False) for points in (recipe["points"], 0))
    trainer = Trainer(recipe, net, thin, bare, prior, torch.Generator().manual_seed(recipe["seed"] + step))
    began = saved = time.monotonic()
    running: dict[str, float] = {}
    while run.goes_on(step, last):
        scale_rates(optimisers, schedule(step, last, 200, int(recipe["cooldown"] * last)))
        found = losses(trainer, banks, step, step / last)
        total = sum((recipe[name] * value for name, value in found.items()), torch.zeros(()))
        net.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        running = {name: running.get(name, 0.0) + value.item() / 100 for name, value in found.items()}
        if step % 100 == 0:
            text = " ".join(f"{name} {value:.4f}" for name, value in running.items())
            LOG.info("step %d %s, %.0f ms", step, text, 10 * (time.monotonic() - began))
            running, began = {}, time.monotonic()
        if time.monotonic() - saved > recipe["save_s"] or step == last:
            checkpoint(run.out, step, net, *optimisers)
            LOG.info("left out: %s", figures := measure(net, body, banks.held))
            save_weights(run.out / "gc_ssn.safetensors", net, gc_ssn, recipe, {"steps": step, **figures})
            saved = began = time.monotonic()
    return net


def estimated(trainer: Trainer, seen: Seen) -> Estimate:
    """What the network makes of it; its layers in half precision where the recipe says so."""
    half = trainer.recipe["precision"] == "bfloat16"
    with torch.autocast(seen.joints.device.type, torch.bfloat16, enabled=half):
        values = trainer.net.values(seen)
    return trainer.net.split(values)


def mean_body(prior: PosePrior, body: GcBody) -> tuple[Tensor, Tensor]:
    """An average adult (S,) in the recordings' average pose (22, 3, 3), upright and facing the camera."""
    shape = torch.tensor([0.67 if name == "age" else 0.5 for name in body.config.phenotypes])
    turns = rotation_from_six(prior.mean[:-3].view(-1, 6))
    return torch.cat([shape, torch.zeros(len(body.config.changes))]), torch.cat([torch.eye(3)[None], turns])


def losses(trainer: Trainer, banks: Banks, step: int, done: float) -> dict[str, Tensor]:
    """The terms of one step, by the recipe's names for their weights: with masks, and cheaper ones by joints alone."""
    recipe, g = trainer.recipe, trainer.g
    found: dict[str, Tensor] = {}
    batches = [(recipe["joint_batch"], trainer.joints, banks.joints)]
    if step % recipe["mask_every"] == 0:
        batches.insert(0, (recipe["batch"], trainer.body, banks.train))
    for count, body, bank in batches:
        picked = torch.randint(0, len(bank.half), (count,), generator=g)
        side = trainer.net.config.side if body is trainer.body else 0
        for name, value in terms(trainer, body, look(bank, picked, side, g), done).items():
            found[name] = found.get(name, torch.zeros(())) + value / 2
    return found


def terms(trainer: Trainer, body: GcBody, looked: tuple[Seen, Seen, Estimate], done: float) -> dict[str, Tensor]:
    """The terms of one batch."""
    recipe, (seen, clean, truth) = trainer.recipe, looked
    estimate = estimated(trainer, seen)
    if recipe["regime"] == "paired":
        with torch.no_grad():
            wanted = body(truth.shape, truth.rotations)
        return {"truth": difference(body, estimate, truth, wanted, recipe["aligned"])}
    posed = body(estimate.shape, estimate.rotations)
    miss = robust(project(posed.keypoints, estimate.camera, seen.half) - clean.joints) * seen.confidence
    found = {"joint": miss.sum() / seen.confidence.sum()}
    if clean.mask is not None:
        plane = project(posed.points, estimate.camera, seen.half)
        found["silhouette"] = silhouette_loss(splat(plane, estimate.camera[:, 0], trainer.net.config.side), clean.mask)
    found["shape"] = (((estimate.shape - mean_shape(body)) / usual_spread(body)) ** 2).mean()
    found["bounds"] = functional.relu((estimate.shape[:, :6] - 0.5).abs() - 0.5).mean()
    if recipe["prior"]:
        found["prior"] = prior_loss(trainer, estimate, done)
    if recipe["cycle"]:
        some = len(seen.half) // 2  # reading twice is dear
        half = Estimate(*(part[:some] for part in estimate))
        found["cycle"] = cycle_loss(trainer, body, half, seen.half[:some]) * min(1.0, 20 * done)
    return found


def mean_shape(body: GcBody) -> Tensor:
    """(S,) the shape that nothing speaks against."""
    rest = torch.zeros(len(body.config.changes))
    return torch.cat([torch.tensor([0.67 if name == "age" else 0.5 for name in body.config.phenotypes]), rest])


def robust(difference: Tensor) -> Tensor:
    """(..., K) lengths of differences (..., K, 2), large ones counting less (Geman-McClure at 0.15)."""
    square = (difference**2).sum(-1)
    return 0.5 * (square + 1e-8).sqrt() + 0.15 * square / (square + 0.15**2)


def silhouette_loss(mask: Tensor, seen: Tensor) -> Tensor:
    """1 - IoU, and a little cross entropy where they are sure."""
    entropy = functional.binary_cross_entropy(mask.clamp(1e-3, 1 - 1e-3), seen)
    return (1 - soft_iou(mask, seen)).mean() + 0.2 * entropy


def prior_loss(trainer: Trainer, estimate: Estimate, done: float) -> Tensor:
    """Half the squared distance to what the prior makes of a pose; its gradient is the correction."""
    high = 0.6 - 0.4 * done
    noise = 0.05 + (high - 0.05) * torch.rand(len(estimate.shape), generator=trainer.g)
    correction = trainer.prior.correction(estimate.rotations, noise, trainer.g)
    pose = pose_vector(estimate.rotations)
    weight = trainer.prior.spread.mean() / (trainer.prior.spread.mean() + noise)
    return (weight * (((pose - (pose + correction).detach()) ** 2) / trainer.prior.spread).mean(1)).mean()


def cycle_loss(trainer: Trainer, body: GcBody, estimate: Estimate, half: Tensor) -> Tensor:
    """Render the network's own bodies, changed a little and from another side, and read them again."""
    g, net = trainer.g, trainer.net
    with torch.no_grad():
        virtual = varied(trainer, estimate, half)
        posed = body(virtual.shape, virtual.rotations)
        keypoints = mixed(posed.keypoints, body.centres(posed), g)
        mask, joints = render(posed, keypoints, virtual.camera, half, net.config.side)
        known = (mask > 0.5).float() if body.config.points else None
        seen = degrade(Seen(known, joints, torch.ones(joints.shape[:2]), half), g)
    return difference(body, estimated(trainer, seen), virtual, posed, trainer.recipe["aligned"])


def varied(trainer: Trainer, estimate: Estimate, half: Tensor) -> Estimate:
    """Bodies near the estimated ones: shaken and put right by the prior, turned about, of other builds, recropped."""
    g, count = trainer.g, len(half)
    noise = 0.02 + 0.8 * torch.rand(count, generator=g)
    rotations = estimate.rotations
    if trainer.recipe["prior"]:
        pose = trainer.prior.correction(rotations, noise, g)
        six = gc_ssn.six_from_rotation(rotations[:, 1:]) + pose[:, :-3].view(count, -1, 6)
        rotations = torch.cat([rotations[:, :1], rotation_from_six(six)], 1)
    turn = torch.zeros(count, 3)
    turn[:, 2] = (torch.rand(count, generator=g) * 2 - 1) * torch.pi
    turn[: count // 4] = 0
    spun = torch.from_numpy(matrix_from_rotvec(turn.numpy().astype(float))).float()
    rotations = torch.cat([(spun @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)
    shape = estimate.shape + 0.15 * torch.randn(estimate.shape.shape, generator=g)
    shape = torch.cat([shape[:, :6].clamp(0, 1), shape[:, 6:].clamp(-1, 1)], 1)
    camera = estimate.camera.clone()
    plane = project(trainer.joints(shape, rotations).keypoints, camera, half)
    low, high = plane.amin(1), plane.amax(1)
    zoom = 1 / (1.05 + 0.3 * torch.rand(count, generator=g)) / ((high - low).amax(1) / 2).clamp(min=0.2)
    middle = (low + high) / 2 + 0.05 * torch.randn(count, 2, generator=g)
    camera[:, 0] *= zoom.clamp(0.5, 2)
    camera[:, 1:] = (camera[:, 1:] - middle) * zoom.clamp(0.5, 2)[:, None]
    return Estimate(shape, rotations, camera)


def difference(body: GcBody, found: Estimate, wanted: Estimate, wanted_posed: Posed, aligned: float) -> Tensor:
    """How far bodies are from wanted ones: rotations, joints in metres, shapes, cameras.

    aligned: weight of joints laid over the wanted ones, beside 5 for joints as they are.
    """
    posed = body(found.shape, found.rotations)
    rotation = ((found.rotations - wanted.rotations) ** 2).sum((2, 3)).mean()
    rotation = (rotation + ((posed.rotations - wanted_posed.rotations) ** 2).sum((2, 3)).mean()) / 2
    off = (posed.joints - wanted_posed.joints).norm(dim=-1).mean()
    shape = ((found.shape - wanted.shape) ** 2).mean()
    camera = (found.camera - wanted.camera).abs().mean()
    if aligned:
        rotation = rotation + aligned * aligned_miss(posed.joints[:, EVALUATED], wanted_posed.joints[:, EVALUATED])
    return rotation + 5 * off + 0.5 * shape + camera


def aligned_miss(points: Tensor, wanted: Tensor) -> Tensor:
    """Mean distance of points (B, J, 3) from wanted ones that they are laid over; the laying is held (at its best)."""
    with torch.no_grad():
        _, carry = align(points, wanted)
    return (carry(points) - wanted).norm(dim=-1).mean()


def mixed(skin: Tensor, centres: Tensor, g: torch.Generator) -> Tensor:
    """Keypoints between what the skin says and the joints' centres: detectors differ in what they call a joint."""
    share = torch.rand(len(skin), skin.shape[1], 1, generator=g)
    return skin + share * (centres - skin)


def look(bank: Bank, picked: Tensor, side: int, g: torch.Generator) -> tuple[Seen, Seen, Estimate]:
    """Crops of filmed bodies: as a detector would see them, as they are, and the truth for the paired regime."""
    count = len(picked)
    place, stored = bank.place[picked], bank.half[picked]
    zoom = (1.02 + 0.4 * torch.rand(count, generator=g)) / MARGIN
    shift = 0.06 * torch.randn(count, 2, generator=g)
    half = stored * zoom
    skin, centres = bank.keypoints[picked].unbind(1)
    keypoints = mixed(skin, centres, g)
    scale = 1 / (place[:, 1] * half)
    flat = torch.stack([place[:, 0], -place[:, 2]], 1) / (place[:, 1] * half)[:, None]
    camera = torch.cat([scale[:, None], flat - shift], 1)
    joints = project(keypoints, camera, half)
    mask = None
    if side:
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = zoom
        theta[:, :, 2] = shift * zoom[:, None]
        grid = functional.affine_grid(theta, [count, 1, side, side], align_corners=False)
        mask = functional.grid_sample(bank.masks[picked][:, None].float(), grid, align_corners=False)[:, 0]
    clean = Seen(mask, joints, torch.ones(joints.shape[:2]), half)
    return degrade(clean, g), clean, Estimate(bank.shape[picked], bank.rotations[picked], camera)


def degrade(seen: Seen, g: torch.Generator) -> Seen:
    """What detectors get wrong (STRAPS): noise, lost and low-resolution joints, parts and boxes missing from masks."""
    count, keypoints = seen.joints.shape[:2]

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    noise = 0.03 * chance(count, 1, 1) * torch.randn(seen.joints.shape, generator=g)
    noise = noise + (chance(count, keypoints, 1) < 0.03) * 0.15 * torch.randn(seen.joints.shape, generator=g)
    joints = seen.joints + noise + 0.01 * torch.randn(seen.joints.shape, generator=g)
    low = 2 / torch.tensor([256.0, 128.0, 64.0, 32.0])[torch.randint(0, 4, (count,), generator=g)][:, None, None]
    joints = torch.where(chance(count, 1, 1) < 0.3, (joints / low).round() * low, joints)
    kept = (chance(count, keypoints) > 0.05) & (joints.abs().amax(-1) < 1.5)
    level = torch.where(chance(count) < 0.08, 0.1 + 0.6 * chance(count), 9.0)  # the rest is out of the picture
    kept &= joints[..., 1] < level[:, None]
    sure = kept * (0.6 + 0.4 * chance(count, keypoints))
    mask = None if seen.mask is None else spoil(seen.mask, seen.joints, level, g)
    return Seen(mask, joints * kept[..., None], sure, seen.half)


def spoil(mask: Tensor, joints: Tensor, level: Tensor, g: torch.Generator) -> Tensor:
    """Masks (B, S, S) cut off below a level, with boxes and places about joints missing, coarse, wide, or empty."""
    count, side = mask.shape[:2]

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    row = (torch.arange(side) + 0.5) * 2 / side - 1
    mask = mask * (row[:, None] < level[:, None, None])
    for _ in range(2):
        middle, size = 1.6 * chance(count, 2) - 0.8, 0.1 + 0.3 * chance(count, 2)
        on = (chance(count) < 0.25)[:, None]
        inside = [((row - middle[:, None, k]).abs() < size[:, None, k] / 1.5) & on for k in (0, 1)]
        mask = mask * ~(inside[1][:, :, None] & inside[0][:, None, :])
    spot = joints[torch.arange(count), torch.randint(0, joints.shape[1], (count,), generator=g)]
    near = (row[None, :, None] - spot[:, 1, None, None]) ** 2 + (row[None, None, :] - spot[:, 0, None, None]) ** 2
    mask = mask * ~((near < 0.12**2) & (chance(count, 1, 1) < 0.2))
    coarse = functional.avg_pool2d(mask[:, None], 2).repeat_interleave(2, 2).repeat_interleave(2, 3)[:, 0]
    mask = torch.where(chance(count, 1, 1) < 0.25, (coarse > 0.5).float(), mask)
    wide = functional.max_pool2d(mask[:, None], 3, 1, 1)[:, 0]
    mask = torch.where(chance(count, 1, 1) < 0.25, wide, mask)  # clothes
    return torch.where(chance(count, 1, 1) < 0.05, torch.zeros(()), mask)


@torch.no_grad()
def measure(net: Generator, body: GcBody, held: Bank, count: int = 1500) -> dict[str, float]:
    """Errors in millimetres and overlap on left-out people, degraded."""
    net.eval()
    body = body.thinned(600)
    g = torch.Generator().manual_seed(1)
    found: dict[str, list[Tensor]] = {"mpjpe": [], "pa": [], "iou": [], "vertex": []}
    for picked in torch.arange(min(count, len(held.half))).split(100):
        seen, clean, truth = look(held, picked, net.config.side, g)
        estimate = net(seen)
        posed, wanted = body(estimate.shape, estimate.rotations), body(truth.shape, truth.rotations)
        mine, theirs = posed.joints[:, EVALUATED], wanted.joints[:, EVALUATED]
        found["mpjpe"].append((mine - theirs).norm(dim=-1).mean(1))
        aligned, map_points = align(mine, theirs)
        found["pa"].append((aligned - theirs).norm(dim=-1).mean(1))
        found["vertex"].append((map_points(posed.points) - wanted.points).norm(dim=-1).mean(1))
        mask = splat(project(posed.points, estimate.camera, seen.half), estimate.camera[:, 0], net.config.side)
        assert clean.mask is not None
        found["iou"].append(soft_iou((mask > 0.5).float(), (clean.mask > 0.5).float()))
    net.train()
    values = {name: torch.cat(parts).mean().item() for name, parts in found.items()}
    scaled = {f"{name}_mm": 1000 * value for name, value in values.items() if name != "iou"}
    return {name: round(value, 3) for name, value in {**scaled, "iou": values["iou"]}.items()}


def align(points: Tensor, wanted: Tensor) -> tuple[Tensor, Any]:
    """Lay points (B, J, 3) over wanted ones by a similarity (Umeyama 1991); also gives the map for other points."""
    middle, target = points.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    p, q = points - middle, wanted - target
    u, s, v = torch.linalg.svd(q.transpose(1, 2) @ p)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.det(u @ v)
    turn = u @ torch.diag_embed(sign) @ v
    scale = ((s * sign).sum(1) / (p**2).sum((1, 2)))[:, None, None]

    def carry(others: Tensor) -> Tensor:
        return scale * (others - middle) @ turn.transpose(1, 2) + target

    return carry(points), carry


if __name__ == "__main__":
    main()
