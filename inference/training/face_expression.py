"""Learn to read expressions from pictures of faces, beside the detector's points.

python -m inference.training.face_expression photograph --actors DIR --frames DIR --pictures DIR
python -m inference.training.face_expression learn --frames DIR --pictures DIR --out DIR [--recipe FILE]

FRAMES are films that `face_response film` made: their faces are drawn anew for `photograph`. `learn` writes a
checkpoint now and then and goes on from it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..core.cameras import Camera
from ..core.face_shapes import SHAPES
from ..face.crop import HEIGHT, SIDE, WIDTH, Unfold, carried, cut
from ..face.fit import Fitter
from ..face.reader import join_features, views_of
from ..face.response import Response, load_response
from ..head.wrap import load_template
from ..nets import face_expression
from ..nets.face_expression import ExpressionConfig, FaceExpression, build
from . import face_response as filming
from .algebraic import checkpoint, restore, save_weights
from .lifter import schedule
from .muon import adam_and_muon, scale_rates
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
    """What the network learns from, T frames of each film.

    pictures (F, T, H, W) uint8, unfolded with a margin; points (F, T, N) and mirrored (F, T, N): `face.reader.features`
    of the frames and of their mirror images; truth (F, T, 52); names.
    """

    pictures: Array
    points: Array
    mirrored: Array
    truth: Array
    names: tuple[str, ...]

    def __getitem__(self, rows: Array) -> Films:
        names = tuple(self.names[k] for k in rows)
        return Films(self.pictures[rows], self.points[rows], self.mirrored[rows], self.truth[rows], names)


def read_films(folders: list[Path], pictures: Path, response: Response) -> Films:
    """Fit every film that has pictures as a person's film, and unfold its pictures."""
    fitter, unfold = Fitter(response), Unfold(response.mean, MARGIN)
    mirror = filming.mirror_points(load_template())
    parts, names = [], []
    for path in sorted(path for folder in folders for path in folder.glob("*.npz")):
        if (pictures / path.name).is_file():
            with np.load(path, allow_pickle=False) as film, np.load(pictures / path.name, allow_pickle=False) as seen:
                found = _read(dict(film), seen["crops"], fitter, unfold, mirror) if len(film["f"]) == FRAMES else None
            if found is not None:
                parts.append(found)
                names.append(path.stem)
    columns = [np.stack(column) for column in zip(*parts, strict=True)]
    return Films(columns[0], columns[1], columns[2], columns[3], tuple(names))


def _read(film: dict[str, Array], crops: Array, fitter: Fitter, unfold: Unfold, mirror: Array) -> tuple[Array, ...]:
    """Unfolded pictures of a film, its features, those of its mirror image, and truth."""
    middle, focal, points = (float(film["side"]) - 1) / 2, film["f"][:, None, None], film["points"]
    rays, depth = (points[..., :2] - middle) / focal, points[..., 2] / focal[..., 0]
    who = fitter.identity(rays, depth)
    fitted = fitter.express(rays, depth, who, np.zeros(len(SHAPES)))
    views = views_of(fitted.poses)
    left = fitter.residuals(rays, np.zeros_like(film["weights"]), fitted.poses, who)
    pictures = unfold(crops, carried(rays, fitter.rest(fitted.poses, who)))
    swap = filming.swapped_sides()
    plain = join_features(left, fitted.weights, views, fitter.response)
    other = join_features(
        left[:, mirror] * [-1.0, 1.0], fitted.weights[:, swap], views * [-1.0, 1.0], fitter.response
    )  # fmt: skip
    truth = film["weights"]
    return pictures, *(part.astype(np.float32) for part in (plain, other, truth))


class Batches:
    """Draws frames of films, changed as other lights, lenses, hands and errors of the fit would change them."""

    def __init__(self, films: Films, recipe: dict[str, Any], g: torch.Generator) -> None:
        self.films, self.recipe, self.g = films, recipe, g
        self.swap = torch.from_numpy(filming.swapped_sides())

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures (F, T, H, W), points (F, T, N), shown (F, T), truth (F, T, 52)."""
        many, each, g = self.recipe["films"], self.recipe["frames"], self.g
        film = torch.randint(len(self.films.truth), (many,), generator=g)[:, None].expand(-1, each)
        total = self.films.truth.shape[1]
        first = [total - each if torch.rand(1, generator=g) < 0.6 else 0 for _ in range(many)]  # performances come last
        frame = torch.stack([low + torch.randperm(total - low, generator=g)[:each] for low in first])
        rows = film.numpy(), frame.numpy()
        pictures, points, mirrored, truth = (
            torch.from_numpy(getattr(self.films, name)[rows]) for name in ("pictures", "points", "mirrored", "truth")
        )
        flip = torch.rand(many, 1, 1, generator=g) < 0.5
        points, truth = torch.where(flip, mirrored, points), torch.where(flip, truth[..., self.swap], truth)
        pictures = torch.where(flip[..., None], pictures.flip(-1), pictures).float()
        shown = torch.rand(many, each, generator=g) < 0.97
        shown &= torch.rand(many, 1, generator=g) < 0.88
        return changed(pictures, g), points + 0.1 * _normal(points.shape, g), shown, truth


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


def learn(films: Films, recipe: dict[str, Any], run: Run) -> FaceExpression:
    """Learn from half of the people, see how wrong the other half is read, and go on with all; or go on."""
    torch.manual_seed(recipe["seed"])
    strange = np.array([filming.half_of(name) for name in films.names]) == 1
    config = {**ExpressionConfig().to_dict(), **recipe["net"], "points": films.points.shape[-1]}
    net = build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inside = {"face.2.weight", "points.4.weight", "usual.0.weight", "both.2.weight"}
    optimisers = adam_and_muon(
        net, lambda name, _: name in inside, lr=recipe["lr"], muon_lr=recipe["muon_lr"], decay=recipe["decay"],
        muon_decay=recipe["decay"],
    )  # fmt: skip
    step, half = restore(run.out, net, *optimisers), recipe["steps"]
    if step < half:
        known, unseen = films[np.flatnonzero(~strange)], films[np.flatnonzero(strange)]
        train(net, optimisers, known, recipe, run, steps=range(step, half), first=0)
        if run.is_cancelled:
            return net
        LOG.info("left out: %s", measure(net, unseen))
        net.information.copy_(information_of(net, unseen, recipe["least_error"]))
        checkpoint(run.out, half, net, *optimisers)
    rest = range(max(step, half), half + recipe["more_steps"])
    train(net, optimisers, films, recipe, run, steps=rest, first=half)
    return net.eval()


def train(
    net: FaceExpression, optimisers: Sequence[torch.optim.Optimizer], films: Films, recipe: dict[str, Any], run: Run, *,
    steps: range, first: int,
) -> None:  # fmt: skip
    """Make steps of a training that began at the `first`; leaves a checkpoint."""
    batches = Batches(films, recipe, torch.Generator().manual_seed(recipe["seed"] + steps.start))
    began, saved, running = time.process_time(), time.monotonic(), 0.0
    step, last = steps.start, steps.stop
    while run.goes_on(step, last):
        scale_rates(optimisers, schedule(step - first, last - first, 100, 2 * (last - first) // 3))
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
    """Make one step; gives the mean squared error."""
    pictures, points, shown, truth = batch
    with torch.autocast("cpu", torch.bfloat16):
        found = net(pictures, points, shown)
    loss = (found.float() - truth).square().mean()
    net.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def guesses(net: FaceExpression, films: Films, *, shown: bool = True) -> Array:
    """(F, T, 52) weights read from unchanged films, with their pictures or without."""
    out = []
    for row in range(len(films.truth)):
        picture = films.pictures[row : row + 1, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        seen = torch.full(picture.shape[:2], shown)
        out.append(
            net.eval()(torch.from_numpy(picture).float(), torch.from_numpy(films.points[row : row + 1]), seen)[0]
        )
    return torch.stack(out).numpy()


def information_of(net: FaceExpression, films: Films, least: float) -> Tensor:
    """(52, 52) inverse of the covariance of errors, each at least so large."""
    off = (guesses(net, films) - films.truth).reshape(-1, len(SHAPES)).astype(float)
    return torch.from_numpy(np.linalg.inv(off.T @ off / len(off) + least**2 * np.eye(len(SHAPES)))).float()


def measure(net: FaceExpression, films: Films) -> dict[str, float]:
    """Of films: error and mean correlation, with pictures and without."""
    out = {}
    for name, shown in (("pictures", True), ("points", False)):
        found = guesses(net, films, shown=shown).clip(0, 1)
        moving = [k for k in range(len(SHAPES)) if films.truth[..., k].std() > 0.01]
        each = [np.corrcoef(found[..., k].ravel(), films.truth[..., k].ravel())[0, 1] for k in moving]
        out[f"{name}_error"] = round(float(np.abs(found - films.truth).mean()), 4)
        out[f"{name}_correlation"] = round(float(np.mean(each)), 4)
    return out


def main() -> None:
    """Do one of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("photograph", "learn"))
    parser.add_argument("--actors", type=Path)
    parser.add_argument("--frames", type=Path, action="append", required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--out", type=Path)
    work_as_job(parser, _work, lambda options: options.out or options.pictures)


def _work(options: argparse.Namespace, run: Run) -> None:
    if options.step == "photograph":
        for folder in options.frames:
            photograph(options.actors, folder, run)
        return
    torch.set_num_threads(1)
    recipe = read_recipe(options.recipe)
    films = read_films(options.frames, options.pictures, load_response())
    net = learn(films, recipe, run)
    figures = {"films": float(len(films.names))}
    save_weights(run.out / "face_expression.safetensors", net.half(), face_expression, recipe, figures)


if __name__ == "__main__":
    main()
