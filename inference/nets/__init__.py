"""Networks, one a file, each built from its weights file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..protocol.errors import WeightsError
from . import (
    face_expression,
    face_features,
    face_relief,
    gc_body,
    gc_ssn,
    head_shape,
    joint_volume,
    latent_pose,
    latent_pose_discriminator,
    lifter,
    motion_prior,
    multi_neus,
    neus,
    pose_prior,
    pose_resnet,
    triangulation,
    v2v,
    view_trust,
)
from .originals import import_original

__all__ = ["import_original", "load"]
_NETS: dict[str, Any] = {
    module.NAME: module
    for module in (
        lifter,
        view_trust,
        joint_volume,
        motion_prior,
        pose_resnet,
        v2v,
        neus,
        multi_neus,
        face_relief,
        face_expression,
        face_features,
        head_shape,
        latent_pose,
        latent_pose_discriminator,
        gc_body,
        gc_ssn,
        pose_prior,
        triangulation.AlgebraicModule,
        triangulation.VolumetricModule,
    )
}


def load(path: Path) -> torch.nn.Module:
    """Build the network that a safetensors file describes, in evaluation mode.

    Its header names the net, its config and its schema; keys and shapes must match exactly. Half-precision weights
    are widened to float32.

    Raises:
        WeightsError: missing, damaged, of an unknown net or of a newer schema.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", "Install Understudy's weights again.") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path.name} is damaged: {error}", "Install Understudy's weights again.") from error
    module = _NETS.get(header.get("net", ""))
    if module is None:
        raise WeightsError(f"{path.name} holds the net {header.get('net')!r}, which this version does not know.")
    if header.get("schema") != str(module.SCHEMA):
        raise WeightsError(f"{path.name} has schema {header.get('schema')}; this version reads {module.SCHEMA}.")
    try:
        net = module.build(json.loads(header["config"]))
        net.load_state_dict({name: _widened(value) for name, value in tensors.items()}, strict=True)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]  # torch writes a line for each tensor
        raise WeightsError(f"{path.name} does not fit its own description: {text}") from error
    return net.eval()


def _widened(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
