"""Meta-train latent-pose reenactment on films of rendered heads.

python -m inference.training.reenactment RECIPE.toml --films DIR --features FILE --out DIR [--begin FILE]
    [--set KEY=VALUE ...]

`--films` is what `training.face_films` shot, `--features` what `training.face_features` trained. A sample is a few
frames of a film that say who somebody is, and one more that is both driver, changed by `reenact.augment`, and target.
Rendered people can do more than filmed ones: with `twins` the driver is often another person in the same pose, and
descriptors of twins are held together; with `coefficients` a head on the descriptor learns weights and turns along.
What the original advises can be left out to see what it is for: `--set augmented=false`, `--set net.mask=false` (then
targets keep their background), a larger `net.pose_width`, and `--set net.pose_encoder='"landmarks"'` with
`--set net.pose=140`, which learns from the films' true landmarks and is driven by detected ones.
`--begin` takes over who somebody is and how pictures are made from a network that has learnt it; what makes and
reads poses begins from nothing. It resumes from the checkpoint in `--out` and stops when a file `cancel` appears there.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from .. import nets
from ..core.face_shapes import SHAPES
from ..core.skeletons import FACE, FACE_70_IN_FACEMESH, MIRROR_137
from ..face.mirror import swapped_sides
from ..nets import latent_pose
from ..nets.face_features import FaceFeatures
from ..nets.latent_pose import LatentPose, LatentPoseConfig
from ..nets.latent_pose_discriminator import Discriminator, DiscriminatorConfig
from ..reenact import losses
from ..reenact.augment import augment
from . import script
from .algebraic import checkpoint, restore
from .muon import adam_and_muon, scale_rates
from .script import LOG

Array = np.ndarray
COEFFICIENTS = len(SHAPES) + 6  # weights, then the first two rows of the head's rotation
_MIRRORED = swapped_sides()
_FLIP = np.diag([-1.0, 1.0, 1.0])
_IMPORTANCE = (
    ("tongue", 0.2), ("eyeLook", 0.5), ("jawOpen", 2.0), ("eyeBlink", 1.5), ("mouthSmile", 1.5), ("mouthPucker", 1.5),
    ("browInnerUp", 1.5),
)  # fmt: skip
_OTHER_SIDE = [index - FACE.start for index in MIRROR_137[FACE]]
_BACKGROUNDS = 256
_WARM_BATCH = 64
_CONVOLUTION = 4  # dimensions of its weight
_LOOKED_FOR = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "mouthPucker", "browInnerUp", "browDownLeft")
_MOVES = 0.02  # deviation of a weight that moves
_MOVED = 4  # px by which pictures are moved at most before their poses are compared
LOOKED_AT = 768  # pictures that say what a new descriptor tells of a former one
READERS = ("generator.affine_params_projector.0.", "generator.start.", "generator.later.0.")  # of the descriptors


@dataclass(frozen=True)
class Bank:
    """Films in memory: images (N, T, S, S, 3), masks (N, T, S, S) uint8, coefficients (N, T, 58), and backgrounds.

    landmarks (N, T, 70, 2) as parts of the side; neighbours (N, 2): the film that holds the first half of a film's
    poses in its second half, and the one that holds the second half in its first.
    """

    images: Array
    masks: Array
    coefficients: Array
    landmarks: Array
    backgrounds: Array
    neighbours: Array

    def twin(self, film: int, frame: int) -> tuple[int, int]:
        """Where another person is in the same pose."""
        half = self.images.shape[1] // 2
        before, after = self.neighbours[film].tolist()
        return (before, frame + half) if frame < half else (after, frame - half)


class Batch(NamedTuple):
    """Samples: P people, then their P twins in the same order, who hold the same poses.

    identity (B, K, 3, S, S); driver (B, 3, P, P): the target's own frame, changed; truth (B, 3, S, S) times mask
    (B, 1, S, S), or before its background where there are no masks to learn; coefficients (B, 58); landmarks
    (B, 70, 2) of the target; film (B,). P is the side of the films' pictures, S of those that are made.
    """

    identity: Tensor
    driver: Tensor
    truth: Tensor
    mask: Tensor
    coefficients: Tensor
    landmarks: Tensor
    film: Tensor

    def told(self, net: LatentPose) -> Tensor:
        """What tells a network the pose: the driver's picture, or its landmarks."""
        if net.config.pose_encoder == "landmarks":
            return self.landmarks
        return resized(self.driver, net.config.pose_size).contiguous(memory_format=torch.channels_last)


class Training(nn.Module):
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


def load(*paths: Path, seed: int = 0) -> Bank:
    """Read films, of each file a ring; landmarks are the true ones."""
    parts: list[tuple[Array, ...]] = []
    rings: list[Array] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            images, masks = arrays["images"], arrays["masks"]
            coefficients = coefficients_of(arrays["weights"], arrays["rotations"])
            points = arrays["landmarks"][:, :, FACE_70_IN_FACEMESH].astype(np.float32)
        first, ring = sum(map(len, rings)), np.arange(len(images))
        rings.append(first + np.stack([np.roll(ring, 1), np.roll(ring, -1)], 1))
        parts.append((images, masks, coefficients, (points + 0.5) / images.shape[2]))
    whole = [np.concatenate([part[k] for part in parts]) for k in range(4)]
    rng = np.random.default_rng(seed)
    behind = np.stack([background(whole[0].shape[2], rng) for _ in range(_BACKGROUNDS)])
    return Bank(whole[0], whole[1], whole[2], whole[3], behind, np.concatenate(rings))


def load_all(films: Path) -> Bank:
    """Read all films to train on."""
    return load(*(path for name in ("films", "strong") if (path := films / f"{name}.npz").exists()))


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


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn: `sources` frames say who it is; drivers are changed, some of them stretched.

    masked: targets are cut out; otherwise all pictures of a sample have one background, which targets keep. size: of
    all pictures but drivers, px, 0 for that of the films; coarse: share of drivers with no more pixels than that;
    apart: twins lie at places of their own in their crops.
    """

    sources: int
    augmented: bool = True
    stretched: float = 0.5
    masked: bool = True
    size: int = 0
    coarse: float = 0.0
    apart: bool = False

    @staticmethod
    def of(recipe: dict[str, Any], sources: int | None = None) -> Drawing:
        """What a recipe asks for."""
        plain = Drawing(recipe.get("sources", 0) if sources is None else sources, size=recipe["net"].get("size", 256))
        changes = {name: recipe[name] for name in ("augmented", "stretched", "coarse", "apart") if name in recipe}
        return replace(plain, **changes, masked=recipe["net"].get("mask", True))


def draw(bank: Bank, pairs: int, how: Drawing, rng: np.random.Generator) -> Batch:
    """Draw twins, each with frames that say who it is and one hold-out frame."""
    samples: list[list[Any]] = [[], []]
    for _ in range(pairs):
        place = int(rng.integers(len(bank.images))), int(rng.integers(bank.images.shape[1]))
        shift, flip = _shift(rng), rng.random() < 0.5
        for side, where in enumerate((place, bank.twin(*place))):
            shift = _shift(rng) if how.apart and side else shift
            sample = _sample(bank, where, how, shift, rng)
            samples[side].append(_mirrored_sample(sample) if flip else sample)
    arrays = [torch.from_numpy(np.stack(part)) for part in zip(*samples[0], *samples[1], strict=True)]
    pictures = [a.movedim(-1, -3).float().div(255) for a in arrays[:4]]
    return Batch._make([*pictures, *arrays[4:]])


def _sample(bank: Bank, place: tuple[int, int], how: Drawing, shift: Array, rng: np.random.Generator) -> list[Any]:
    film, frame = place
    others = [k for k in range(bank.images.shape[1]) if k != frame]
    size = how.size or bank.images.shape[2]
    nobody = np.zeros((0, size, size, 3), np.uint8)
    tone, mask = _tone(rng), _moved(bank.masks[place], shift)
    truth = _toned(_moved(bank.images[place], shift), mask, tone)
    backgrounds = [_behind(bank, rng) for _ in range(1 + how.sources)]
    if not how.masked:
        backgrounds = backgrounds[:1] * len(backgrounds)
    driver = _before(truth, mask, backgrounds[0])
    who = []
    for k, behind in zip(rng.choice(others, how.sources, replace=False), backgrounds[1:], strict=True):
        seen, image, around = (_reduced(part, size) for part in (bank.masks[film, k], bank.images[film, k], behind))
        who.append(_before(_toned(image, seen, tone), seen, around))
    truth, mask = (_reduced(part, size) for part in (truth if how.masked else driver, mask))
    changing = rng.spawn(1)[0]  # so that the same samples are drawn whether drivers are changed or not
    if how.coarse and changing.random() < how.coarse:
        driver = cv2.resize(_reduced(driver, size), driver.shape[:2], interpolation=cv2.INTER_CUBIC)
    driver = augment(driver, changing, stretched=how.stretched) if how.augmented else driver
    points = (bank.landmarks[place] + shift).astype(np.float32)
    return [np.stack(who) if who else nobody, driver, truth, mask[..., None], bank.coefficients[place], points, film]


def _mirrored_sample(sample: list[Any]) -> list[Any]:
    points = sample[5][_OTHER_SIDE] * [-1, 1] + [1, 0]
    return [*(np.flip(p, -2) for p in sample[:4]), mirrored(sample[4]), points.astype(np.float32), sample[6]]


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
    cover = cv2.merge([mask] * 3)
    straight = cv2.divide(image, cover, scale=255)
    return cv2.multiply(cv2.LUT(straight, tone[None]), cover, scale=1 / 255)


def _shift(rng: np.random.Generator) -> Array:
    """(2,) as a part of the side."""
    return rng.uniform(-0.05, 0.05, 2) * (rng.random() < 0.5)


def _moved(picture: Array, shift: Array) -> Array:
    if not shift.any():
        return picture
    matrix = np.array([[1, 0, shift[0] * len(picture)], [0, 1, shift[1] * len(picture)]])
    return cv2.warpAffine(picture, matrix, picture.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _reduced(picture: Array, size: int) -> Array:
    """A picture of fewer pixels, each the mean of those it covers; as it is where it has no more."""
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) if len(picture) > size else picture


def resized(images: Tensor, size: int) -> Tensor:
    """(B, 3, size, size) of pictures (B, 3, S, S)."""
    if images.shape[-1] == size:
        return images
    if images.shape[-1] > size:
        return functional.interpolate(images, size=(size, size), mode="area")
    return functional.interpolate(images, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def _behind(bank: Bank, rng: np.random.Generator) -> Array:
    behind = bank.backgrounds[rng.integers(len(bank.backgrounds))]
    return np.ascontiguousarray(np.rot90(behind, rng.integers(4))) if rng.random() < 0.8 else np.zeros_like(behind)


def _before(image: Array, mask: Array, behind: Array) -> Array:
    """A picture that was multiplied by its mask, before a background."""
    return cv2.add(image, cv2.multiply(behind, cv2.merge([255 - mask] * 3), scale=1 / 255))


@torch.no_grad()
def take_over(net: LatentPose, learnt: LatentPose, drivers: Tensor, told: Tensor) -> None:
    """Take the identity encoder and the generator of another network of the same widths.

    The generator is told of the new descriptor what of the former one it explains linearly.

    Args:
        drivers: (B, 3, P, P) pictures that the other network reads; told: what `net` reads of the same (`Batch.told`).
    """
    own, identity = net.state_dict(), net.config.identity
    drivers = resized(drivers, learnt.config.pose_size)
    new, old = net.eval().embedder.pose(told), learnt.eval().embedder.pose(drivers)
    rows = torch.cat([new, torch.ones(len(new), 1)], 1)
    limit = 1e-3 * len(new) * new.var(0).mean() * torch.eye(rows.shape[1])
    limit[-1, -1] = 0.0
    back = torch.linalg.solve(rows.T @ rows + limit, rows.T @ old).T  # (former D, D + 1)
    for name, value in learnt.state_dict().items():
        if name.startswith(("embedder.pose_encoder.", "reader.")) or name.endswith(("weight_u", "weight_v")):
            continue  # singular vectors: what is limited finds its own
        if name.startswith(READERS) and "weight" in name:
            how = value[:, identity:]
            own[name].copy_(torch.cat([value[:, :identity], how @ back[:, :-1]], 1))
            gain = net.config.gain if "projector" in name else 1.0
            bias = name.replace("weight_orig", "bias").replace("weight", "bias")
            own[bias].copy_(learnt.state_dict()[bias] + gain * (how @ back[:, -1]))
        elif not name.startswith(READERS):
            own[name].copy_(value[: len(own[name])])  # the last layer may have one channel less, for no mask


def train(
    recipe: dict[str, Any], films: Path, features: FaceFeatures, job: script.Run, *, learnt: LatentPose | None = None
) -> LatentPose:
    """Train, from `learnt` on (see `take_over`), or go on where a run was stopped; gives the average."""
    torch.manual_seed(recipe["seed"])
    bank, held = load_all(films), load(films / "held_out.npz")
    run, steps = Training(recipe, len(bank.images)), recipe["steps"]
    made = _optimisers(run.net, recipe)
    told = torch.optim.Adam(run.discriminator.parameters(), recipe["lr_discriminator"], (0.0, 0.999), 1e-5)
    step = restore(job.out, run, *made, told)
    keeps_poses = recipe.get("keeps_poses", False)
    if keeps_poses:
        run.net.embedder.pose_encoder.requires_grad_(False)
        run.net.reader.requires_grad_(False)
    rng = np.random.default_rng([recipe["seed"], step])
    whole, pose_alone = Drawing.of(recipe), Drawing.of(recipe, sources=1)
    if step == 0:
        _warm_up(run.net, bank, recipe, rng)
        if learnt is not None and keeps_poses:
            run.net.load_state_dict(learnt.state_dict())
        elif learnt is not None:
            seen = draw(bank, LOOKED_AT // 2, pose_alone, rng)
            take_over(run.net, learnt, seen.driver, seen.told(run.net))
        run.average.load_state_dict(run.net.state_dict())
    began = saved = time.monotonic()
    running: dict[str, float] = {}
    while job.goes_on(step, steps):
        scale_rates(made, min(1.0, (step + 1) / recipe["warmup"], (steps - step) / recipe["cooldown"]))
        batch = draw(bank, recipe["batch"] // 2, whole, rng)
        more = draw(bank, recipe["poses"] // 2, pose_alone, rng) if recipe["poses"] else None
        against = step >= recipe["adversarial_after"]
        for name, value in _step(run, features, batch, recipe, (*made, told), against=against, more=more).items():
            running[name] = running.get(name, 0.0) + value
        follow(run.average, run.net, min(recipe["average"], (1 + step) / (10 + step)))
        step += 1
        if step % 50 == 0:
            pace = 1e3 * (time.monotonic() - began) / 50
            LOG.info("step %d %s, %.0f ms", step, {k: round(v / 50, 3) for k, v in running.items()}, pace)
            running, began = {}, time.monotonic()
        if time.monotonic() - saved > 60 * recipe["checkpoint_minutes"] or step == steps:
            checkpoint(job.out, step, run, *made, told)
            LOG.info("left out: %s", json.dumps(figures := measure(run.average, held)))
            save(job.out / "reenactment.safetensors", run.average, recipe, {"steps": step, **figures})
            _show(job.out / f"step_{step:06d}.png", run.average, held)
            saved = began = time.monotonic()
    return run.average


def _optimisers(net: LatentPose, recipe: dict[str, Any]) -> tuple[torch.optim.Optimizer, ...]:
    """Adam for all, or with `muon_lr` AdamW, and Muon for the convolutions inside generator and identity encoder."""
    if not recipe.get("muon_lr"):
        return (torch.optim.Adam(net.parameters(), recipe["lr"], (recipe["beta"], 0.999)),)
    rates = {"lr": recipe["lr"], "muon_lr": recipe["muon_lr"], "decay": recipe["decay"], "muon_decay": recipe["decay"]}
    return adam_and_muon(net, _is_inside, **rates)


def _is_inside(name: str, value: Tensor) -> bool:
    if name.startswith("generator.decoder_blocks."):
        return value.ndim == _CONVOLUTION and ".block." in name
    first = "embedder.identity_encoder.features.0."
    return value.ndim == _CONVOLUTION and name.startswith("embedder.identity_encoder.") and not name.startswith(first)


def _warm_up(net: LatentPose, bank: Bank, recipe: dict[str, Any], rng: np.random.Generator) -> None:
    """Let the pose encoder and its head learn alone, which costs a small part of what pictures cost."""
    if not recipe["warm_up"]:
        return
    parts = [*net.embedder.pose_encoder.parameters(), *net.reader.parameters()]
    fastest = recipe.get("lr_warm_up", 2 * recipe["lr"])
    optimiser = torch.optim.Adam(parts, fastest)
    for step in range(recipe["warm_up"]):
        batch = draw(bank, _WARM_BATCH // 2, Drawing.of(recipe, sources=1), rng)
        _, found = _read(net.train(), batch, recipe["weights"])
        for group in optimiser.param_groups:
            group["lr"] = fastest * min(1.0, (step + 1) / 20, (recipe["warm_up"] - step) / 200)
        optimiser.zero_grad()
        torch.stack([recipe["weights"][name] * value for name, value in found.items()]).sum().backward()
        optimiser.step()
        if step % 50 == 49:
            LOG.info("warm-up %d %s", step + 1, {name: round(value.item(), 3) for name, value in found.items()})


def _read(net: LatentPose, batch: Batch, weights: dict[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """Descriptors (B, D), and how far they are from telling poses, and those of twins from each other."""
    pose, found = net.embedder.pose(batch.told(net)), {}
    if weights["coefficients"]:
        off = (net.reader(pose) - batch.coefficients) * importance()
        found["coefficients"] = off.square().sum(1).mean()
    if weights["twins"]:
        found["twins"] = apart(pose)
    return pose, found


def apart(poses: Tensor) -> Tensor:
    """Distance of twins' descriptors over the spread of all: people (B, D), then their twins."""
    other = poses.roll(len(poses) // 2, 0)
    return (poses - other).square().sum(1).mean() / poses.var(0).sum().clamp_min(1e-9)


def _step(
    run: Training, features: FaceFeatures, batch: Batch, recipe: dict[str, Any],
    optimisers: Sequence[torch.optim.Optimizer], *, against: bool, more: Batch | None = None,
) -> dict[str, float]:  # fmt: skip
    """One step of the generator and, late, one of the discriminator on the same pictures; gives the losses.

    The pose encoder also reads `more`, of which no pictures are made.
    """
    weights, net, (*made, told) = recipe["weights"], run.net.train(), optimisers
    pose, found = _read(net, batch, weights)
    if more is not None:
        _, further = _read(net, more, weights)
        found = {name: 0.5 * (value + further[name]) for name, value in found.items()}
    if weights["twins"] or recipe.get("keeps_poses", False):
        pose = torch.where(torch.rand(len(pose), 1) < 0.5, pose, pose.roll(len(pose) // 2, 0))
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe["bfloat16"]):
        who = net.embedder.identity(batch.identity)
        picture = net.generator(who.float(), pose)
        rgb = latent_pose.Picture(picture.rgb.float(), picture.mask.float())
        found |= losses.reconstruction(rgb, batch.truth, batch.mask, features)
    if weights.get("parts"):
        found["parts"] = losses.parts(rgb.rgb, batch.truth, batch.landmarks)
    if weights.get("reads"):
        found["reads"] = misread(net, rgb.rgb, batch.truth, bfloat16=recipe["bfloat16"])
    if not net.config.mask:
        del found["mask"]
    row = run.discriminator.embed(batch.film) if against else None
    if against:
        assert row is not None
        run.discriminator.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe["bfloat16"]):
            score, fake = run.discriminator(rgb.rgb, row.detach())
            with torch.no_grad():
                _, real = run.discriminator(batch.truth, row)
        found["adversarial"] = -score.float().mean()
        found["matching"] = losses.matching(fake, real)
        found["embedding"] = (who.float() - row.detach()).abs().mean()
    total = torch.stack([weights[name] * value for name, value in found.items()]).sum()
    net.zero_grad()
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), recipe["clip"])
    if norm.isfinite():
        for optimiser in made:
            optimiser.step()
    if against:
        told.zero_grad()
        row = run.discriminator.embed(batch.film)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe["bfloat16"]):
            real_score, _ = run.discriminator(batch.truth, row)
            fake_score, _ = run.discriminator(rgb.rgb.detach(), row.detach())
        found["discriminator"] = losses.hinge(real_score.float(), fake_score.float())
        found["discriminator"].backward()
        told.step()
    return {name: float(value.detach()) for name, value in found.items()}


def misread(net: LatentPose, made: Tensor, truth: Tensor, *, bfloat16: bool) -> Tensor:
    """How far what the network's own pose encoder reads from made pictures is from what it reads from true ones.

    Both are moved by a few pixels and partly blurred first, so that nothing can be written for this reader alone.
    """
    both = resized(torch.cat([made, truth]).clamp(0, 1), net.config.pose_size)
    shift = torch.randint(-_MOVED, _MOVED + 1, (2,)).tolist()
    both = both.roll(shift, (-2, -1))
    both = functional.avg_pool2d(both, 3, 1, 1) if torch.rand(()) < 0.5 else both
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        poses = net.embedder.pose(both.contiguous(memory_format=torch.channels_last))
    read = (net.reader(poses.float()) * importance().clamp_min(1.0)).chunk(2)
    return (read[0] - read[1].detach()).square().sum(1).mean()


def importance() -> Tensor:
    """(58,) of coefficients: turns of the head and what is seen best in a face count more, gaze and tongue less."""
    values = [next((value for start, value in _IMPORTANCE if name.startswith(start)), 1.0) for name in SHAPES]
    return torch.tensor([*values, *[2.0] * 6])


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Move the running average a step towards the network; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
    for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(theirs)


def _left_out(held: Bank, count: int, rng: np.random.Generator, *, masked: bool, size: int) -> Batch:
    """Frames of people left out, each driven by itself."""
    films, frames = (rng.integers(most, size=count) for most in held.images.shape[:2])
    still = np.zeros(2)
    places = zip(films.tolist(), frames.tolist(), strict=True)
    how = Drawing(4, augmented=False, masked=masked, size=size)
    rows = [_sample(held, place, how, still, rng) for place in places]
    arrays = [torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)]
    return Batch._make([*(a.movedim(-1, -3).float().div(255) for a in arrays[:4]), *arrays[4:]])


@torch.no_grad()
def measure(net: LatentPose, held: Bank) -> dict[str, float]:
    """Of people left out, driven by their own frames: L1, sharpness, how far jaws open, and R2 of coefficients.

    Sharpness is over the truth's; jaws are read from what was made, over what is read from the driver.
    """
    rng, net = np.random.default_rng(1), net.eval()
    batch = _left_out(held, 64, rng, masked=net.config.mask, size=net.config.size)
    found = net(batch.identity, batch.told(net))
    read = net.reader(net.embedder.pose(batch.told(net))) if net.config.coefficients else batch.coefficients
    off, spread = (read - batch.coefficients).square().mean(0), batch.coefficients.var(0)
    names = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "browInnerUp")
    scores = {f"r2_{n}": 1 - off[SHAPES.index(n)] / spread[SHAPES.index(n)].clamp_min(1e-6) for n in names}
    turn = 1 - off[52:].sum() / spread[52:].sum()
    values = {"l1": (found.rgb - batch.truth).abs().mean(), "r2_turn": turn, **scores}
    values["sharpness"] = losses.steepness(found.rgb) / losses.steepness(batch.truth)
    if net.config.coefficients and net.config.pose_encoder != "landmarks":
        again = net.reader(net.embedder.pose(resized(found.rgb.clamp(0, 1), net.config.pose_size)))
        jaws = torch.stack([part[:, SHAPES.index("jawOpen")] for part in (again, read)])
        jaws = jaws - jaws.mean(1, keepdim=True)
        values["jaw_slope"] = (jaws[0] * jaws[1]).sum() / jaws[1].square().sum().clamp_min(1e-9)
    return {name: round(float(value), 4) for name, value in values.items()}


@torch.no_grad()
def r2_of_poses(net: LatentPose, held: Bank) -> dict[str, float]:
    """R2 of what the head reads from all frames of people left out: the turn, all moving shapes together, and some."""
    rng, net, found = np.random.default_rng(1), net.eval(), []
    for images, masks in zip(held.images, held.masks, strict=True):
        seen = np.stack([_before(*pair, _behind(held, rng)) for pair in zip(images, masks, strict=True)])
        pictures = torch.from_numpy(seen).permute(0, 3, 1, 2).float().div(255)
        found.append(net.reader(net.embedder.pose(resized(pictures, net.config.pose_size))).numpy())
    truth = held.coefficients.reshape(-1, COEFFICIENTS)
    off, spread = np.square(np.concatenate(found) - truth).mean(0), truth.var(0)
    moving = np.flatnonzero(truth[:, :52].std(0) > _MOVES)
    chosen = {"turn": slice(52, None), "shapes": moving, **{name: [SHAPES.index(name)] for name in _LOOKED_FOR}}
    figures = {name: 1 - off[which].sum() / max(spread[which].sum(), 1e-6) for name, which in chosen.items()}
    return {f"r2_{name}": round(float(value), 4) for name, value in figures.items()}


@torch.no_grad()
def _show(path: Path, net: LatentPose, held: Bank) -> None:
    """Write a picture: who, driver, made, true, of people left out; and driven by others."""
    rng, net = np.random.default_rng(2), net.eval()
    batch = _left_out(held, 10, rng, masked=net.config.mask, size=net.config.size)
    made = net(batch.identity, batch.told(net)).rgb
    crossed = net(batch.identity, batch.told(net).roll(1, 0)).rgb
    driver = resized(batch.driver, net.config.size)
    rows = [batch.identity[:, 0], driver, made, batch.truth, driver.roll(1, 0), crossed]
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
    parser.add_argument("--begin", type=Path, help="the weights of a network that makes pictures already")
    script.add_changes(parser)
    script.work_as_job(parser, _work)


def _work(options: argparse.Namespace, job: script.Run) -> None:
    features = nets.load(options.features)
    assert isinstance(features, FaceFeatures)
    learnt = nets.load(options.begin) if options.begin else None
    assert learnt is None or isinstance(learnt, LatentPose)
    recipe = script.read_recipe(options.recipe, options.set)
    train(recipe, options.films, features.requires_grad_(False), job, learnt=learnt)


if __name__ == "__main__":
    main()
