"""Muon: steps whose matrices have all singular values near one (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

For the matrices inside a network; biases, norms, first and last layers are better off with AdamW. Matrices of one shape
are worked on together, which is what makes it cheap for small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal. `lr` is the largest singular value of a step, for square matrices.

    Convolutions (outputs, inputs, H, W) count as matrices of all that an output sees.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # noqa: ARG002 (torch's signature)
        """Take a step; `closure` is not used."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault(matrix.shape, []).append(matrix)
            for matrices in shapes.values():
                self._step(matrices, group["lr"], group["momentum"], group["weight_decay"])

    def _step(self, matrices: list[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        gradients = []
        for matrix in matrices:
            assert matrix.grad is not None
            mean = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
            mean.lerp_(matrix.grad, 1 - momentum)
            gradients.append(matrix.grad.lerp(mean, momentum))
        stacked = torch.stack(gradients).flatten(2)
        _, rows, columns = stacked.shape
        steps = orthogonal(stacked) * max(1.0, rows / columns) ** 0.5
        for matrix, change in zip(matrices, steps, strict=True):
            matrix.mul_(1 - lr * weight_decay).sub_(change.view(matrix.shape), alpha=lr)


def adam_and_muon(
    net: nn.Module, inside: Callable[[str, nn.Parameter], bool], *, lr: float, muon_lr: float, decay: float,
    muon_decay: float = 0.01,
) -> tuple[torch.optim.AdamW, Muon]:  # fmt: skip
    """Muon for the matrices that `inside` picks by name and value, AdamW for all others."""
    named = list(net.named_parameters())
    matrices = [value for name, value in named if inside(name, value)]
    others = [value for name, value in named if not inside(name, value)]
    return torch.optim.AdamW(others, lr=lr, weight_decay=decay), Muon(matrices, lr=muon_lr, weight_decay=muon_decay)


def scale_rates(optimisers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Set every rate to a share of what it was at first."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = share * group.setdefault("initial_lr", group["lr"])


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, R, C) with singular values brought to about one by five Newton-Schulz steps, in bfloat16."""
    a, b, c = _NEWTON_SCHULZ
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)
