"""A network over joints: each joint is a token, and so is the whole body; learnt matrices mix them.

A perceptron has weights of its own for each joint at each place of its layers, and must learn over and over what a
neighbour, or a missing point, means. Here the joints share their weights, and what differs is how they mix. A block is
h + narrow(relu(mix(widen(norm h)))): `widen` and `narrow` act on every joint, `mix` takes each of several groups of
channels from all joints to all joints. There is no attention: the skeleton is always the same, so fixed matrices will
do. (In the spirit of MLP-Mixer, Tolstikhin et al. 2021, and GraphMLP, Li et al. 2022.)

Layout inside: (tokens, B, channels), the whole body last.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

JOINTS = 25
TOKENS = JOINTS + 1


class MixerShape(NamedTuple):
    """Blocks, channels of a token, channels within a block, and the groups into which those are mixed."""

    blocks: int
    width: int
    inner: int
    groups: int


class Mixer(nn.Module):
    """From the body's inputs and the perceptron's last hidden layer to a correction of the perceptron's outputs.

    It begins as no correction. Under autocast all but the first and the last layer run in autocast's type.
    """

    def __init__(self, shape: MixerShape, *, steps: int, cues: int, hidden: int, share: int, per_joint: int) -> None:
        super().__init__()
        self.shape, self.steps, self.given = shape, steps, share
        width, inner, groups = shape.width, shape.inner, shape.groups
        inputs = steps * 3 + cues + share
        self.share = nn.Linear(hidden, JOINTS * share)  # what the perceptron tells each joint
        self.into = _weights(JOINTS, inputs, width, scale=inputs**-0.5)
        self.into_bias = _weights(JOINTS, 1, width, scale=0.5)
        self.whole = nn.Linear(cues, width)
        count = range(shape.blocks)
        self.norm = nn.ParameterList([nn.Parameter(torch.ones(width)) for _ in count])
        self.widen = nn.ParameterList([_weights(inner, width, scale=width**-0.5) for _ in count])
        self.mix = nn.ParameterList([_near_itself(groups) for _ in count])
        self.bias = nn.ParameterList([_weights(groups, TOKENS, 1, inner // groups, scale=0.2) for _ in count])
        self.narrow = nn.ParameterList([_weights(width, inner, scale=0.4 * inner**-0.5) for _ in count])
        self.last_norm = nn.Parameter(torch.ones(width))
        self.out = nn.Parameter(torch.zeros(JOINTS, width, per_joint))
        self.out_bias = nn.Parameter(torch.zeros(JOINTS, 1, per_joint))
        self.size = nn.Linear(width, 1)
        nn.init.zeros_(self.size.weight)
        nn.init.zeros_(self.size.bias)

    def matrices(self) -> list[nn.Parameter]:
        """The matrices that all joints share: most of the work, and what Muon trains."""
        return [*self.widen, *self.narrow]

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """(B, F) inputs of `Part` and (B, hidden) to (B, 25 per_joint + 1), in the order of the perceptron's."""
        kind = inputs.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else inputs.dtype
        with torch.autocast(kind, enabled=False):
            given = functional.linear(hidden.to(dtype), self.share.weight.to(dtype), self.share.bias.to(dtype))
            joints, cues = tokens(inputs, given.to(inputs.dtype), self.steps)
            h = torch.baddbmm(self.into_bias.to(dtype), joints.to(dtype), self.into.to(dtype))
            h = torch.cat([h, self.whole(cues).to(dtype)[None]])
            for block in zip(self.norm, self.widen, self.mix, self.bias, self.narrow, strict=True):
                h = self._block(h, *(weight.to(dtype) for weight in block))
            h = functional.layer_norm(h, h.shape[-1:], self.last_norm.to(dtype)).to(inputs.dtype)
            return ordered(torch.baddbmm(self.out_bias, h[:JOINTS], self.out), self.size(h[JOINTS]))

    def _block(self, h: Tensor, norm: Tensor, widen: Tensor, mix: Tensor, bias: Tensor, narrow: Tensor) -> Tensor:  # noqa: PLR0917
        (n, batch, _), groups = h.shape, len(mix)
        y = functional.linear(functional.layer_norm(h, h.shape[-1:], norm), widen)
        y = y.view(n, batch, groups, -1).permute(2, 0, 1, 3).reshape(groups, n, -1)
        y = torch.bmm(mix, y).view(groups, n, batch, -1) + bias
        return h + functional.linear(y.relu_().permute(1, 2, 0, 3).reshape(n, batch, -1), narrow)


class FoldedMixer(nn.Module):
    """The same for inference, in few operations: norms folded into the matrices behind them, those transposed.

    With `halves` a single row's share is taken in half precision, as the perceptron before it runs.
    """

    def __init__(self, mixer: Mixer, *, halves: bool) -> None:
        super().__init__()
        self.steps, self.width, self.groups = mixer.steps, mixer.shape.width, mixer.shape.groups
        self.share, self.whole, self.size = (_copies(x.weight, x.bias) for x in (mixer.share, mixer.whole, mixer.size))
        self.size[0].mul_(mixer.last_norm.detach())
        self._halves = [weight.half() for weight in self.share] if halves else []
        self.into_bias, self.into = _copies(mixer.into_bias, mixer.into)
        self.out_bias, self.out = _copies(mixer.out_bias, mixer.out * mixer.last_norm[:, None])
        blocks = zip(mixer.norm, mixer.widen, mixer.mix, mixer.bias, mixer.narrow, strict=True)
        self._blocks = [_copies((widen * norm).t(), mix, bias, narrow.t()) for norm, widen, mix, bias, narrow in blocks]

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """As `Mixer.forward`."""
        batch, shape = len(inputs), (self.width,)
        if self._halves and batch == 1:
            given = functional.linear(hidden.half(), *self._halves).float()
        else:
            given = functional.linear(hidden, *self.share)
        joints, cues = tokens(inputs, given, self.steps)
        h = torch.baddbmm(self.into_bias, joints, self.into)
        h = torch.cat([h, functional.linear(cues, *self.whole)[None]]).flatten(0, 1)
        for widen, mix, bias, narrow in self._blocks:
            y = torch.mm(functional.layer_norm(h, shape), widen)
            y = y.view(TOKENS, batch, self.groups, -1).permute(2, 0, 1, 3).reshape(self.groups, TOKENS, -1)
            y = (torch.bmm(mix, y).view(self.groups, TOKENS, batch, -1) + bias).relu_()
            h = torch.addmm(h, y.permute(1, 2, 0, 3).reshape(TOKENS * batch, -1), narrow)
        h = functional.layer_norm(h, shape).view(TOKENS, batch, -1)
        size = functional.linear(h[JOINTS], *self.size)
        return ordered(torch.baddbmm(self.out_bias, h[:JOINTS], self.out), size)


def tokens(inputs: Tensor, given: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """(25, B, features) each joint's own: places, masks, cues, what is given (B, 25 share); and the cues (B, C)."""
    batch = len(inputs)
    places = inputs[:, : steps * JOINTS * 2].view(batch, steps, JOINTS, 2).permute(2, 0, 1, 3).flatten(2)
    masks = inputs[:, steps * JOINTS * 2 : steps * JOINTS * 3].view(batch, steps, JOINTS).permute(2, 0, 1)
    cues = inputs[:, steps * JOINTS * 3 :]
    mine = given.view(batch, JOINTS, -1).transpose(0, 1)
    return torch.cat([places, masks, cues.expand(JOINTS, -1, -1), mine], 2), cues


def ordered(out: Tensor, size: Tensor) -> Tensor:
    """(25, B, 4 + votes) and (B, 1) in the perceptron's order: (B, joints of xyz, errors, size, votes by joints)."""
    raw, votes = out[..., :3].transpose(0, 1).flatten(1), out[..., 4:].permute(1, 2, 0).flatten(1)
    return torch.cat([raw, out[..., 3].t(), size, votes], 1)


def _copies(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _weights(*shape: int, scale: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * scale)


def _near_itself(groups: int) -> nn.Parameter:
    """(G, 26, 26): mostly a token itself, and a little of all."""
    return nn.Parameter(0.7 * (torch.eye(TOKENS) + torch.randn(groups, TOKENS, TOKENS) / math.sqrt(TOKENS)))
