"""Train `nets/face_features.py` on films of rendered heads: who it is, and expression and turn of the head.

python -m inference.training.face_features inference/training/recipes/face_features.toml --films DIR --out FILE

A film is one person, told from all others by the cosine to a learnt direction with a margin that grows (Wang 2018).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..nets import face_features
from ..nets.face_features import FaceFeatures, FeaturesConfig
from .algebraic import save_weights
from .lifter import schedule
from .reenactment import Bank, load, mirrored
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job

Array = np.ndarray
_SCALE, _MARGIN = 20.0, 0.2


def train(recipe: dict[str, Any], films: Path, run: Run) -> tuple[FaceFeatures, dict[str, float]]:
    """Train; gives the network and figures of people left out."""
    torch.manual_seed(recipe["seed"])
    bank, held = load(films / "films.npz"), load(films / "held_out.npz")
    net = FaceFeatures(FeaturesConfig(tuple(recipe["widths"]))).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    people = torch.nn.Parameter(torch.randn(len(bank.images), net.config.identity))
    optimiser = torch.optim.AdamW([*net.parameters(), people], recipe["lr"], weight_decay=1e-3)
    rng, began = np.random.default_rng(recipe["seed"]), time.monotonic()
    for step in run.each("train", range(recipe["steps"])):
        for group in optimiser.param_groups:
            group["lr"] = recipe["lr"] * schedule(step, recipe["steps"], 20, recipe["steps"] // 2)
        images, film, values = batch(bank, recipe["batch"], rng)
        with torch.autocast("cpu", torch.bfloat16):
            who, how = net.train().heads(images)
        cosine = who.float() @ functional.normalize(people, dim=1).t()
        margin = _MARGIN * min(1.0, 2 * step / recipe["steps"])
        cosine = cosine - margin * functional.one_hot(film, len(people))
        named = functional.cross_entropy(_SCALE * cosine, film)
        read = (how.float() - values).square().sum(1).mean()
        optimiser.zero_grad()
        (named + recipe["read"] * read).backward()
        optimiser.step()
        if step % 50 == 49:
            pace = 1e3 * (time.monotonic() - began) / (step + 1)
            LOG.info("step %d who %.3f how %.3f, %.0f ms", step + 1, float(named), float(read), pace)
    return net.eval(), measure(net.eval(), held)


def batch(bank: Bank, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 3, S, S) before black, mostly, which film (B,) each is of, and coefficients (B, 58)."""
    film, frame = rng.integers(len(bank.images), size=count), rng.integers(bank.images.shape[1], size=count)
    images, values = bank.images[film, frame].astype(np.float32) / 255, bank.coefficients[film, frame]
    dim = np.exp(rng.normal(size=(count, 1, 1, 1)) * 0.1 + rng.normal(size=(count, 1, 1, 3)) * 0.03).astype(np.float32)
    images = images * dim
    flip = rng.random(count) < 0.5
    images[flip] = images[flip][:, :, ::-1]
    values = np.where(flip[:, None], mirrored(values), values)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).clamp(0, 1)
    return tensor, torch.from_numpy(film), torch.from_numpy(values)


@torch.no_grad()
def measure(net: FaceFeatures, held: Bank) -> dict[str, float]:
    """Of people left out, who were filmed twice: how often the nearest frame of other films is of the same person."""
    films, frames = held.images.shape[:2]
    images = torch.from_numpy(held.images[:, ::4].reshape(-1, *held.images.shape[2:])).permute(0, 3, 1, 2).float() / 255
    who = torch.cat([net.heads(part)[0] for part in images.split(64)])
    film = torch.arange(films).repeat_interleave(len(range(0, frames, 4)))
    near = who @ who.t() - 2.0 * (film[:, None] == film[None]).float()
    found = film[near.argmax(1)]
    return {"same_person": round(float((found // 2 == film // 2).float().mean()), 3)}


def main() -> None:
    """Train and write."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--films", type=Path, required=True)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    recipe = read_recipe(options.recipe, options.set)
    net, figures = train(recipe, options.films, run)
    LOG.info("left out: %s", figures)
    save_weights(options.out, net, face_features, recipe, {**figures, "steps": recipe["steps"]})


if __name__ == "__main__":
    main()
