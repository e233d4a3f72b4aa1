"""Lift a window of 2D keypoints to 3D: a shallow perceptron with validity masks (thesis 4.1.1).

Everything between image coordinates and metres is here, shared by training and inference: a virtual camera turned
towards the person, one origin and one scale for the window, local frames for hands and face, standardisation with
statistics of valid samples, zeroing of invalid coordinates, and the way back.

Three perceptrons of the same form (linear, batch norm, ReLU, dropout, residual blocks): the body's gives 25 joints
about the mid-hip, the hand's (one for both sides, the right hand mirrored) 21 points about the wrist, the face's
70 points about the nose; the last two also see the predicted body. Each joint comes with its expected error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.skeletons import BODY, BODY_25, FACE, LEFT_HAND, MIRROR_137, RIGHT_HAND

NAME = "lifter"
SCHEMA = 1
_NOSE, _NECK, _RWRIST, _LWRIST, _MIDHIP = 0, 1, 4, 7, 8
_MIRROR_25 = MIRROR_137[: len(BODY_25)]
_FACE_NOSE = 30  # iBUG's nose tip
_CUES = 4


@dataclass(frozen=True)
class LifterConfig:
    """Shape of the network."""

    window: int = 5
    hidden: int = 1024
    blocks: int = 2
    part_hidden: int = 256  # of the hand's and the face's perceptrons
    part_blocks: int = 1
    dropout: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Lifted(NamedTuple):
    """(B, 137, 3) metres about the mid-hip in the camera frame, and (B, 137) metres of expected error."""

    positions: Tensor
    error: Tensor


class Features(NamedTuple):
    """What the perceptrons see: (B, F) each; `turn` (B, 3, 3) takes the camera frame to the virtual camera's.

    Without hands and face (25 points given) the last three are None.
    """

    body: Tensor
    turn: Tensor
    left: Tensor | None = None
    right: Tensor | None = None
    face: Tensor | None = None


class Residual(nn.Module):
    """Two layers around which the input is carried."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(width, width, dropout), *_layer(width, width, dropout))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _layer(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    layers = [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
    return [*layers, nn.Dropout(dropout)] if dropout else layers


def perceptron(inputs: int, outputs: int, hidden: int, blocks: int, dropout: float) -> nn.Sequential:
    """Linear, BN, ReLU, dropout; residual blocks of two such layers; linear."""
    middle = [Residual(hidden, dropout) for _ in range(blocks)]
    return nn.Sequential(*_layer(inputs, hidden, dropout), *middle, nn.Linear(hidden, outputs))


class Lifter(nn.Module):
    """See the module's text. Statistics are buffers, so a state dict is complete."""

    def __init__(self, config: LifterConfig) -> None:
        super().__init__()
        self.config = config
        c, steps = config, config.window
        self.body = perceptron(steps * 25 * 3 + _CUES, 25 * 4, c.hidden, c.blocks, c.dropout)
        part = (c.part_hidden, c.part_blocks, c.dropout)
        self.hand = perceptron(steps * 21 * 3 + 1 + 75, 21 * 4, *part)
        self.face = perceptron(steps * 70 * 3 + 1 + 75, 70 * 4, *part)
        for name, points in (("body", 25), ("hand", 21), ("face", 70)):
            self.register_buffer(f"{name}_in_mean", torch.zeros(points, 2))
            self.register_buffer(f"{name}_in_std", torch.ones(points, 2))
            self.register_buffer(f"{name}_out_mean", torch.zeros(points, 3))
            self.register_buffer(f"{name}_out_std", torch.ones(points, 3))
        self.register_buffer("cues_mean", torch.zeros(_CUES))
        self.register_buffer("cues_std", torch.ones(_CUES))
        self.register_buffer("mirror", torch.tensor(_MIRROR_25), persistent=False)
        self.register_buffer("side", torch.tensor([-1.0, 1.0, 1.0]), persistent=False)

    def forward(self, rays: Tensor, valid: Tensor, focal_known: Tensor) -> Lifted:
        """Lift windows of B people.

        Args:
            rays: (B, T, 137, 2) x / z and y / z in the camera frame, undistorted; anything where not valid.
            valid: (B, T, 137) bool. focal_known: (B,) 1 where the focal length is the camera's, 0 where assumed.
        """
        return self.regress(self.prepare(rays, valid, focal_known))

    def prepare(self, rays: Tensor, valid: Tensor, focal_known: Tensor) -> Features:
        """Normalise (B, T, 137 or 25, 2) rays with the statistics of the buffers."""
        virtual, turn, scale, cues = self.look(rays, valid, focal_known)
        body = self._standard(virtual[:, :, BODY] / scale, valid[:, :, BODY], "body")
        body = torch.cat([body, (cues - self.cues_mean) / self.cues_std], 1)
        if rays.shape[2] == BODY.stop:
            return Features(body, turn)
        left = self._local(*hand_frame(virtual, valid, scale, 0), "hand")
        right = self._local(*hand_frame(virtual, valid, scale, 1), "hand")
        return Features(body, turn, left, right, self._local(*face_frame(virtual, valid, scale), "face"))

    def look(self, rays: Tensor, valid: Tensor, focal_known: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turn a virtual camera to the person.

        Returns:
            (B, T, 137, 2) virtual image coordinates, zero where invalid; (B, 3, 3) turn; (B, 1, 1, 1) scale: the
            window's largest diagonal of the box of the body; (B, 4) cues: origin, log scale, whether focal is known.
        """
        rays = torch.where(valid[..., None], rays, 0.0)
        origin = _origin(rays[:, :, BODY], valid[:, :, BODY])
        turn = look_at(origin)
        x = rays[..., 0:1] * turn[:, None, None, :, 0] + rays[..., 1:2] * turn[:, None, None, :, 1]
        x = x + turn[:, None, None, :, 2]
        virtual = x[..., :2] / x[..., 2:].clamp_min(0.05)
        virtual = torch.where(valid[..., None], virtual, 0.0)
        scale = box_diagonal(virtual[:, :, BODY], valid[:, :, BODY]).clamp_min(0.01)
        cues = torch.cat([origin, scale.log()[:, None], focal_known[:, None]], 1)
        return virtual, turn, scale[:, None, None, None], cues

    def _standard(self, points: Tensor, valid: Tensor, name: str) -> Tensor:
        mean, std = getattr(self, f"{name}_in_mean"), getattr(self, f"{name}_in_std")
        points = ((points - mean) / std).clamp(-5.0, 5.0) * valid[..., None]
        return torch.cat([points.flatten(1), valid.flatten(1).to(points.dtype)], 1)

    def _local(self, points: Tensor, valid: Tensor, ratio: Tensor, name: str) -> Tensor:
        return torch.cat([self._standard(points, valid, name), ratio], 1)

    def regress(self, features: Features) -> Lifted:
        """Run the perceptrons and attach hands and face to the predicted wrists and nose.

        Returns:
            137 points, or the 25 of the body where `features` hold nothing else.
        """
        seen, error = self.regress_body(features.body)
        body = self.body_metres(seen)
        if features.face is None or features.left is None or features.right is None:
            return Lifted(body @ features.turn, error)
        hands, hand_error = self.regress_hands(features.left, features.right, seen)
        face, face_error = self.regress_face(features.face, seen)
        points = [body, body[:, _NOSE, None] + face, body[:, _LWRIST, None] + hands[0], body[:, _RWRIST, None] + hands[1]]
        # rows times the turn: the inverse turn, back to the camera
        return Lifted(torch.cat(points, 1) @ features.turn, torch.cat([error, face_error, *hand_error], 1))

    def regress_body(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised joints (B, 25, 3) in the virtual camera's frame, and their expected errors (B, 25)."""
        return self._split(self.body(features), 25)

    def body_metres(self, standardised: Tensor) -> Tensor:
        """(B, 25, 3) metres about the mid-hip."""
        body = standardised * self.body_out_std + self.body_out_mean
        return body - body[:, _MIDHIP : _MIDHIP + 1]

    def regress_hands(
        self, left: Tensor, right: Tensor, body: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Left and right hands (B, 21, 3) about their wrists, and their errors, given the standardised body."""
        both = torch.cat([body, body[:, self.mirror] * self.side])
        points, error = self._part(self.hand, torch.cat([left, right]), both, 21, "hand")
        count = len(left)
        return (points[:count], points[count:] * self.side), (error[:count], error[count:])

    def regress_face(self, face: Tensor, body: Tensor) -> tuple[Tensor, Tensor]:
        """The face (B, 70, 3) about the nose, and its errors, given the standardised body."""
        return self._part(self.face, face, body, 70, "face")

    def _part(self, net: nn.Module, features: Tensor, seen: Tensor, count: int, name: str) -> tuple[Tensor, Tensor]:
        points, error = self._split(net(torch.cat([features, seen.detach().flatten(1)], 1)), count)
        return points * getattr(self, f"{name}_out_std") + getattr(self, f"{name}_out_mean"), error

    @staticmethod
    def _split(out: Tensor, count: int) -> tuple[Tensor, Tensor]:
        out = out.float()
        return out[:, : 3 * count].view(-1, count, 3), out[:, 3 * count :].clamp(-7.0, 2.0).exp()


def _origin(rays: Tensor, valid: Tensor) -> Tensor:
    """(B, 2): mid-hip of the last frame where it is valid, else neck, else the centroid of all valid joints."""
    weights = valid.to(rays.dtype)[..., None]
    out = (rays * weights).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1.0)
    for joint in (_NECK, _MIDHIP):
        for step in range(rays.shape[1]):
            out = torch.where(valid[:, step, joint, None], rays[:, step, joint], out)
    return out


def look_at(origin: Tensor) -> Tensor:
    """(B, 3, 3) shortest turns taking the directions (B, 2) of image points to the optical axis."""
    d = nn.functional.normalize(nn.functional.pad(origin, (0, 1), value=1.0), dim=1)
    x, y, z = d.unbind(1)
    s = 1.0 / (1.0 + z)
    rows = [1 - x * x * s, -x * y * s, -x, -x * y * s, 1 - y * y * s, -y, x, y, z]
    return torch.stack(rows, 1).view(-1, 3, 3)


def box_diagonal(points: Tensor, valid: Tensor) -> Tensor:
    """(B,) largest diagonal over T of the box of valid points (B, T, K, 2); zero where none is valid."""
    ok = valid[..., None]
    low = torch.where(ok, points, torch.inf).amin(2)
    high = torch.where(ok, points, -torch.inf).amax(2)
    return (high - low).clamp_min(0.0).norm(dim=-1).amax(1)


def hand_frame(virtual: Tensor, valid: Tensor, scale: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A hand about its wrist, over its own size: points (B, T, 21, 2), valid, log of size over body (B, 1).

    The right hand (side 1) is mirrored, so that one perceptron serves both.
    """
    part, wrist = ((LEFT_HAND, _LWRIST), (RIGHT_HAND, _RWRIST))[side]
    points, ratio = _about(virtual, valid, part, (0, wrist), scale)
    if side:
        points = points * points.new_tensor([-1.0, 1.0])
    return points, valid[:, :, part], ratio


def face_frame(virtual: Tensor, valid: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The face about the tip of its nose, over its own size, as in `hand_frame`."""
    points, ratio = _about(virtual, valid, FACE, (_FACE_NOSE, _NOSE), scale)
    return points, valid[:, :, FACE], ratio


def _about(
    virtual: Tensor, valid: Tensor, part: slice, anchors: tuple[int, int], scale: Tensor
) -> tuple[Tensor, Tensor]:
    points, ok = virtual[:, :, part], valid[:, :, part]
    own, joint = anchors
    count = ok.sum(2, keepdim=True).to(points.dtype)[..., None].clamp_min(1.0)
    centre = points.sum(2, keepdim=True) / count  # invalid points are zero
    centre = torch.where(valid[:, :, joint, None, None], virtual[:, :, joint : joint + 1], centre)
    centre = torch.where(ok[:, :, own, None, None], points[:, :, own : own + 1], centre)
    size = box_diagonal(points, ok)[:, None, None, None]
    size = torch.where(size > 0, size, 0.1 * scale)
    size = torch.maximum(size, 0.01 * scale)
    return (points - centre) / size, (size / scale).log()[:, :, 0, 0]


def fuse(net: Lifter) -> Lifter:
    """A copy for inference with batch norm folded into the linear layers before it, and no dropout."""
    fused = Lifter(net.config)
    for name in ("body", "hand", "face"):
        setattr(fused, name, _fuse(getattr(net, name)))
    buffers = dict(net.named_buffers())
    for name, _ in list(fused.named_buffers(recurse=False)):
        fused.register_buffer(name, buffers[name].clone(), persistent=name not in ("mirror", "side"))
    return fused.eval()


def _fuse(layers: nn.Sequential) -> nn.Sequential:
    out: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, Residual):
            block = Residual(1, 0.0)
            block.layers = _fuse(layer.layers)
            out.append(block)
        elif isinstance(layer, nn.Linear):
            linear = nn.Linear(layer.in_features, layer.out_features)
            linear.load_state_dict({name: value.detach().float() for name, value in layer.state_dict().items()})
            out.append(linear)
        elif isinstance(layer, nn.BatchNorm1d):
            _fold(out[-1], layer)
        elif isinstance(layer, nn.ReLU):
            out.append(nn.ReLU(inplace=True))
    return nn.Sequential(*out)


def _fold(linear: nn.Module, norm: nn.BatchNorm1d) -> None:
    assert isinstance(linear, nn.Linear) and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        linear.weight.mul_(gain[:, None])
        linear.bias.sub_(norm.running_mean).mul_(gain).add_(norm.bias)


def build(config: Mapping[str, Any]) -> Lifter:
    """Make the network that a weights file's `config` describes."""
    return Lifter(LifterConfig(**config))
