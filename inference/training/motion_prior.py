"""Train the prior over motions (`nets/motion_prior.py`) on imagined captures of a few cameras, clip by clip.

python -m inference.training.motion_prior inference/training/recipes/motion_prior.toml --data DIR --out DIR \
    --trust FILE --volume FILE

It begins as what settles poses behind the trained volume (`--volume`), to which time is added, and believes views as
the trained algebraic method says (`--trust`). With --detections FILE some bodies get a real detector's errors. It
resumes from the checkpoint in `--out` and stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import nets
from ..nets import motion_prior
from ..nets.joint_volume import JointVolume
from ..nets.motion_prior import MotionPrior, MotionPriorConfig
from ..nets.settle import SettleConfig
from ..nets.view_trust import ViewTrust
from . import captures, rigs
from .algebraic import CALIBRATED, Sources, checkpoint, make_bank, rate, restore, save_weights
from .lifter import load_bodies, schedule
from .muon import adam_and_muon, scale_rates
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job
from .volumetric import settled_terms, tilted

_CHUNK = 16  # clips of an evaluation at once
_FRAMES = 10  # of such a clip
_FAR = 0.5  # metres; errors beyond count little more: whoever is hidden can be anywhere within an arm's length


def main() -> None:
    """Read the recipe and train."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trust", type=Path, required=True)
    parser.add_argument("--volume", type=Path, required=True)
    parser.add_argument("--detections", type=Path, help="what a detector saw of rendered people")
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    trust, volume = nets.load(options.trust), nets.load(options.volume)
    assert isinstance(trust, ViewTrust) and isinstance(volume, JointVolume)
    recipe = read_recipe(options.recipe, options.set)
    train(recipe, options.data, run, trust, volume, options.detections)


def train(  # noqa: PLR0917 - what a training is made of
    recipe: dict[str, Any], data: Path, run: Run, trust: ViewTrust, volume: JointVolume, detections: Path | None = None
) -> None:
    """Train for the recipe's steps, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    net = build(recipe)
    begin(net, volume)
    inside = lambda name, value: ".layers." in name and value.ndim == 2 and "when" not in name  # noqa: E731
    adam, muon = adam_and_muon(
        net, inside, lr=recipe["lr"], muon_lr=recipe["muon_lr"], decay=recipe["weight_decay"],
        muon_decay=recipe["weight_decay"],
    )  # fmt: skip
    bodies = load_bodies(run.out, recipe["bodies"], recipe["seed"], data)
    bank = make_bank(data, bodies["train"], "train", recipe)
    held_out = make_bank(data, bodies["val"], "val", recipe)
    step = restore(run.out, net, adam, muon)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    sources = Sources(recipe, detections, recipe["frames"])
    tests = {name: test(held_out, name) for name in ((2, 0.0), (4, 0.0), (4, 1.0))}
    LOG.info("step %d %s", step, json.dumps(report(averaged(net, recipe, average), trust, tests)))
    began = saved = time.monotonic()
    running = torch.zeros(2)
    while run.goes_on(step, recipe["steps"]):
        scale_rates((adam, muon), schedule(step, recipe["steps"], recipe["warmup"], recipe["cooldown"]))
        adam.zero_grad()
        muon.zero_grad()
        batch = clips(bank, recipe, sources, g)
        terms = losses(net.train(), trust, batch, recipe["frames"])
        (terms * terms.new_tensor(recipe["loss_weights"])).sum().backward()
        running += terms.detach()
        if torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0).isfinite():
            adam.step()
            muon.step()
        step += 1
        keep = min(recipe["average"], 1 - 1 / (1 + step))
        for name, value in net.state_dict().items():
            average[name].lerp_(value, 1 - keep)
        if step % recipe["log_every"] == 0:
            pace = 1e3 * (time.monotonic() - began) / recipe["log_every"]
            LOG.info("step %d error %.4f honesty %.4f, %.0f ms", step, *(running / recipe["log_every"]).tolist(), pace)
            running.zero_()
            began = time.monotonic()
        if step % recipe["evaluate_every"] == 0 or step == recipe["steps"]:
            LOG.info("step %d %s", step, json.dumps(report(averaged(net, recipe, average), trust, tests)))
            began = time.monotonic()
        if time.monotonic() - saved > 180 or step == recipe["steps"]:
            checkpoint(run.out, step, net, adam, muon)
            save_weights(run.out / "motion_prior.safetensors", averaged(net, recipe, average), motion_prior, recipe, {})
            saved = time.monotonic()
    checkpoint(run.out, step, net, adam, muon)
    final = averaged(net, recipe, average)
    with torch.no_grad():
        scenes = [test(held_out, (count, 0.25), seed=9) for count in CALIBRATED]
        found = [(motion_prior.place(final, trust, batch.views, _FRAMES)[0], batch.truth) for batch in scenes]
    rate(final.settle.doubt, [((given.points - truth).norm(dim=-1), given.error) for given, truth in found])
    figures = {f"mm_{name}": figure["mm"] for name, figure in report(final, trust, tests).items()}
    save_weights(run.out / "motion_prior.safetensors", final, motion_prior, recipe, {**figures, "steps": step})


def build(recipe: dict[str, Any]) -> MotionPrior:
    """Build the network of a recipe, its attention in half precision where that says so."""
    net = MotionPrior(MotionPriorConfig(SettleConfig(**recipe["settle"])))
    net.settle.hasten(bfloat16=recipe["bfloat16"])
    return net


def begin(net: MotionPrior, volume: JointVolume) -> None:
    """Take what is known of frames by themselves; nothing is known of time."""
    missing, unexpected = net.settle.load_state_dict(volume.settle.state_dict(), strict=False)
    assert not unexpected and all(".time." in name for name in missing)


def averaged(net: MotionPrior, recipe: dict[str, Any], average: dict[str, Tensor]) -> MotionPrior:
    """The network of averaged weights."""
    other = build(recipe | {"bfloat16": False})
    other.load_state_dict(average)
    other.train(net.training)
    return other.eval()


def clips(bank: captures.Bank, recipe: dict[str, Any], sources: Sources, g: torch.Generator) -> rigs.Scene:
    """Imagine clips of people whose limbs are hidden now and then, in worlds that are a little tilted."""
    count, frames = recipe["views"][int(torch.randint(0, len(recipe["views"]), (1,), generator=g))], recipe["frames"]
    size = max(1, recipe["view_frames"] // (count * frames))
    people = captures.sample_people(bank, size, frames, g, parts=False)
    batch = tilted(rigs.film(people, count, g, *sources.draw(g)), g, frames)
    gone = covered(size, frames, g, recipe["covered"]).flatten(0, 1)
    return batch._replace(views=batch.views._replace(score=batch.views.score * ~gone[:, None]))


def covered(size: int, frames: int, g: torch.Generator, share: float) -> Tensor:
    """(B, T, 25) true where a limb is hidden for a run of frames, in a share of the clips."""
    limbs = rigs.hidden(size, 25, share, g)
    at = torch.arange(frames)
    first = torch.randint(-frames // 2, frames, (size, 1), generator=g)
    long = torch.randint(1, frames + 1, (size, 1), generator=g)
    return limbs[:, None] & ((at >= first) & (at < first + long))[..., None]


def losses(net: MotionPrior, trust: ViewTrust, batch: rigs.Scene, frames: int) -> Tensor:
    """(2,) error of the places in units of 5 cm, and honesty of expected errors."""
    with torch.no_grad():
        trusted = trust.eval()(batch.views)
    return torch.stack(settled_terms(net(batch.views, trusted, frames), batch.truth, _FAR))


def test(bank: captures.Bank, name: tuple[int, float], *, seed: int = 7) -> rigs.Scene:
    """Clips of people left out before so many cameras, a limb hidden in so large a share, as the benches have them."""
    g = torch.Generator().manual_seed(seed)
    people = captures.sample_people(bank, 2 * _CHUNK, _FRAMES, g, parts=False, augment=False)
    return rigs.film(people, name[0], g, rigs.DETECTOR, replace(rigs.RIG, hidden=name[1]))


@torch.no_grad()
def report(
    net: MotionPrior, trust: ViewTrust, tests: dict[tuple[int, float], rigs.Scene]
) -> dict[str, dict[str, float]]:
    """Mean errors in mm of joints that two views see, one, or none, and the share that was expected."""
    out = {}
    for (count, hidden), batch in tests.items():
        size = _CHUNK * _FRAMES
        parts = [rigs.part(batch, slice(start, start + size)).views for start in range(0, len(batch.truth), size)]
        found = [motion_prior.place(net, trust, part, _FRAMES)[0] for part in parts]
        miss = (torch.cat([one.points for one in found]) - batch.truth).norm(dim=-1)
        inside = miss <= torch.cat([one.error for one in found])
        seen = (batch.views.score > 0).sum(1)
        figures = {"mm": miss[seen >= 2], "one_view": miss[seen == 1], "no_view": miss[seen == 0]}
        figures = {name: round(1e3 * float(value.mean()), 1) for name, value in figures.items()}
        told = {"inside": inside[seen >= 2], "inside_unseen": inside[seen == 0]}
        figures |= {name: round(float(value.float().mean()), 3) for name, value in told.items()}
        out[f"{count}_views{'_hidden' if hidden else ''}"] = figures
    return out


if __name__ == "__main__":
    main()
