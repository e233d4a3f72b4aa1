"""Meta-train latent-pose reenactment on films of rendered heads.

python -m inference.training.reenactment RECIPE.toml --films DIR --features FILE --out DIR

`--films` is what `training.face_films` shot, `--features` what `training.face_features` trained. A sample is a few
frames of a film that say who somebody is, and one more that is both driver, changed by `reenact.augment`, and target.
Rendered people can do more than filmed ones: with `twins` the driver is often another person in the same pose, and
descriptors of twins are held together; with `coefficients` a head on the descriptor learns weights and turns along.
It resumes from the checkpoint in `--out` and stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import nets
from ..core.face_shapes import SHAPES
from ..nets import latent_pose
from ..nets.face_features import FaceFeatures
from ..nets.latent_pose import LatentPose, LatentPoseConfig
from ..nets.latent_pose_discriminator import Discriminator, DiscriminatorConfig
from ..reenact import losses
from ..reenact.augment import augment
from . import script
from .algebraic import checkpoint, restore
from .script import LOG

Array = np.ndarray
COEFFICIENTS = len(SHAPES) + 6  # weights, then the first two rows of the head's rotation
_MIRRORED = [SHAPES.index(n.replace("Left", "?").replace("Right", "Left").replace("?", "Right")) for n in SHAPES]
_FLIP = np.diag([-1.0, 1.0, 1.0])
_IMPORTANCE = (
    ("tongue", 0.2), ("eyeLook", 0.5), ("jawOpen", 2.0), ("eyeBlink", 1.5), ("mouthSmile", 1.5), ("mouthPucker", 1.5),
    ("browInnerUp", 1.5),
)  # fmt: skip
_BACKGROUNDS = 256
_WARM_BATCH = 64


@dataclass(frozen=True)
class Bank:
    """Films in memory: images (N, T, S, S, 3), masks (N, T, S, S) uint8, coefficients (N, T, 58), and backgrounds."""

    images: Array
    masks: Array
    coefficients: Array
    backgrounds: Array

    def twin(self, film: int, frame: int) -> tuple[int, int]:
        """Where another person is in the same pose."""
        half, count = self.images.shape[1] // 2, len(self.images)
        return ((film - 1) % count, frame + half) if frame < half else ((film + 1) % count, frame - half)


class Batch(NamedTuple):
    """Samples: P people, then their P twins in the same order, who hold the same poses.

    identity (B, K, 3, S, S); driver (B, 3, S, S): the target's own frame, changed; truth (B, 3, S, S) times mask
    (B, 1, S, S); coefficients (B, 58); film (B,).
    """

    identity: Tensor
    driver: Tensor
    truth: Tensor
    mask: Tensor
    coefficients: Tensor
    film: Tensor


class Run(nn.Module):
    """All that a checkpoint keeps."""

    def __init__(self, recipe: dict[str, Any], films: int) -> None:
        super().__init__()
        config = LatentPoseConfig(**recipe["net"])
        self.net = LatentPose(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.net)
        self.discriminator = Discriminator(
            DiscriminatorConfig(
                config.size, config.width, config.widest, config.identity, recipe["discriminator_blocks"], films
            )
        )


def load(path: Path, seed: int = 0) -> Bank:
    """Read films."""
    with np.load(path, allow_pickle=False) as arrays:
        images, masks = arrays["images"], arrays["masks"]
        coefficients = coefficients_of(arrays["weights"], arrays["rotations"])
    rng = np.random.default_rng(seed)
    behind = np.stack([background(images.shape[2], rng) for _ in range(_BACKGROUNDS)])
    return Bank(images, masks, coefficients, behind)


def coefficients_of(weights: Array, rotations: Array) -> Array:
    """(..., 58) of weights (..., 52) and rotations (..., 3, 3)."""
    rows = np.asarray(rotations, np.float32)[..., :2, :]
    return np.concatenate([np.asarray(weights, np.float32), rows.reshape(*rows.shape[:-2], 6)], -1)


def background(size: int, rng: np.random.Generator) -> Array:
    """(S, S, 3) uint8 of soft noise at several scales, sometimes with bars and boxes."""
    tone = rng.random() + rng.normal(size=3) * 0.15
    picture = np.broadcast_to(tone, (size, size, 3)).astype(np.float32).copy()
    for cells in (2, 4, 8, 16, 32):
        noise = rng.normal(size=(cells, cells, 1)) + 0.3 * rng.normal(size=(cells, cells, 3))
        grown = cv2.resize(noise.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        picture += grown * rng.uniform(0, 0.6 / cells**0.5) * (rng.random() < 0.6)
    for _ in range(rng.integers(0, 5)):
        (x, y, w, h), box = rng.integers(0, size, 4).tolist(), tone + rng.normal(size=3) * 0.2
        cv2.rectangle(picture, (x, y), (x + w, y + h), box.tolist(), -1)
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def draw(
    bank: Bank, pairs: int, sources: int, rng: np.random.Generator, *, augmented: bool = True, stretched: float = 0.5
) -> Batch:
    """Draw twins: of each `sources` frames that say who it is, and one hold-out frame."""
    samples: list[list[Any]] = [[], []]
    for _ in range(pairs):
        place = int(rng.integers(len(bank.images))), int(rng.integers(bank.images.shape[1]))
        shift, flip = _shift(rng), rng.random() < 0.5
        for side, where in enumerate((place, bank.twin(*place))):
            sample = _sample(bank, where, sources, shift, rng, stretched=stretched if augmented else None)
            samples[side].append(_mirrored_sample(sample) if flip else sample)
    arrays = [torch.from_numpy(np.stack(part)) for part in zip(*samples[0], *samples[1], strict=True)]
    pictures = [a.movedim(-1, -3).float().div(255) for a in arrays[:4]]
    return Batch._make([*pictures, *arrays[4:]])


def _sample(
    bank: Bank, place: tuple[int, int], sources: int, shift: Array, rng: np.random.Generator, *,
    stretched: float | None,
) -> list[Any]:  # fmt: skip
    film, frame = place
    others = [k for k in range(bank.images.shape[1]) if k != frame]
    tone, mask = _tone(rng), _moved(bank.masks[place], shift)
    truth = _toned(_moved(bank.images[place], shift), mask, tone)
    driver = _before(truth, mask, bank, rng)
    who = []
    for k in rng.choice(others, sources, replace=False):
        seen = bank.masks[film, k]
        who.append(_before(_toned(bank.images[film, k], seen, tone), seen, bank, rng))
    driver = driver if stretched is None else augment(driver, rng, stretched=stretched)
    return [np.stack(who), driver, truth, mask[..., None], bank.coefficients[place], film]


def _mirrored_sample(sample: list[Any]) -> list[Any]:
    return [*(np.flip(picture, -2) for picture in sample[:4]), mirrored(sample[4]), sample[5]]


def mirrored(values: Array) -> Array:
    """Coefficients (..., 58) of the mirror image."""
    rows = values[..., 52:].reshape(*values.shape[:-1], 2, 3)
    return np.concatenate(
        [values[..., _MIRRORED], (_FLIP[:2, :2] @ rows @ _FLIP).reshape(*values.shape[:-1], 6)], -1
    ).astype(np.float32)


def _tone(rng: np.random.Generator) -> Array:
    """(256, 3) what becomes of each level of red, green and blue."""
    gain = np.exp(rng.normal() * 0.15 + rng.normal(size=3) * 0.08)
    levels = np.clip(np.linspace(0, 1, 256)[:, None] * gain, 0, 1) ** np.exp(rng.normal() * 0.2)
    return (255 * levels).astype(np.uint8)


def _toned(image: Array, mask: Array, tone: Array) -> Array:
    """A picture that was multiplied by its mask, in another tone."""
    straight = np.minimum(image.astype(np.float32) * (255.0 / np.maximum(mask, 1))[..., None], 255).astype(np.uint8)
    changed = np.stack([tone[straight[..., k], k] for k in range(3)], -1)
    return (changed * (mask[..., None] / 255.0)).astype(np.uint8)


def _shift(rng: np.random.Generator) -> Array:
    """(2,) as a part of the side."""
    return rng.uniform(-0.05, 0.05, 2) * (rng.random() < 0.5)


def _moved(picture: Array, shift: Array) -> Array:
    if not shift.any():
        return picture
    matrix = np.array([[1, 0, shift[0] * len(picture)], [0, 1, shift[1] * len(picture)]])
    return cv2.warpAffine(picture, matrix, picture.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _before(image: Array, mask: Array, bank: Bank, rng: np.random.Generator) -> Array:
    """A picture that was multiplied by its mask, before some background."""
    behind = bank.backgrounds[rng.integers(len(bank.backgrounds))]
    behind = np.rot90(behind, rng.integers(4)) if rng.random() < 0.8 else np.zeros_like(behind)
    return (image + behind * (1 - mask[..., None] / 255.0)).astype(np.uint8)


def train(recipe: dict[str, Any], films: Path, features: FaceFeatures, job: script.Run) -> LatentPose:
    """Train, or go on where a run was stopped; gives the average."""
    torch.manual_seed(recipe["seed"])
    bank, held = load(films / "films.npz"), load(films / "held_out.npz")
    run, steps = Run(recipe, len(bank.images)), recipe["steps"]
    beta = recipe["beta"]
    made = torch.optim.Adam(run.net.parameters(), recipe["lr"], (beta, 0.999))
    told = torch.optim.Adam(run.discriminator.parameters(), recipe["lr_discriminator"], (0.0, 0.999), 1e-5)
    step = restore(job.out, run, made, told)
    rng = np.random.default_rng([recipe["seed"], step])
    if step == 0:
        _warm_up(run.net, bank, recipe, rng)
        run.average.load_state_dict(run.net.state_dict())
    began = saved = time.monotonic()
    running: dict[str, float] = {}
    changes = {"augmented": recipe.get("augmented", True), "stretched": recipe.get("stretched", 0.5)}
    while job.goes_on(step, steps):
        rate = min(1.0, (step + 1) / recipe["warmup"], (steps - step) / recipe["cooldown"])
        for group in made.param_groups:
            group["lr"] = recipe["lr"] * rate
        batch = draw(bank, recipe["batch"] // 2, recipe["sources"], rng, **changes)
        more = None
        if recipe["poses"]:
            more = draw(bank, recipe["poses"] // 2, 1, rng, **changes)
        against = step >= recipe["adversarial_after"]
        for name, value in _step(run, features, batch, recipe, (made, told), against=against, more=more).items():
            running[name] = running.get(name, 0.0) + value
        follow(run.average, run.net, min(recipe["average"], (1 + step) / (10 + step)))
        step += 1
        if step % 50 == 0:
            pace = 1e3 * (time.monotonic() - began) / 50
            LOG.info("step %d %s, %.0f ms", step, {k: round(v / 50, 3) for k, v in running.items()}, pace)
            running, began = {}, time.monotonic()
        if time.monotonic() - saved > 60 * recipe["checkpoint_minutes"] or step == steps:
            checkpoint(job.out, step, run, made, told)
            LOG.info("left out: %s", json.dumps(figures := measure(run.average, held)))
            save(job.out / "reenactment.safetensors", run.average, recipe, {"steps": step, **figures})
            _show(job.out / f"step_{step:06d}.png", run.average, held)
            saved = began = time.monotonic()
    return run.average


def _warm_up(net: LatentPose, bank: Bank, recipe: dict[str, Any], rng: np.random.Generator) -> None:
    """Let the pose encoder and its head learn alone, which costs a small part of what pictures cost."""
    if not recipe["warm_up"]:
        return
    parts = [*net.embedder.pose_encoder.parameters(), *net.reader.parameters()]
    optimiser = torch.optim.Adam(parts, 2 * recipe["lr"])
    for step in range(recipe["warm_up"]):
        batch = draw(bank, _WARM_BATCH // 2, 1, rng, augmented=recipe.get("augmented", True))
        _, found = _read(net.train(), batch, recipe["weights"])
        for group in optimiser.param_groups:
            group["lr"] = 2 * recipe["lr"] * min(1.0, (step + 1) / 20, (recipe["warm_up"] - step) / 200)
        optimiser.zero_grad()
        torch.stack([recipe["weights"][name] * value for name, value in found.items()]).sum().backward()
        optimiser.step()
        if step % 50 == 49:
            LOG.info("warm-up %d %s", step + 1, {name: round(value.item(), 3) for name, value in found.items()})


def _read(net: LatentPose, batch: Batch, weights: dict[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """Descriptors (B, D), and how far they are from telling poses, and those of twins from each other."""
    pose, found = net.embedder.pose(batch.driver.contiguous(memory_format=torch.channels_last)), {}
    if weights["coefficients"]:
        off = (net.reader(pose) - batch.coefficients) * _importance()
        found["coefficients"] = off.square().sum(1).mean()
    if weights["twins"]:
        other = pose.roll(len(pose) // 2, 0)
        found["twins"] = (pose - other).square().sum(1).mean() / pose.var(0).sum().clamp_min(1e-9)
    return pose, found


def _step(
    run: Run, features: FaceFeatures, batch: Batch, recipe: dict[str, Any],
    optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer], *, against: bool, more: Batch | None = None,
) -> dict[str, float]:  # fmt: skip
    """One step of the generator and, late, one of the discriminator on the same pictures; gives the losses.

    The pose encoder also reads `more`, of which no pictures are made.
    """
    weights, net, (made, told) = recipe["weights"], run.net.train(), optimisers
    pose, found = _read(net, batch, weights)
    if more is not None:
        _, further = _read(net, more, weights)
        found = {name: 0.5 * (value + further[name]) for name, value in found.items()}
    if weights["twins"]:
        pose = torch.where(torch.rand(len(pose), 1) < 0.5, pose, pose.roll(len(pose) // 2, 0))
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe["bfloat16"]):
        who = net.embedder.identity(batch.identity)
        picture = net.generator(who.float(), pose)
        rgb = latent_pose.Picture(picture.rgb.float(), picture.mask.float())
        found |= losses.reconstruction(rgb, batch.truth, batch.mask, features)
    if not net.config.mask:
        del found["mask"]
    row = run.discriminator.embed(batch.film) if against else None
    if against:
        assert row is not None
        run.discriminator.train()
        score, fake = run.discriminator(rgb.rgb, row.detach())
        with torch.no_grad():
            _, real = run.discriminator(batch.truth, row)
        found["adversarial"] = -score.mean()
        found["matching"] = losses.matching(fake, real)
        found["embedding"] = (who.float() - row.detach()).abs().mean()
    total = torch.stack([weights[name] * value for name, value in found.items()]).sum()
    made.zero_grad()
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), recipe["clip"])
    if norm.isfinite():
        made.step()
    if against:
        told.zero_grad()
        row = run.discriminator.embed(batch.film)
        real_score, _ = run.discriminator(batch.truth, row)
        fake_score, _ = run.discriminator(rgb.rgb.detach(), row.detach())
        found["discriminator"] = losses.hinge(real_score, fake_score)
        found["discriminator"].backward()
        told.step()
    return {name: float(value.detach()) for name, value in found.items()}


def _importance() -> Tensor:
    """(58,) of coefficients: turns of the head and what is seen best in a face count more, gaze and tongue less."""
    values = [next((value for start, value in _IMPORTANCE if name.startswith(start)), 1.0) for name in SHAPES]
    return torch.tensor([*values, *[2.0] * 6])


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Move the running average a step towards the network; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
    for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(theirs)


def _left_out(held: Bank, count: int, rng: np.random.Generator) -> Batch:
    """Frames of people left out, each driven by itself."""
    films, frames = (rng.integers(most, size=count) for most in held.images.shape[:2])
    still = np.zeros(2)
    places = zip(films.tolist(), frames.tolist(), strict=True)
    rows = [_sample(held, place, 4, still, rng, stretched=None) for place in places]
    arrays = [torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)]
    return Batch._make([*(a.movedim(-1, -3).float().div(255) for a in arrays[:4]), *arrays[4:]])


@torch.no_grad()
def measure(net: LatentPose, held: Bank) -> dict[str, float]:
    """Of people left out: L1 of driven pictures by their own and by others' frames, and R2 of coefficients."""
    rng, net = np.random.default_rng(1), net.eval()
    batch = _left_out(held, 64, rng)
    found = net(batch.identity, batch.driver)
    read = net.reader(net.embedder.pose(batch.driver)) if net.config.coefficients else batch.coefficients
    off, spread = (read - batch.coefficients).square().mean(0), batch.coefficients.var(0)
    names = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "browInnerUp")
    scores = {f"r2_{n}": 1 - off[SHAPES.index(n)] / spread[SHAPES.index(n)].clamp_min(1e-6) for n in names}
    turn = 1 - off[52:].sum() / spread[52:].sum()
    values = {"l1": (found.rgb - batch.truth).abs().mean(), "r2_turn": turn, **scores}
    return {name: round(float(value), 4) for name, value in values.items()}


@torch.no_grad()
def _show(path: Path, net: LatentPose, held: Bank) -> None:
    """Write a picture: who, driver, made, true, of people left out; and driven by others."""
    rng, net = np.random.default_rng(2), net.eval()
    batch = _left_out(held, 10, rng)
    made = net(batch.identity, batch.driver).rgb
    crossed = net(batch.identity, batch.driver.roll(1, 0)).rgb
    rows = [batch.identity[:, 0], batch.driver, made, batch.truth, batch.driver.roll(1, 0), crossed]
    sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2).clamp(0, 1).permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), (sheet[..., ::-1] * 255).astype(np.uint8))


def save(path: Path, net: LatentPose, recipe: dict[str, Any], figures: dict[str, float]) -> None:
    """Write what `nets.load` reads, in half precision."""
    tensors = {
        name: value.contiguous().half() if value.is_floating_point() and value.ndim > 1 else value.contiguous()
        for name, value in net.state_dict().items()
    }
    metadata = {
        "net": latent_pose.NAME, "schema": str(latent_pose.SCHEMA), "config": json.dumps(net.config.to_dict()),
        "recipe": json.dumps(recipe), "metrics": json.dumps(figures),
    }  # fmt: skip
    save_file(tensors, path, metadata=metadata)


def main() -> None:
    """Read the recipe and train."""
    parser = script.make_parser(__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    script.work_as_job(parser, _work)


def _work(options: argparse.Namespace, job: script.Run) -> None:
    features = nets.load(options.features)
    assert isinstance(features, FaceFeatures)
    recipe = tomllib.loads(options.recipe.read_text(encoding="utf-8"))
    train(recipe, options.films, features.requires_grad_(False), job)


if __name__ == "__main__":
    main()
