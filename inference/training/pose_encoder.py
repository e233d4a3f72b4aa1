"""Train the pose encoder of a reenactment network and the head that reads it, and tell a generator of them.

python -m inference.training.pose_encoder RECIPE.toml --films DIR --begin FILE --out DIR [--set KEY=VALUE ...]

A picture costs the encoder a small part of what it costs to make one, and expressions want many. The descriptor learns
to say linearly what the pose is and where in the crop the face lies, the same of twins (see `training.reenactment`).
What makes pictures is taken over from `--begin`, and with `goes_on` the encoder, too, begins as that network's;
`begun` is its share in the mean of what it was and what it became, which is what is saved. With
`contrast` twins are to be found among all other samples by their descriptors, wherever they lie in their crops, without
the last few numbers, which say that. It resumes from the checkpoint in `--out`; `weigh_pose` and
`training.reenactment` follow.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import nets
from ..nets.latent_pose import LatentPose, LatentPoseConfig
from . import script
from .algebraic import checkpoint, restore
from .lifter import schedule
from .muon import adam_and_muon, scale_rates
from .reenactment import (
    COEFFICIENTS,
    LOOKED_AT,
    Bank,
    Batch,
    Drawing,
    apart,
    draw,
    follow,
    importance,
    load,
    load_all,
    r2_of_poses,
    save,
    take_over,
)  # fmt: skip
from .script import LOG

_PLACE = 3  # middle and size of the face in the crop
_OF_PLACE = 8  # last numbers of the descriptor, by which twins are not compared where they lie at places of their own


class Poses(nn.Module):
    """What learns, its running average, and what is linear in the descriptor: the pose and the place in the crop."""

    def __init__(self, config: LatentPoseConfig) -> None:
        super().__init__()
        net = LatentPose(config)
        self.encoder = net.embedder.pose_encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.reader = net.reader
        self.linear = nn.Linear(config.pose, COEFFICIENTS + _PLACE)
        self.sharpness = nn.Parameter(torch.tensor(3.0))  # log of what multiplies distances over spread
        self.average = copy.deepcopy(nn.ModuleDict({"encoder": self.encoder, "reader": self.reader}))

    @torch.no_grad()
    def begin(self, learnt: LatentPose) -> None:
        """Begin with another network's encoder and head; of fewer, larger pixels where it reads smaller pictures."""
        theirs = {f"encoder.{name}": value for name, value in learnt.embedder.pose_encoder.state_dict().items()}
        theirs |= {f"reader.{name}": value for name, value in learnt.reader.state_dict().items()}
        mine = {name: value for name, value in self.state_dict().items() if name in theirs}
        first, last = "encoder.features.0.0.weight", "encoder.head.2."
        times = mine[first].shape[1] // theirs[first].shape[1]
        theirs[first] = theirs[first].repeat_interleave(times, 1) / times
        read = theirs["reader.0.weight"]
        mine["reader.0.weight"].zero_()[:, : read.shape[1]] = read
        for name, value in theirs.items():
            if name.startswith(last):
                mine[name][: len(value)] = value
            elif name != "reader.0.weight":
                mine[name].copy_(value)
        self.linear.weight.zero_()
        self.average.load_state_dict(_followed(self).state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """(B, D) of drivers (B, 3, S, S)."""
        with torch.autocast(images.device.type, torch.bfloat16):
            found = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return found.float()


def train(recipe: dict[str, Any], films: Path, learnt: LatentPose, job: script.Run) -> LatentPose:
    """Train, or go on; gives a network with the average of the encoder and all else from `learnt`."""
    torch.manual_seed(recipe["seed"])
    bank, held = load_all(films), load(films / "held_out.npz")
    poses = Poses(LatentPoseConfig(**recipe["net"]))
    optimisers = adam_and_muon(
        poses, _is_inside, lr=recipe["lr"], muon_lr=recipe["muon_lr"], decay=recipe["decay"],
        muon_decay=recipe["decay"],
    )  # fmt: skip
    if recipe.get("goes_on"):
        poses.begin(learnt)
    began_as = copy.deepcopy(poses.average)
    step, steps = restore(job.out, poses, *optimisers), recipe["steps"]
    rng, how = np.random.default_rng([recipe["seed"], step]), Drawing.of(recipe)
    began, saved, running = time.process_time(), time.monotonic(), np.zeros(4)
    while job.goes_on(step, steps):
        scale_rates(optimisers, schedule(step, steps, recipe["warmup"], recipe["cooldown"]))
        running += _step(poses.train(), draw(bank, recipe["batch"] // 2, how, rng), recipe, optimisers)
        follow(poses.average, _followed(poses), min(recipe["average"], (1 + step) / (10 + step)))
        step += 1
        if step % 100 == 0:
            pace = 10 * (time.process_time() - began)
            text = "step %d linear %.3f, reader %.3f, twins %.4f, contrast %.3f, %.0f ms"
            LOG.info(text, step, *running / 100, pace)
            began, running = time.process_time(), np.zeros(4)
        if time.monotonic() - saved > 60 * recipe["checkpoint_minutes"]:
            checkpoint(job.out, step, poses, *optimisers)
            saved = time.monotonic()
        if step % recipe["measured_every"] == 0:
            finish(between(began_as, poses.average, recipe), recipe, (bank, held), learnt, job.out)
    checkpoint(job.out, step, poses, *optimisers)
    return finish(between(began_as, poses.average, recipe), recipe, (bank, held), learnt, job.out)


def _is_inside(name: str, value: Tensor) -> bool:
    """Whether it is a matrix between the pictures and the descriptor."""
    return (
        name.startswith("encoder.")
        and value.ndim > 1
        and name not in ("encoder.features.0.0.weight", "encoder.head.2.weight")
    )


def _followed(poses: Poses) -> nn.Module:
    return nn.ModuleDict({"encoder": poses.encoder, "reader": poses.reader})


def _step(
    poses: Poses, batch: Batch, recipe: dict[str, Any], optimisers: tuple[torch.optim.Optimizer, ...]
) -> np.ndarray:  # fmt: skip
    """Make one step; gives the losses."""
    found, weight = poses(batch.driver), importance().clamp_min(1.0)
    truth = torch.cat([batch.coefficients, place_of(batch.landmarks)], 1)
    weights = torch.cat([weight, torch.ones(_PLACE)])
    linear = ((poses.linear(found) - truth) * weights).square().sum(1).mean()
    read = ((poses.reader(found) - batch.coefficients) * weight).square().sum(1).mean()
    told = found[:, :-_OF_PLACE] if recipe.get("apart") else found
    unlike, lost = apart(told), missed(told, poses.sharpness)
    poses.zero_grad()
    (linear + read + recipe["twins"] * unlike + recipe.get("contrast", 0.0) * lost).backward()
    nn.utils.clip_grad_norm_(poses.parameters(), 5.0)
    for optimiser in optimisers:
        optimiser.step()
    return np.array([float(value.detach()) for value in (linear, read, unlike, lost)])


def missed(poses: Tensor, sharpness: Tensor) -> Tensor:
    """Cross-entropy of finding each one's twin among all, by distance: people (B, D), then their twins."""
    spread = poses.var(0).sum().detach().clamp_min(1e-9)
    near = -sharpness.clamp(0.0, 5.0).exp() * torch.cdist(poses, poses).square() / spread
    near = near.masked_fill(torch.eye(len(poses), dtype=torch.bool), -torch.inf)
    return nn.functional.cross_entropy(near, torch.arange(len(poses)).roll(len(poses) // 2))


def place_of(landmarks: Tensor) -> Tensor:
    """(B, 3) middle and size of faces in their crop, of about unit spread: landmarks (B, 70, 2)."""
    middle = landmarks.mean(1, keepdim=True)
    size = (landmarks - middle).square().sum(2).mean(1, keepdim=True).sqrt()
    return 10 * torch.cat([middle[:, 0] - 0.5, size - 0.2], 1)


@torch.no_grad()
def between(first: nn.ModuleDict, last: nn.ModuleDict, recipe: dict[str, Any]) -> nn.ModuleDict:
    """The mean of what an encoder and its reader began as and what they are."""
    mean = copy.deepcopy(last)
    torch._foreach_lerp_(list(mean.parameters()), list(first.parameters()), recipe.get("begun", 0.0))
    return mean


def read_again(net: LatentPose, bank: Bank, recipe: dict[str, Any]) -> None:
    """Let the reader alone go on for some steps: a mean of two does not read what the mean of two encoders says."""
    rng, steps = np.random.default_rng([recipe["seed"], 1]), recipe.get("read_again", 0)
    optimiser = torch.optim.Adam(net.reader.parameters(), recipe["lr"])
    for step in range(steps):
        batch = draw(bank, recipe["batch"] // 2, Drawing.of(recipe), rng)
        with torch.no_grad():
            found = net.embedder.pose(batch.told(net))
        for group in optimiser.param_groups:
            group["lr"] = recipe["lr"] * (steps - step) / steps
        optimiser.zero_grad()
        with torch.enable_grad():
            off = (net.reader(found) - batch.coefficients) * importance().clamp_min(1.0)
            off.square().sum(1).mean().backward()
        optimiser.step()


@torch.no_grad()
def finish(
    learnt_poses: nn.ModuleDict, recipe: dict[str, Any], banks: tuple[Bank, Bank], learnt: LatentPose, out: Path
) -> LatentPose:  # fmt: skip
    """Put encoder and reader into a network, tell the generator of it, measure and save it."""
    bank, held = banks
    net = LatentPose(LatentPoseConfig(**recipe["net"])).eval()
    net.embedder.pose_encoder.load_state_dict(learnt_poses["encoder"].state_dict())
    net.reader.load_state_dict(learnt_poses["reader"].state_dict())
    drawn = draw(bank, LOOKED_AT // 2, Drawing(0), np.random.default_rng(3))
    take_over(net, learnt, drawn.driver, drawn.told(net))
    read_again(net, bank, recipe)
    LOG.info("left out: %s", json.dumps(figures := r2_of_poses(net, held)))
    save(out / "reenactment.safetensors", net, recipe, figures)
    return net


def main() -> None:
    """Read the recipe and train."""
    parser = script.make_parser(__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--begin", type=Path, required=True, help="the weights of a network that makes pictures")
    script.add_changes(parser)
    script.work_as_job(parser, _work)


def _work(options: argparse.Namespace, job: script.Run) -> None:
    learnt = nets.load(options.begin)
    assert isinstance(learnt, LatentPose)
    train(script.read_recipe(options.recipe, options.set), options.films, learnt.eval(), job)


if __name__ == "__main__":
    main()
