"""Train the lifter.

    python -m inference.training.lifter RECIPE.toml --data DIR --out DIR

One flat script. It makes bodies (once), reads motions, then loops: imagine a batch, step, and now and then measure on
people left out, write a checkpoint (safetensors, resumed from when it exists) and look for a file `cancel` in --out.
With --detections (what `training.studio.detections` writes) some windows get a real detector's errors. A recipe that
names another one in `after` goes on from that one's weights, --start; without whole people in its batches
(`batch_whole`) it leaves hands and face as they are.
The result is `lifter.safetensors` in --out: the running average of the weights, ready for `nets.load`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.skeletons import COCO_17_IN_BODY_25
from ..nets import lifter as nets
from ..nets.mixer import Mixer
from ..protocol.errors import RequestError
from . import captures, motions, observed, surface
from .muon import Muon
from .script import LOG, Run, add_recipe, make_parser, read_recipe, work_as_job

ICT = Path("heads/ict_facekit_linear.npz")


def main() -> None:
    """Read the arguments, train, write the weights."""
    parser = make_parser(__doc__)
    add_recipe(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds motion/ and heads/")
    parser.add_argument("--start", type=Path, help="weights of the recipe that this one follows")
    parser.add_argument("--detections", type=Path, help="what a detector saw of rendered people")
    parser.add_argument("--device", default="cpu")
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    recipe = read_recipe(options.recipe, options.set)
    if "after" in recipe and options.start is None:
        message = f"{options.recipe.name} goes on from the weights of {recipe['after']}"
        raise RequestError(message, "Name them with --start.", field="start")
    seen = options.detections and observed.load(options.detections, recipe["net"]["window"])
    train(recipe, options.data, run, torch.device(options.device), start=options.start, seen=seen)


def train(
    recipe: dict[str, Any],
    data: Path,
    run: Run,
    device: torch.device,
    *,
    start: Path | None = None,
    seen: observed.Observed | None = None,
) -> None:
    """Follow a recipe; see the module's text."""
    seed, steps = recipe["seed"], recipe["steps"]
    torch.manual_seed(seed)
    net = nets.Lifter(nets.LifterConfig(**recipe["net"])).to(device)
    average = nets.Lifter(net.config).to(device)
    optimisers = choose_optimisers(net, recipe)
    step = resume(run.out, net, average, optimisers)
    generator = torch.Generator().manual_seed(seed + step)

    bodies = load_bodies(run.out, recipe["bodies"], seed, data)
    clips = motions.load(data, "train", bodies["train"].rest_directions)
    bank = captures.bank(clips, bodies["train"], np.random.default_rng(seed), hand_frames=recipe["hand_frames"])
    errors = captures.Errors(**recipe["errors"])
    held_out = evaluation_sets(data, bodies["val"], net.config.window, recipe["evaluation_windows"], split="val")
    if step == 0:
        if start is None:
            measure_statistics(net, bank, errors, generator, recipe["statistics_batches"])
        else:
            begin(net, start)
        average.load_state_dict(net.state_dict())
    LOG.info("%d frames of %d clips; %s; step %d of %d", len(clips.root), len(clips.names), net.config, step, steps)

    queue: list[list[captures.Batch]] = []
    began = saved = time.monotonic()
    running = torch.zeros(4)
    while run.goes_on(step, steps):
        if not queue:
            # Hands and face cost most of a capture, and learn fastest: most windows show the body alone.
            window, films = net.config.window, range(recipe["films"])
            whole = captures.sample_people(bank, recipe["batch_whole"], window, generator)
            body = captures.sample_people(bank, recipe["batch_body"], window, generator, parts=False)
            queue = [[captures.film(p, generator, errors, observed=seen) for p in (whole, body)] for _ in films]
        whole_batch, body_batch = (captures.Batch(*(t.to(device) for t in batch)) for batch in queue.pop())
        losses = loss_terms(net.train(), whole_batch, body_batch, bfloat16=recipe["bfloat16"])
        net.zero_grad()
        (losses * losses.new_tensor(recipe["loss_weights"])).sum().backward()
        torch.nn.utils.clip_grad_norm_(optimisers[0].param_groups[0]["params"], 1.0)
        rate = schedule(step, steps, recipe["warmup"], recipe["cooldown"])
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = optimiser.defaults["lr"] * rate
            optimiser.step()
        follow(average, net, min(recipe["average"], (1 + step) / (10 + step)))
        running += losses.detach().cpu()
        step += 1
        if step % recipe["log_every"] == 0:
            means = [1e3 * value for value in (running / recipe["log_every"]).tolist()]
            pace = 1e3 * (time.monotonic() - began) / recipe["log_every"]
            text = "step %d body %.1f hand %.1f face %.1f mm, fit of errors %.0f, %.0f ms a step"
            LOG.info(text, step, *means, pace)
            running.zero_()
            began = time.monotonic()
        if step % recipe["evaluate_every"] == 0 or step == steps:
            LOG.info("step %d %s", step, json.dumps(evaluate(average, held_out, device)))
            began = time.monotonic()
        if time.monotonic() - saved > recipe["checkpoint_minutes"] * 60 or step == steps:
            checkpoint(run.out, step, net, average, optimisers)
            saved = time.monotonic()
    checkpoint(run.out, step, net, average, optimisers)
    figures = evaluate(average, held_out, device)
    save_weights(run.out / "lifter.safetensors", average, recipe, figures | {"steps": step})
    LOG.info("stopped at step %d: %s", step, json.dumps(figures))


def choose_optimisers(net: nets.Lifter, recipe: dict[str, Any]) -> list[torch.optim.Optimizer]:
    """AdamW; and Muon for the matrices of the mixer, if there is one."""
    matrices = net.mixer.matrices() if isinstance(net.mixer, Mixer) else []
    chosen = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in net.parameters() if id(parameter) not in chosen]
    adam = torch.optim.AdamW(others, lr=recipe["lr"], betas=(0.9, 0.99), weight_decay=recipe["weight_decay"])
    return [adam, Muon(matrices, lr=recipe["muon_lr"], weight_decay=recipe["weight_decay"])] if matrices else [adam]


def schedule(step: int, steps: int, warmup: int, cooldown: int) -> float:
    """Rise over `warmup`, stay, and fall to zero over the last `cooldown` steps."""
    return min(1.0, (step + 1) / warmup, (steps - step) / cooldown)


def loss_terms(net: nets.Lifter, whole: captures.Batch, body: captures.Batch, *, bfloat16: bool) -> Tensor:
    """(4,) mean error in metres of body, hands about the wrist, face about the nose; and the fit of expected errors.

    Without whole people hands and face count nothing.
    """
    parts, alone = (net.prepare(b.rays, b.valid, b.focal_known) for b in (whole, body))
    count = len(parts.turn)
    both = nets.Part(*(torch.cat(pair) for pair in zip(parts.body, alone.body, strict=True)))
    cast = torch.autocast(body.rays.device.type, torch.bfloat16, enabled=bfloat16)
    with cast:
        points, error = net.regress_body(both, torch.cat([parts.scale, alone.scale]))
    target = torch.cat([whole.target[:, :25] @ parts.turn.transpose(1, 2), body.target @ alone.turn.transpose(1, 2)])
    distance = (points - target).norm(dim=-1)
    # What nobody saw in the last frame is mostly chance; it counts half.
    seen = torch.cat([whole.valid[:, -1, :25], body.valid[:, -1]])
    losses, fits = [(distance * (0.5 + 0.5 * seen)).mean()], [_fit(distance, error)]
    if not count:
        return torch.stack([*losses, *torch.zeros_like(fits[0]).expand(2), *fits])
    assert parts.hands is not None and parts.face is not None
    with cast:
        hands, hand_error = net.regress_hands(parts.hands, points[:count])
        face, face_error = net.regress_face(parts.face, points[:count])
    true_hands, true_face = local_parts(whole.target @ parts.turn.transpose(1, 2))
    losses += [(torch.cat(hands, 1) - true_hands).norm(dim=-1).mean(), (face - true_face).norm(dim=-1).mean()]
    # Errors of hands and face are about the mid-hip, like the body's.
    at = (points - target)[:count].detach()
    ends = (face - true_face, face_error, 0), (hands[0] - true_hands[:, :21], hand_error[0], 7), (
        hands[1] - true_hands[:, 21:], hand_error[1], 4)  # fmt: skip
    fits += [_fit((off + at[:, joint, None]).norm(dim=-1), scale) for off, scale, joint in ends]
    return torch.stack([*losses, torch.stack(fits).mean()])


def _fit(distance: Tensor, scale: Tensor) -> Tensor:
    """Negative log-likelihood of an exponential law: it is least where the scale is the mean distance."""
    return (distance.detach() / scale + scale.log()).mean()


def local_parts(points: Tensor) -> tuple[Tensor, Tensor]:
    """Hands (B, 42, 3) about their wrists and face (B, 70, 3) about the nose."""
    left, right = points[:, 95:116] - points[:, 7:8], points[:, 116:137] - points[:, 4:5]
    return torch.cat([left, right], 1), points[:, 25:95] - points[:, 0:1]


def follow(average: nets.Lifter, net: nets.Lifter, keep: float) -> None:
    """Move the running average a step towards the network; batch-norm statistics are copied."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
        for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)


def measure_statistics(
    net: nets.Lifter, bank: captures.Bank, errors: captures.Errors, generator: torch.Generator, batches: int
) -> None:
    """Fill the standardisation buffers from valid samples of some batches."""
    samples: dict[str, list[tuple[Tensor, Tensor]]] = {"body": [], "hand": [], "face": []}
    cues, targets = [], []
    for _ in range(batches):
        people = captures.sample_people(bank, 1024, net.config.window, generator)
        batch = captures.film(people, generator, errors)
        virtual, turn, scale, cue = net.look(batch.rays, batch.valid, batch.focal_known)
        samples["body"].append((virtual[:, :, :25] / scale, batch.valid[:, :, :25]))
        samples["hand"].append(nets.hand_frames(virtual, batch.valid, scale)[:2])
        samples["face"].append(nets.face_frame(virtual, batch.valid, scale)[:2])
        cues.append(cue)
        targets.append(batch.target @ turn.transpose(1, 2))
    cue, target = torch.cat(cues), torch.cat(targets)
    net.cues_mean.copy_(cue.mean(0))
    net.cues_std.copy_(cue.std(0).clamp_min(1e-3))
    hands, face = local_parts(target)
    hands = torch.cat([hands[:, :21], hands[:, 21:] * net.side.cpu()])
    for name, truth in (("body", target[:, :25]), ("hand", hands), ("face", face)):
        points, valid = (torch.cat(parts).flatten(0, 1) for parts in zip(*samples[name], strict=True))
        weight = valid[..., None].float()
        mean = (points * weight).sum(0) / weight.sum(0)
        std = (((points - mean) ** 2 * weight).sum(0) / weight.sum(0)).sqrt().clamp_min(1e-3)
        size = (truth[..., :2].amax(1) - truth[..., :2].amin(1)).norm(dim=-1).median()
        values = {
            "in_mean": mean,
            "in_std": std,
            "out_mean": truth.mean(0),
            "out_std": truth.std(0).clamp_min(1e-3),
            "size": size,
        }
        for key, value in values.items():
            getattr(net, f"{name}_{key}").copy_(value)


def load_bodies(out: Path, count: int, seed: int, data: Path) -> dict[str, surface.Bodies]:
    """Bodies for training and, from another seed, for evaluation; measured once and kept beside the checkpoints."""
    bodies = {}
    for name, number, offset in (("train", count, 0), ("val", max(8, count // 6), 1000)):
        path = out / f"bodies_{name}.npz"
        if not path.exists():
            surface.build_bodies(number, np.random.default_rng(seed + offset), ict=data / ICT).save(path)
        bodies[name] = surface.Bodies.load(path)
    return bodies


def evaluation_sets(
    data: Path, bodies: surface.Bodies, window: int, count: int, *, split: str
) -> dict[str, captures.Batch]:
    """Windows of people left out, seen perfectly, and with 2 % noise and 15 % missing."""
    clips = motions.load(data, split, bodies.rest_directions)
    clips.weights[:] = 1.0
    bank = captures.bank(clips, bodies, np.random.default_rng(0), hand_frames=1000)
    generator = torch.Generator().manual_seed(0)
    people = captures.sample_people(bank, count, window, generator, augment=False)
    perfect = captures.Errors(**dict.fromkeys(captures.Errors.__dataclass_fields__, 0.0))
    clean = captures.film(people, generator.manual_seed(1), perfect, focal_known=0.0, hard=False)
    known = captures.film(people, generator.manual_seed(1), perfect, focal_known=1.0, hard=False)
    return {"clean": clean, "focal": known, "noisy": spoil(clean, generator), "detector": captures.film(
        people, generator, captures.Errors(), focal_known=0.0)}  # fmt: skip


def spoil(
    batch: captures.Batch, generator: torch.Generator, *, noise: float = 0.02, missing: float = 0.15
) -> captures.Batch:
    """Add Gaussian noise of 2 % of each part's box (its diagonal) and lose 15 % of the points, independently."""
    rays = batch.rays.clone()
    for part in (slice(0, 25), slice(25, 95), slice(95, 116), slice(116, 137)):
        points = batch.rays[:, :, part]
        size = (points.amax(2) - points.amin(2)).norm(dim=-1)[..., None, None]
        rays[:, :, part] += torch.randn(points.shape, generator=generator) * noise * size
    lost = torch.rand(batch.valid.shape, generator=generator) < missing
    return batch._replace(rays=rays, valid=batch.valid & ~lost)


def evaluate(net: nets.Lifter, sets: dict[str, captures.Batch], device: torch.device) -> dict[str, float]:
    """Mean errors in millimetres: 17 body joints about the mid-hip, hands about the wrist, face about the nose."""
    net = net.eval()
    out = {}
    for name, batch in sets.items():
        with torch.inference_mode():
            lifted = net(batch.rays.to(device), batch.valid.to(device), batch.focal_known.to(device))
        positions = lifted.positions.cpu()
        distance = (positions - batch.target).norm(dim=-1)
        parts = zip(local_parts(positions), local_parts(batch.target), strict=True)
        hand, face = ((a - b).norm(dim=-1).mean() for a, b in parts)
        out[f"{name}_body"] = distance[:, list(COCO_17_IN_BODY_25)].mean()
        out[f"{name}_pa"] = procrustes_error(
            positions[:, list(COCO_17_IN_BODY_25)], batch.target[:, list(COCO_17_IN_BODY_25)]
        )
        out[f"{name}_hands"], out[f"{name}_face"] = hand, face
    return {name: round(float(value) * 1e3, 2) for name, value in out.items()}


def procrustes_error(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance after the best similarity (without reflection) of each (B, J, 3) pose."""
    a, b = points - points.mean(1, keepdim=True), truth - truth.mean(1, keepdim=True)
    u, s, v = torch.linalg.svd(a.transpose(1, 2) @ b)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.det(u @ v).sign()
    turn = (u * sign[:, None]) @ v
    scale = (s * sign).sum(1) / a.square().sum((1, 2))
    return (a @ turn * scale[:, None, None] - b).norm(dim=-1).mean()


def checkpoint(
    out: Path, step: int, net: nets.Lifter, average: nets.Lifter, optimisers: list[torch.optim.Optimizer]
) -> None:
    """Write network, average and optimisers to one safetensors file, whole or not at all."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for number, optimiser in enumerate(optimisers):
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{index}.{name}": value for name, value in state.items()}
    save_file({name: value.contiguous().cpu().clone() for name, value in tensors.items()}, out / "checkpoint.new",
              metadata={"step": str(step)})  # fmt: skip
    (out / "checkpoint.new").replace(out / "checkpoint.safetensors")


def resume(out: Path, net: nets.Lifter, average: nets.Lifter, optimisers: list[torch.optim.Optimizer]) -> int:
    """Read a checkpoint where there is one; the number of steps it had done."""
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    for module, prefix in ((net, "net."), (average, "average.")):
        module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimisers]
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, index, key = name.split(".")
            states[int(number)].setdefault(int(index), {})[key] = value
    for optimiser, state in zip(optimisers, states, strict=True):
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def begin(net: nets.Lifter, path: Path) -> None:
    """Take over weights and statistics; what the file lacks, the mixer, stays as it was made."""
    unknown = net.load_state_dict(load_file(path), strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"{path.name} holds what this recipe's network has not: {unknown[0]}")


def save_weights(path: Path, net: nets.Lifter, recipe: dict[str, Any], figures: dict[str, float]) -> None:
    """Write what `nets.load` reads: weights, and a header with net, config, schema, recipe and figures."""
    tensors = {name: value.contiguous().cpu().clone() for name, value in net.state_dict().items()}
    metadata = {"net": nets.NAME, "schema": str(nets.SCHEMA), "config": json.dumps(net.config.to_dict()),
                "recipe": json.dumps(recipe), "figures": json.dumps(figures)}  # fmt: skip
    save_file(tensors, path, metadata=metadata)


if __name__ == "__main__":
    main()
