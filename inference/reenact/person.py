"""The network made one person's own, or told who that is by a descriptor alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..protocol.errors import InputError, WeightsError
from ..runtime import weights
from .job import ReenactJob
from .network import WEIGHTS, Network, load
from .shown import Shown

Array = np.ndarray
_FEW, _MANY, _MANY_PICTURES = 125, 230, 30  # steps for one picture, and for so many (Burkov 2020)
_STEM = "person"


@dataclass(frozen=True)
class Person:
    """Who is shown: a network, the identity it wants, and the person's own pose (D,) in the first picture.

    key says what all of it was made from; `base` is the network's digest, whose descriptors these are.
    """

    network: Network
    identity: Array | None
    own: Array
    key: str
    base: str
    iterations: int

    def frame(self, pose: Array) -> tuple[Array, Array]:
        """(S, S, 3) in [0, 1] times alpha, and alpha (S, S), in one pose (D,)."""
        rgb, alpha = self.network.frame(self.identity, pose[None])
        return rgb[0], alpha[0]


def steps_for(pictures: int) -> int:
    """How many steps so many pictures call for: more take expression away, fewer leave the person unlike."""
    share = min((pictures - 1) / (_MANY_PICTURES - 1), 1.0)
    return round(_FEW + share * (_MANY - _FEW))


def digest(network: Path | None) -> str:
    """Hash of a network's file.

    Raises:
        WeightsError: it cannot be read.
    """
    path = network or weights.locate(WEIGHTS)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error


def make_person(job: ReenactJob, shown: Sequence[Shown], network: Network, base: str) -> Person:
    """Take the person in, by steps of fitting or without any.

    A network that was fitted to the same pictures is used again; fitting goes on where it was cut off.

    Raises:
        InputError: a network that is driven by landmarks finds none in the first picture.
        WeightsError: a checkpoint is damaged.
    """
    request = job.request
    images, masks = np.stack([one.image for one in shown]), np.stack([one.mask for one in shown])
    steps = steps_for(len(shown)) if request.iterations is None else request.iterations
    if network.personal:
        steps = 0
    pixels = hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()
    key = job.fingerprint("person", base, pixels, steps, request.seed)
    own = network.pose(images[:1])[0]
    if not np.isfinite(own).all():
        hint = "Give another photo first, or a network that is driven by pictures."
        raise InputError(f"The network finds no landmarks in {shown[0].name}.", hint)
    if not steps:
        identity = None if network.personal else network.identity(images)
        return Person(network, identity, own, key, base, 0)
    fitted = _fitted(job, network, (images, masks), steps, key)
    return Person(fitted, None, own, key, base, steps)


def _fitted(job: ReenactJob, network: Network, pictures: tuple[Array, Array], steps: int, key: str) -> Network:
    from .personalise import personalise

    folder = job.folder / "checkpoints" / f"{_STEM}_{key[:16]}"
    finished = folder / "network.safetensors"
    if finished.is_file():
        try:
            return load(finished, network.device)
        except WeightsError as error:
            raise WeightsError(
                f"The checkpoint of the person is damaged: {error.message}", f"Remove {folder}."
            ) from error
    images, masks = pictures
    fitted = job.timed("personalise", lambda: personalise(
        network, images, masks, iterations=steps, report=job, folder=folder, seed=job.request.seed
    ))  # fmt: skip
    fitted.save(finished)
    _tidy(folder, finished)
    return fitted


def _tidy(folder: Path, finished: Path) -> None:
    """Remove what only unfinished fitting needs."""
    for path in folder.iterdir():
        if path != finished and path.is_file():
            path.unlink()
