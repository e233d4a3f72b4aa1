"""Films of rendered heads for reenactment: who, how they look, masks and truth.

python -m inference.training.face_films --data DIR --out DIR [--films N] [--strong N] [--size PX] [--rays N]
    [--cast NAME ...]

A film is one person under one light, in a number of frames that need not follow each other. Each half of its frames
holds poses that one other person performs as well, in another film, so that every frame has a twin: the same
expression, gaze and turn of the head on another person. People left out all perform the same poses (`held_out.npz`),
and some of them a motion without jumps (`smooth.npz`). `strong.npz` holds films of other mixed people in strong
expressions of few shapes, with smaller turns. With `--size 128 --rays 1` a film to train on takes no longer than one of
64 px, whose rays are then its pixels.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mediapipe
import numpy as np

from ..core.cameras import Camera, project
from ..core.face_shapes import SHAPES
from ..core.rotations import matrix_from_euler
from ..head.template import Template
from ..head.wrap import load_template
from ..reenact.crop import Crop, crop_of
from .script import LOG, Run, make_parser, work_as_job
from .studio import performers
from .studio.performers import Cast, Layout, Performer
from .studio.portrait import Light, Portrait
from .studio.render import look_at

Array = np.ndarray
FRAMES = 24  # of a film; a half is shared with one other person, the other half with another
_LOOKED_INTO = np.array(
    [[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]
)  # the rotation of a camera that a face at rest looks into
_GAZE = [name for name in SHAPES if name.startswith("eyeLook")]
_OTHERS = [name for name in SHAPES if not name.startswith(("eyeLook", "tongue"))]


@dataclass(frozen=True)
class Poses:
    """What is performed: weights (T, 52) in order of `SHAPES`; turns (T, 3, 3) of the head, rest to turned, z up."""

    weights: Array
    turns: Array

    @staticmethod
    def drawn(count: int, rng: np.random.Generator) -> Poses:
        """Expressions of few shapes, mostly the same on both sides, gaze, blinks and turns, each frame by itself."""
        weights = np.stack([_expression(rng) for _ in range(count)])
        spread, most = np.radians([25.0, 12.0, 8.0]), np.radians([60.0, 30.0, 20.0])
        angles = np.clip(rng.normal(size=(count, 3)) * spread, -most, most)  # yaw, pitch, roll
        return Poses(weights, turns_of(angles))

    @staticmethod
    def strong(count: int, rng: np.random.Generator) -> Poses:
        """Strong expressions of one to three shapes, with smaller turns, each frame by itself."""
        weights = np.stack([_expression(rng, most=3, least=0.5) for _ in range(count)])
        angles = np.clip(rng.normal(size=(count, 3)), -2.5, 2.5) * np.radians([15.0, 9.0, 6.0])
        return Poses(weights, turns_of(angles))

    @staticmethod
    def smooth(count: int, rng: np.random.Generator) -> Poses:
        """A motion without jumps, at 25 frames a second: low-passed noise in a few shapes and in the turn."""
        weights = np.zeros((count, len(SHAPES)))
        for name in ("jawOpen", "mouthSmileLeft", "browInnerUp", "eyeBlinkLeft"):
            curve = np.clip(_wander(count, rng), 0, 1)
            for other in (name, name.replace("Left", "Right")):
                weights[:, SHAPES.index(other)] = curve
        angles = np.stack([_wander(count, rng) for _ in range(3)], 1) * np.radians([40.0, 15.0, 8.0])
        return Poses(weights, turns_of(angles))


@dataclass(frozen=True)
class Take:
    """Poses and how they are looked at: where the camera stands (3,) m, how it is rolled, and a seed of the crops."""

    poses: Poses
    eye: Array
    roll_rad: float
    crops: int

    @staticmethod
    def drawn(poses: Poses, rng: np.random.Generator) -> Take:
        """In front, some way off."""
        side, up = rng.normal(size=2) * [0.12, 0.06]
        distance = np.exp(rng.uniform(np.log(0.45), np.log(2.0)))
        eye = distance * np.array([np.sin(side) * np.cos(up), -np.cos(side) * np.cos(up), np.sin(up)])
        return Take(poses, eye, rng.normal() * 0.03, int(rng.integers(1 << 30)))


@dataclass(frozen=True)
class Film:
    """One film.

    images (T, S, S, 3) uint8 sRGB times coverage; masks (T, S, S) uint8; weights (T, 52); rotations (T, 3, 3):
    from the head at rest, whose axes are the camera's for a face that looks into it, to the camera; landmarks
    (T, 478, 2) px.
    """

    images: Array
    masks: Array
    weights: Array
    rotations: Array
    landmarks: Array


def film(  # noqa: PLR0917 - what a film is made of
    who: Performer, template: Template, takes: list[Take], size: int, rng: np.random.Generator, rays: int = 2
) -> Film:  # fmt: skip
    """Photograph somebody in some takes under one light, with rays squared for a pixel."""
    portrait, light = Portrait(who.head), Light.drawn(rng)
    parts = [_shot(who, portrait, light, template, take, size, rng, rays) for take in takes]
    return Film(*(np.concatenate([getattr(part, name) for part in parts]) for name in Film.__dataclass_fields__))


def _shot(  # noqa: PLR0913, PLR0917 - what a shot is made of
    who: Performer, portrait: Portrait, light: Light, template: Template, take: Take, size: int,
    rng: np.random.Generator, rays: int,
) -> Film:  # fmt: skip
    camera = look_at("film", (2, 2), 1000.0, take.eye, np.array([0.0, 0.03, -0.01]), roll_rad=take.roll_rad)
    poses = list(zip(take.poses.weights, take.poses.turns, strict=True))
    seen = [project(camera, who.landmarks(template, *pose)) for pose in poses]
    crops = _wandering([crop_of(points) for points in seen], np.random.default_rng(take.crops))
    images, masks, landmarks = [], [], []
    for pose, points, crop in zip(poses, seen, crops, strict=True):
        portrait.pose(who.posed(*pose))
        image, cover, _ = portrait.photograph(_onto(camera, crop, size), _drifted(light, rng), supersample=rays)
        # its average over a pixel is linear; a picture times its mask is not
        lit = (image / 255.0) ** 2.2 / np.maximum(cover, 1e-3)[..., None]
        images.append((255 * lit.clip(0, 1) ** (1 / 2.2) * cover[..., None]).round().astype(np.uint8))
        masks.append((255 * cover).round().astype(np.uint8))
        landmarks.append((points - [crop.x, crop.y]) * (size / crop.side) + 0.5 * (size - 1))
    rotations = camera.rotation @ take.poses.turns @ _LOOKED_INTO.T
    return Film(np.stack(images), np.stack(masks), take.poses.weights, rotations, np.stack(landmarks))


def _expression(rng: np.random.Generator, *, most: int = 5, least: float = 0.0) -> Array:
    """(52,) weights: at most so many shapes beside jaw, smiles, blinks and gaze, and none of them weaker."""
    weights = np.zeros(len(SHAPES))
    if rng.random() > 0.08:
        for name in rng.choice(_OTHERS, rng.integers(1, most + 1), replace=False):
            weights[SHAPES.index(name)] = value = least + (1 - least) * rng.random()
            other = name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
            if rng.random() < 0.7 and not name.startswith(("jaw", "mouthLeft", "mouthRight")):
                weights[SHAPES.index(other)] = value
    if rng.random() < 0.35:
        weights[SHAPES.index("jawOpen")] = rng.random()
    if rng.random() < 0.3:
        weights[[SHAPES.index("mouthSmileLeft"), SHAPES.index("mouthSmileRight")]] = rng.random()
    if rng.random() < 0.2:
        weights[[SHAPES.index("eyeBlinkLeft"), SHAPES.index("eyeBlinkRight")]] = rng.uniform(0.3, 1.0)
    side, up = rng.normal(size=2) * 0.4 * (rng.random() < 0.7)
    for name in _GAZE:
        towards = {"In": -side, "Out": side, "Up": up, "Down": -up}[name[7:].removesuffix("Left").removesuffix("Right")]
        if name.endswith("Right") and not name.startswith(("eyeLookUp", "eyeLookDown")):
            towards = -towards
        weights[SHAPES.index(name)] = np.clip(towards, 0, 1)
    jaw = weights[SHAPES.index("jawOpen")]
    weights[SHAPES.index("mouthClose")] = min(weights[SHAPES.index("mouthClose")], jaw)  # lips do not pass each other
    return weights


def turns_of(angles: Array) -> Array:
    """(T, 3, 3) of yaw, pitch and roll (T, 3) rad, about z, x and y."""
    return matrix_from_euler(angles[:, [1, 2, 0]], "XYZ")


def _wander(count: int, rng: np.random.Generator) -> Array:
    """(T,) low-passed noise of unit deviation, at 25 a second."""
    noise, kernel = rng.normal(size=count + 80), np.exp(-0.5 * (np.arange(-40, 41) / 10.0) ** 2)
    smooth = np.convolve(noise, kernel, "valid")
    return (smooth - smooth.mean()) / smooth.std()


def _wandering(exact: list[Crop], rng: np.random.Generator) -> list[Crop]:
    """Crops between one for the film and one for each frame, and none of them quite right."""
    middles, sides = np.array([[crop.x, crop.y] for crop in exact]), np.array([crop.side for crop in exact])
    side, follow = np.median(sides) * np.exp(rng.normal() * 0.06), rng.random()
    middle = np.median(middles, 0) + rng.normal(size=2) * 0.02 * side
    crops = []
    for each in middles:
        x, y = middle + follow * (each - middle) + rng.normal(size=2) * 0.01 * side
        crops.append(Crop(float(x), float(y), float(side * np.exp(rng.normal() * 0.03))))
    return crops


def _onto(camera: Camera, crop: Crop, size: int) -> Camera:
    """The camera that takes a crop of what another sees."""
    scale = size / crop.side
    matrix = camera.matrix.copy()
    matrix[:2] *= scale
    matrix[:2, 2] += 0.5 * (size - 1) - scale * np.array([crop.x, crop.y])
    return replace(camera, size=(size, size), matrix=matrix)


def _drifted(light: Light, rng: np.random.Generator) -> Light:
    key = light.key + rng.normal(size=3) * 0.04
    return replace(light, harmonics=light.harmonics * np.exp(rng.normal() * 0.03), key=key / np.linalg.norm(key))


def cast_all(data: Path, out: Path, run: Run, some: Sequence[str] = ()) -> tuple[list[Cast], list[Cast]]:
    """Cast everybody who is missing; gives those to train on, all or `some`, and those left out."""
    out.mkdir(parents=True, exist_ok=True)
    names = [name for name in performers.training_names(data) if not some or name in some]
    template, groups = load_template(), (names, list(performers.HELD_OUT))
    with mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
    ) as finder:
        for name in run.each("cast", [name for group in groups for name in group]):
            path = out / f"{name}.npz"
            if not path.exists():
                performers.cast(data, name, template, finder).save(path)
                LOG.info("cast %s", name)
    return tuple([performers.load_cast(out / f"{name}.npz") for name in group] for group in groups)  # type: ignore[return-value]


def shoot(  # noqa: PLR0917 - what films are made of
    casts: list[Cast], layout: Layout, films: int, size: int, run: Run, rays: int = 2, *, strong: bool = False
) -> dict[str, Array]:
    """Films in a ring: film k holds takes k and k + 1, so it shares a half with each neighbour."""
    takes, seeds, drawn = [], (12, 13) if strong else (5, 6), Poses.strong if strong else Poses.drawn
    for k in range(films):
        rng = np.random.default_rng([seeds[0], k])
        takes.append(Take.drawn(drawn(FRAMES // 2, rng), rng))
    taken = []
    for k in run.each("film", range(films)):
        rng = np.random.default_rng([seeds[1], k])
        who = performers.perform(casts, layout, rng)
        taken.append(film(who, layout.template, [takes[k], takes[(k + 1) % films]], size, rng, rays))
        if k % 50 == 49:
            LOG.info("%d films", k + 1)
    return packed(taken)


def shoot_held_out(  # noqa: PLR0917 - what films are made of
    casts: list[Cast], layout: Layout, size: int, poses: Poses, shots: int, rays: int = 2
) -> dict[str, Array]:
    """Everybody performs the same poses, in each shot under another light and camera: films by people, then shots."""
    taken = []
    for index, one in enumerate(casts):
        others = [one, *(other for other in casts if other is not one)]
        who = performers.perform(others, layout, np.random.default_rng([8, index]), mixed=False)
        for shot in range(shots):
            rng = np.random.default_rng([9, index, shot])
            take = replace(Take.drawn(poses, np.random.default_rng([10, shot])), crops=int(rng.integers(1 << 30)))
            taken.append(film(who, layout.template, [take], size, rng, rays))
        LOG.info("left out: %s", one.name)
    return packed(taken)


def packed(films: list[Film]) -> dict[str, Array]:
    """Films (N, T, ...) as arrays to save."""
    arrays = {name: np.stack([getattr(one, name) for one in films]) for name in Film.__dataclass_fields__}
    return {name: a if a.dtype == np.uint8 else a.astype(np.float16) for name, a in arrays.items()}


def shoot_all(
    data: Path, run: Run, *, films: int, size: int, strong: int = 0, rays: int = 2, some: Sequence[str] = ()
) -> None:
    """Cast, and shoot what is missing."""
    names = ("held_out", "smooth", "films", *(["strong"] if strong else []))
    if all((run.out / f"{name}.npz").exists() for name in names):
        return
    trained, left_out = cast_all(data, run.out / "casts", run, some)
    layout = Layout(load_template())
    drawn, moving = Poses.drawn(32, np.random.default_rng(10)), Poses.smooth(75, np.random.default_rng(11))
    work = {
        "held_out": lambda: shoot_held_out(left_out, layout, size, drawn, 2, rays),
        "smooth": lambda: shoot_held_out(left_out[::4], layout, size, moving, 1, rays),
        "films": lambda: shoot(trained, layout, films, size, run, rays),
    }
    if strong:
        work["strong"] = lambda: shoot(trained, layout, strong, size, run, rays, strong=True)
    for name, make in work.items():
        path = run.out / f"{name}.npz"
        if not path.exists():
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **make())  # type: ignore[arg-type]
            os.replace(partial, path)


def main() -> None:
    """Read the arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--films", type=int, default=360)
    parser.add_argument("--strong", type=int, default=0, metavar="N", help="films of strong expressions")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rays", type=int, default=2, help="squared for a pixel")
    parser.add_argument("--cast", nargs="*", default=[], metavar="NAME", help="whom to train on, of those there are")
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    shoot_all(
        options.data, run, films=options.films, size=options.size, strong=options.strong, rays=options.rays,
        some=options.cast,
    )  # fmt: skip


if __name__ == "__main__":
    main()
