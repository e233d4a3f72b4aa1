"""Settle where joints are, from rays, rough places and how people stand: attention among the joints of one frame.

It stands behind the volume of `joint_volume` and sees more finely than its nodes: every joint is a token that knows its
rough place, what the volume said of it and how the rays of all views pass it. Attention among joints gives each a
place that fits the others and how sure that is; a small network then says which rays to believe beside it, and the
place is the posterior of both (as `joint_volume.fuse`). Two rounds: better places show better which rays err.

Inside, the person stands at the origin, faces one way, is one unit tall; views in no order, any number of them.

With a `reach`, frames of a clip hear each other, too: before they turn to the other joints, tokens attend to their own
joint some frames before and after (divided attention, Bertasius et al. 2021, Is Space-Time Attention All You Need).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .view_trust import Views, inverted, residuals

JOINTS = 25
_OWN, _RAY, _RAY_WIDTH, _ASIDE = 13, 13, 64, 32
_FAR = 0.5  # heights; no residual counts as longer
_RSHOULDER, _LSHOULDER, _RHIP, _LHIP = 2, 5, 9, 12


@dataclass(frozen=True)
class SettleConfig:
    """Shape of the network; reach: frames before and after that a frame hears, 0: frames by themselves."""

    width: int = 128
    heads: int = 4
    inner: int = 384
    layers: int = 3
    rounds: int = 2
    reach: int = 0


class Rough(NamedTuple):
    """What is known before: places (B, 25, 3), NaN where unknown, and how far they may be off (B, 25), metres.

    `volume` and `spread` are the same of the volume's word, or None where there is no volume.
    """

    points: Tensor
    error: Tensor
    volume: Tensor | None = None
    spread: Tensor | None = None


class Settled(NamedTuple):
    """points (B, 25, 3) metres; error (B, 25) metres: 68 % lie nearer to the truth; steps: places along the way."""

    points: Tensor
    error: Tensor
    steps: tuple[Tensor, ...]


class Settle(nn.Module):
    """See the module's text."""

    typical: Tensor

    def __init__(self, config: SettleConfig) -> None:
        super().__init__()
        self.config, self.hastened = config, False
        self.register_buffer("typical", torch.zeros(JOINTS, 3))
        self.ray = nn.Sequential(nn.Linear(_RAY, _RAY_WIDTH), nn.SiLU(), nn.Linear(_RAY_WIDTH, _RAY_WIDTH), nn.SiLU())
        self.rounds = nn.ModuleList([Round(config) for _ in range(config.rounds)])
        self.doubt = nn.Sequential(nn.Linear(config.width + 2, 64), nn.SiLU(), nn.Linear(64, 1))

    def hasten(self, *, bfloat16: bool) -> None:
        """Compute attention in half precision, as for training."""
        self.hastened = bfloat16
        for part in self.rounds:
            assert isinstance(part, Round)
            part.bfloat16_attention = bfloat16

    def forward(self, views: Views, weights: Tensor, centre: Tensor, rough: Rough, *, frames: int = 1) -> Settled:
        """Settle the joints of B frames, every `frames` of which follow each other before the same cameras.

        Args:
            views: of 25 points or more; weights (B, V, 25) in (0, 1), 0 where not seen; centre (B, 3) of the pelvis.
        """
        height = views.height[:, None, None]
        turn = facing(_over(rough.points, frames, Tensor.nanmean))
        stands, centre = centre, _over(centre, frames, lambda clip, _: clip.median(1).values)
        views = standing(views, turn, centre)
        known = rough.points.isfinite().all(-1, keepdim=True)
        points = _apply(turn, rough.points - centre[:, None]) / height
        points = torch.where(known, points, self.typical + _apply(turn, (stands - centre)[:, None]) / height)
        points = points.nan_to_num(0.0)
        error = torch.where(known[..., 0], rough.error / height[..., 0], 0.3).nan_to_num(0.3)
        volume = None if rough.volume is None else _apply(turn, rough.volume - centre[:, None]) / height
        steps, hidden, surety = [], points, error
        told = torch.cat([known.float(), _log(error)[..., None]], -1)
        for part in self.rounds:
            assert isinstance(part, Round)
            rays = look(views, weights, points)
            seen = views.score > 0
            each = self.ray(rays)
            pooled = torch.cat([_mean(each, weights), _mean(each, seen.float()), _most(each, seen)], -1)
            own = [points * 2, told, _log(surety)[..., None], weights.sum(1)[..., None], weights.amax(1)[..., None]]
            own.append(_said(volume, rough.spread, points, height[..., 0]))
            hidden = part(torch.cat([*own, pooled], -1), frames)
            place, sigma = part.place(hidden, points)
            steps.append(place)
            points, surety = part.fuse(views, weights, hidden, place, sigma)
            steps.append(points)
        told = torch.stack([_log(surety), weights.sum(1).clamp_min(1e-2).log()], -1)
        doubt = self.doubt(torch.cat([hidden, told], -1).detach())[..., 0]
        error = surety.detach() * torch.exp(doubt.clamp(-4, 4)) * height[..., 0]
        back = [_apply(turn.mT, step) * height + centre[:, None] for step in steps]
        return Settled(back[-1], error, tuple(back))


class Round(nn.Module):
    """One look at the whole pose, and at the rays beside it."""

    def __init__(self, config: SettleConfig) -> None:
        super().__init__()
        width = config.width
        self.bfloat16_attention = False  # for training
        self.into = nn.Linear(_OWN + 3 * _RAY_WIDTH, width)
        self.joint = nn.Parameter(torch.randn(JOINTS, width) * 0.5)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 4)
        self.reach = nn.Parameter(torch.full((JOINTS,), -4.2))  # log of how far a believed ray is off, heights
        self.beside = nn.Linear(width, _ASIDE)
        self.ray = nn.Linear(4, _ASIDE)
        self.belief = nn.Linear(_ASIDE, 1)
        with torch.no_grad():
            self.out.weight.mul_(0.05)
            self.out.bias[3] = -3.0

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """(B, 25, F), every `frames` of them a clip, to (B, 25, width)."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bfloat16_attention):
            x = self.into(tokens) + self.joint
            for layer in self.layers:
                x = layer(x, frames)
            x = self.norm(x)
        return x.float()

    def place(self, hidden: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where joints (B, 25, 3) must be by the look of the others, and how sure (B, 25) that is."""
        out = self.out(hidden)
        return points + out[..., :3], out[..., 3].clamp(-6.0, 0.0).exp()

    def fuse(
        self, views: Views, weights: Tensor, hidden: Tensor, place: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let rays that are believed pull: the Gaussian posterior (B, 25, 3), and its standard deviation (B, 25)."""
        offset, depth = residuals(views, place)
        seen = (views.score > 0) & (depth > 0.05)
        far = offset.norm(dim=-1)
        ratio = far / sigma[:, None]
        told = torch.stack([_log(far), ratio.clamp_max(50.0).log1p(), views.score, weights], -1)
        aside = functional.silu(self.ray(told) + self.beside(hidden)[:, None])
        belief = torch.sigmoid(self.belief(aside)[..., 0]) * seen
        exact = views.directions - torch.where(seen, 1.0 / depth.clamp_min(0.05), 0.0)[..., None] * offset
        rows = views.rotation[:, :, None, :2] - exact[..., None] * views.rotation[:, :, None, 2:]
        rows = torch.where(seen[..., None, None], rows, 0.0)
        precision = belief * torch.exp(-2 * self.reach)
        weighted = rows * precision[..., None, None]
        normal = torch.einsum("bvjki,bvjkl->bjil", weighted, rows)
        right = torch.einsum("bvjki,bvjk->bji", weighted, torch.where(seen[..., None], offset, 0.0))
        eye = torch.eye(3, device=normal.device)
        inverse = inverted(normal + eye * sigma.square().reciprocal()[..., None, None])
        step = (inverse @ right[..., None])[..., 0]
        spread = (inverse.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-10) / 3).sqrt()
        return place + step, spread


class Layer(nn.Module):
    """Attention over time where there is a reach, attention among joints, then a layer of each joint's own."""

    def __init__(self, config: SettleConfig) -> None:
        super().__init__()
        width = config.width
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads = config.heads
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, config.inner), nn.Linear(config.inner, width)
        self.time = TimeAttention(width, config.heads, config.reach) if config.reach else None

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(B, J, width), every `frames` of them a clip, to the same."""
        if self.time is not None and frames > 1:
            x = x + self.time(x, frames)
        x = x + self.answer(attend(self.ask(self.first(x)), self.heads))
        return x + self.narrow(functional.gelu(self.widen(self.second(x))))


class TimeAttention(nn.Module):
    """Every joint hears itself in the frames about its own. It begins as nothing."""

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.when = nn.Parameter(torch.zeros(heads, 2 * reach + 1))
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(B, J, width) to what is heard, the same shape."""
        asked = self.ask(self.norm(x)).unflatten(0, (-1, frames)).transpose(1, 2)  # (clips, J, T, 3 width)
        apart = torch.arange(frames, device=x.device)
        apart = apart - apart[:, None]
        bias = self.when[:, (apart + self.reach).clamp(0, 2 * self.reach)]
        bias = bias.masked_fill(apart.abs() > self.reach, -torch.inf)
        heard = attend(asked.flatten(0, 1), self.heads, bias.to(asked.dtype))
        return self.answer(heard.unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1))


def attend(asked: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Attention among K tokens: queries, keys and values (B, K, 3 width) to (B, K, width)."""
    batch, tokens, width = asked.shape[0], asked.shape[1], asked.shape[2] // 3
    query, key, value = asked.view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    # written out: on processors many times faster to train than the fused form, for so few tokens
    score = query @ key.mT * (width // heads) ** -0.5
    share = torch.softmax(score if bias is None else score + bias, -1)
    return (share @ value).transpose(1, 2).reshape(batch, tokens, width)


def facing(points: Tensor) -> Tensor:
    """(B, 3, 3) turns about the vertical that bring the left side to +x, by hips and shoulders of (B, 25, 3)."""
    across = torch.stack([points[:, _LHIP] - points[:, _RHIP], points[:, _LSHOULDER] - points[:, _RSHOULDER]])[..., :2]
    across = across.nan_to_num(0.0).clamp(-1.0, 1.0).sum(0) + across.new_tensor([1e-6, 0.0])
    x, y = functional.normalize(across, dim=1).unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([x, y, zero, -y, x, zero, zero, zero, one], -1).view(-1, 3, 3)


def _over(values: Tensor, frames: int, summary: Callable[[Tensor, int], Tensor]) -> Tensor:
    """(B, ...) one value for each of the clips of `frames` frames, repeated for these."""
    return summary(values.unflatten(0, (-1, frames)), 1).repeat_interleave(frames, 0)


def standing(views: Views, turn: Tensor, centre: Tensor) -> Views:
    """The body's views, as if it stood at the origin, turned by `turn`, one unit tall."""
    rotation = views.rotation @ turn.mT[:, None]
    place = (views.rotation @ centre[:, None, :, None])[..., 0] + views.translation
    place = place / views.height[:, None, None]
    one = torch.ones_like(views.height)
    return Views(views.directions[:, :, :JOINTS], views.score[:, :, :JOINTS], rotation, place, one)


def look(views: Views, weights: Tensor, points: Tensor) -> Tensor:
    """(B, V, 25, F) how rays pass points (B, 25, 3)."""
    offset, depth = residuals(views, points)
    offset = offset.clamp(-_FAR, _FAR)
    away = torch.einsum("bvki,bvjk->bvji", views.rotation[:, :, :2], offset)
    ray = torch.einsum("bvki,bvjk->bvji", views.rotation, functional.pad(views.directions, (0, 1), value=1.0))
    ray = functional.normalize(ray, dim=-1)
    columns = torch.stack([_log(offset.norm(dim=-1)), weights, views.score, (depth / 4).clamp(-1, 3)], -1)
    rays = torch.cat([away * 2, torch.asinh(away * 30), ray, columns], -1)
    return torch.where((views.score > 0)[..., None], rays, 0.0)


def _said(volume: Tensor | None, spread: Tensor | None, points: Tensor, height: Tensor) -> Tensor:
    if volume is None or spread is None:
        return points.new_zeros(*points.shape[:2], 5)
    here = torch.cat([(volume - points) * 5, _log(spread / height)[..., None], torch.ones_like(points[..., :1])], -1)
    return here.clamp(-5.0, 5.0)


def _apply(turn: Tensor, points: Tensor) -> Tensor:
    return points @ turn.mT


def _mean(each: Tensor, weights: Tensor) -> Tensor:
    return (each * weights[..., None]).sum(1) / weights.sum(1).clamp_min(1e-2)[..., None]


def _most(each: Tensor, seen: Tensor) -> Tensor:
    most = torch.where(seen[..., None], each, -1e4).amax(1)
    return torch.where(seen.any(1)[..., None], most, 0.0)


def _log(value: Tensor) -> Tensor:
    """Parts of the height, spread evenly over about -2 to 2."""
    return torch.log(value.clamp(0, _FAR) + 2e-3) + 4.0
