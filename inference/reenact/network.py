"""The reenactment network as the wing uses it: pictures in, descriptors and pictures out, all as numpy arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import nets
from ..nets import latent_pose
from ..nets.latent_pose import Embedder, Generator, LatentPose, LatentPoseConfig
from ..protocol.errors import WeightsError
from ..protocol.files import atomic_path
from ..runtime import weights

Array = np.ndarray
WEIGHTS = "reenactment"
_AT_ONCE = 16  # pictures that pass together


@dataclass(frozen=True)
class Network:
    """A network and where it runs. Pictures are RGB, uint8, or float in [0, 1]; they are resized where needed."""

    net: LatentPose
    device: str = "cpu"

    @property
    def size(self) -> int:
        """Side of the pictures it makes, px."""
        return self.net.config.size

    @property
    def pose_size(self) -> int:
        """Side of the pictures that tell it the pose, px."""
        return self.net.config.pose_size

    @property
    def pose_numbers(self) -> int:
        """D, numbers of a pose descriptor."""
        return self.net.config.pose

    @property
    def personal(self) -> bool:
        """It has been made for one person and needs no identity."""
        return self.net.config.personal

    @torch.inference_mode()
    def identity(self, images: Array) -> Array:
        """(512,) who pictures (K, S, S, 3) of one person show."""
        rows = [self.net.embedder.identity(part[None]) for part in prepared(images, self.size, self.device)[:, None]]
        each = torch.cat(rows)
        return (each.mean(0) if self.net.config.pool == "mean" else each.amax(0)).cpu().numpy()

    @torch.inference_mode()
    def pose(self, images: Array) -> Array:
        """(B, D) how whoever is in pictures (B, S, S, 3) holds and moves the head.

        NaN where a network that is driven by landmarks finds no face.
        """
        if self.net.config.pose_encoder == "landmarks":
            return self.net.embedder.pose(_landmarks(images, self.device)).cpu().numpy()
        parts = prepared(images, self.pose_size, self.device).split(_AT_ONCE)
        return torch.cat([self.net.embedder.pose(part) for part in parts]).cpu().numpy()

    @torch.inference_mode()
    def frame(self, identity: Array | None, pose: Array) -> tuple[Array, Array]:
        """Pictures (B, S, S, 3) in [0, 1], multiplied by their alpha (B, S, S), of a person in poses (B, D).

        The identity is not looked at where the network is personal.
        """
        if identity is None and not self.personal:
            raise WeightsError("This network was not made for one person: it needs an identity.")
        rows = torch.as_tensor(pose, dtype=torch.float32, device=self.device).reshape(-1, self.pose_numbers)
        rgb, alpha = [], []
        for part in rows.split(_AT_ONCE):
            who = None
            if not self.personal:
                who = torch.as_tensor(identity, dtype=torch.float32, device=self.device).expand(len(part), -1)
            picture = self.net.generator(who, part)
            rgb.append(picture.rgb.clamp(0, 1).permute(0, 2, 3, 1))
            alpha.append(picture.mask[:, 0])
        return torch.cat(rgb).cpu().numpy(), torch.cat(alpha).cpu().numpy()

    @torch.inference_mode()
    def coefficients(self, pose: Array) -> Array | None:
        """What the head on the descriptor reads from poses (B, D), None without one: see `nets/latent_pose.py`."""
        if not self.net.config.coefficients:
            return None
        return self.net.reader(torch.as_tensor(pose, dtype=torch.float32, device=self.device)).cpu().numpy()

    def save(self, path: Path) -> None:
        """Write the network as `load` reads it."""
        header = {
            "net": latent_pose.NAME, "schema": str(latent_pose.SCHEMA),
            "config": json.dumps(self.net.config.to_dict()),
        }  # fmt: skip
        tensors = {name: value.contiguous().cpu() for name, value in self.net.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=header)


def load(path: Path | None = None, device: str = "cpu") -> Network:
    """Read a network, by default the published one; also what `convert-weights` made of the authors' checkpoint.

    Raises:
        WeightsError: it is missing, damaged, or another kind of network.
    """
    path = path or weights.locate(WEIGHTS)
    net = _read_original(path) or nets.load(path)
    if not isinstance(net, LatentPose):
        raise WeightsError(f"{path.name} holds no reenactment network.")
    return Network(net.to(device), device)


def _read_original(path: Path) -> LatentPose | None:
    """The network in a converted checkpoint of the authors', averages where it has them; None if it is none."""
    try:
        with safe_open(path, "pt") as file:
            if "converted_from" not in (file.metadata() or {}):
                return None
            tensors = {n: file.get_tensor(n) for n in file.keys() if not n.startswith("optimizer")}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None  # `nets.load` says why
    parts = {name: _part(tensors, name) for name in ("embedder", "generator")}
    if not all(parts.values()):
        raise WeightsError(f"{path.name} was converted from a checkpoint of something else than reenactment.")
    identity = len(parts["embedder"]["identity_encoder.fc.weight"])
    embedder = nets.import_original("latent-pose-embedder", parts["embedder"])
    generator = nets.import_original("latent-pose-generator", parts["generator"], identity=identity)
    assert isinstance(generator, Generator) and isinstance(embedder, Embedder)
    return LatentPose.of(embedder, generator)


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    for prefix in (f"running_averages.{name}.", f"{name}."):
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if found:
            return found
    return {}


def new(config: LatentPoseConfig = latent_pose.CPU, seed: int = 0, **changes: object) -> Network:
    """A network that has learnt nothing, always the same for a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(LatentPose(replace(config, **changes)).eval())  # type: ignore[arg-type]


def _landmarks(images: Array, device: str) -> Tensor:
    """(B, 70, 2) of pictures (B, S, S, 3), as parts of the side."""
    images = np.asarray(images)
    images = images / np.float32(255) if images.dtype == np.uint8 else images
    return torch.as_tensor(_detector().parts(images), device=device)


@cache
def _detector() -> Any:
    from .landmarks import Detector  # loads what other networks do not need

    return Detector()


def prepared(images: Array, size: int, device: str) -> Tensor:
    """(B, 3, size, size) float of pictures (B, S, S, 3)."""
    images = np.asarray(images)
    if images.shape[1:3] != (size, size):
        way = cv2.INTER_AREA if images.shape[1] > size else cv2.INTER_CUBIC
        images = np.stack([cv2.resize(image, (size, size), interpolation=way) for image in images])
    tensor = torch.as_tensor(np.ascontiguousarray(images), device=device).permute(0, 3, 1, 2)
    return tensor.float().div(255) if images.dtype == np.uint8 else tensor.float().clamp(0, 1)
