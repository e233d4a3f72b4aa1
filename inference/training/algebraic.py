"""Train the confidences of the algebraic method (`nets/view_trust.py`) on imagined captures of many cameras.

python -m inference.training.algebraic inference/training/recipes/algebraic.toml --data DIR --out DIR

With --detections FILE (what `training.studio.detections` writes) some bodies get a real detector's errors. It
resumes from the checkpoint in `--out` and stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..nets import view_trust
from ..nets.view_trust import ViewTrust, ViewTrustConfig
from . import captures, motions, observed, rigs
from .lifter import load_bodies, schedule
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job

INSIDE = 0.6827  # share of errors within one sigma
CALIBRATED = (2, 3, 4, 6, 8)  # cameras of the captures on which expected errors are scaled, of people left out
_FAR = 0.2  # metres; errors beyond count little more


def main() -> None:
    """Read the recipe and train."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--detections", type=Path, help="what a detector saw of rendered people")
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    train(read_recipe(options.recipe, options.set), options.data, run, options.detections)


def train(recipe: dict[str, Any], data: Path, run: Run, detections: Path | None = None) -> None:
    """Train for the recipe's steps, or go on where a run was stopped."""
    torch.manual_seed(recipe["seed"])
    net = ViewTrust(ViewTrustConfig(**recipe["net"]))
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe["lr"], weight_decay=recipe["weight_decay"])
    step = restore(run.out, net, optimiser)
    g = torch.Generator().manual_seed(recipe["seed"] + step)
    bodies = load_bodies(run.out, recipe["bodies"], recipe["seed"], data)
    bank = make_bank(data, bodies["train"], "train", recipe)
    held_out = make_bank(data, bodies["val"], "val", recipe)
    sources = Sources(recipe, detections)
    bench = (rigs.DETECTOR, rigs.RIG)
    tests = {count: scene(held_out, count, 256, torch.Generator().manual_seed(7), *bench) for count in (2, 4, 8)}
    began = saved = time.monotonic()
    running = torch.zeros(2)
    while run.goes_on(step, recipe["steps"]):
        count = recipe["views"][int(torch.randint(0, len(recipe["views"]), (1,), generator=g))]
        parts = step % recipe["whole_every"] == 0
        size = max(8, recipe["points"] // (count * (137 if parts else 25)))
        batch = scene(bank, count, size, g, *sources.draw(g), parts=parts)
        for group in optimiser.param_groups:
            group["lr"] = recipe["lr"] * schedule(step, recipe["steps"], recipe["warmup"], recipe["cooldown"])
        distance, honesty = losses(net.train(), batch)
        optimiser.zero_grad()
        (distance + recipe["honesty"] * honesty).backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if norm.isfinite():
            optimiser.step()
        running += torch.stack([distance, honesty]).detach()
        step += 1
        if step % recipe["log_every"] == 0:
            pace = 1e3 * (time.monotonic() - began) / recipe["log_every"]
            LOG.info("step %d loss %.4f honesty %.4f, %.0f ms", step, *(running / recipe["log_every"]).tolist(), pace)
            running.zero_()
            began = time.monotonic()
        if step % recipe["evaluate_every"] == 0 or step == recipe["steps"]:
            LOG.info("step %d %s", step, json.dumps({count: evaluate(net, test) for count, test in tests.items()}))
            began = time.monotonic()
        if time.monotonic() - saved > 180 or step == recipe["steps"]:
            checkpoint(run.out, step, net, optimiser)
            saved = time.monotonic()
    checkpoint(run.out, step, net, optimiser)
    with torch.no_grad():
        scenes = [scene(held_out, count, 96, g, *bench) for count in CALIBRATED]
        found = [(net.eval()(batch.views), batch.truth) for batch in scenes]
    rate(net.doubt, [((given.points - truth).norm(dim=-1), given.error) for given, truth in found])
    figures = {f"mm_{count}_views": evaluate(net, test)["ours"] for count, test in tests.items()}
    save_weights(run.out / "view_trust.safetensors", net, view_trust, recipe, {**figures, "steps": step})


def make_bank(data: Path, bodies: Any, split: str, recipe: dict[str, Any]) -> captures.Bank:
    """Everything captures of a split are drawn from."""
    clips = motions.load(data, split, bodies.rest_directions)
    return captures.bank(clips, bodies, np.random.default_rng(recipe["seed"]), hand_frames=recipe["hand_frames"])


class Sources:
    """What captures of a recipe err by: its `sources`, each with a share; `observed` are a real detector's errors.

    Args:
        frames: of a clip.
    """

    def __init__(self, recipe: dict[str, Any], detections: Path | None, frames: int = 1) -> None:
        sources = [s for s in recipe["sources"] if detections is not None or not s.get("observed")]
        self._shares = torch.tensor([float(source["share"]) for source in sources])
        real = None if detections is None else observed.load(detections, frames)
        self._sources = [
            (
                replace(rigs.DETECTOR, **source.get("errors", {})), replace(rigs.RIG, **source.get("rig", {})),
                real if source.get("observed") else None,
            )
            for source in sources
        ]  # fmt: skip

    def draw(self, g: torch.Generator) -> tuple[captures.Errors, rigs.RigErrors, observed.Observed | None]:
        """Choose one."""
        return self._sources[int(torch.multinomial(self._shares, 1, generator=g))]


def scene(  # noqa: PLR0913, PLR0917 - what a capture is made of
    bank: captures.Bank, count: int, size: int, g: torch.Generator, detector: captures.Errors, rig: rigs.RigErrors,
    real: observed.Observed | None = None, *, parts: bool = True, augment: bool = True,
) -> rigs.Scene:  # fmt: skip
    """Imagine `size` frames of `count` cameras."""
    people = captures.sample_people(bank, size, 1, g, parts=parts, augment=augment)[:, 0]
    return rigs.film(people, count, g, detector, rig, real)


def losses(net: ViewTrust, batch: rigs.Scene) -> tuple[Tensor, Tensor]:
    """Mean error in units of 5 cm over points that two views see, far ones counting little; and how honest it is."""
    out = net(batch.views)
    known = (batch.views.score > 0).sum(1) >= 2
    total = torch.zeros(())
    for points in out.rounds:
        error = ((points - batch.truth).square().sum(-1) + 1e-5).sqrt()[known]
        total = total + soft_error(error).mean() / 0.05
    missed = ((out.rounds[-1] - batch.truth).norm(dim=-1) + 1e-4)[known].detach().log()
    short = missed - out.error[known].log()
    return total / len(out.rounds), torch.maximum(INSIDE * short, (INSIDE - 1) * short).mean()


def soft_error(error: Tensor, far: float = _FAR) -> Tensor:
    """Errors in metres that grow like a logarithm beyond `far`."""
    return torch.where(error > far, far * (1 + (error / far).log()), error)


@torch.no_grad()
def evaluate(net: ViewTrust, batch: rigs.Scene) -> dict[str, float]:
    """Mean errors in mm, of points of body and parts that two views see, beside the plain ways."""
    out = net.eval()(batch.views)
    known = (batch.views.score > 0).sum(1) >= 2
    seen = (batch.views.score > 0).float()
    ways = {
        "dlt": view_trust.solve(batch.views, seen)[0], "scored": view_trust.solve(batch.views, batch.views.score)[0],
        "robust": view_trust.meet(batch.views), "ours": out.points,
    }  # fmt: skip
    miss = {name: (points - batch.truth).norm(dim=-1) for name, points in ways.items()}
    figures = {name: 1e3 * float(m[:, :25][known[:, :25]].clamp_max(2.0).mean()) for name, m in miss.items()}
    figures["ours_median"] = 1e3 * float(miss["ours"][:, :25][known[:, :25]].median())
    figures["ours_parts"] = 1e3 * float(miss["ours"][:, 25:][known[:, 25:]].clamp_max(2.0).mean())
    figures["robust_parts"] = 1e3 * float(miss["robust"][:, 25:][known[:, 25:]].clamp_max(2.0).mean())
    figures["inside_percent"] = 100 * float((miss["ours"] <= out.error)[known].float().mean())
    return {name: round(value, 2) for name, value in figures.items()}


def rate(doubt: torch.nn.Sequential, found: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Scale expected errors so that 68 % of those that were found are smaller: pairs of found and expected ones."""
    ratio = torch.cat([(missed / expected).flatten() for missed, expected in found])
    last = doubt[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.bias.add_(ratio[ratio.isfinite()].quantile(INSIDE).log())


def checkpoint(out: Path, step: int, net: torch.nn.Module, *optimisers: torch.optim.Optimizer) -> None:
    """Write everything a later run needs, whole or not at all."""
    tensors = {f"net.{name}": value.contiguous() for name, value in net.state_dict().items()}
    for which, optimiser in enumerate(optimisers):
        for index, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimiser{which or ''}.{index}.{name}"] = torch.as_tensor(value).contiguous().clone()
    partial = out / "checkpoint.partial"
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(out / "checkpoint.safetensors")


def restore(out: Path, net: torch.nn.Module, *optimisers: torch.optim.Optimizer) -> int:
    """Take up a checkpoint; gives its step, 0 where there is none."""
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
    for which, optimiser in enumerate(optimisers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            prefix, *rest = name.split(".")
            if prefix == f"optimiser{which or ''}":
                state.setdefault(int(rest[0]), {})[rest[1]] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return step


def save_weights(path: Path, net: Any, module: Any, recipe: dict[str, Any], figures: dict[str, float]) -> None:
    """Write what `nets.load` reads, by the `module` that builds the network."""
    metadata = {
        "net": module.NAME, "schema": str(module.SCHEMA), "config": json.dumps(net.config.to_dict()),
        "recipe": json.dumps(recipe), "metrics": json.dumps(figures),
    }  # fmt: skip
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path, metadata=metadata)


if __name__ == "__main__":
    main()
