"""Learn to read expressions from pictures of faces, beside the detector's points.

python -m inference.training.face_expression photograph --actors DIR --frames DIR --pictures DIR
python -m inference.training.face_expression shoot --actors DIR --frames DIR --pictures DIR [--people N] [--seed S]
python -m inference.training.face_expression learn --frames DIR --pictures DIR --out DIR [--recipe FILE]

`photograph` draws the faces of films anew that `face_response film` made, in which everything is seen once. `shoot`
films clips (`face_clips.py`). `learn` learns from both, beginning with the weights that `--begin` names; it writes a
checkpoint now and then and goes on from it.
"""

from __future__ import annotations

import argparse
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from ..core.cameras import Camera
from ..core.face_shapes import SHAPES
from ..core.rotations import nearest_rotation, rotvec_from_matrix
from ..face.crop import HEIGHT, SIDE, WIDTH, Unfold, carried, cut
from ..face.fit import Fitter
from ..face.mirror import TURN, Mirror, swapped_sides
from ..face.pictures import features
from ..face.reader import both_sides
from ..face.response import Response, load_response
from ..nets import face_expression
from ..nets.face_expression import ExpressionConfig, FaceExpression, build
from . import face_response as filming
from .algebraic import checkpoint, restore, save_weights
from .face_clips import CLIP, shoot
from .lifter import schedule
from .muon import Muon, adam_and_muon, scale_rates
from .script import LOG, Run, read_recipe, work_as_job
from .studio import acting
from .studio.actors import Actor
from .studio.portrait import Light
from .studio.raster import Raster

Array = np.ndarray
FRAMES = filming.FRAMES  # of a film; those with fewer are left out
RECIPE = Path(__file__).parent / "recipes" / "face_expression.toml"
MARGIN = 6  # px around unfolded faces, for shifts
_EDGE = 0.06  # of a face's size that is drawn around it
_MOVES = 0.05  # standard deviation of a shape that moves
_SEEN_ONCE = 0.4  # odds of learning from CLIP frames of a film that is no clip, of a clip's
_TURNS = 2.0  # of squared rad, beside squared weights
_OUTSIDE = ("convolutions.0.weight", "points.1.weight", "weights.weight")


def photograph(cast_folder: Path, films: Path, run: Run) -> None:
    """Draw the faces of films anew, each person in one light, and keep their crops.

    A film holds points and truths; who is in it follows from its name.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    files, load = filming.extras(cast_folder)
    for film in run.each("photograph", sorted(films.glob("*.npz"), key=_numbers)):
        target = run.out / film.name
        if target.exists():
            continue
        rng = np.random.default_rng(_numbers(film))
        actor = filming.somebody([load(file) for file in filming.met(files, rng)], rng)
        with np.load(film, allow_pickle=False) as a:
            crops = _crops(actor, {name: a[name] for name in a.files}, rng)
        temporary = target.with_suffix(".partial")
        with temporary.open("wb") as stream:
            np.savez(stream, crops=crops)
        os.replace(temporary, target)
        LOG.info("%s: %d frames", film.stem, len(crops))


def _numbers(film: Path) -> list[int]:
    """Seed and number of a film, from its name."""
    number, seed = film.stem.rpartition(filming.MIXED)[2].split("_")
    return [int(seed), int(number)]


def _crops(actor: Actor, film: dict[str, Array], rng: np.random.Generator) -> Array:
    """(N, SIDE, SIDE) uint8 of a film's frames."""
    light, noise, stage = Light.drawn(rng), rng.uniform(0, 4), Raster(actor.head)
    detail = np.exp(rng.uniform(np.log(0.5), np.log(1.4)))  # pixels drawn for one of the film's
    side, out = int(film["side"]), []
    for k, points in enumerate(film["points"][..., :2]):
        camera = acting.a_camera((side, side), float(film["f"][k]), film["R"][k], film["t"][k])
        near, seen = _close_up(camera, points, detail)
        stage.pose(actor.posed(film["weights"][k]).vertices)
        image, there = stage.photograph(near, light)
        image = np.where(there[..., None], image, acting.a_background(near.size, rng))
        image = (image + noise * rng.standard_normal(image.shape, np.float32)).clip(0, 255).astype(np.uint8)
        out.append(cut(image, seen))
    return np.array(out, np.uint8).reshape(-1, SIDE, SIDE)


def _close_up(camera: Camera, points: Array, detail: float) -> tuple[Camera, Array]:
    """A camera whose picture holds little more than a face, with `detail` pixels for one, and points (478, 2) in it."""
    low, high = points.min(0), points.max(0)
    edge = _EDGE * (high - low).max() + 0.1 * (high - low)
    corner = np.floor(low - edge)
    size = np.ceil((high + edge - corner) * detail).astype(int)
    matrix = camera.matrix.copy()
    matrix[:2, 2] -= corner
    matrix[:2] *= detail
    return replace(camera, matrix=matrix, size=(int(size[0]), int(size[1]))), (points - corner) * detail


@dataclass(frozen=True)
class Films:
    """What the network learns from, T = CLIP frames of each film.

    pictures (F, T, H, W) uint8, unfolded with a margin; points (F, T, N) and mirrored (F, T, N): `face.pictures.
    features` of the frames and of their mirror images; truth (F, T, 52); turns (F, T, 3) rad: how true rotations follow
    the fitted ones, but for the film's mean; names; odds (F,): how often to learn from a film.
    """

    pictures: Array
    points: Array
    mirrored: Array
    truth: Array
    turns: Array
    names: tuple[str, ...]
    odds: Array

    def __getitem__(self, rows: Array) -> Films:
        names = tuple(self.names[k] for k in rows)
        return Films(
            self.pictures[rows], self.points[rows], self.mirrored[rows], self.truth[rows], self.turns[rows], names,
            self.odds[rows],
        )  # fmt: skip


def read_films(folders: Sequence[Path], pictures: Sequence[Path], response: Response) -> Films:
    """Fit every film that has pictures as a person's film, and unfold its pictures; long ones become several."""
    fitter, unfold = Fitter(response), Unfold(response.mean, MARGIN)
    mirror = Mirror(response)
    parts, names, odds = [], [], []
    for path in sorted(path for folder in folders for path in folder.glob("*.npz")):
        seen = next((folder / path.name for folder in pictures if (folder / path.name).is_file()), None)
        if seen is None:
            continue
        with np.load(path, allow_pickle=False) as film, np.load(seen, allow_pickle=False) as crops:
            whole = len(film["f"])
            if whole not in (CLIP, FRAMES):
                continue
            rows = [np.arange(CLIP)] if whole == CLIP else _alike(film["weights"])
            columns = {name: film[name] for name in film.files}
            for some in rows:
                part = {name: value[some] if value.ndim else value for name, value in columns.items()}
                parts.append(_read(part, crops["crops"][some], fitter, unfold, mirror))
        for _ in rows:
            names.append(path.stem)
            odds.append(1.0 if whole == CLIP else _SEEN_ONCE)
    pictures_of, points, mirrored, truth, turns = (np.stack(column) for column in zip(*parts, strict=True))
    return Films(pictures_of, points, mirrored, truth, turns, tuple(names), np.array(odds))


def _alike(weights: Array) -> list[Array]:
    """Rows of frames, CLIP each, that show more of one thing than others: halves along the largest component."""
    off = weights - weights.mean(0)
    order = np.argsort(off @ np.linalg.svd(off, full_matrices=False)[2][0])
    return [np.sort(part) for part in np.split(order, len(order) // CLIP)]


def _read(film: dict[str, Array], crops: Array, fitter: Fitter, unfold: Unfold, mirror: Mirror) -> tuple[Array, ...]:
    """Unfolded pictures of a film, its features, those of its mirror image, truth, turns."""
    middle, focal, points = (float(film["side"]) - 1) / 2, film["f"][:, None, None], film["points"]
    rays, depth = (points[..., :2] - middle) / focal, points[..., 2] / focal[..., 0]
    who = fitter.identity(rays, depth)
    fitted = fitter.express(rays, depth, who, np.zeros(len(SHAPES)))
    pictures = unfold(crops, carried(rays, fitter.rest(fitted.poses, who)))
    plain, other = both_sides(fitter, rays, fitted, who, mirror)
    apart = np.swapaxes(fitted.poses.rotations, 1, 2) @ film["R"]
    turns = rotvec_from_matrix(apart @ nearest_rotation(apart.mean(0)).T)
    shown = features(who, plain), features(mirror.who(who), other)
    return pictures, *shown, film["weights"].astype(np.float32), turns.astype(np.float32)


class Batches:
    """Draws frames of films, changed as other lights, lenses, hands and errors of the fit would change them."""

    def __init__(self, films: Films, recipe: dict[str, Any], g: torch.Generator) -> None:
        self.films, self.recipe, self.g = films, recipe, g
        self.who = torch.from_numpy(np.ptp(films.points[0], axis=0) == 0)  # numbers that say who it is do not change
        self.swap, self.odds = torch.from_numpy(swapped_sides()), torch.from_numpy(films.odds)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Pictures (F, T, H, W), points (F, T, N), shown (F, T), truth (F, T, 52), turns (F, T, 3)."""
        many, g = self.recipe["films"], self.g
        film = torch.multinomial(self.odds, many, generator=g).numpy()
        pictures, points, mirrored, truth, turns = (
            torch.from_numpy(getattr(self.films, name)[film])
            for name in ("pictures", "points", "mirrored", "truth", "turns")
        )
        flip = torch.rand(many, 1, 1, generator=g) < 0.5
        points, truth = torch.where(flip, mirrored, points), torch.where(flip, truth[..., self.swap], truth)
        turns = torch.where(flip, turns * torch.tensor([1.0, -1.0, -1.0]), turns)
        pictures = torch.where(flip[..., None], pictures.flip(-1), pictures).float()
        shown = torch.rand(points.shape[:2], generator=g) < 0.97
        shown &= torch.rand(many, 1, generator=g) < 0.94
        known = torch.rand(many, 1, 1, generator=g) < 0.7
        blurred = known * (points + 0.3 * _normal((many, 1, points.shape[-1]), g))  # lest films be known by people
        points = torch.where(self.who, blurred, points + 0.1 * _normal(points.shape, g))
        return changed(pictures, g), points, shown, truth, turns


def changed(pictures: Tensor, g: torch.Generator) -> Tensor:
    """(F, T, H, W) of films' pictures with margins: moved, blurred, lit otherwise, noisy, partly hidden."""
    films, frames = pictures.shape[:2]
    x = _moved(pictures, g)
    across = torch.linspace(-1, 1, x.shape[-1])[None, :], torch.linspace(-1, 1, x.shape[-2])[:, None]
    ramp = sum(0.25 * _normal((films, 1, 1, 1), g) * way for way in across)
    x = x * torch.exp(ramp + 0.2 * _normal((films, 1, 1, 1), g) + 0.04 * _normal((films, frames, 1, 1), g))
    x = 255 * (x / 255).clamp(0, 1) ** torch.exp(0.3 * _normal((films, 1, 1, 1), g))
    share = torch.rand(films, 1, 1, 1, generator=g) * 3.0 - 0.7
    for level, size in enumerate((3, 3, 5)):
        soft = functional.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)
        x = torch.lerp(x, soft, (share - level).clamp(0, 1))
    x = _coarse(x, g)
    x = x + 8 * torch.rand(films, 1, 1, 1, generator=g) ** 2 * _normal(x.shape, g)
    return _hidden(x, g)


def _coarse(pictures: Tensor, g: torch.Generator) -> Tensor:
    """Show some films in fewer pixels, as small faces are."""
    out = pictures.clone()
    for film in (torch.rand(len(pictures), generator=g) < 0.35).nonzero().flatten().tolist():
        share = 0.3 + 0.5 * float(torch.rand(1, generator=g))
        size = round(share * HEIGHT), round(share * WIDTH)
        few = functional.interpolate(pictures[film, :, None], size, mode="bilinear", antialias=True)
        out[film] = functional.interpolate(few, (HEIGHT, WIDTH), mode="bicubic")[:, 0]
    return out


def _moved(pictures: Tensor, g: torch.Generator) -> Tensor:
    """Shift, turn and stretch a little, films and frames."""
    films, frames, high, wide = pictures.shape
    off = 0.5 * _normal((films, 1, 6), g) + 0.25 * _normal((films, frames, 6), g)  # px in the middle of an edge
    linear = torch.eye(2) + 0.02 * off[..., :4].unflatten(-1, (2, 2))
    size = torch.tensor([WIDTH, HEIGHT]), torch.tensor([wide, high])
    linear = linear * (size[0][None, :] / size[1][:, None])
    shift = 2.0 * off[..., 4:] / size[1]
    carry = torch.cat([linear, shift[..., None]], -1).flatten(0, 1)
    where = functional.affine_grid(carry, [films * frames, 1, HEIGHT, WIDTH], align_corners=False)
    out = functional.grid_sample(pictures.flatten(0, 1)[:, None], where, padding_mode="border", align_corners=False)
    return out[:, 0].unflatten(0, (films, frames))


def _hidden(pictures: Tensor, g: torch.Generator) -> Tensor:
    """Cover a part of some frames."""
    for film, frame in (torch.rand(pictures.shape[:2], generator=g) < 0.1).nonzero().tolist():
        a, b, c, d, tone = torch.rand(5, generator=g).tolist()
        x, y = int(a * WIDTH), int(b * HEIGHT)
        pictures[film, frame, y : y + int(8 + c * 40), x : x + int(8 + d * 40)] = 255 * tone
    return pictures


def _normal(shape: Sequence[int], g: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=g)


def learn(films: Films, recipe: dict[str, Any], run: Run, begin: Path | None = None) -> FaceExpression:
    """Learn from most films, or go on; see how wrong the clips that are left out are read.

    begin: weights to begin with. Who is in the clips left out is mixed of the same actors: strangers are read no worse.
    """
    torch.manual_seed(recipe["seed"])
    config = {**ExpressionConfig().to_dict(), **recipe["net"], "points": films.points.shape[-1]}
    net = build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if begin is not None:
        net.load_state_dict(load_file(begin))
    optimisers, unseen = optimisers_of(net, recipe), left_out(films)
    first = restore(run.out, net, *optimisers)
    train(net, optimisers, films[np.flatnonzero(~unseen)], recipe, run, steps=range(first, recipe["steps"]))
    if not run.is_cancelled:
        LOG.info("left out: %s", measure(net, films[np.flatnonzero(unseen)]))
        net.information.copy_(information_of(net, films[np.flatnonzero(unseen)], recipe["least_error"]))
        checkpoint(run.out, recipe["steps"], net, *optimisers)
    return net.eval()


def optimisers_of(net: FaceExpression, recipe: dict[str, Any]) -> tuple[torch.optim.AdamW, Muon]:
    """Muon for what is between the first and the last layers."""
    return adam_and_muon(
        net, lambda name, value: value.ndim > 1 and name not in _OUTSIDE, lr=recipe["lr"], muon_lr=recipe["muon_lr"],
        decay=recipe["decay"], muon_decay=recipe["decay"],
    )  # fmt: skip


def left_out(films: Films) -> Array:
    """(F,) bool: an eighth of the clips."""
    chosen = np.array([zlib.crc32(name.encode()) % 8 == 0 for name in films.names])
    return chosen & (films.odds == 1)


def train(
    net: FaceExpression, optimisers: Sequence[torch.optim.Optimizer], films: Films, recipe: dict[str, Any], run: Run, *,
    steps: range,
) -> None:  # fmt: skip
    """Make steps; leaves a checkpoint."""
    batches = Batches(films, recipe, torch.Generator().manual_seed(recipe["seed"] + steps.start))
    began, saved, running = time.process_time(), time.monotonic(), 0.0
    step, last = steps.start, steps.stop
    while run.goes_on(step, last):
        scale_rates(optimisers, schedule(step, last, 100, 2 * last // 3))
        running += _step(net.train(), optimisers, batches.draw())
        step += 1
        if step % 100 == 0:
            pace = 1e3 * (time.process_time() - began) / 100
            LOG.info("step %d squared %.5f, %.0f ms", step, running / 100, pace)
            began, running = time.process_time(), 0.0
        if time.monotonic() - saved > 240:
            checkpoint(run.out, step, net, *optimisers)
            saved = time.monotonic()
    checkpoint(run.out, step, net, *optimisers)


def _step(net: FaceExpression, optimisers: Sequence[torch.optim.Optimizer], batch: tuple[Tensor, ...]) -> float:
    """Make one step; gives the mean squared error of weights."""
    pictures, points, shown, truth, turns = batch
    with torch.autocast("cpu", torch.bfloat16):
        found = net(pictures, points, shown)
    weights, found_turns = found.float().split((len(SHAPES), 3), -1)
    apart, wrong = found_turns - turns, (weights - truth).square().mean()
    lean = apart.mean(1, keepdim=True)  # how a film's head is turned as a whole is not known
    loss = wrong + _TURNS * ((apart - lean).square().mean() + 0.1 * lean.square().mean())
    net.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return float(wrong.detach())


@torch.no_grad()
def guesses(net: FaceExpression, films: Films, *, shown: bool = True) -> Array:
    """(F, T, 52 + 3) weights and turns read from unchanged films and their mirror images, with pictures or without."""
    swap, out, net = swapped_sides(), [], net.eval()
    for row in range(len(films.truth)):
        picture = torch.from_numpy(films.pictures[row, :, MARGIN:-MARGIN, MARGIN:-MARGIN]).float()
        points = torch.from_numpy(np.stack([films.points[row], films.mirrored[row]]))
        plain, other = net(
            torch.stack([picture, picture.flip(-1)]), points, torch.full(points.shape[:2], shown)
        ).numpy()
        other = np.concatenate([other[:, : len(SHAPES)][:, swap], other[:, len(SHAPES) :] * TURN], 1)
        out.append((plain + other) / 2)
    return np.stack(out)


def information_of(net: FaceExpression, films: Films, least: float) -> Tensor:
    """(52, 52) inverse of the covariance of errors, each at least so large."""
    off = (guesses(net, films)[..., : len(SHAPES)] - films.truth).reshape(-1, len(SHAPES)).astype(float)
    return torch.from_numpy(np.linalg.inv(off.T @ off / len(off) + least**2 * np.eye(len(SHAPES)))).float()


def measure(net: FaceExpression, films: Films) -> dict[str, float]:
    """Of films, with pictures and without: error and correlation of shapes that move in a film, degrees of turns."""
    out = {}
    for name, shown in (("pictures", True), ("points", False)):
        found = guesses(net, films, shown=shown)
        weights, apart = found[..., : len(SHAPES)].clip(0, 1), found[..., len(SHAPES) :] - films.turns
        moves = films.truth.std(1) > _MOVES
        away = [one - one.mean(1, keepdims=True) for one in (weights, films.truth)]
        sizes = [np.square(one).sum(1) for one in away]
        each = (away[0] * away[1]).sum(1) / np.sqrt(sizes[0] * sizes[1] + 1e-12)
        off = np.abs(weights - films.truth).mean(1)
        turned = np.linalg.norm(apart - apart.mean(1, keepdims=True), axis=-1).mean()
        figures = {"error": off[moves].mean(), "correlation": each[moves].mean(), "degrees": np.degrees(turned)}
        out |= {f"{name}_{key}": round(float(value), 4) for key, value in figures.items()}
    return out


def main() -> None:
    """Do one of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("photograph", "shoot", "learn"))
    parser.add_argument("--actors", type=Path)
    parser.add_argument("--frames", type=Path, action="append", required=True)
    parser.add_argument("--pictures", type=Path, action="append", required=True)
    parser.add_argument("--people", type=int, default=1000, help="of whom clips are shot")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--begin", type=Path, help="weights to begin with")
    parser.add_argument("--out", type=Path)
    work_as_job(parser, _work, lambda options: options.out or options.pictures[0])


def _work(options: argparse.Namespace, run: Run) -> None:
    if options.step == "photograph":
        for folder in options.frames:
            photograph(options.actors, folder, run)
        return
    if options.step == "shoot":
        shoot(options.actors, options.frames[0], options.pictures[0], (options.people, options.seed), run)
        return
    torch.set_num_threads(1)
    recipe = read_recipe(options.recipe)
    films = read_films(options.frames, options.pictures, load_response())
    net = learn(films, recipe, run, options.begin)
    figures = {"films": float(len(films.names))}
    save_weights(run.out / "face_expression.safetensors", net.half(), face_expression, recipe, figures)


if __name__ == "__main__":
    main()
