"""How a detector's points answer to a face: learnt from rendered heads whose shape, pose and weights are known.

The points do not lie where the template's nominal places are, and move less than the skin does: a fit of the true
geometry to them reads faces wrongly. Here the points themselves are what is modelled, linear in the head's own frame.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from ..core.face_shapes import SHAPES
from ..protocol.errors import WeightsError
from ..protocol.files import atomic_write
from ..runtime.weights import locate

Array = np.ndarray
NAME = "face-response"
SCHEMA = 1
POINTS = 478
VIEWS = 5  # of `view_features`
# What is kept in half precision, and in which part of its unit.
_HALF = {"modes": 1e3, "shapes": 1e3, "views": 1e3, "noise_modes": 1e3, "code": 1e-2, "first": 1.0, "second": 1.0}


@dataclass(frozen=True)
class Response:
    """Points of a face: mean + modes * identity + shapes * weights + views * features of the direction to the camera.

    mean (478, 3) metres in the frame of heads; modes (K, 478, 3): one standard deviation of people each; shapes
    (52, 478, 3); views (5, 478, 3); noise_modes (M, 956): standard deviations of what is left in the picture, metres
    at the face's depth, upright with the face, x and y of each point; noise_floor (956,): the same, of each by itself;
    precision (52, 52), sparse (52,): the prior of weights, x' P x / 2 + s' x; agility (52,): standard deviation of
    their acceleration, 1/s^2; turns (2, 4): rad that the left and the right eye turn in, out, up and down at weight 1.
    Of the reader (`reader.py`): code (C, 956) and code_mean (956,): from what is left of points, metres, to numbers of
    variance 1; first, second, third and their biases: its layers; information (52, 52): inverse of its errors'
    covariance.
    """

    mean: Array
    modes: Array
    shapes: Array
    views: Array
    noise_modes: Array
    noise_floor: Array
    precision: Array
    sparse: Array
    agility: Array
    turns: Array
    code: Array
    code_mean: Array
    first: Array
    first_bias: Array
    second: Array
    second_bias: Array
    third: Array
    third_bias: Array
    information: Array

    def reader_weights(self) -> tuple[Array, Array, Array]:
        """Matrices of the reader's layers."""
        return self.first, self.second, self.third

    def reader_biases(self) -> tuple[Array, Array, Array]:
        """Biases of the reader's layers."""
        return self.first_bias, self.second_bias, self.third_bias

    @cached_property
    def white(self) -> tuple[Array, Array]:
        """The inverse of the noise's covariance as diag(d) - U U': d (956,), U (956, M) (Woodbury)."""
        d = 1.0 / np.square(self.noise_floor)
        scaled = self.noise_modes.T * d[:, None]
        inner = np.eye(len(self.noise_modes)) + self.noise_modes @ scaled
        return d, scaled @ np.linalg.cholesky(np.linalg.inv(inner))


def view_features(rotations: Array, translations: Array) -> Array:
    """(T, 5) of the direction from heads to the camera, in the heads' frames; camera-from-head poses, OpenCV's."""
    to_camera = -np.einsum("tji,tj->ti", rotations, translations)
    to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
    x, z = to_camera[:, 0], to_camera[:, 2]
    return np.stack([x, z, x * x, z * z, x * z], 1)


def save_response(path: Path, response: Response) -> None:
    """Write it in half precision where that is enough."""
    arrays = {}
    for entry in fields(response):
        value = np.asarray(getattr(response, entry.name))
        scale = _HALF.get(entry.name)
        arrays[entry.name] = np.ascontiguousarray(value * (scale or 1), np.float16 if scale else np.float32)
    header = {"net": NAME, "schema": str(SCHEMA), "shapes": json.dumps(SHAPES)}
    content = to_bytes(arrays, header)
    atomic_write(path, lambda stream: stream.write(content))


def read_response(path: Path) -> Response:
    """Read what `save_response` wrote.

    Raises:
        WeightsError: the file is damaged or of another kind.
    """
    try:
        with safe_open(path, "numpy") as stream:
            header = stream.metadata() or {}
            if header.get("net") != NAME or int(header["schema"]) > SCHEMA or json.loads(header["shapes"]) != [*SHAPES]:
                raise WeightsError(f"{path.name} holds no response of face points of schema {SCHEMA}.")
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
        plain = {name: a.astype(float) / _HALF.get(name, 1.0) for name, a in arrays.items()}
        return Response(**plain)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path.name} cannot be read: {error}") from error


def load_response() -> Response:
    """Read the one that is shipped.

    Raises:
        WeightsError: it is missing or damaged.
    """
    return read_response(locate(NAME))
