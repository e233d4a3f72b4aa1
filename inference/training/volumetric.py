"""Train the volumetric method (`nets/joint_volume.py`) on imagined captures of a few cameras.

python -m inference.training.volumetric inference/training/recipes/volumetric.toml --data DIR --out DIR --trust FILE

The views are believed as the trained algebraic method says (`--trust`). It resumes from the checkpoint in `--out` and
stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import nets
from ..nets import joint_volume
from ..nets.joint_volume import JointVolume, JointVolumeConfig, Placed
from ..nets.triangulation import volume_loss
from ..nets.v2v import V2VConfig
from ..nets.view_trust import ViewTrust
from . import captures, rigs
from .algebraic import INSIDE, checkpoint, make_bank, restore, save_weights, scene, soft_error
from .lifter import load_bodies, schedule

LOG = logging.getLogger("understudy.training")


def main() -> None:
    """Read the recipe and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trust", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    handlers = [logging.FileHandler(options.out / "train.log"), logging.StreamHandler()]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    trust = nets.load(options.trust)
    assert isinstance(trust, ViewTrust)
    train(tomllib.loads(options.recipe.read_text(encoding="utf-8")), options.data, options.out, trust)


def train(recipe: dict[str, Any], data: Path, out: Path, trust: ViewTrust) -> None:
    """Train for the recipe's steps, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    volume = V2VConfig(**{**recipe["volume"], "widths": tuple(recipe["volume"]["widths"])})
    net = JointVolume(JointVolumeConfig(**recipe["net"], volume=volume))
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe["lr"], weight_decay=recipe["weight_decay"])
    step = restore(out, net, optimiser)
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    bodies = load_bodies(out, recipe["bodies"], recipe["seed"], data)
    bank = make_bank(data, bodies["train"], "train", recipe)
    held_out = make_bank(data, bodies["val"], "val", recipe)
    detector, rig = captures.Errors(**recipe["errors"]), rigs.RigErrors(**recipe["rig"])
    tests = {
        count: scene(held_out, count, 64, torch.Generator().manual_seed(7), detector, rig, parts=False)
        for count in (2, 4)
    }
    began = saved = time.monotonic()
    running = torch.zeros(3)
    while step < recipe["steps"] and not (out / "cancel").exists():
        count = recipe["views"][int(torch.randint(0, len(recipe["views"]), (1,), generator=g))]
        batch = scene(bank, count, recipe["batch"], g, detector, rig, parts=False)
        for group in optimiser.param_groups:
            group["lr"] = recipe["lr"] * schedule(step, recipe["steps"], recipe["warmup"], recipe["cooldown"])
        terms = losses(place(net.train(), trust, batch, g), batch.truth)
        optimiser.zero_grad()
        (terms * terms.new_tensor(recipe["loss_weights"])).sum().backward()
        if torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0).isfinite():
            optimiser.step()
        running += terms.detach()
        step += 1
        if step % recipe["log_every"] == 0:
            pace = 1e3 * (time.monotonic() - began) / recipe["log_every"]
            text = "step %d loss %.4f cross-entropy %.3f honesty %.4f, %.0f ms"
            LOG.info(text, step, *(running / recipe["log_every"]).tolist(), pace)
            running.zero_()
            began = time.monotonic()
        if step % recipe["evaluate_every"] == 0 or step == recipe["steps"]:
            LOG.info("step %d %s", step, json.dumps({n: evaluate(net, trust, test) for n, test in tests.items()}))
            began = time.monotonic()
        if time.monotonic() - saved > 180 or step == recipe["steps"]:
            checkpoint(out, step, net, optimiser)
            saved = time.monotonic()
    checkpoint(out, step, net, optimiser)
    figures = {f"mm_{count}_views": evaluate(net, trust, test)["ours"] for count, test in tests.items()}
    save_weights(out / "joint_volume.safetensors", net, joint_volume, recipe, {**figures, "steps": step})


def place(net: JointVolume, trust: ViewTrust, batch: rigs.Scene, g: torch.Generator | None = None) -> Placed:
    """Run both methods as they are used: the algebraic one says where the pelvis is and whom to believe.

    With a generator the pelvis is somewhat elsewhere, as for training.
    """
    with torch.no_grad():
        believed = trust.eval()(batch.views)
    points = believed.points[:, :25]
    centre = joint_volume.middle(points, believed.error[:, :25])
    if g is not None:
        centre = centre + (torch.randn(centre.shape, generator=g) * 0.06).clamp(-0.2, 0.2)
    return net(batch.views, believed.weights, centre)


def losses(placed: Placed, truth: Tensor) -> Tensor:
    """(3,) errors of the volume and of the end, in units of 5 cm; cross-entropy; honesty of the expected errors."""
    final, coarse = ((points - truth).square().sum(-1).add(1e-5).sqrt() for points in (placed.points, placed.volume))
    everywhere = torch.ones(truth.shape[:2])
    entropy = volume_loss(placed.heat, placed.grid, truth, everywhere)
    short = final.detach().log() - placed.error.log()
    honesty = torch.maximum(INSIDE * short, (INSIDE - 1) * short).mean()
    return torch.stack([(soft_error(final) + soft_error(coarse)).mean() / 0.1, entropy, honesty])


@torch.no_grad()
def evaluate(net: JointVolume, trust: ViewTrust, batch: rigs.Scene) -> dict[str, float]:
    """Mean errors in mm of all joints, and of those that fewer than two, or no view sees; beside the algebraic way."""
    parts = [rigs.part(batch, slice(start, start + 16)) for start in range(0, len(batch.truth), 16)]
    placed = [place(net.eval(), trust, part) for part in parts]
    points = torch.cat([p.points for p in placed])
    miss = (points - batch.truth).norm(dim=-1)
    count = (batch.views.score > 0).sum(1)
    algebraic = (trust(batch.views).points - batch.truth).norm(dim=-1)
    both = count >= 2
    figures = {
        "ours": miss[both].mean(), "algebraic": algebraic[both].clamp_max(2.0).mean(),
        "volume": (torch.cat([p.volume for p in placed]) - batch.truth).norm(dim=-1)[both].mean(),
        "one_view": miss[count == 1].mean(), "no_view": miss[count == 0].mean(),
    }  # fmt: skip
    inside = (miss <= torch.cat([p.error for p in placed])).float().mean()
    return {name: round(1e3 * float(v), 1) for name, v in figures.items()} | {"inside": round(float(inside), 3)}


if __name__ == "__main__":
    main()
