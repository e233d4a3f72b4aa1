"""Layers whose weights are divided by their largest singular value (spectral normalisation, Miyato 2018).

Parameters and buffers are named as torch's own wrapper names them, which is how published checkpoints have them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_FIRST = 3  # power iterations before the first step, without which the first weights are far too large


class Spectral(nn.Module):
    """A weight (out, ...) with the vectors of its largest singular value: one power iteration a training step.

    In evaluation the stored vectors are used as they are: sigma = u^T W v. Not `limited`: the weight as it is.
    """

    limited = True

    def __init__(self, weight: Tensor, *, bias: bool = True, eps: float = 1e-12) -> None:
        super().__init__()
        rows = weight.reshape(len(weight), -1)
        self.eps = eps
        self.bias = nn.Parameter(torch.zeros(len(weight))) if bias else None
        self.weight_orig = nn.Parameter(weight)
        self.weight_u: Tensor
        self.weight_v: Tensor
        self.register_buffer("weight_u", functional.normalize(torch.randn(len(rows)), dim=0, eps=eps))
        self.register_buffer("weight_v", functional.normalize(torch.randn(rows.shape[1]), dim=0, eps=eps))
        for _ in range(_FIRST):
            self._iterate()

    def effective(self) -> Tensor:
        """The weight over its largest singular value."""
        if not self.limited:
            return self.weight_orig
        rows = self.weight_orig.reshape(len(self.weight_orig), -1)
        if self.training:
            self._iterate()
        # copies, since a second forward before the backward changes the buffers
        u, v = (self.weight_u.clone(), self.weight_v.clone()) if self.training else (self.weight_u, self.weight_v)
        return self.weight_orig / (u @ (rows @ v))

    @torch.no_grad()
    def _iterate(self) -> None:
        rows = self.weight_orig.reshape(len(self.weight_orig), -1)
        self.weight_v.copy_(functional.normalize(rows.t() @ self.weight_u, dim=0, eps=self.eps))
        self.weight_u.copy_(functional.normalize(rows @ self.weight_v, dim=0, eps=self.eps))


def set_limited(net: nn.Module, *, limited: bool) -> None:
    """Let all layers of a network be divided by their largest singular value, or none."""
    for module in net.modules():
        if isinstance(module, Spectral):
            module.limited = limited


class SpectralConv2d(Spectral):
    """A convolution of odd kernel that keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True, eps: float = 1e-4) -> None:
        weight = torch.empty(outputs, inputs, kernel, kernel)
        nn.init.xavier_uniform_(weight)
        super().__init__(weight, bias=bias, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return functional.conv2d(x, self.effective(), self.bias, padding=self.weight_orig.shape[-1] // 2)


class SpectralLinear(Spectral):
    """A linear layer."""

    def __init__(self, inputs: int, outputs: int, *, eps: float = 1e-12) -> None:
        weight = torch.empty(outputs, inputs)
        nn.init.xavier_uniform_(weight)
        super().__init__(weight, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        return functional.linear(x, self.effective(), self.bias)


class SpectralEmbedding(Spectral):
    """Rows that are looked up by number."""

    def __init__(self, rows: int, width: int, *, eps: float = 1e-4) -> None:
        super().__init__(torch.empty(rows, width).uniform_(-0.1, 0.1), bias=False, eps=eps)

    def forward(self, which: Tensor) -> Tensor:
        """(B,) to (B, width)."""
        return functional.embedding(which, self.effective())
