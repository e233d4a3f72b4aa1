"""Train the volumetric method (`nets/joint_volume.py`) on imagined captures of a few cameras.

python -m inference.training.volumetric inference/training/recipes/volumetric.toml --data DIR --out DIR --trust FILE

The views are believed as the trained algebraic method says (`--trust`). A step sees many frames without the volume,
for it is some ten times as dear as what settles the pose behind it, and some with it. With --detections FILE some
bodies get a real detector's errors. It resumes from the checkpoint in `--out` and stops when a file `cancel` appears
there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import nets
from ..nets import joint_volume, settle
from ..nets.joint_volume import JointVolume, JointVolumeConfig
from ..nets.settle import Rough, SettleConfig, Settled
from ..nets.triangulation import volume_loss
from ..nets.v2v import V2VConfig
from ..nets.view_trust import Views, ViewTrust
from . import captures, rigs
from .algebraic import (
    CALIBRATED,
    INSIDE,
    Sources,
    checkpoint,
    make_bank,
    rate,
    restore,
    save_weights,
    scene,
    soft_error,
)
from .lifter import load_bodies, schedule
from .muon import adam_and_muon, scale_rates
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job

_JOINTS = 25
_TILT = math.radians(2.5)  # standard deviation of the world's vertical


def main() -> None:
    """Read the recipe and train."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trust", type=Path, required=True)
    parser.add_argument("--detections", type=Path, help="what a detector saw of rendered people")
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    trust = nets.load(options.trust)
    assert isinstance(trust, ViewTrust)
    recipe = read_recipe(options.recipe, options.set)
    train(recipe, options.data, run, trust, options.detections)


def train(recipe: dict[str, Any], data: Path, run: Run, trust: ViewTrust, detections: Path | None = None) -> None:
    """Train for the recipe's steps, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    net = build(recipe)
    inside = lambda name, value: ".layers." in name and value.ndim == 2  # noqa: E731
    adam, muon = adam_and_muon(
        net, inside, lr=recipe["lr"], muon_lr=recipe["muon_lr"], decay=recipe["weight_decay"],
        muon_decay=recipe["weight_decay"],
    )  # fmt: skip
    bodies = load_bodies(run.out, recipe["bodies"], recipe["seed"], data)
    bank = make_bank(data, bodies["train"], "train", recipe)
    held_out = make_bank(data, bodies["val"], "val", recipe)
    step = restore(run.out, net, adam, muon)
    net.settle.typical.copy_(typical(captures.sample_people(bank, 3000, 1, torch.Generator(), parts=False)[:, 0]))
    average = {name: value.clone() for name, value in net.state_dict().items()}
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    sources, bench = Sources(recipe, detections), (rigs.DETECTOR, rigs.RIG)
    tests = {
        n: scene(held_out, n, 192, torch.Generator().manual_seed(7), *bench, parts=False, augment=False) for n in (2, 4)
    }
    began = saved = time.monotonic()
    running = torch.zeros(4)
    while run.goes_on(step, recipe["steps"]):
        scale_rates((adam, muon), schedule(step, recipe["steps"], recipe["warmup"], recipe["cooldown"]))
        adam.zero_grad()
        muon.zero_grad()
        for whole in (False, True) if step % recipe["volume_every"] == 0 else (False,):
            count = recipe["views"][int(torch.randint(0, len(recipe["views"]), (1,), generator=g))]
            size = recipe["volume_batch"] if whole else recipe["view_frames"] // count
            batch = scene(bank, count, size, g, *sources.draw(g), parts=False)
            terms = losses(net.train(), trust, batch, g, whole=whole)
            (terms * terms.new_tensor(recipe["loss_weights"])).sum().backward()
            running += terms.detach() * torch.tensor([1.0, recipe["volume_every"], recipe["volume_every"], 1.0])
        if torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0).isfinite():
            adam.step()
            muon.step()
        step += 1
        keep = min(recipe["average"], 1 - 1 / (1 + step))
        for name, value in net.state_dict().items():
            average[name].lerp_(value, 1 - keep) if value.is_floating_point() else average[name].copy_(value)
        if step % recipe["log_every"] == 0:
            pace = 1e3 * (time.monotonic() - began) / recipe["log_every"]
            text = "step %d error %.4f volume's %.4f cross-entropy %.3f honesty %.4f, %.0f ms"
            LOG.info(text, step, *(running / recipe["log_every"]).tolist(), pace)
            running.zero_()
            began = time.monotonic()
        if step % recipe["evaluate_every"] == 0 or step == recipe["steps"]:
            test_net = averaged(net, recipe, average)
            LOG.info("step %d %s", step, json.dumps({n: evaluate(test_net, trust, t) for n, t in tests.items()}))
            began = time.monotonic()
        if time.monotonic() - saved > 180 or step == recipe["steps"]:
            checkpoint(run.out, step, net, adam, muon)
            save_weights(run.out / "joint_volume.safetensors", averaged(net, recipe, average), joint_volume, recipe, {})
            saved = time.monotonic()
    checkpoint(run.out, step, net, adam, muon)
    final = averaged(net, recipe, average)
    with torch.no_grad():
        scenes = [scene(held_out, count, 96, g, *bench, parts=False) for count in CALIBRATED]
        found = [(joint_volume.place(final, trust, batch.views)[0], batch.truth) for batch in scenes]
    rate(final.settle.doubt, [((given.points - truth).norm(dim=-1), given.error) for given, truth in found])
    figures = {f"mm_{count}_views": evaluate(final, trust, test)["ours"] for count, test in tests.items()}
    save_weights(run.out / "joint_volume.safetensors", final, joint_volume, recipe, {**figures, "steps": step})


def build(recipe: dict[str, Any]) -> JointVolume:
    """Build the network of a recipe, its attention in half precision where that says so."""
    volume = V2VConfig(**{**recipe["volume"], "widths": tuple(recipe["volume"]["widths"])})
    net = JointVolume(JointVolumeConfig(**recipe["net"], volume=volume, settle=SettleConfig(**recipe["settle"])))
    net.settle.hasten(bfloat16=recipe["bfloat16"])
    return net


def averaged(net: JointVolume, recipe: dict[str, Any], average: dict[str, Tensor]) -> JointVolume:
    """The network of averaged weights."""
    other = build(recipe | {"bfloat16": False})
    other.load_state_dict(average)
    other.train(net.training)
    return other.eval()


def typical(people: Tensor) -> Tensor:
    """(25, 3) mean place of the joints of standing people about the mid-hip, facing one way, one unit tall."""
    turned = (people - people[:, 8:9]) @ settle.facing(people).mT
    return (turned / rigs.stature(people)[:, None, None]).mean(0)


def tilted(batch: rigs.Scene, g: torch.Generator, frames: int = 1) -> rigs.Scene:
    """The same in worlds whose vertical is a little off, one for every `frames` frames."""
    vector = torch.nn.functional.pad(torch.randn(len(batch.truth) // frames, 2, generator=g) * _TILT, (0, 1))
    turn = captures.rotation(vector).repeat_interleave(frames, 0)
    views = batch.views._replace(rotation=batch.views.rotation @ turn.mT[:, None])
    return rigs.Scene(views, batch.truth @ turn.mT)


def losses(net: JointVolume, trust: ViewTrust, batch: rigs.Scene, g: torch.Generator, *, whole: bool) -> Tensor:
    """(4,) error of the settled places in units of 5 cm; the volume's; cross-entropy; honesty of expected errors."""
    batch = tilted(batch, g)
    views, truth = batch.views, batch.truth
    with torch.no_grad():
        believed = trust.eval()(views)
    rough = Rough(believed.points, believed.error)
    centre = joint_volume.middle(views, rough.points, rough.error)
    centre = centre + (torch.randn(centre.shape, generator=g) * 0.06).clamp(-0.2, 0.2)
    zero = torch.zeros(())
    if not whole:
        terms = settled_terms(net.settle(views, believed.weights, centre, rough), truth)
        return torch.stack([terms[0], zero, zero, terms[1]])
    with torch.autocast("cpu", torch.bfloat16, enabled=net.settle.hastened):
        volume, spread, heat, grid = net.look(views, believed.weights, centre)
    rough = rough._replace(volume=volume.detach(), spread=spread.detach())
    terms = settled_terms(net.settle(views, believed.weights, centre, rough), truth)
    coarse = soft_error(((volume - truth).square().sum(-1) + 1e-5).sqrt()).mean() / 0.05
    entropy = volume_loss(heat, grid, truth, torch.ones(truth.shape[:2]))
    return torch.stack([terms[0], coarse, entropy, terms[1]])


def settled_terms(settled: Settled, truth: Tensor, far: float = 0.2) -> tuple[Tensor, Tensor]:
    """Error of the places along the way in units of 5 cm, the last counting most; and honesty of expected errors."""
    missed = [((points - truth).square().sum(-1) + 1e-5).sqrt() for points in settled.steps]
    means = torch.stack([soft_error(m, far).mean() / 0.05 for m in missed])
    share = torch.full_like(means, 0.5 / (len(means) - 1))
    share[-1] = 1.0
    short = missed[-1].detach().log() - settled.error.log()
    return (means * share).sum(), torch.maximum(INSIDE * short, (INSIDE - 1) * short).mean()


@torch.no_grad()
def evaluate(net: JointVolume, trust: ViewTrust, batch: rigs.Scene) -> dict[str, float]:
    """Mean errors in mm of joints that two views see, one, or none; beside the algebraic way and without the volume."""
    views, truth = batch.views, batch.truth
    believed = trust(views)
    rough = Rough(believed.points, believed.error)
    centre = joint_volume.middle(views, rough.points, rough.error)
    alone = net.settle(views, believed.weights, centre, rough)
    parts = [slice(start, start + 32) for start in range(0, len(truth), 32)]
    placed = [joint_volume.place(net, trust, Views(*(value[part] for value in views)))[0] for part in parts]

    def miss(points: Tensor) -> Tensor:
        return (points - truth).norm(dim=-1)

    final, count = miss(torch.cat([p.points for p in placed])), (views.score > 0).sum(1)
    both = count >= 2
    figures = {
        "ours": final[both].mean(), "median": final[both].median(), "all": final.mean(),
        "algebraic": miss(believed.points)[both].clamp_max(2.0).mean(),
        "volume": miss(torch.cat([p.volume for p in placed])).mean(), "no_volume": miss(alone.points)[both].mean(),
        "one_view": final[count == 1].mean(), "no_view": final[count == 0].mean(),
    }  # fmt: skip
    inside = (final <= torch.cat([p.error for p in placed])).float().mean()
    return {name: round(1e3 * float(v), 1) for name, v in figures.items()} | {"inside": round(float(inside), 3)}


if __name__ == "__main__":
    main()
