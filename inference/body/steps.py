"""One motion in step with another: dynamic time warping with bounded slopes (Sakoe and Chiba 1978).

Either clip may begin and end with what the other lacks.
"""

from __future__ import annotations

import numpy as np

from ..protocol.errors import InputError

Array = np.ndarray
_OPEN = 0.25  # of the other clip that may be skipped at its beginning, and at its end


def in_step(cost: Array, stretch: float) -> Array:
    """(T,) the other clip's frame, never going back, of each of T, given (T, U) costs of taking frames for each other.

    Args:
        stretch: the other's frames per frame lie between 1 / stretch and stretch, rounded up.
    Raises:
        InputError: the clips' lengths differ by more than that.
    """
    count, others = cost.shape
    if others * (1 - 2 * _OPEN) > stretch * count or count > stretch * others:
        text = f"The trainee moves for {count} frames and the trainer for {others}: more than {stretch:g} times apart."
        raise InputError(text, "Cut the clips to the same exercise, or allow a larger stretch.")
    return _path(cost, max(int(np.ceil(stretch)), 1))


def _path(cost: Array, most: int) -> Array:
    """The cheapest way through (T, U) costs; each step goes on by (1, 1..most) or (2..most, 1)."""
    count, others = cost.shape
    total, came = np.full((count, others), np.inf), np.zeros((count, others), np.int16)
    first = max(int(_OPEN * others), 1)
    total[0, :first] = cost[0, :first]
    for row in range(1, count):
        ways = [(1, ahead, cost[row]) for ahead in range(1, most + 1)]
        held = cost[row].copy()
        for back in range(2, min(most, row) + 1):
            held = held + cost[row - back + 1]
            ways.append((back, 1, held.copy()))
        for back, ahead, price in ways:
            reached = np.full(others, np.inf)
            reached[ahead:] = total[row - back, : others - ahead] + price[ahead:]
            better = reached < total[row]
            total[row, better], came[row, better] = reached[better], ahead if back == 1 else -back
    last = others - max(int(_OPEN * others), 1)
    end = last + int(np.argmin(total[-1, last:]))
    if not np.isfinite(total[-1, end]):
        end = int(np.argmin(total[-1]))
    if not np.isfinite(total[-1, end]):
        raise InputError("The two clips cannot be put in step within the stretch that is allowed.", "Allow more.")
    return _walked(came, end, count)


def _walked(came: Array, end: int, count: int) -> Array:
    """(T,) frames along the steps that were taken, read backwards."""
    rows, columns = [count - 1], [end]
    while rows[-1] > 0:
        step = int(came[rows[-1], columns[-1]])
        back, ahead = (1, step) if step > 0 else (-step, 1)
        rows.append(rows[-1] - back)
        columns.append(columns[-1] - ahead)
    return np.interp(np.arange(count), rows[::-1], columns[::-1])
