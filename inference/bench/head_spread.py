"""Changes of method told apart: the first stage alone, on many people left out, each against their average head.

python -m inference bench head --data DIR --only spread --quality draft [--people N] [--sides N] [--reader FILE]

A ratio of one person says little: between people it varies by 0.3. So means stand beside their standard errors, and
each way beside how many people it brings nearer than the way that is shipped without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..head.frame import CENTRE
from ..head.guess import guess
from ..head.prior import Prior
from ..head.surface import FitSettings
from ..nets.head_shape import directions, triangles
from .heads import Predicted, Score, score
from .table import Table

if TYPE_CHECKING:
    from .head import Kept, Shot, Studio

Array = np.ndarray
_PLAIN = "face points and pictures"
_STEPS = 100


def spread(
    studio: Studio, prior: Prior, kept: Kept, groups: dict[str, tuple[str, ...]], views: dict[str, int], *,
    fit: Callable[[Shot, FitSettings], Predicted], average: Callable[[str], Score],
) -> Table:  # fmt: skip
    """Ratios to the average head after the first stage, by several ways; `fit` makes a head of a shot.

    views: of how many people of each group which photos are fitted; the way without a look, in front alone.
    """
    title = "First stage only: ratio to the average head, mean and standard error between people"
    table = Table(title, ("photos", "way", "people", "face", "+-", "head", "+-", f"faces nearer than by {_PLAIN}"))
    settings = replace(studio.settings, first=_STEPS)
    ways: dict[str, Callable[[Shot], Predicted]] = {_PLAIN: lambda shot: fit(shot, replace(settings, follow=0))}
    if prior.reader is not None:
        ways["then moved to one look"] = lambda shot: fit(shot, settings)
        ways["one look alone"] = lambda shot: looked(shot, prior)
    for view, (group, everybody) in product(views, groups.items()):
        names = everybody[: views[view]]
        base, first = np.array([average(name) for name in names]), None
        for way, make in ways.items() if names else ():
            if way == _PLAIN and view != "front":
                continue
            key = f"spread, {way}" if view == "front" else f"spread {view}, {way}"
            rows = [
                kept.get(f"{key}: {name}", lambda n=name, m=make, v=view: scored(studio.shot(n, v), m))
                for name in names
            ]
            ratio = np.array(rows) / base
            first = ratio if first is None else first
            error = ratio.std(0, ddof=1) / len(ratio) ** 0.5 if len(ratio) > 1 else np.full(2, np.nan)
            is_beside = view == "front" and ratio is not first
            nearer = f"{int((ratio[:, 0] < first[:, 0]).sum())} of {len(ratio)}" if is_beside else ""
            means = (float(x) for pair in zip(ratio.mean(0), error, strict=True) for x in pair)
            table.add(view, way, f"{len(names)} {group}", *means, nearer)
    return table


def scored(shot: Shot, make: Callable[[Shot], Predicted]) -> Score:
    """The score of what a way makes of a shot."""
    return score(shot.person, make(shot))


def looked(shot: Shot, prior: Prior) -> Predicted:
    """The surface that one look at the photos says."""
    assert prior.reader is not None
    seen = guess(prior.reader, shot.photos)
    return Predicted(CENTRE + directions() * seen.radii[:, None], triangles(), seen.points)
