"""Train `nets/pose_prior.py`, the denoiser of poses, on recorded motion.

python -m inference.training.pose_prior inference/training/recipes/pose_prior.toml --data DIR --body FILE --out DIR
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import nets
from ..nets import pose_prior
from ..nets.gc_body import GcBody
from ..nets.pose_prior import PosePrior, PriorConfig, pose_vector
from . import motions
from .algebraic import checkpoint, restore, save_weights
from .gc_bank import draw_poses, rest_directions, tilted
from .lifter import schedule
from .muon import adam_and_muon, scale_rates
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job


def main() -> None:
    """Train, or go on where a run was stopped."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, required=True)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    recipe = read_recipe(options.recipe, options.set)
    directions = rest_directions()
    bank = poses(options.data, "train", recipe["train"], directions, 0)
    train(recipe, bank, poses(options.data, "val", recipe["val"], directions, 1), run)


def poses(data: Path, split: str, count: int, directions: np.ndarray, seed: int) -> Tensor:
    """(count, 129) poses of recorded motion, as a camera that is held about level sees them."""
    rng = np.random.default_rng(seed)
    recorded = motions.load(data, split, directions)
    rotations = tilted(draw_poses(recorded, count, rng, varied=split == "train"), rng)
    return pose_vector(torch.from_numpy(rotations).float())


def train(recipe: dict[str, Any], bank: Tensor, held: Tensor, run: Run) -> PosePrior:
    """Learn to take noise off poses."""
    torch.manual_seed(recipe["seed"])
    net = PosePrior(PriorConfig(**recipe["net"]))
    net.mean.copy_(bank.mean(0))
    net.spread.copy_(bank.std(0).clamp(min=0.02))
    inner = lambda name, _: name.startswith("hidden.") and name.endswith(".weight")  # noqa: E731
    optimisers = adam_and_muon(net, inner, lr=recipe["lr"], muon_lr=recipe["muon_lr"], decay=1e-4)
    step, last = restore(run.out, net, *optimisers), recipe["steps"]
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    began, running = time.monotonic(), 0.0
    while run.goes_on(step, last):
        scale_rates(optimisers, schedule(step, last, 100, last // 2))
        clean = bank[torch.randint(0, len(bank), (recipe["batch"],), generator=g)]
        error = miss(net, clean, g).mean()
        net.zero_grad()
        error.backward()
        for optimiser in optimisers:
            optimiser.step()
        running, step = running + error.item(), step + 1
        if step % 500 == 0:
            with torch.no_grad():
                left_out = miss(net, held, torch.Generator().manual_seed(0)).mean().item()
            pace = 2 * (time.monotonic() - began)
            LOG.info("step %d loss %.4f left out %.4f, %.1f ms", step, running / 500, left_out, pace)
            running, began = 0.0, time.monotonic()
            checkpoint(run.out, step, net, *optimisers)
            figures = {"steps": step, "left_out": left_out}
            save_weights(run.out / "pose_prior.safetensors", net, pose_prior, recipe, figures)
    return net


def miss(net: PosePrior, clean: Tensor, g: torch.Generator) -> Tensor:
    """(B,) squared errors of denoised poses, weighed as their noise allows."""
    config = net.config
    low, high = np.log(config.low), np.log(config.high)
    sigma = torch.exp(low + (high - low) * torch.rand(len(clean), generator=g))
    found = net(clean + sigma[:, None] * torch.randn(clean.shape, generator=g), sigma)
    weight = (net.spread**2 + sigma[:, None] ** 2) / (sigma[:, None] * net.spread) ** 2
    return (weight * (found - clean) ** 2).mean(1)


def load(path: Path) -> PosePrior:
    """A trained prior."""
    net = nets.load(path)
    assert isinstance(net, PosePrior)
    return net.requires_grad_(requires_grad=False)


def load_body(path: Path) -> GcBody:
    """The body."""
    body = nets.load(path)
    assert isinstance(body, GcBody)
    return body


if __name__ == "__main__":
    main()
