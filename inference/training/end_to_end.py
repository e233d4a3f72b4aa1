"""Train the original networks of learnable triangulation end to end, from pictures.

python -m inference.training.end_to_end RECIPE --out DIR [--data DIR] [--backbone FILE] [--algebraic FILE]

The recipe names the network and where its pictures come from (`multiview.py`); `--data` stands before relative paths.
`--backbone` gives a trained PoseResNet or network to begin with; with `--algebraic` the volumetric network's rough
pelvis is what a trained algebraic network finds, as published, and not the truth spoiled by `pelvis_noise_mm`. The run
goes on from the checkpoint in `--out`, and stops when a file `cancel` appears there.

Losses (Iskakov 2019 and its released configuration): algebraic, the squared error in centimetres that grows slowly
beyond 20 cm; volumetric, the absolute error in centimetres and a hundredth of the volume's cross-entropy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import nets
from ..nets.pose_resnet import PoseResNetConfig
from ..nets.triangulation import (
    AlgebraicConfig,
    AlgebraicModule,
    AlgebraicNet,
    VolumetricConfig,
    VolumetricModule,
    VolumetricNet,
    coordinate_loss,
    volume_loss,
)
from ..nets.v2v import V2VConfig
from ..protocol.errors import InputError
from .algebraic import checkpoint, restore, save_weights
from .multiview import Batch, Human36M, Panoptic, Rendered, Source, collate
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job

Net = AlgebraicNet | VolumetricNet
_CM = 0.1  # of a millimetre
_CROSS_ENTROPY = 0.01
_ROOT = 6  # Human3.6M's pelvis


def main() -> None:
    """Read the recipe and train."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--algebraic", type=Path)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    recipe = read_recipe(options.recipe, options.set)
    source, test = (open_source(recipe[name], options.data) if name in recipe else None for name in ("train", "test"))
    assert source is not None, "a recipe names its pictures under [train]"
    net = build(recipe)
    if options.backbone is not None:
        take_backbone(net, options.backbone)
    algebraic = None if options.algebraic is None else nets.load(options.algebraic)
    train(recipe, net, source, run, test=test, algebraic=algebraic)


def build(recipe: dict[str, Any]) -> Net:
    """Build the network of a recipe with fresh weights."""
    torch.manual_seed(recipe["seed"])
    shape = dict(recipe["backbone"])
    backbone = PoseResNetConfig(**{**shape, "deconv": tuple(shape.get("deconv", (256, 256, 256)))})
    options = dict(recipe.get("net", {}))
    if recipe["method"] == "algebraic":
        return AlgebraicNet(AlgebraicConfig(backbone=backbone, **options))
    volume = dict(recipe["volume"])
    volume = V2VConfig(**{**volume, "widths": tuple(volume["widths"])})
    return VolumetricNet(VolumetricConfig(backbone=backbone, volume=volume, **options))


def open_source(told: dict[str, Any], data: Path) -> Source:
    """Open what a recipe's table tells: its `kind`, and the arguments of that class."""
    told = dict(told)
    kind = told.pop("kind")
    if kind == "rendered":
        return Rendered(data, **told)
    root = data / told.pop("root")
    if kind == "human36m":
        return Human36M(root, data / told.pop("labels"), **told)
    if kind == "panoptic":
        return Panoptic(root, told.pop("sequences"), told.pop("cameras"), **told)
    raise InputError(f"The recipe's pictures are of kind {kind!r}; human36m, panoptic and rendered are known.")


def take_backbone(net: Net, path: Path) -> None:
    """Begin with the backbone of a weights file; heads it lacks stay fresh.

    Raises:
        InputError: nothing in the file fits.
    """
    given = nets.load(path)
    state = getattr(given, "backbone", given).state_dict()
    mine = net.backbone.state_dict()
    fitting = {name: value for name, value in state.items() if name in mine and value.shape == mine[name].shape}
    if not fitting:
        raise InputError(f"{path.name} holds no backbone of {net.config.backbone.layers} layers.")
    net.backbone.load_state_dict({**mine, **fitting})


def optimiser(net: Net, recipe: dict[str, Any]) -> torch.optim.Adam:
    """Adam at one rate; a volumetric network's own parts at `lr_volume`, its unused last layer at none."""
    groups: list[dict[str, Any]] = [{"params": [w for w in net.backbone.parameters() if w.requires_grad]}]
    if isinstance(net, VolumetricNet):
        own = [*net.process_features.parameters(), *net.volume_net.parameters()]
        groups.append({"params": own, "lr": recipe["lr_volume"]})
    return torch.optim.Adam(groups, lr=recipe["lr"])


def train(
    recipe: dict[str, Any], net: Net, source: Source, run: Run, *, test: Source | None = None,
    algebraic: nn.Module | None = None,
) -> Net:  # fmt: skip
    """Train for the recipe's steps, or go on where a run was stopped; gives the network in evaluation mode."""
    run.out.mkdir(parents=True, exist_ok=True)
    adam = optimiser(net, recipe)
    rates = [group["lr"] for group in adam.param_groups]
    step = restore(run.out, net, adam)
    generator = torch.Generator().manual_seed(recipe["seed"] + step)
    torch.manual_seed(recipe["seed"] + step)  # grids of volumes turn by the global numbers
    batches = _batches(source, recipe, generator)
    saved = began = time.monotonic()
    running = 0.0
    module = AlgebraicModule if isinstance(net, AlgebraicNet) else VolumetricModule
    while run.goes_on(step, recipe["steps"]):
        net.train()
        batch = next(batches)
        rate = min(1.0, (recipe["steps"] - step) / max(recipe.get("cooldown", 0), 1))
        for group, lr in zip(adam.param_groups, rates, strict=True):
            group["lr"] = lr * rate
        adam.zero_grad()
        loss = loss_of(net, batch, rough_pelvis(batch, recipe, generator, algebraic), soft=recipe.get("soft", True))
        loss.backward()
        if torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.get("clip", float("inf"))).isfinite():
            adam.step()
        step += 1
        running += float(loss.detach())
        if step % recipe["log_every"] == 0:
            pace = (time.monotonic() - began) / recipe["log_every"]
            LOG.info("step %d loss %.4f, %.2f s a step", step, running / recipe["log_every"], pace)
            running, began = 0.0, time.monotonic()
        if step % recipe["evaluate_every"] == 0 or step == recipe["steps"]:
            LOG.info("step %d %s", step, json.dumps(_figures(net, recipe, source, test)))
            began = time.monotonic()
        if time.monotonic() - saved > recipe.get("save_every_s", 180):
            checkpoint(run.out, step, net, adam)
            saved = time.monotonic()
    checkpoint(run.out, step, net, adam)
    figures = {**_figures(net, recipe, source, test), "steps": float(step)}
    save_weights(run.out / f"{module.NAME}.safetensors", net, module, recipe, figures)
    return net.eval()


def _batches(source: Source, recipe: dict[str, Any], generator: torch.Generator) -> Iterator[Batch]:
    """Yield batches of a shuffled source, again and again; with `views` = [least, most], of a random number of them."""
    size, bgr = min(recipe["batch"], len(source)), bool(recipe.get("bgr", False))
    while True:
        order = torch.randperm(len(source), generator=generator).tolist()
        for start in range(0, len(order) - size + 1, size):
            batch = collate(source, order[start : start + size], bgr=bgr)
            yield _some_views(batch, recipe.get("views"), generator)


def _some_views(batch: Batch, span: list[int] | None, generator: torch.Generator) -> Batch:
    if span is None:
        return batch
    views = batch.images.shape[1]
    count = min(int(torch.randint(span[0], span[1] + 1, (1,), generator=generator)), views)
    kept = torch.randperm(views, generator=generator)[:count].sort().values
    return batch._replace(images=batch.images[:, kept], projections=batch.projections[:, kept])


def rough_pelvis(
    batch: Batch, recipe: dict[str, Any], generator: torch.Generator, algebraic: nn.Module | None = None
) -> Tensor:
    """(B, 3) mm, about where the person is: as an algebraic network finds it, or the truth spoiled."""
    noise = float(recipe.get("pelvis_noise_mm", 0.0))
    spoiled = batch.pelvis + noise * torch.randn(batch.pelvis.shape, generator=generator)
    if algebraic is None:
        return spoiled
    assert isinstance(algebraic, AlgebraicNet)
    with torch.no_grad():
        found = algebraic.eval()(batch.images, batch.projections).joints
    return found[:, recipe.get("pelvis_joints", [_ROOT])].mean(1)


def predict(net: Net, batch: Batch, pelvis: Tensor) -> Tensor:
    """(B, J, 3) mm."""
    if isinstance(net, AlgebraicNet):
        return net(batch.images, batch.projections).joints
    return net(batch.images, batch.projections, pelvis).joints


def loss_of(net: Net, batch: Batch, pelvis: Tensor, *, soft: bool = True) -> Tensor:
    """Loss of a batch, as published; not `soft`: the algebraic one is absolute, for a network that knows nothing."""
    valid = batch.valid.float()
    if isinstance(net, AlgebraicNet):
        found = net(batch.images, batch.projections).joints
        return coordinate_loss(found, batch.joints, valid) if soft else absolute_loss(found, batch.joints, valid)
    out = net(batch.images, batch.projections, pelvis)
    joints, truth = out.joints, batch.joints
    if batch.images.shape[1] == 1:  # one view does not say how far away: all but the root are taken from the root
        joints, truth = (_from_root(points, _ROOT) for points in (joints, truth))
    return absolute_loss(joints, truth, valid) + _CROSS_ENTROPY * volume_loss(
        out.volumes, out.grid, batch.joints, valid
    )


def absolute_loss(joints: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error in centimetres of the coordinates (B, J, 3) mm of joints with valid (B, J)."""
    return (((joints - truth) * _CM).abs() * valid[..., None]).sum() / (3 * valid.sum().clamp_min(1))


def _from_root(points: Tensor, root: int) -> Tensor:
    others = torch.arange(points.shape[1], device=points.device) != root
    return torch.where(others[None, :, None], points - points[:, root : root + 1], points)


def _figures(net: Net, recipe: dict[str, Any], source: Source, test: Source | None) -> dict[str, float]:
    figures = {"train_mm": evaluate(net, source, recipe)}
    return figures if test is None else {**figures, "test_mm": evaluate(net, test, recipe)}


@torch.no_grad()
def evaluate(net: Net, source: Source, recipe: dict[str, Any], *, most: int = 64) -> float:
    """Mean distance in mm of the first `most` examples' valid joints from the truth, in evaluation mode."""
    net.eval()
    generator = torch.Generator().manual_seed(0)
    errors = []
    for start in range(0, min(len(source), most), recipe["batch"]):
        rows = range(start, min(start + recipe["batch"], len(source), most))
        batch = collate(source, rows, bgr=bool(recipe.get("bgr", False)))
        found = predict(net, batch, rough_pelvis(batch, recipe, generator))
        errors.append((found - batch.joints).norm(dim=-1)[batch.valid])
    return float(torch.cat(errors).mean())


if __name__ == "__main__":
    main()
