"""Clips of faces that act: frames out of seconds of a performance, in which a face need not come to rest.

`face_expression shoot` makes them. Somebody is mixed of actors of one rig, or is an avatar in its own; some hold a hand
or a thing before the mouth for a while; half are seen small, as a webcam's video keeps them, before the detector reads
them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import cv2
import numpy as np

from ..core.cameras import Camera, project
from ..face.crop import cut
from ..sight.faces import Faces, square_of
from . import face_response as filming
from .script import LOG, Run
from .studio import acting
from .studio.actors import Actor, load_actor
from .studio.portrait import Light
from .studio.raster import Raster

Array = np.ndarray
CLIP = 16  # frames that are learnt from together
_FINE = 600  # texels of a side over which textures are made smaller, as small pictures do not show more
_SPARE = 3  # frames of a clip in which no face may be found
_SECONDS, _FACE_PX, _DISTANCE_M = (2.0, 12.0), (80.0, 205.0), (0.4, 1.2)
_SMALL_PX, _CRF = (45.0, 130.0), (17.0, 34.0)  # of clips as webcams keep them, and how roughly these are coded
_SOFT_PX, _HAZE = (0.3, 1.5), (0.0, 0.4)  # the same: how webcams see them
_FACE_M, _FRAME_M = 0.17, 0.31  # what a face's size is, and what a clip's frame shows
_OWN_RIG, _ALONE, _SELDOM_SHARE, _BLINKS, _HOLDS, _CODED = 0.22, 0.3, 0.5, 0.5, 0.2, 0.5  # shares of clips
_SELDOM = (
    "jawForward", "jawLeft", "jawRight", "mouthLowerDown", "mouthUpperUp", "mouthRollLower", "mouthRollUpper",
    "mouthDimple", "mouthShrugUpper", "mouthShrugLower", "mouthFunnel", "mouthPucker", "mouthStretch", "mouthFrown",
    "noseSneer", "eyeWide", "eyeSquint",
)  # fmt: skip


def shoot(cast_folder: Path, films: Path, pictures: Path, numbers: tuple[int, int], run: Run) -> None:
    """Film clips of people who are not held out; what is there is not made again.

    numbers: how many, and a seed.
    """
    people, seed = numbers
    for folder in (films, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    files, load = filming.extras(cast_folder)
    avatars = filming.avatars(cast_folder)
    with Faces() as faces:
        for number in run.each("shoot", range(people)):
            rng = np.random.default_rng([seed, number])
            own = len(avatars) > 0 and rng.random() < _OWN_RIG
            chosen = [avatars[int(rng.integers(len(avatars)))]] if own else filming.met(files, rng)
            name = f"{chosen[0].stem}{filming.MIXED}{number}_{seed}.npz"
            if (pictures / name).exists():
                continue
            some = [load_actor(file) if own else load(file) for file in chosen]
            some = [replace(one, head=one.head.coarser(_FINE, 2)) for one in some]
            who = filming.toned(some[0], rng) if own else filming.somebody(some, rng)
            seen = clip(who, faces, rng)
            if seen is not None:
                for folder, arrays in ((films, seen), (pictures, {"crops": seen.pop("crops")})):
                    temporary = (folder / name).with_suffix(".partial")
                    with temporary.open("wb") as stream:
                        np.savez(stream, **arrays)
                    os.replace(temporary, folder / name)
            LOG.info("%s: %s", name, "filmed" if seen else "not found")


def clip(actor: Actor, faces: Faces, rng: np.random.Generator) -> dict[str, Array] | None:
    """CLIP frames of an act in one light; None if the detector does not see enough of them."""
    coded = rng.random() < _CODED
    distance, face = rng.uniform(*_DISTANCE_M), np.exp(rng.uniform(*np.log(_SMALL_PX if coded else _FACE_PX)))
    focal, side = face * distance / _FACE_M, 2 * round(face * _FRAME_M / _FACE_M / 2)
    played = performed(distance, rng)
    light, noise, stage = Light.drawn(rng), rng.uniform(0, 5), Raster(actor.head)
    backdrop, held, followed = acting.a_background((side, side), rng), Held.drawn(rng), Followed(faces)
    cameras, images = [], []
    for weights, rotation, translation, time_s in zip(
        played.weights * actor.moves, played.rotations, played.translations, played.times, strict=True
    ):
        camera = acting.a_camera((side, side), focal, rotation, translation)
        stage.pose(actor.posed(weights).vertices)
        drawn, there = stage.photograph(camera, light)
        drawn = np.where(there[..., None], drawn, backdrop)
        drawn = held.before(drawn, camera, actor.head.landmarks, time_s / played.times[-1])
        cameras.append(camera)
        images.append(filming.shot((drawn, np.ones_like(there)), drawn, noise, rng))
    if coded:
        soft, haze = rng.uniform(*_SOFT_PX), rng.uniform(*_HAZE)
        images = as_video([dim(image, soft, haze) for image in images], rng.uniform(*_CRF))
    seen = []
    for image, camera, weights in zip(images, cameras, played.weights * actor.moves, strict=True):
        if len(seen) == CLIP:
            break
        points = followed.read(image, camera, actor.head.landmarks, rng)
        if points is not None:
            column = weights, camera.rotation, camera.translation, focal
            seen.append((*column, points.astype(np.float32), cut(image, points)))
    if len(seen) < CLIP:
        return None
    names = ("weights", "R", "t", "f", "points", "crops")
    columns = {name: np.array(value) for name, value in zip(names, zip(*seen, strict=True), strict=True)}
    return {"side": np.array(side), **columns}


def dim(image: Array, soft_px: float, haze: float) -> Array:
    """A frame (H, W, 3) uint8 through a soft lens, which spreads a share of the light over everything."""
    seen = cv2.GaussianBlur(image.astype(np.float32), (0, 0), soft_px)
    return (seen + haze * (seen.mean((0, 1)) - seen)).round().astype(np.uint8)


def as_video(images: Sequence[Array], crf: float) -> list[Array]:
    """Frames (H, W, 3) uint8 of even sides as H.264 keeps them, at a constant rate factor."""
    kept = io.BytesIO()
    with av.open(kept, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": f"{crf:.1f}", "preset": "veryfast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.thread_count = "yuv420p", 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    kept.seek(0)
    with av.open(kept, "r") as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def performed(distance_m: float, rng: np.random.Generator) -> acting.Performance:
    """Act for some seconds, often with more of what is seldom seen, and blinks; or each frame by itself."""
    seconds, count = np.exp(rng.uniform(*np.log(_SECONDS))), CLIP + _SPARE
    played = acting.perform(seconds, count / seconds, rng, distance_m=distance_m, busy=rng.uniform(0.7, 3.4))
    weights = played.weights[:count]
    if rng.random() < _ALONE:
        weights = acting.expressions(len(weights), rng)
    if rng.random() < _SELDOM_SHARE:
        for unit in rng.choice(_SELDOM, 2, replace=False):
            sides, turns = acting.sides_of(unit), rng.uniform(0.4, 3.0)
            wave = 0.5 - np.cos(2 * np.pi * (turns * np.arange(len(weights)) / len(weights) + rng.random()))
            value = rng.uniform(0.25, 1.0) * rng.uniform(0.85, 1.0, len(sides))
            weights[:, sides] = np.maximum(weights[:, sides], wave.clip(0, 1)[:, None] * value)
        weights = acting.settle(weights)
    if rng.random() < _BLINKS:
        rows = np.flatnonzero(rng.random(len(weights)) < 0.15)
        for side in acting.sides_of("eyeBlink"):
            weights[rows, side] = np.maximum(weights[rows, side], rng.uniform(0.2, 1.0, len(rows)))
        for side in acting.sides_of("eyeWide"):
            weights[rows, side] = 0.0
    return replace(played, weights=weights)


class Followed:
    """Reads a face near where it is expected from the frame before, as films are read: one reading a frame."""

    def __init__(self, faces: Faces) -> None:
        self._faces = faces
        self._off: Array | None = None  # of the detector's square from the true one: shares of its side, log, rad

    def read(self, image: Array, camera: Camera, landmarks: Array, rng: np.random.Generator) -> Array | None:
        """(478, 3) points, or None; landmarks (6, 3) in the head's frame."""
        expected = filming.expected_square(camera, landmarks)
        if self._off is None:
            first = self._faces.read_square(image, expected)
            if first is None or first[1] < 0.5:
                return None
            self._off = _away(square_of(first[0]), expected)
        x, y, side, turn = expected
        across, down, grown, turned = self._off + rng.normal(size=4) * [0.01, 0.01, 0.03, 0.03]
        square = (x + across * side, y + down * side, side * float(np.exp(grown)), turn + turned)
        found = self._faces.read_square(image, square)
        if found is None or found[1] < 0.5:
            self._off = None
            return None
        self._off = _away(square_of(found[0]), expected)
        return found[0]


def _away(square: tuple[float, ...], other: tuple[float, ...]) -> Array:
    """(4,) how a square differs from another: across and down in its sides, logarithm of its size, rad."""
    side = other[2]
    return np.array([
        (square[0] - other[0]) / side, (square[1] - other[1]) / side, np.log(square[2] / side), square[3] - other[3],
    ])  # fmt: skip


@dataclass(frozen=True)
class Held:
    """What is before the face for a part of a clip: fingers, or a thing.

    span (2,): shares of the clip; at (2,) metres right and below of the mouth's middle, `drift` (2,) in the whole clip;
    way: rad, where the arm comes from, 0 to the right and a quarter turn from below; fingers: 0 for a thing; size,
    metres; tone (3,): of the face's own, or of a thing.
    """

    span: Array
    at: Array
    drift: Array
    way: float
    fingers: int
    size: float
    tone: Array

    @staticmethod
    def drawn(rng: np.random.Generator) -> Held:
        """Mostly nothing."""
        start, fingers = rng.uniform(-0.2, 0.8), int(rng.integers(0, 5))
        span = np.array([start, start + rng.uniform(0.2, 0.7)]) if rng.random() < _HOLDS else np.zeros(2)
        tone = np.exp(rng.normal() * 0.2 + rng.normal(size=3) * 0.04) if fingers else rng.uniform(10, 230, 3)
        size = rng.uniform(0.013, 0.019) if fingers else rng.uniform(0.02, 0.05)
        at, drift = rng.normal(size=2) * [0.025, 0.018] + [0, 0.012], rng.normal(size=2) * 0.02
        return Held(span, at, drift, np.pi / 2 + rng.normal() * 0.7, fingers, float(size), np.atleast_1d(tone))

    def before(self, image: Array, camera: Camera, landmarks: Array, share: float) -> Array:
        """The picture (H, W, 3) with what is held, at a share of the clip."""
        if not self.span[0] <= share < self.span[1]:
            return image
        marks, metre = project(camera, landmarks), camera.matrix[0, 0] / camera.translation[2]
        middle = marks[4:6].mean(0) + metre * (self.at + (share - 0.5) * self.drift)
        arm = np.array([np.cos(self.way), np.sin(self.way)])
        image = np.ascontiguousarray(image, np.float32)
        layer, cover = image.copy(), np.zeros(image.shape[:2], np.float32)
        if not self.fingers:
            ends = middle, middle + metre * 0.3 * arm
            self._stroke(layer, cover, ends, self.tone, metre * 2 * self.size)
        nose = image[tuple(np.clip(np.round(marks[2]).astype(int), 0, len(image) - 1)[::-1])]
        for finger in range(self.fingers):
            aside = (finger - (self.fingers - 1) / 2) * self.size * 1.1 * np.array([-arm[1], arm[0]])
            tip = middle + metre * (aside - arm * 0.012 * (1 - abs(finger - 1.5) / 3))
            self._stroke(layer, cover, (tip, tip + metre * 0.3 * arm), nose * self.tone, metre * self.size)
        cover = cv2.GaussianBlur(cover, (0, 0), 0.7)[..., None]
        return image + cover * (layer.clip(0, 255) - image)

    @staticmethod
    def _stroke(layer: Array, cover: Array, ends: tuple[Array, Array], tone: Array, width: float) -> None:
        """Draw something long and round, darker at its edges, in place."""
        (ax, ay), (bx, by) = (np.round(16 * end).astype(int).tolist() for end in ends)
        for share, shade in ((1.0, 0.72), (0.75, 0.9), (0.45, 1.0)):
            thick = max(round(width * share), 1)
            cv2.line(layer, (ax, ay), (bx, by), (shade * tone).tolist(), thick, cv2.LINE_AA, 4)
        cv2.line(cover, (ax, ay), (bx, by), (1.0,), max(round(width), 1), cv2.LINE_AA, 4)
