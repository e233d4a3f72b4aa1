"""Learn how a detector's points answer to faces, and to read weights from them; from heads that act.

python -m inference.training.face_response cast --data DIR --actors DIR [--more N]
python -m inference.training.face_response film --actors DIR --frames DIR [--people N] [--seed S]
python -m inference.training.face_response learn --frames DIR --out FILE [--recipe FILE]

`cast` makes the actors, `film` shows the detector frames of those who are not held out, `learn` writes the weights.
"""

from __future__ import annotations

import argparse
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.cameras import Camera, project
from ..core.face_shapes import SHAPES
from ..core.rotations import nearest_rotation
from ..face.fit import Fitter, spread, upright_of
from ..face.mirror import mirrored_points, swapped_sides
from ..face.reader import features
from ..face.response import VIEWS, Response, save_response, view_features
from ..head.frame import similarity
from ..head.template import Template
from ..head.wrap import load_template
from ..sight.faces import Faces, Square, square_of
from . import portraits
from .script import LOG, Run, read_recipe, work_as_job
from .studio import acting, actors, heads
from .studio.portrait import Light
from .studio.raster import Raster

Array = np.ndarray
RECIPE = Path(__file__).parent / "recipes" / "face_response.toml"
FACE_M = 0.30  # of the head's surroundings that a frame shows
_SQUARE_M, _ABOVE_M = 0.24, 0.0175  # the detector's square, and its middle above that of eyes and chin
_POINTS, _SHAPES = 478, len(SHAPES)
FOREIGN = "foreign_"
_FOREIGN_SHARE = 0.4  # of people filmed
_MORE = 2000  # seeds from which on people have no other rig than the head model's
MIXED = "+"  # between the name of the first of whom somebody is mixed and a number
_REMEMBERED = 60  # actors
FRAMES = 32  # of a person


def is_held_out(name: str) -> bool:
    """Whether an actor is never trained on."""
    person = name.removeprefix(FOREIGN)
    return person in portraits.HELD_OUT or person in {f"ict_{seed}" for seed in portraits.HELD_OUT_MODEL}


def cast(data: Path, run: Run, people: int = 74, *, only_held_out: bool = False) -> None:
    """Make all actors: avatars and people of the head model, in the template's rig and in their own.

    Who is there is not made again.
    """
    import mediapipe

    template, out = load_template(), run.out
    out.mkdir(parents=True, exist_ok=True)
    textures: dict[bool, list[Array]] = {True: [], False: []}
    with mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
    ) as finder:
        for name in run.each("cast", heads.valid_names(data)):
            if only_held_out and not is_held_out(name):
                continue
            path = out / f"{name}.npz"
            if not path.exists():
                one = actors.wrap_head(template, portraits.make(data, name), finder, zlib.crc32(name.encode()) % 1000)
                actors.wrapped(one, template).save(path)
                LOG.info("%s", name)
            textures[is_held_out(name)].append(actors.load_actor(path).head.textures[0])
            if not (own := out / f"{FOREIGN}{name}.npz").exists():
                actors.avatar(data, name).save(own)
        for seed in run.each("draw", (*range(people), *list(portraits.HELD_OUT_MODEL)[:5])):
            path, rng = out / f"ict_{seed}.npz", np.random.default_rng([0, seed])
            if path.exists():
                continue
            pool = textures[is_held_out(f"ict_{seed}")]
            bald = heads.make_ict(data, seed, expression=0.0, hair=False).canonical()
            haired = heads.make_ict(data, seed, expression=0.0).canonical()
            one = actors.wrap_head(template, bald, finder, seed)
            has_hair = len(haired.vertices) > len(bald.vertices)
            shown = replace(one, source=haired if has_hair else bald)
            texture, other = (pool[k] for k in rng.integers(len(pool), size=2))
            actors.foreign(data, bald, one, other).save(out / f"{FOREIGN}{path.name}")
            actors.wrapped(shown, template, texture=texture, hair=has_hair).save(path)
            LOG.info("ict_%d", seed)


def cast_more(data: Path, run: Run, people: int) -> None:
    """Make more people of the head model, in its own rig alone: a second each, where `cast` needs ten and more."""
    if not people:
        return
    first = actors.load_actor(next(run.out.glob(f"{FOREIGN}ict_*.npz")))
    known = [file for file in _known(run.out) if not file.stem.startswith((FOREIGN, "ict_"))]
    textures = [actors.load_actor(file).head.textures[0] for file in known]
    for seed in run.each("draw", range(_MORE, _MORE + people)):
        path = run.out / f"{FOREIGN}ict_{seed}.npz"
        if not path.exists():
            person = heads.make_ict(data, seed, expression=0.0, hair=False).canonical()
            texture = textures[int(np.random.default_rng([1, seed]).integers(len(textures)))]
            actors.akin(data, person, first, texture).save(path)
            LOG.info("%s", path.stem)


def film(cast_folder: Path, run: Run, people: int, seed: int, side: int = 272) -> None:
    """Show the detector frames of people mixed of actors who are not held out; what is there is not made again."""
    run.out.mkdir(parents=True, exist_ok=True)
    files, load = extras(cast_folder)
    with Faces() as faces:
        for number in run.each("film", range(people)):
            rng = np.random.default_rng([seed, number])
            chosen = met(files, rng)
            target = run.out / f"{chosen[0].stem}{MIXED}{number}_{seed}.npz"
            if target.exists():
                continue
            actor = somebody([load(file) for file in chosen], rng)
            seen = list(_filmed(actor, faces, side, rng))
            if seen:
                names = ("weights", "R", "t", "f", "points")
                columns = {name: np.array(value) for name, value in zip(names, zip(*seen, strict=True), strict=True)}
                temporary = target.with_suffix(".partial")
                with temporary.open("wb") as stream:
                    np.savez(stream, side=side, **columns)
                os.replace(temporary, target)
            LOG.info("%d, %s: %d of %d frames", number, target.stem, len(seen), FRAMES)


def extras(cast_folder: Path) -> tuple[list[Path], Callable[[Path], actors.Actor]]:
    """Files of actors who are not held out and can be mixed, and what reads them, bald."""
    files = [file for file in _known(cast_folder) if not is_avatar(file.stem)]
    return files, lru_cache(_REMEMBERED)(lambda file: _bald(actors.load_actor(file), file.stem))


def avatars(cast_folder: Path) -> list[Path]:
    """Files of avatars in their own rigs who are not held out: each has a mesh of its own, so they cannot be mixed."""
    return [file for file in _known(cast_folder) if is_avatar(file.stem)]


def is_avatar(name: str) -> bool:
    """Whether an actor is an avatar in its own rig."""
    return name.startswith(FOREIGN) and not name.startswith(f"{FOREIGN}ict_")


def _known(cast_folder: Path) -> list[Path]:
    return [file for file in sorted(cast_folder.glob("*.npz")) if not is_held_out(file.stem)]


def half_of(name: str) -> int:
    """0 or 1: in which of two halves, that never mix, an actor is, or who is mixed of such."""
    return zlib.crc32(name.removeprefix(FOREIGN).partition(MIXED)[0].encode()) % 2


def met(files: list[Path], rng: np.random.Generator) -> list[Path]:
    """Three actors of one rig and one half, to be mixed."""
    foreign, half = rng.random() < _FOREIGN_SHARE, rng.integers(2)
    fit = [f for f in files if f.stem.startswith(FOREIGN) == foreign and half_of(f.stem) == half]
    return [fit[k] for k in rng.choice(len(fit), 3, replace=False)]


def somebody(some: list[actors.Actor], rng: np.random.Generator) -> actors.Actor:
    """Who is mixed of actors that met, dressed."""
    return _dressed(actors.mixed(some, _shares(len(some), rng)), rng)


def _shares(count: int, rng: np.random.Generator) -> Array:
    """(K,) shares that sum to 1, as do their squares: mixed people differ from each other as much as actors do."""
    away = rng.normal(size=count)
    away -= away.mean()
    return 1 / count + away / np.linalg.norm(away) * np.sqrt(1 - 1 / count)


def _bald(actor: actors.Actor, name: str) -> actors.Actor:
    return actor if name.startswith(FOREIGN) else actors.shaved(actor)


def _dressed(actor: actors.Actor, rng: np.random.Generator) -> actors.Actor:
    """The same with another tone of skin, and mostly with hair."""
    actor = toned(actor, rng)
    return actors.with_hair(actor, rng) if rng.random() < 0.6 else actor


def toned(actor: actors.Actor, rng: np.random.Generator) -> actors.Actor:
    """The same with another tone of skin."""
    gain, bend = np.exp(rng.normal() * 0.15 + rng.normal(size=3) * 0.05), np.exp(rng.normal() * 0.12)
    tones = np.linspace(0, 1, 256)[:, None]
    tones = (255 * np.clip(tones * gain, 0, 1) ** bend).astype(np.uint8)
    textures = list(actor.head.textures)
    sheet = int(np.argmax([texture.size for texture in textures]))
    color = [tones[textures[sheet][..., k], k] for k in range(3)]
    textures[sheet] = np.stack([*color, textures[sheet][..., 3]], -1)
    return replace(actor, head=replace(actor.head, textures=tuple(textures)))


def _acted(rng: np.random.Generator) -> Array:
    """(FRAMES, 52) expressions: half of them each by itself, half out of a performance."""
    alone = acting.expressions(FRAMES // 2, rng)
    played = acting.perform(30.0, 5.0, rng, busy=rng.uniform(0.8, 3.5)).weights
    return np.concatenate([alone, played[rng.choice(len(played), FRAMES - len(alone), replace=False)]])


def _filmed(actor: actors.Actor, faces: Faces, side: int, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    weights = _acted(rng) * actor.moves
    turned = (rng.normal(size=(FRAMES, 3)) * np.radians([16.0, 10.0, 9.0])).clip(-acting.MOST, acting.MOST)
    stage = Raster(actor.head)
    light, noise = Light.drawn(rng), 0.0
    for k in range(FRAMES):
        if k % 8 == 0:
            light, noise = Light.drawn(rng), rng.uniform(0, 5)
        distance = rng.uniform(0.4, 1.3)
        focal = side * distance / FACE_M * rng.uniform(0.85, 1.15)
        at = np.array([[rng.normal() * 0.02, rng.normal() * 0.02, distance]])
        rotation, translation = (value[0] for value in acting.place(turned[k : k + 1], at))
        stage.pose(actor.posed(weights[k]).vertices)
        camera = acting.a_camera((side, side), focal, rotation, translation)
        image = shot(stage.photograph(camera, light), acting.a_background((side, side), rng), noise, rng)
        points = points_near(image, faces, camera, actor.head.landmarks, rng)
        if points is not None:
            yield weights[k], rotation, translation, focal, points.astype(np.float32)


def shot(seen: tuple[Array, Array], behind: Array, noise: float, rng: np.random.Generator) -> Array:
    """(H, W, 3) uint8: what `Raster.photograph` gave, before a background (H, W, 3), with a sensor's noise."""
    image = np.where(seen[1][..., None], seen[0], behind)
    return (image + noise * rng.standard_normal(image.shape, np.float32)).clip(0, 255).astype(np.uint8)


def expected_square(camera: Camera, landmarks: Array) -> Square:
    """About where a face is in the picture, by its landmarks (6, 3)."""
    marks = project(camera, landmarks)
    across = marks[0] - marks[1]
    x, y = (marks[:2].mean(0) + marks[3]) / 2
    metre = camera.matrix[0, 0] / camera.translation[2]
    return float(x), float(y - _ABOVE_M * metre), float(_SQUARE_M * metre), float(np.arctan2(across[1], across[0]))


def points_near(
    image: Array, faces: Faces, camera: Camera, landmarks: Array, rng: np.random.Generator
) -> Array | None:  # fmt: skip
    """(478, 3) points that the detector sees near landmarks (6, 3), in a square as the frame before would give it."""
    first = faces.read_square(image, expected_square(camera, landmarks))
    if first is None or first[1] < 0.5:
        return None
    x, y, size, turn = square_of(first[0])
    found = faces.read_square(image, (x, y, size * rng.uniform(0.94, 1.06), turn + rng.normal() * 0.03))
    return None if found is None or found[1] < 0.5 else found[0]


@dataclass(frozen=True)
class Frames:
    """Frames whose truth is known.

    weights (N, 52); camera-from-head rotations (N, 3, 3), translations (N, 3); rays (N, 478, 2), depth (N, 478);
    actor (N,) into names; clip (N,): frames that are fitted as one person's film.
    """

    weights: Array
    rotations: Array
    translations: Array
    rays: Array
    depth: Array
    actor: Array
    clip: Array
    names: tuple[str, ...]

    def __getitem__(self, rows: Array) -> Frames:
        arrays = {name: getattr(self, name)[rows] for name in (
            "weights", "rotations", "translations", "rays", "depth", "actor", "clip")}  # fmt: skip
        return replace(self, **arrays)

    @property
    def own(self) -> Array:
        """(N,) bool: frames of the template's rig."""
        return ~np.array([name.startswith(FOREIGN) for name in self.names])[self.actor]


def read_frames(folders: list[Path]) -> Frames:
    """Read what `film` wrote."""
    files = [file for folder in folders for file in sorted(folder.glob("*.npz"))]
    names = sorted({file.stem.rpartition("_")[0] for file in files})
    parts: dict[str, list[Array]] = {}
    for clip, file in enumerate(files):
        with np.load(file, allow_pickle=False) as a:
            focal, middle = a["f"][:, None, None], (float(a["side"]) - 1) / 2
            entry = {
                "weights": a["weights"], "rotations": a["R"], "translations": a["t"],
                "rays": (a["points"][..., :2] - middle) / focal, "depth": a["points"][..., 2] / focal[..., 0],
                "actor": np.full(len(focal), names.index(file.stem.rpartition("_")[0])),
                "clip": np.full(len(focal), clip),
            }  # fmt: skip
        for key, value in entry.items():
            parts.setdefault(key, []).append(value)
    return Frames(**{key: np.concatenate(value) for key, value in parts.items()}, names=tuple(names))


def levelled(frames: Frames, template: Template) -> Frames:
    """The same with every actor's frame turned as faces are turned, not as the landmarks of `head.frame` say.

    Those make a head upright by its nose and chin, so that people's frames differ by up to 15 degrees.
    """
    mean = template.landmarks(template.vertices)
    fitter_poses = starts(mean, frames.rays, frames.depth)
    rotations, translations = frames.rotations.copy(), frames.translations.copy()
    middle = mean.mean(0)
    for actor in range(len(frames.names)):
        rows = np.flatnonzero(frames.actor == actor)
        off = np.swapaxes(frames.rotations[rows], 1, 2) @ fitter_poses[rows]
        turn = nearest_rotation(np.median(off, 0))
        rotations[rows] = frames.rotations[rows] @ turn
        translations[rows] += (frames.rotations[rows] - rotations[rows]) @ middle
    return replace(frames, rotations=rotations, translations=translations)


def starts(mean: Array, rays: Array, depth: Array) -> Array:
    """(N, 3, 3) turns of a mean face that lay it on points with their depths."""
    seen = np.concatenate([rays, depth[..., None]], -1)[:, :468]
    return np.stack([similarity(mean[:468], one)[1] for one in seen])


@dataclass(frozen=True)
class Linear:
    """means (K, 478, 3) of actors; shapes (52, 478, 3); views (5, 478, 3); left (N, 478, 2) metres."""

    means: Array
    shapes: Array
    views: Array
    left: Array


def linear(frames: Frames, template: Template) -> Linear:
    """Points of each actor at rest, and what shapes and views add, from frames whose poses are known.

    Each point by itself: where it is in space is linear in its rays (direct linear transform), and where it is on the
    head is linear in all that is asked for. The template's geometry is what is expected beforehand.
    """
    order = np.argsort(frames.actor, kind="stable")
    starts_at = np.searchsorted(frames.actor[order], np.arange(len(frames.names)))
    sorted_frames = frames[order]
    count, people = len(order), len(frames.names)
    moves = np.concatenate(
        [sorted_frames.weights, view_features(sorted_frames.rotations, sorted_frames.translations)], 1
    )
    mean = template.landmarks(template.vertices)
    expected = np.concatenate([[template.landmarks(key) for key in template.shape_keys], np.zeros((VIEWS, _POINTS, 3))])
    doubt = np.repeat(np.concatenate([np.full(_SHAPES, 0.003), np.full(VIEWS, 0.01)]), 3)
    means, out, left = np.empty((people, _POINTS, 3)), np.empty_like(expected), np.empty((count, _POINTS, 2))
    believed = np.where(sorted_frames.own, 1.0, 0.7)
    for point in range(_POINTS):
        ray = sorted_frames.rays[:, point]
        slant = sorted_frames.rotations[:, :2] - ray[..., None] * sorted_frames.rotations[:, 2:]
        wanted = ray * sorted_frames.translations[:, 2:] - sorted_frames.translations[:, :2]
        wanted = wanted - np.einsum("tij,tj->ti", slant, mean[point] + moves @ expected[:, point])
        weight = believed
        for _ in range(2):
            own, shared = _solve_people(slant, moves, wanted, weight / 0.0015**2, (starts_at, doubt))
            rest = wanted - np.einsum("tij,tj->ti", slant, own[sorted_frames.actor] + moves @ shared)
            weight = believed / (1 + (rest**2).sum(1) / 0.006**2)
        means[:, point] = mean[point] + own
        out[:, point] = expected[:, point] + shared
        left[order, point] = rest
    return Linear(means, out[:_SHAPES], out[_SHAPES:], left)


def _solve_people(
    slant: Array, moves: Array, wanted: Array, weight: Array, known: tuple[Array, Array]
) -> tuple[Array, Array]:  # fmt: skip
    """Least squares of slant (x_person + moves x_all) = wanted: x of each person (K, 3), and of all (M, 3).

    slant (N, 2, 3), moves (N, M), wanted (N, 2), weight (N,); frames are sorted by person, each of whose first is
    `known`, as is what x of all are expected to spread by (3 M,).
    """
    starts_at, doubt = known
    size = moves.shape[1]
    heavy = np.swapaxes(slant * weight[:, None, None], 1, 2)
    gram, seen = heavy @ slant, np.einsum("tij,tj->ti", heavy, wanted)
    own = np.add.reduceat(gram, starts_at) + np.eye(3) / 0.006**2
    parts = [slice(*ends) for ends in itertools.pairwise([*starts_at, len(moves)])]
    cross = np.stack([gram[part].reshape(-1, 9).T @ moves[part] for part in parts])
    cross = np.swapaxes(cross.reshape(-1, 3, 3, size), 2, 3).reshape(-1, 3, 3 * size)
    normal = np.empty((size, 3, size, 3))
    for i in range(3):
        for j in range(i, 3):
            normal[:, i, :, j] = normal[:, j, :, i] = (moves * gram[:, i, j, None]).T @ moves
    normal = normal.reshape(3 * size, 3 * size) + np.diag(doubt**-2.0)
    both = np.linalg.solve(own, np.concatenate([cross, np.add.reduceat(seen, starts_at)[..., None]], 2))
    normal -= np.tensordot(cross, both[..., :-1], ((0, 1), (0, 1)))
    right = (moves.T @ seen).ravel() - np.einsum("kim,ki->m", cross, both[..., -1])
    shared = np.linalg.solve(normal, right)
    return both[..., -1] - both[..., :-1] @ shared, shared.reshape(size, 3)


def mirror_points(template: Template) -> Array:
    """(478,) the point that each becomes in a mirror."""
    return mirrored_points(template.landmarks(template.vertices))


def response_of(frames: Frames, found: Linear, template: Template, recipe: dict[str, Any]) -> Response:
    """Put a response together; it has no reader yet."""
    base = template.landmarks(template.vertices)
    traits = np.stack([template.landmarks(mode) for mode in template.identity])
    known = np.concatenate([traits, _placements(base)]).reshape(len(traits) + 7, -1)
    middle = np.median(found.means, 0) - base
    strange = []
    for mean in found.means:
        off = (mean - base - middle).ravel()
        fitted = np.linalg.solve(known @ known.T / 0.0015**2 + np.eye(len(known)), known @ off / 0.0015**2)
        strange.append(off - fitted @ known)
    strange = np.array(strange)
    bias = strange.mean(0)
    _, size, rows = np.linalg.svd(strange - bias, full_matrices=False)
    more = recipe["strange_modes"]
    modes = (rows[:more] * size[:more, None] / np.sqrt(len(strange))).reshape(-1, _POINTS, 3)
    upright = upright_of(frames.rotations)
    rest = np.einsum("tij,tpj->tpi", upright, found.left).reshape(len(frames.weights), -1)
    usual = np.sqrt(np.square(rest).mean(1))
    rest = rest[usual < np.quantile(usual, 0.97)]
    rest = rest - rest.mean(0)
    _, size, rows = np.linalg.svd(rest, full_matrices=False)
    many = recipe["noise_modes"]
    noise = rows[:many] * size[:many, None] / np.sqrt(len(rest))
    floor = np.sqrt(np.square(rest - rest @ rows[:many].T @ rows[:many]).mean(0) + recipe["floor_m"] ** 2)
    shapes = found.shapes.copy()
    shapes[SHAPES.index("tongueOut")] = 0.0  # no point is on it
    none = np.zeros
    return Response(
        base + middle + bias.reshape(-1, 3), np.concatenate([traits, modes]), shapes, found.views, noise, floor,
        _precision(recipe["precision"], recipe["symmetry"]), np.full(_SHAPES, recipe["sparse"]), _agility(recipe),
        eye_turns(template), none((1, 2 * _POINTS)), none(2 * _POINTS), none((1, 1)), none(1), none((1, 1)), none(1),
        none((_SHAPES, 1)), none(_SHAPES), np.eye(_SHAPES),
    )  # fmt: skip


def _placements(points: Array) -> Array:
    """(7, 478, 3) small motions and a growth of points: they are no traits of a person."""
    from_middle = points - points.mean(0)
    moves = [np.broadcast_to(0.003 * axis, points.shape) for axis in np.eye(3)]
    turns = [0.05 * np.cross(axis, from_middle) for axis in np.eye(3)]
    return np.stack([*moves, *turns, 0.05 * from_middle])


def _precision(each: float, symmetry: float) -> Array:
    """(52, 52) prior of weights: small, and mostly the same on both sides; eyes look the same way."""
    out = each * np.eye(_SHAPES)

    def tie(a: str, b: str, strength: float) -> None:
        i, j = SHAPES.index(a), SHAPES.index(b)
        out[[i, j], [i, j]] += strength
        out[i, j] -= strength
        out[j, i] -= strength

    for name in SHAPES:
        if name.endswith("Left") and not name.startswith("eyeLook") and name not in ("jawLeft", "mouthLeft"):
            tie(name, name.removesuffix("Left") + "Right", symmetry)
    for a, b in (("OutLeft", "InRight"), ("InLeft", "OutRight"), ("UpLeft", "UpRight"), ("DownLeft", "DownRight")):
        tie(f"eyeLook{a}", f"eyeLook{b}", 3 * symmetry)
    return out


def _agility(recipe: dict[str, Any]) -> Array:
    quick = np.array([name.startswith(("eyeBlink", "eyeLook")) for name in SHAPES])
    return np.where(quick, recipe["agility_eyes"], recipe["agility"])


def eye_turns(template: Template) -> Array:
    """(2, 4) rad that the left and right eye turn in, out, up and down at weight 1."""
    out = np.zeros((2, 4))
    for row, side in enumerate(("Left", "Right")):
        rows = template.vertices_of(f"eye.{side[0]}")
        ball = template.vertices[rows].astype(float)
        start = ball[0] - (ball[0] + ball[-1]) / 2
        for column, way in enumerate(("In", "Out", "Up", "Down")):
            end = start + template.key(f"eyeLook{way}{side}")[rows[0]]
            cosine = start @ end / np.linalg.norm(start) / np.linalg.norm(end)
            out[row, column] = np.arccos(np.clip(cosine, -1, 1))
    return out


@dataclass(frozen=True)
class Samples:
    """What the reader learns from.

    left (N, 956): what is left of points, metres; weights (N, 52) fitted, truth (N, 52); views (N, 2); actor (N,).
    """

    left: Array
    weights: Array
    views: Array
    truth: Array
    actor: Array


def samples(frames: Frames, response: Response) -> Samples:
    """What the reader sees of frames: each clip is fitted as a person's film."""
    fitter, parts = Fitter(response), []
    for clip in np.unique(frames.clip):
        part = frames[frames.clip == clip]
        if len(part.weights) < 8:
            continue
        some = spread(part.rays)
        who = fitter.identity(part.rays[some], part.depth[some])
        fitted = fitter.express(part.rays, part.depth, who, np.zeros(_SHAPES))
        left = fitter.residuals(part.rays, np.zeros_like(part.weights), fitted.poses, who).reshape(len(part.rays), -1)
        seen = features(fitter, part.rays, fitted, who, response)
        parts.append((left, fitted.weights, seen[:, -2:], part.weights, part.actor))
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def mirrored(one: Samples, mirror: Array) -> Samples:
    """The same faces in a mirror."""
    left = one.left.reshape(len(one.left), _POINTS, 2)[:, mirror] * [-1.0, 1.0]
    swap = swapped_sides()
    return Samples(
        left.reshape(one.left.shape), one.weights[:, swap], one.views * [-1.0, 1.0], one.truth[:, swap], one.actor
    )


def joined(parts: list[Samples]) -> Samples:
    """Several as one."""
    names = ("left", "weights", "views", "truth", "actor")
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def code_of(one: Samples, size: int) -> tuple[Array, Array]:
    """(C, 956) and (956,): principal components of what is left, to variance 1 and less for weak ones."""
    mean = one.left.mean(0)
    _, scale, rows = np.linalg.svd(one.left - mean, full_matrices=False)
    scale = scale / np.sqrt(len(one.left))
    return rows[:size] / (scale[:size, None] + 0.3e-3), mean


def learn_reader(train: Samples, code: Array, mean: Array, recipe: dict[str, Any]) -> list[tuple[Array, Array]]:
    """Matrices and biases of the three layers."""
    torch.manual_seed(recipe["seed"])
    seen = np.concatenate([(train.left - mean) @ code.T, train.weights, train.views], 1)
    x, y = torch.tensor(seen, dtype=torch.float32), torch.tensor(train.truth, dtype=torch.float32)
    wide, narrow = recipe["wide"], recipe["narrow"]
    net = torch.nn.Sequential(
        torch.nn.Dropout(0.05), torch.nn.Linear(x.shape[1], wide), torch.nn.GELU("tanh"), torch.nn.Dropout(0.3),
        torch.nn.Linear(wide, narrow), torch.nn.GELU("tanh"), torch.nn.Dropout(0.2), torch.nn.Linear(narrow, _SHAPES),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(net.parameters(), recipe["rate"], weight_decay=recipe["decay"])
    steps = recipe["epochs"] * (len(x) // recipe["batch"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe["rate"], total_steps=steps + 1, pct_start=0.1)
    coded = len(code)
    for step in range(steps):
        rows = torch.randint(len(x), (recipe["batch"],))
        inputs = x[rows].clone()
        inputs[:, :coded] += recipe["noise"] * torch.randn(len(rows), coded)
        loss = (net(inputs) - y[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 1000 == 0:
            LOG.info("step %d of %d: %.5f", step, steps, float(loss.detach()))
    linears = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    return [(one.weight.detach().numpy().astype(float), one.bias.detach().numpy().astype(float)) for one in linears]


def with_reader(response: Response, code: Array, mean: Array, layers: list[tuple[Array, Array]]) -> Response:
    """The same response with a reader."""
    (first, a), (second, b), (third, c) = layers
    return replace(
        response, code=code, code_mean=mean, first=first, first_bias=a, second=second, second_bias=b, third=third,
        third_bias=c,
    )  # fmt: skip


def learn(frames: Frames, recipe: dict[str, Any]) -> Response:
    """The whole: two responses, each of half of the actors, show the reader the other half as strangers."""
    from ..face.reader import Reader

    template = load_template()
    mirror = mirror_points(template)
    frames = levelled(frames, template)
    parts = []
    people = np.array([half_of(name) for name in frames.names])
    for half in (0, 1):
        known = of_actors(frames, np.flatnonzero(people == half))
        response = response_of(known, linear(known, template), template, recipe)
        parts.append(samples(frames[people[frames.actor] != half], response))
        LOG.info("half %d: %d frames of strangers", half, len(parts[-1].truth))
    whole = joined(parts)
    code, mean = code_of(whole, recipe["code"])
    everything = joined([whole, mirrored(whole, mirror)]) if recipe["mirror"] else whole
    tried = people[everything.actor] == 1
    layers = learn_reader(_rows(everything, ~tried), code, mean, recipe)
    trial = Reader(with_reader(response, code, mean, layers))
    unseen = _rows(whole, people[whole.actor] == 1)
    wrong = trial.read(np.concatenate([(unseen.left - mean) @ code.T, unseen.weights, unseen.views], 1)) - unseen.truth
    spread_of = wrong.T @ wrong / len(wrong) + recipe["least_error"] ** 2 * np.eye(_SHAPES)
    LOG.info("strangers' weights: mean absolute error %.4f", np.abs(wrong).mean())
    layers = learn_reader(everything, code, mean, recipe)
    response = response_of(frames, linear(frames, template), template, recipe)
    return replace(with_reader(response, code, mean, layers), information=np.linalg.inv(spread_of))


def of_actors(frames: Frames, chosen: Array) -> Frames:
    """Frames of some actors, given by sorted numbers (K,)."""
    part = frames[np.isin(frames.actor, chosen)]
    return replace(part, actor=np.searchsorted(chosen, part.actor), names=tuple(frames.names[k] for k in chosen))


def _rows(one: Samples, rows: Array) -> Samples:
    return Samples(*(getattr(one, name)[rows] for name in ("left", "weights", "views", "truth", "actor")))


def main() -> None:
    """Do one of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("cast", "film", "learn"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--actors", type=Path)
    parser.add_argument("--frames", type=Path, action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--people", type=int, default=74, help="drawn people to cast, or mixed people to film")
    parser.add_argument("--more", type=int, default=0, help="drawn people to cast in the head model's own rig alone")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--out", type=Path)
    work_as_job(parser, _work, _made)


def _made(options: argparse.Namespace) -> Path:
    return {"cast": options.actors, "film": (options.frames or [None])[0], "learn": options.out}[options.step]


def _work(options: argparse.Namespace, run: Run) -> None:
    if options.step == "cast":
        cast(options.data, run, options.people)
        cast_more(options.data, run, options.more)
    elif options.step == "film":
        film(options.actors, run, options.people, options.seed)
    else:
        save_response(options.out, learn(read_frames(options.frames), read_recipe(options.recipe)))


if __name__ == "__main__":
    main()
