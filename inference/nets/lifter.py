"""Lift a window of 2D keypoints to 3D: a shallow perceptron with validity masks (thesis 4.1.1).

Everything between image coordinates and metres is here, shared by training and inference: a virtual camera turned
towards the person, one origin and one scale for the window, local frames for hands and face, standardisation with
statistics of valid samples, zeroing of invalid coordinates, and the way back.

A point that is seen lies on its ray: the perceptrons give its depth, the size of the whole in metres, and an
offset across. So what the image tells need not be learnt, and what is predicted agrees with what was measured. For the
body they also say how much each frame of the window counts in where a joint is: steady or noisy, seen or missing.

Three perceptrons of the same form (linear, batch norm, ReLU, dropout, residual blocks): the body's gives 25 joints
about the mid-hip, the hand's (one for both sides, the right hand mirrored) 21 points about the wrist, the face's
70 points about the nose; the last two also see the predicted body. Each joint comes with its expected error. What the
body's perceptron says is corrected by a network whose joints share their weights (`mixer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..core.skeletons import BODY, BODY_25, FACE, LEFT_HAND, MIRROR_137, RIGHT_HAND
from .mixer import FoldedMixer, Mixer, MixerShape

NAME = "lifter"
SCHEMA = 1
NOSE, NECK, RWRIST, LWRIST, MIDHIP = 0, 1, 4, 7, 8
MIRROR_25 = MIRROR_137[: len(BODY_25)]
FACE_NOSE = 30  # iBUG's nose tip
_CUES = 4
LAST = 3.0  # how much more, as a logarithm, the last frame counts before anything is learnt
_QUICK_HALVES = "AVX" in torch.backends.cpu.get_cpu_capability()  # elsewhere torch is slow with them
OFFSET = 0.15  # how far a seen point may leave its ray, against an unseen one


@dataclass(frozen=True)
class LifterConfig:
    """Shape of the network."""

    window: int = 5
    hidden: int = 1024
    blocks: int = 2
    part_hidden: int = 256  # of the hand's and the face's perceptrons
    part_blocks: int = 1
    dropout: float = 0.0
    mixer_blocks: int = 0  # of the mixer that corrects the body; 0: none
    mixer_width: int = 128
    mixer_inner: int = 256
    mixer_groups: int = 8
    mixer_share: int = 16  # features that each joint gets from the perceptron's last hidden layer

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Lifted(NamedTuple):
    """(B, 137, 3) metres about the mid-hip in the camera frame, and (B, 137) metres of expected error."""

    positions: Tensor
    error: Tensor


class Part(NamedTuple):
    """What a perceptron sees, (B, F), and where the points are: (B, T, K, 2), zero where not `seen`."""

    inputs: Tensor
    place: Tensor
    seen: Tensor  # (B, T, K, 1) 1 or 0


class Features(NamedTuple):
    """The parts; `turn` (B, 3, 3) takes the camera frame to the virtual camera's, `scale` (B, 1) is the body's angle.

    `hands` are 2 B rows, all left hands before all right ones. Without hands and face (25 points given) both are None.
    """

    body: Part
    turn: Tensor
    scale: Tensor
    hands: Part | None = None
    face: Part | None = None


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


class Perceptron(nn.Sequential):
    """Layers one after the other; the last is linear."""

    def hidden_and_out(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layer sees, and what it gives."""
        *layers, last = self
        for layer in layers:
            x = layer(x)
        return x, last(x)


def perceptron(inputs: int, outputs: int, hidden: int, blocks: int, dropout: float) -> Perceptron:
    """Linear, BN, ReLU, dropout; residual blocks of two such layers; linear."""
    middle = [Residual(hidden, dropout) for _ in range(blocks)]
    last = nn.Linear(hidden, outputs)
    with torch.no_grad():
        last.weight.mul_(0.1)  # begin near the typical pose
    return Perceptron(*_layer(inputs, hidden, dropout), *middle, last)


class Lifter(nn.Module):
    """See the module's text. Statistics are buffers, so a state dict is complete."""

    cues_mean: Tensor
    cues_std: Tensor
    body_out_mean: Tensor
    body_out_std: Tensor
    mirror: Tensor
    side: Tensor

    def __init__(self, config: LifterConfig) -> None:
        super().__init__()
        self.config = config
        c, steps = config, config.window
        self._votes = steps if steps > 1 else 0
        self.body = perceptron(steps * 25 * 3 + _CUES, 25 * (4 + self._votes) + 1, c.hidden, c.blocks, c.dropout)
        self.mixer: Mixer | FoldedMixer | None = _mixer(c, self._votes) if c.mixer_blocks else None
        part = (c.part_hidden, c.part_blocks, c.dropout)
        self.hand = perceptron(steps * 21 * 3 + 1 + 75, 21 * 4 + 1, *part)
        self.face = perceptron(steps * 70 * 3 + 1 + 75, 70 * 4 + 1, *part)
        for name, points in (("body", 25), ("hand", 21), ("face", 70)):
            self.register_buffer(f"{name}_in_mean", torch.zeros(points, 2))
            self.register_buffer(f"{name}_in_std", torch.ones(points, 2))
            self.register_buffer(f"{name}_out_mean", torch.zeros(points, 3))
            self.register_buffer(f"{name}_out_std", torch.ones(points, 3))
            self.register_buffer(f"{name}_size", torch.ones(()))  # metres of the box's diagonal, typically
        self.register_buffer("cues_mean", torch.zeros(_CUES))
        self.register_buffer("cues_std", torch.ones(_CUES))
        self.register_buffer("mirror", torch.tensor(MIRROR_25), persistent=False)
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
        cues = (cues - self.cues_mean) / self.cues_std
        body = self._standard(virtual[:, :, BODY] / scale, valid[:, :, BODY], cues, "body")
        angle = scale[:, :, 0, 0]
        if rays.shape[2] == BODY.stop:
            return Features(body, turn, angle)
        hands = self._standard(*hand_frames(virtual, valid, scale), "hand")
        return Features(body, turn, angle, hands, self._standard(*face_frame(virtual, valid, scale), "face"))

    def look(self, rays: Tensor, valid: Tensor, focal_known: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turn a virtual camera to the person.

        Returns:
            (B, T, 137, 2) virtual image coordinates, zero where invalid; (B, 3, 3) turn; (B, 1, 1, 1) scale: the
            window's largest diagonal of the box of the body; (B, 4) cues: origin, log scale, whether focal is known.
        """
        rays = torch.where(valid[..., None], rays, 0.0)
        origin = _origin(rays[:, :, BODY], valid[:, :, BODY])
        turn = look_at(origin)
        x = (rays.flatten(1, 2) @ turn[:, :, :2].mT + turn[:, None, :, 2]).view(*rays.shape[:3], 3)
        virtual = x[..., :2] / x[..., 2:].clamp_min(0.05)
        virtual = torch.where(valid[..., None], virtual, 0.0)
        scale = box_diagonal(virtual[:, :, BODY], valid[:, :, BODY]).clamp_min(0.01)
        cues = torch.cat([origin, scale.log()[:, None], focal_known[:, None]], 1)
        return virtual, turn, scale[:, None, None, None], cues

    def _standard(self, points: Tensor, valid: Tensor, cues: Tensor, name: str) -> Part:
        mean, std = getattr(self, f"{name}_in_mean"), getattr(self, f"{name}_in_std")
        mask = valid[..., None].to(points.dtype)
        inputs = ((points - mean) / std).clamp(-5.0, 5.0) * mask
        return Part(torch.cat([inputs.flatten(1), mask.flatten(1), cues], 1), points * mask, mask)

    def regress(self, features: Features) -> Lifted:
        """Run the perceptrons and attach hands and face to the predicted wrists and nose.

        Returns:
            137 points, or the 25 of the body where `features` hold nothing else.
        """
        body, error = self.regress_body(features.body, features.scale)
        if features.face is None or features.hands is None:
            return Lifted(body @ features.turn, error)
        (left, right), hand_error = self.regress_hands(features.hands, body)
        face, face_error = self.regress_face(features.face, body)
        nose, left_wrist, right_wrist = (body[:, joint, None] for joint in (NOSE, LWRIST, RWRIST))
        points = [body, nose + face, left_wrist + left, right_wrist + right]
        # rows times the turn: the inverse turn, back to the camera
        return Lifted(torch.cat(points, 1) @ features.turn, torch.cat([error, face_error, *hand_error], 1))

    def regress_body(self, part: Part, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (B, 25, 3) about the mid-hip, metres, in the virtual camera's frame; their expected errors (B, 25)."""
        hidden, out = self.body.hidden_and_out(part.inputs)
        if self.mixer is not None:
            out = out.float() + self.mixer(part.inputs, hidden)
        points, error = self._points(out, self._track(out, part), "body", scale)
        return points - points[:, MIDHIP : MIDHIP + 1], error

    def _track(self, out: Tensor, part: Part) -> tuple[Tensor, Tensor]:
        """Where the joints are now: (B, 25, 2), the frames of the window weighed by the perceptron's votes.

        Also (B, 25, 1): 1 where the last frame shows the joint, a half where only an earlier one does.
        """
        last = part.seen[:, -1]
        if not self._votes:
            return part.place[:, -1], last
        votes = out[:, -25 * self._votes :].float().view(-1, self._votes, 25, 1)
        votes = torch.cat([votes[:, :-1], votes[:, -1:] + LAST], 1)
        weight = votes.clamp(-8.0, 8.0).exp() * part.seen
        total = weight.sum(1)
        place = (weight * part.place).sum(1) / total.clamp_min(1e-6)
        return place, 0.5 * (last + part.seen.amax(1))

    def regress_hands(self, hands: Part, body: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Left and right hands (B, 21, 3) about their wrists, and their errors, given the predicted body."""
        both = torch.cat([body, body[:, self.mirror] * self.side])
        points, error = self._part(self.hand, hands, both, "hand")
        count = len(body)
        return (points[:count], points[count:] * self.side), (error[:count], error[count:])

    def regress_face(self, face: Part, body: Tensor) -> tuple[Tensor, Tensor]:
        """The face (B, 70, 3) about the nose, and its errors, given the predicted body."""
        return self._part(self.face, face, body, "face")

    def _part(self, net: nn.Module, part: Part, body: Tensor, name: str) -> tuple[Tensor, Tensor]:
        seen = ((body.detach() - self.body_out_mean) / self.body_out_std).flatten(1)
        out = net(torch.cat([part.inputs, seen], 1))
        return self._points(out, (part.place[:, -1], part.seen[:, -1]), name)

    def _points(
        self, out: Tensor, track: tuple[Tensor, Tensor], name: str, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Size, depths and offsets across to metres: xy = place (size + scale depth) + offset.

        Points that are seen are held to their rays: their offsets are small.
        """
        place, seen = track
        out, count = out.float(), place.shape[1]
        raw = out[:, : 3 * count].view(-1, count, 3) * getattr(self, f"{name}_out_std")
        depth = raw[..., 2:] + getattr(self, f"{name}_out_mean")[:, 2:]
        size = out[:, 4 * count : 4 * count + 1].clamp(-3.0, 3.0).exp()
        reach = (getattr(self, f"{name}_size") * size)[:, None]
        if scale is not None:
            reach = reach + scale[:, None] * depth
        error = out[:, 3 * count : 4 * count].clamp(-7.0, 2.0).exp()
        offset = raw[..., :2] * (1.0 - (1.0 - OFFSET) * seen)
        return torch.cat([place * reach + offset, depth], -1), error


def _mixer(c: LifterConfig, votes: int) -> Mixer:
    shape = MixerShape(c.mixer_blocks, c.mixer_width, c.mixer_inner, c.mixer_groups)
    return Mixer(shape, steps=c.window, cues=_CUES, hidden=c.hidden, share=c.mixer_share, per_joint=4 + votes)


def _origin(rays: Tensor, valid: Tensor) -> Tensor:
    """(B, 2): mid-hip of the last frame where it is valid, else neck, else the centroid of all valid joints."""
    weights = valid.to(rays.dtype)[..., None]
    centre = (rays * weights).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1.0)
    # candidates from worst to best: neck, then mid-hip, each from the first frame to the last
    known = torch.cat([valid[:, :, NECK], valid[:, :, MIDHIP]], 1)
    places = torch.cat([rays[:, :, NECK], rays[:, :, MIDHIP]], 1)
    rank, best = (known * torch.arange(1, known.shape[1] + 1, device=rays.device)).max(1)
    return torch.where(rank[:, None] > 0, places[torch.arange(len(best), device=rays.device), best], centre)


def look_at(origin: Tensor) -> Tensor:
    """(B, 3, 3) shortest turns taking the directions (B, 2) of image points to the optical axis."""
    d = nn.functional.normalize(nn.functional.pad(origin, (0, 1), value=1.0), dim=1)
    across = d[:, :2, None]
    square = torch.eye(2, dtype=d.dtype, device=d.device) - across * across.mT / (1.0 + d[:, 2, None, None])
    return torch.cat([torch.cat([square, -across], 2), d[:, None]], 1)


def box_diagonal(points: Tensor, valid: Tensor) -> Tensor:
    """(B,) largest diagonal over T of the box of valid points (B, T, K, 2); zero where none is valid."""
    ok = valid[..., None]
    low = torch.where(ok, points, torch.inf).amin(2)
    high = torch.where(ok, points, -torch.inf).amax(2)
    return (high - low).clamp_min(0.0).norm(dim=-1).amax(1)


def hand_frames(virtual: Tensor, valid: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hands about their wrists, over their own sizes: points (2 B, T, 21, 2), valid, log of size over body (2 B, 1).

    The B left hands come first; the right ones are mirrored, so that one perceptron serves both.
    """
    mirrored = virtual * virtual.new_tensor([-1.0, 1.0])
    points = torch.cat([virtual[:, :, LEFT_HAND], mirrored[:, :, RIGHT_HAND]])
    wrist = torch.cat([virtual[:, :, LWRIST, None], mirrored[:, :, RWRIST, None]])
    ok = torch.cat([valid[:, :, LEFT_HAND], valid[:, :, RIGHT_HAND]])
    wrist_ok = torch.cat([valid[:, :, LWRIST], valid[:, :, RWRIST]])
    points, ratio = _about(points, ok, 0, wrist, wrist_ok, torch.cat([scale, scale]))
    return points, ok, ratio


def face_frame(virtual: Tensor, valid: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The face about the tip of its nose, over its own size, as in `hand_frames`."""
    ok = valid[:, :, FACE]
    nose = virtual[:, :, NOSE, None], valid[:, :, NOSE]
    points, ratio = _about(virtual[:, :, FACE], ok, FACE_NOSE, *nose, scale)
    return points, ok, ratio


def _about(  # noqa: PLR0917 (a private step of the two functions above)
    points: Tensor, ok: Tensor, own: int, joint: Tensor, joint_ok: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Move the origin to a part's own anchor, else to the body's joint (B, T, 1, 2), else to the part's centroid."""
    count = ok.sum(2)[..., None, None].clamp_min(1)
    centre = points.sum(2, keepdim=True) / count  # invalid points are zero
    centre = torch.where(joint_ok[..., None, None], joint, centre)
    centre = torch.where(ok[:, :, own, None, None], points[:, :, own : own + 1], centre)
    size = box_diagonal(points, ok)[:, None, None, None]
    size = torch.where(size > 0, torch.maximum(size, 0.01 * scale), 0.1 * scale)
    return (points - centre) / size, (size / scale).log()[:, :, 0, 0]


def fuse(net: Lifter) -> Lifter:
    """A copy for inference, which stays on its device, with batch norm folded into the linear layers before it."""
    fused = Lifter(net.config)
    for name in ("body", "hand", "face"):
        setattr(fused, name, Folded(getattr(net, name), halves=name == "body" and _QUICK_HALVES))
    if isinstance(net.mixer, Mixer):
        fused.mixer = FoldedMixer(net.mixer, halves=_QUICK_HALVES)
    buffers = dict(net.named_buffers())
    for name, _ in list(fused.named_buffers(recurse=False)):
        fused.register_buffer(name, buffers[name].clone(), persistent=name not in ("mirror", "side"))
    return fused.eval().requires_grad_(requires_grad=False)


class Folded(nn.Module):
    """A perceptron as nothing but linear layers: the first, two for each residual block, the last.

    With `halves` the blocks of a single row run in half precision, 0.04 mm off: what one row costs is the way of the
    weights to the processor, which other work between two frames has driven out of its cache.
    """

    def __init__(self, layers: Perceptron, *, halves: bool) -> None:
        super().__init__()
        flat = [layer for layer in layers.modules() if isinstance(layer, nn.Linear | nn.BatchNorm1d)]
        norms = [layer for layer in flat if isinstance(layer, nn.BatchNorm1d)]
        linears = [layer for layer in flat if isinstance(layer, nn.Linear)]
        folded = [_fold(a, b) for a, b in zip(linears, norms, strict=False)] + [linears[-1]]
        self.weights = nn.ParameterList([layer.weight.detach().float().clone() for layer in folded])
        self.biases = nn.ParameterList([layer.bias.detach().float().clone() for layer in folded])
        self._layers = list(zip(self.weights, self.biases, strict=True))
        self._halves = [(weight.half(), bias.half()) for weight, bias in self._layers[1:-1]] if halves else []

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden_and_out(x)[1]

    def hidden_and_out(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Perceptron.hidden_and_out`."""
        first, *inner, last = self._layers
        x = linear(x, *first).relu_()
        x = _residuals(x.half(), self._halves).float() if self._halves and len(x) == 1 else _residuals(x, inner)
        return x, linear(x, *last)


def _residuals(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        x = x + linear(linear(x, *first).relu_(), *second).relu_()
    return x


def _fold(layer: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    assert norm.running_mean is not None and norm.running_var is not None
    out = nn.Linear(layer.in_features, layer.out_features, device=layer.weight.device)
    with torch.no_grad():
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        out.weight.copy_(layer.weight * gain[:, None])
        out.bias.copy_((layer.bias - norm.running_mean) * gain + norm.bias)
    return out


def build(config: Mapping[str, Any]) -> Lifter:
    """Make the network that a weights file's `config` describes."""
    return Lifter(LifterConfig(**config))
