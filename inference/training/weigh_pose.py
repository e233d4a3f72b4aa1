"""Measure pose descriptors in units of what is not pose, so that near ones hold the same pose.

python -m inference.training.weigh_pose --weights FILE --films DIR --out FILE

The descriptor of a finished network is turned and scaled, and all that reads it is told, so that it makes the same
pictures. Its new numbers are the directions of `narrow_pose.explained`, but place and size in the crop, which another
film of the same pose has otherwise, count as what twins make of it: against the pose, not for it. Each is divided by
the spread of that, and weighed by the share of its variance that is pose, as Wiener's filter does.
"""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from scipy.linalg import eigh

from .. import nets
from ..nets.latent_pose import LatentPose
from ..reenact.network import Network
from . import script
from .narrow_pose import RIDGE, narrowed, place_of, turned_poses, within
from .reenactment import background, coefficients_of, save

Array = np.ndarray
_LEAST = 0.5  # weight of directions without pose, by which pictures move within the crop; less gains nothing


@dataclass(frozen=True)
class Weighing:
    """Directions (D, D) of descriptors about their mean, as columns, and how much of each is pose (D,) in [0, 1]."""

    directions: Array
    shares: Array


def weigh(descriptors: Array, poses: Array, places: Array) -> Weighing:
    """Weigh descriptors (N, T, D) in a ring of films by poses (N * T, K) and by places in the crop (N * T, P)."""
    x = descriptors.reshape(-1, descriptors.shape[-1])
    x, truth = x - x.mean(0), np.concatenate([poses, places], 1)
    told = np.linalg.solve(truth.T @ truth + RIDGE * np.eye(truth.shape[1]), truth.T @ x)
    pose, place = poses @ told[: poses.shape[1]], places @ told[poses.shape[1] :]
    noise = within(descriptors) + place.T @ place / len(x)
    noise += 1e-4 * np.trace(noise) / len(noise) * np.eye(len(noise))
    ratio, directions = eigh(pose.T @ pose / len(x), noise)
    ratio = np.clip(ratio[::-1], 0, None)
    shares = ratio / (1 + ratio)
    return Weighing(directions[:, ::-1] * np.maximum(shares, _LEAST), shares)


def main() -> None:
    """Change a network's file."""
    parser = script.make_parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--films", type=Path, required=True)
    script.work_as_job(parser, _work)


def _work(options: Namespace, job: script.Run) -> None:
    net = nets.load(options.weights)
    assert isinstance(net, LatentPose)
    with safe_open(options.weights, "pt") as file:
        header = file.metadata()
    with np.load(options.films / "films.npz", allow_pickle=False) as arrays:
        images, masks = arrays["images"], arrays["masks"][..., None] / np.float32(255)
        poses = turned_poses(coefficients_of(arrays["weights"], arrays["rotations"]).reshape(-1, 58))
        places = place_of(arrays["landmarks"])
    rng = np.random.default_rng(9)
    behind = np.stack([background(images.shape[2], rng) for _ in range(len(images))])
    found = []
    for image, mask, one in job.each("read", list(zip(images, masks, behind, strict=True))):
        found.append(Network(net).pose((image + one * (1 - mask)).astype(np.uint8)))
    descriptors = np.stack(found)
    weighing = weigh(descriptors, poses, places)
    script.LOG.info("share of each direction that is pose: %s", np.round(weighing.shares, 2).tolist())
    flat = descriptors.reshape(-1, descriptors.shape[-1]).astype(float)
    with torch.no_grad():
        net.load_state_dict(narrowed(net.state_dict(), weighing.directions, flat, net.config))
    save(options.out, net, json.loads(header["recipe"]), json.loads(header["metrics"]))


if __name__ == "__main__":
    main()
