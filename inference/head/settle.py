"""Where cameras stood and how far a head reaches, by one look (`guess`), outlines, and what photos have in common.

By Gauss-Newton, the likeliest cameras and reach are found, these in the principal modes of what looks get wrong. Face
points place the cameras but do not bend the head: the detector's errors from one side are alike all over the face. Nor
do outlines bend the face, of which the look knows more. Where several photos show it, they do: the lines of sight to
what they have in common cross on it (bundle adjustment; Triggs et al. 2000).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from ..core.cameras import rays
from ..nets.head_shape import about
from .camera import Placed, camera_of, misses, nearest, stand
from .frame import CENTRE
from .guess import Guessed
from .matches import Crossing, Match, alone, beyond, crossing, matches
from .outlines import along, clearance, outline
from .prior import Span
from .seen import Seen

Array = np.ndarray
_LOOSE = 3.3  # of face points, as `camera.stand` has it: so many that are off alike say little
_TURNED_DEG, _FARTHEST_DEG = 40.0, 66.0  # how far heads are turned whose points the detector has too near together
_NEARER = 0.0045  # by how much a degree
_OUTLINE_M, _OUTLINE_OFF_M = 0.008, 0.005  # standard deviation of a place of the outline; so far off counts half
_CROSS_M, _CROSS_OFF_M = 0.002, 0.0008  # of lines of sight, as above, where pixels are fine
_NARROWEST = 0.2  # sine of the angle between lines of sight below which how deep they cross gets no less sure
_MATCHINGS = 3  # times that photos are laid out and compared
_ROUNDS, _HALVINGS = 8, 4
_LEAST = 1e-4  # share of the cost by which a round has to be better for another one
_STEP = 1e-4  # of a camera's numbers, for derivatives


def settle(photos: list[Seen], guessed: Guessed, span: Span, heard: Callable[[], None] = lambda: None) -> Placed:
    """Find cameras and head.

    Args:
        heard: is called every second or so; what it raises stops this.

    Raises:
        InputError: a photo's points fit no face.
    """
    photos = [_apart(photo) for photo in photos]
    poses = np.stack([stand(photo, face, _LOOSE) for photo, face in zip(photos, guessed.by_photo, strict=True)])
    known: list[Evidence] = [
        evidence
        for k, (photo, face) in enumerate(zip(photos, guessed.by_photo, strict=True))
        for evidence in (Points((k,), photo, face), Outline((k,), photo, outline(photo, poses[k])))
    ]
    errors, poses = likeliest(known, guessed, np.zeros(guessed.errors.shape[1]), poses, heard)
    common: list[Common] = []
    for _ in range(_MATCHINGS):
        common = _common(photos, poses, guessed.radii + guessed.errors @ errors, heard)
        if not common:
            break
        errors, poses = likeliest([*known, *common], guessed, errors, poses, heard)
    head, look = guessed.radii + guessed.errors @ errors, guessed
    if common:
        look = _bent(guessed, [e for e in known if isinstance(e, Points)], common, poses, heard)
    radii = look.face_on(head)
    if common:  # cameras of what is made of both
        made = replace(look, radii=radii, errors=look.errors[:, :0])
        _, poses = likeliest([*known, *common], made, np.zeros(0), poses, heard)
    cameras = tuple(camera_of(photo, pose) for photo, pose in zip(photos, poses, strict=True))
    unlike = tuple(alone(cameras, [each.match for each in common]))
    return Placed(cameras, nearest(span, look.points), look.points, radii, unlike)


def _apart(photo: Seen) -> Seen:
    """A photo with its face points as far apart as the head has them.

    The detector sees turned heads too small (`training/LOG.md`): cameras would stand too far away, and whatever
    outlines say of the rest of the head would come out too large.
    """
    larger = np.exp(_NEARER * np.clip(abs(photo.yaw_deg) - _TURNED_DEG, 0.0, _FARTHEST_DEG - _TURNED_DEG))
    middle = photo.landmarks.mean(0)
    return replace(photo, landmarks=(photo.landmarks - middle) * larger + middle, depth=photo.depth * larger)


def _common(photos: Sequence[Seen], poses: Array, radii: Array, heard: Callable[[], None]) -> list[Common]:
    cameras = [camera_of(photo, pose) for photo, pose in zip(photos, poses, strict=True)]
    found = matches(photos, cameras, radii, heard)
    many = len(found) ** 0.5
    return [Common((m.first, m.second), (photos[m.first], photos[m.second]), m, many) for m in found]


def _bent(
    guessed: Guessed, points: list[Points], common: list[Common], poses: Array, heard: Callable[[], None]
) -> Guessed:
    """A look whose face is where photos have it, by nothing but what they have in common."""
    errors, poses = likeliest([*points, *common], guessed, np.zeros(guessed.errors.shape[1]), poses, heard)
    radii = guessed.radii + guessed.errors @ errors
    found = [each.crossing([poses[k] for k in each.photos], radii) for each in common]
    radii = radii + beyond(found, [each.match.coarse for each in common], radii)
    towards = (guessed.points - CENTRE) / np.linalg.norm(guessed.points - CENTRE, axis=1, keepdims=True)
    face = guessed.points + towards * along(radii - guessed.radii, towards)[:, None]
    return replace(guessed, radii=radii, points=face)


class Missed(NamedTuple):
    """What evidence misses a head by.

    values (N, M) in standard deviations; where they hang on how far it reaches: in which directions (N, 3), and by how
    much a metre (N, M); steep (N,): how much farther the surface is there along these directions than across it.
    """

    values: Array
    towards: Array | None = None
    by_metre: Array | None = None
    steep: Array | None = None


class Evidence(Protocol):
    """What photos of these numbers say; values beyond `outlier` standard deviations count less than half."""

    @property
    def photos(self) -> tuple[int, ...]:
        """Numbers of the photos on whose cameras it hangs."""
        ...

    @property
    def outlier(self) -> float:
        """See the class."""
        ...

    def missed(self, poses: Sequence[Array], radii: Array, steep: Array | None = None) -> Missed:
        """By a head of radii (V,) metres, seen by the photos' cameras at poses (7,); steep (N,): as it was near by."""
        ...


@dataclass(frozen=True)
class Points:
    """Points of a photo, and the face (478, 3) metres as it is read there."""

    photos: tuple[int]
    photo: Seen
    face: Array
    outlier = np.inf

    def missed(self, poses: Sequence[Array], radii: Array, steep: Array | None = None) -> Missed:
        """See `Evidence`."""
        del radii, steep  # what the detector gets wrong, it gets wrong all over the face
        return Missed(misses(self.photo, self.face, poses[0], _LOOSE)[:, None])


@dataclass(frozen=True)
class Outline:
    """Places (N, 2) px of the outline of a photo's mask."""

    photos: tuple[int]
    photo: Seen
    places: Array
    outlier = _OUTLINE_OFF_M / _OUTLINE_M

    def missed(self, poses: Sequence[Array], radii: Array, steep: Array | None = None) -> Missed:
        """See `Evidence`."""
        camera = camera_of(self.photo, poses[0])
        passing = clearance(radii, camera.centre, rays(camera, self.places), steep)
        by_metre = -1 / passing.steep / _OUTLINE_M
        return Missed(passing.apart[:, None] / _OUTLINE_M, passing.towards, by_metre[:, None], passing.steep)


@dataclass(frozen=True)
class Common:
    """What two photos have in common; many: the root of how many such pairs there are, which are wrong alike."""

    photos: tuple[int, int]
    seen: tuple[Seen, Seen]
    match: Match
    many: float

    @property
    def outlier(self) -> float:
        """See `Evidence`."""
        return _CROSS_OFF_M / _CROSS_M / self.many

    def crossing(self, poses: Sequence[Array], radii: Array, steep: Array | None = None) -> Crossing:
        """Of both photos' lines of sight."""
        first, second = (camera_of(photo, pose) for photo, pose in zip(self.seen, poses, strict=True))
        return crossing(self.match, first, second, radii, steep)

    def missed(self, poses: Sequence[Array], radii: Array, steep: Array | None = None) -> Missed:
        """See `Evidence`."""
        found, size = self.crossing(poses, radii, steep), _CROSS_M * self.match.coarse * self.many
        sure = found.sine.clip(_NARROWEST) / size
        by_metre = np.stack([np.zeros(len(sure)), -sure / found.steep], 1)
        return Missed(np.stack([found.gap / size, found.over * sure], 1), found.towards, by_metre, found.steep)


def likeliest(
    known: Sequence[Evidence], guessed: Guessed, errors: Array, poses: Array, heard: Callable[[], None]
) -> tuple[Array, Array]:
    """Modes of the look's errors (K,) and poses (P, 7), from others."""
    for _ in range(_ROUNDS):
        heard()
        step, steep = _step(known, guessed, errors, poses)
        before = cost = _cost(known, guessed, errors, poses, steep)
        for _ in range(_HALVINGS):
            tried = errors + step[: len(errors)], poses + step[len(errors) :].reshape(poses.shape)
            if (then := _cost(known, guessed, *tried, steep)) < cost:
                (errors, poses), cost = tried, then
                break
            step = step / 2
        if before - cost < _LEAST * before:
            break
    return errors, poses


def _cost(
    known: Sequence[Evidence], guessed: Guessed, errors: Array, poses: Array, steep: Sequence[Array | None]
) -> float:
    """Minus twice the logarithm of the likelihood, by Cauchy's distribution where there are outliers."""
    radii, cost = guessed.radii + guessed.errors @ errors, np.square(errors).sum()
    for evidence, there in zip(known, steep, strict=True):
        off = np.square(evidence.missed([poses[k] for k in evidence.photos], radii, there).values).sum(1)
        half = evidence.outlier**2
        cost += off.sum() if np.isinf(half) else half * np.log1p(off / half).sum()
    return float(cost)


def _step(known: Sequence[Evidence], guessed: Guessed, errors: Array, poses: Array) -> tuple[Array, list[Array | None]]:
    """(K + 7 P,) of Gauss-Newton, and how steep the surface is where each evidence touches it."""
    size, count = len(errors), len(errors) + poses.size
    radii, normal, off = guessed.radii + guessed.errors @ errors, np.zeros((count, count)), np.zeros(count)
    normal[range(size), range(size)], off[:size] = 1.0, errors
    steep: list[Array | None] = []
    for evidence in known:
        own = [poses[k] for k in evidence.photos]
        found = evidence.missed(own, radii)
        steep.append(found.steep)
        slopes, columns = [], []
        for index, k in enumerate(evidence.photos):
            for axis, small in enumerate(_STEP * np.eye(7)):
                moved = [pose + small if other == index else pose for other, pose in enumerate(own)]
                slopes.append((evidence.missed(moved, radii, found.steep).values - found.values) / _STEP)
                columns.append(size + 7 * k + axis)
        slope = np.stack(slopes, -1)  # (N, M, columns)
        if found.towards is not None and found.by_metre is not None:
            corners, counts = about(found.towards)
            bend = np.einsum("nf,nfk->nk", counts, guessed.errors[corners])
            slope = np.concatenate([found.by_metre[..., None] * bend[:, None], slope], -1)
            columns = [*range(size), *columns]
        weight = 1 / (1 + np.square(found.values).sum(1, keepdims=True) / evidence.outlier**2)
        slope = slope.reshape(-1, len(columns))
        weighted = slope.T * np.broadcast_to(weight, found.values.shape).ravel()
        normal[np.ix_(columns, columns)] += weighted @ slope
        off[columns] += weighted @ found.values.ravel()
    return -np.linalg.solve(normal + 1e-6 * np.diag(np.diag(normal)), off), steep
