"""Keep of a finished network's pose descriptor what poses explain, in units of what is not pose.

python -m inference.training.weigh_pose --weights FILE --films DIR --out FILE [--keep N] [--plain]

The descriptor is turned, scaled and, with `--keep`, narrowed; all that reads it is linear in it first, so it is told,
and makes the same pictures but for what was dropped, of which it is told the mean.
Kept are the directions whose spread between poses (as far as weights, turn, and place in the crop explain it linearly)
is largest against their spread between twins, as linear discriminant analysis has it. Among these, place and size in
the crop, which another film of the same pose has otherwise, count as what twins make of it: against the pose, not for
it. Each direction is divided by the spread of that, and weighed by the share of its variance that is pose, as Wiener's
filter does, so that near descriptors hold the same pose. With `--plain` the directions of the largest spread are kept
and neither scaled nor weighed: for descriptors that have learnt to be near (`contrast` of `training.pose_encoder`).
"""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from scipy.linalg import eigh

from .. import nets
from ..nets.latent_pose import LatentPose
from ..reenact.network import Network
from . import script
from .reenactment import READERS, background, coefficients_of, save

Array = np.ndarray
_MARKS = [33, 263, 1, 61, 291, 152, 10, 234, 454]
_RIDGE = 50.0
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
    told = np.linalg.solve(truth.T @ truth + _RIDGE * np.eye(truth.shape[1]), truth.T @ x)
    pose, place = poses @ told[: poses.shape[1]], places @ told[poses.shape[1] :]
    noise = within(descriptors) + place.T @ place / len(x)
    noise += 1e-4 * np.trace(noise) / len(noise) * np.eye(len(noise))
    ratio, directions = eigh(pose.T @ pose / len(x), noise)
    ratio = np.clip(ratio[::-1], 0, None)
    shares = ratio / (1 + ratio)
    return Weighing(directions[:, ::-1] * np.maximum(shares, _LEAST), shares)


def explained(descriptors: Array, truth: Array) -> Array:
    """Directions (D, D), the best first, of descriptors (N, T, D) in a ring of films by truth (N * T, K)."""
    among = within(descriptors)
    x = descriptors.reshape(-1, descriptors.shape[-1])
    x = x - x.mean(0)
    told = truth @ np.linalg.solve(truth.T @ truth + _RIDGE * np.eye(truth.shape[1]), truth.T @ x)
    floor = 1e-4 * np.trace(among) / len(among) * np.eye(len(among))
    return eigh(told.T @ told / len(told), among + floor)[1][:, ::-1]


def within(descriptors: Array) -> Array:
    """(D, D) covariance between people in the same pose, of descriptors (N, T, D) in a ring of films."""
    half = descriptors.shape[1] // 2
    apart = (np.roll(descriptors, -1, 0)[:, :half] - descriptors[:, half:]).reshape(-1, descriptors.shape[-1])
    return apart.T @ apart / len(apart) / 2


def turned_poses(coefficients: Array) -> Array:
    """Coefficients (M, 58) and turns squared, each of unit spread."""
    return _unit(np.concatenate([coefficients, coefficients[:, 52:] ** 2], 1))


def place_of(landmarks: Array) -> Array:
    """Where a face is in its crop and how large, (N * T, 3), each of unit spread: landmarks (N, T, 478, 2)."""
    marks = landmarks[:, :, _MARKS].astype(np.float32).reshape(-1, len(_MARKS), 2)
    middle = marks.mean(1)
    size = np.sqrt(np.square(marks - middle[:, None]).sum((1, 2)))[:, None]
    return _unit(np.concatenate([middle, size], 1))


def _unit(values: Array) -> Array:
    return (values - values.mean(0)) / (values.std(0) + 0.05)


def narrowed(state: dict[str, torch.Tensor], directions: Array, x: Array, config: Any) -> dict[str, torch.Tensor]:
    """A state of the network whose descriptor is directions.T (x - mean of x): x (N, D) are descriptors."""
    mean, kept = torch.tensor(x.mean(0)).float(), torch.tensor(directions.T.copy()).float()
    z = (x - x.mean(0)) @ directions
    back = torch.tensor(np.linalg.lstsq(z, x - x.mean(0), rcond=None)[0].T.copy()).float()
    out = dict(state)
    out["embedder.pose_encoder.head.2.weight"] = kept @ state["embedder.pose_encoder.head.2.weight"]
    out["embedder.pose_encoder.head.2.bias"] = kept @ (state["embedder.pose_encoder.head.2.bias"] - mean)
    for name in READERS:
        weight = f"{name}weight_orig" if "projector" in name else f"{name}weight"
        if weight in state:
            who, how = state[weight][:, : config.identity], state[weight][:, config.identity :]
            gain = config.gain if "projector" in name else 1.0
            out[f"{name}bias"] = state[f"{name}bias"] + gain * (how @ mean)
            out[weight] = torch.cat([who, how @ back], 1)
    out["reader.0.bias"] = state["reader.0.bias"] + state["reader.0.weight"] @ mean
    out["reader.0.weight"] = state["reader.0.weight"] @ back
    vector = "generator.affine_params_projector.0.weight_v"  # of no use where layers are not limited
    out[vector] = torch.nn.functional.normalize(torch.ones(config.identity + len(kept)), dim=0)
    return out


def main() -> None:
    """Change a network's file."""
    parser = script.make_parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--keep", type=int, metavar="N", help="numbers of the descriptor that are kept; else all")
    parser.add_argument("--plain", action="store_true", help="keep distances as they are")
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
    flat = descriptors.reshape(-1, descriptors.shape[-1]).astype(float)
    if options.plain:
        directions = np.linalg.eigh(np.cov(flat.T))[1][:, ::-1][:, : options.keep]
    else:
        kept = explained(descriptors, np.concatenate([poses, places], 1))[:, : options.keep]
        weighing = weigh(descriptors @ kept, poses, places)
        script.LOG.info("share of each direction that is pose: %s", np.round(weighing.shares, 2).tolist())
        directions = kept @ weighing.directions
    other = LatentPose(replace(net.config, pose=directions.shape[1])).eval()
    with torch.no_grad():
        other.load_state_dict(narrowed(net.state_dict(), directions, flat, net.config))
    save(options.out, other, json.loads(header["recipe"]), json.loads(header["metrics"]))


if __name__ == "__main__":
    main()
