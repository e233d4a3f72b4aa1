"""Clips that started at different moments are put in step: by what the person does, by what is heard, or not at all.

Every pair of clips is compared (`sync_motion`, `sync_sound`); one delay for each clip follows from all pairs by least
squares, pairs that contradict the others left out. Without being asked, clips are moved only on clear evidence: several
parts of the clips say the same delay, nothing else explains them nearly as well, and sound and motion do not
contradict each other. The time of the first clip is the time of all: common time = rate * clip time + seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ..core.artifacts import Artifact, Keypoints2D
from ..core.cameras import CameraSet
from ..core.correlation import Edge, linked, settle
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..runtime.sound import Sound, read_sound
from .sync_motion import AGREEING, CLEAR, Match, match_by_motion
from .sync_sound import match_by_sound
from .views import synchronise

Array = np.ndarray
How = Literal["off", "auto", "motion", "sound"]

_ALL_PAIRS = 5  # views; with more of them each is compared with some others only
_AGREE = 2.0  # frames by which sound and motion may differ
_SUSPECT = 1.5  # frames by which a pair may miss what the others say
_IN_STEP = 0.5  # frames: clips as close as that, or three standard errors, are left alone
_UNCLEAR = 10.0  # how many times less an unclear pair counts
_NOMINAL = (1.001, 1 / 1.001, 1.0)  # what is taken where it explains the clocks; the last one rather than the others


@dataclass(frozen=True)
class Offsets(Artifact):
    """When each of N clips started, and what says so.

    seconds (N,) and rates (N,): common time = rates * clip time + seconds; errors (N,) seconds, NaN unknown;
    curves (P, K): how well a pair fits at the delays curve_starts (P,) + k curve_steps (P,), NaN beyond its end.
    Header: how, moved (whether clips are to be shifted), said (one sentence), views (names), pairs (what each said).
    """

    kind: ClassVar[str] = "sync"
    required_header: ClassVar[tuple[str, ...]] = ("fps", "how", "moved", "said", "views", "pairs")
    seconds: Array
    rates: Array
    errors: Array
    curves: Array
    curve_starts: Array
    curve_steps: Array

    def check(self, name: str) -> None:
        views, pairs = len(self.header["views"]), len(self.header["pairs"])
        if not self.seconds.shape == self.rates.shape == self.errors.shape == (views,) or len(self.curves) != pairs:
            raise InputError(f"{name} holds {self.seconds.shape} offsets of {views} views.")

    @property
    def moved(self) -> bool:
        """Whether clips are to be shifted."""
        return bool(self.header["moved"])

    def summary(self) -> dict[str, Any]:
        """What `report.json` says."""
        return {
            "how": self.header["how"], "moved": self.moved, "said": self.header["said"],
            "views": [
                {"view": name, "seconds": _rounded(s), "rate": _rounded(r, 6), "error_s": _rounded(e)}
                for name, s, r, e in zip(self.header["views"], self.seconds, self.rates, self.errors, strict=True)
            ],
            "pairs": self.header["pairs"],
        }  # fmt: skip


@dataclass(frozen=True)
class _Pair:
    first: int
    second: int
    sound: Match | None
    motion: Match | None
    chosen: Match | None
    contradicts: bool = False


def find_offsets(
    views: Sequence[Keypoints2D],
    videos: Sequence[Path],
    how: How,
    report: Reporter,
    *,
    cameras: CameraSet | None = None,
) -> Offsets:
    """Find when each clip started.

    Args:
        videos: the films of the views, whose clocks are those of `views`; empty where there is no sound to hear.
        how: "auto" decides by itself whether to move anything; "motion" and "sound" insist.
        cameras: in the order of the views, where calibrated.
    Raises:
        InputError: `how` insists on what the clips do not hold.
    """
    names = [str(view.header.get("view") or index + 1) for index, view in enumerate(views)]
    fps = max(view.fps for view in views)
    if how == "off":
        return _offsets(names, fps, how, [], f"The {len(views)} clips were taken as they are.")
    sounds = _sounds(videos, names, how, report) if how != "motion" else [None] * len(views)
    pairs = []
    wanted = _pairs(len(views))
    for done, (i, j) in enumerate(wanted):
        report.progress("sync", done, len(wanted))
        pairs.append(_compare(views, sounds, cameras, (i, j), how))
    report.progress("sync", len(wanted), len(wanted))
    return _decide(names, fps, how, pairs, report)


def in_step(views: Sequence[Keypoints2D], offsets: Offsets, report: Reporter) -> list[Keypoints2D]:
    """Views at the same moments, where clips are to be shifted; each says what was done (`sync` in its header)."""
    said = offsets.summary()
    if not offsets.moved:
        return [view.with_header(sync=said) for view in views]
    stamp = [offsets.seconds.tolist(), offsets.rates.tolist()]
    moved = synchronise(shifted(views, offsets), report)
    return [
        view.with_header(sync=said, fingerprint=f"{view.header.get('fingerprint', '')} in step {stamp}")
        for view in moved
    ]


def shifted(views: Sequence[Keypoints2D], offsets: Offsets) -> list[Keypoints2D]:
    """Views on the common clock; they do not begin together any more (`views.synchronise` cuts and resamples them)."""
    if not offsets.moved:
        return list(views)
    out = []
    for view, seconds, rate in zip(views, offsets.seconds, offsets.rates, strict=True):
        times = np.asarray(view.times, float) * rate + seconds
        out.append(replace(view, times=times).with_header(fps=view.fps / rate, clock=[float(rate), float(seconds)]))
    return out


def _sounds(videos: Sequence[Path], names: Sequence[str], how: How, report: Reporter) -> list[Sound | None]:
    sounds = []
    for done, video in enumerate(videos):
        report.progress("listen", done, len(videos))
        sounds.append(read_sound(video))
    report.progress("listen", len(videos), len(videos))
    silent = [name for name, sound in zip(names, sounds, strict=False) if sound is None]
    if how == "sound" and (silent or not videos):
        raise InputError(
            f"{', '.join(silent) or 'Keypoints alone'} cannot be put in step by sound: there is none.",
            "Synchronise by motion, or give clips with sound.",
        )
    return sounds or [None] * len(names)


def _pairs(count: int) -> list[tuple[int, int]]:
    every = list(combinations(range(count), 2))
    if count <= _ALL_PAIRS:
        return every
    return [(i, j) for i, j in every if i == 0 or j - i in (1, 2, count - 1)]


def _compare(
    views: Sequence[Keypoints2D],
    sounds: Sequence[Sound | None],
    cameras: CameraSet | None,
    pair: tuple[int, int],
    how: How,
) -> _Pair:
    i, j = pair
    rig = None if cameras is None else (cameras[i], cameras[j])
    both = views[i], views[j]
    a, b = sounds[i], sounds[j]
    heard = None if a is None or b is None else match_by_sound(a, b)
    if how == "sound":
        return _Pair(i, j, heard, None, heard)
    seen = match_by_motion(both, rig)
    if how == "motion" or heard is None or not heard.clear:
        return _Pair(i, j, heard, seen, seen)
    if seen is not None and seen.clear and _apart(seen, heard) > _AGREE / views[i].fps:
        return _Pair(i, j, heard, seen, None, contradicts=True)
    if seen is None or not seen.clear:  # sound says where to look
        seen = match_by_motion(both, rig, near=heard.delay)
    agrees = seen is not None and seen.convincing and _apart(seen, heard) <= _AGREE / views[i].fps
    return _Pair(i, j, heard, seen, seen if agrees else heard)


def _apart(seen: Match, heard: Match) -> float:
    """Seconds between what two matches say about the moment of the first."""
    return abs(seen.at[0] - (heard.at[0] + (seen.at[1] - heard.at[1]) * heard.rate))


def _certain(pair: _Pair) -> bool:
    """Whether a pair's delay is clear; a motion that only convinces counts where sound pointed at it."""
    chosen = pair.chosen
    by_ear = pair.sound is not None and pair.sound.clear and chosen is not None and chosen.convincing
    return chosen is not None and (chosen.clear or by_ear)


def _decide(names: Sequence[str], fps: float, how: How, pairs: Sequence[_Pair], report: Reporter) -> Offsets:
    count, usable = len(names), [pair for pair in pairs if pair.chosen is not None]
    sure = [pair for pair in usable if _certain(pair)]
    if how == "auto":
        complaint = _unsure(names, pairs, sure, fps)
        if complaint:
            if any(pair.contradicts for pair in pairs):
                report.warning("sync", complaint)
            return _offsets(names, fps, how, pairs, complaint)
        usable = sure
    edges = [_edge(pair, np.ones(count), sure) for pair in usable]
    if not linked(count, edges).all():
        lost = [name for name, there in zip(names, linked(count, edges), strict=True) if not there]
        raise InputError(
            f"{', '.join(lost)} cannot be put in step with {names[0]} by {how}: no {how} of a second or more is common "
            "to both.",
            "Cut the clips to the same moments by hand, and synchronise no further.",
        )
    rates = _rates(count, usable)
    edges = [_edge(pair, rates, sure) for pair in usable]
    seconds, kept = settle(count, edges, tolerance=_SUSPECT / fps)
    errors = _errors(seconds, [edge for edge, used in zip(edges, kept, strict=True) if used])
    frames = seconds * fps
    told = _told(names, seconds, rates, errors, fps)
    close = np.abs(frames) <= np.maximum(_IN_STEP, 3.0 * errors * fps)
    if how == "auto" and close.all() and (rates == 1.0).all():
        said = f"The clips are in step to within {np.abs(frames).max():.2f} frames; nothing was moved."
        return _offsets(names, fps, how, pairs, said)
    by = " and ".join(sorted({pair.chosen.kind for pair in usable if pair.chosen} | _heard(usable, how)))
    said = f"The clips were put in step by {by}: {told}."
    left_out = [pair for pair, used in zip(usable, kept, strict=True) if not used]
    if left_out:
        said += " Left out, because the other pairs contradict: " + ", ".join(_called(p, names) for p in left_out) + "."
    doubtful = [pair for pair, used in zip(usable, kept, strict=True) if used and pair not in sure]
    said += "".join(f" {_doubt(pair, names)}" for pair in doubtful)
    report.warning("sync", said)
    found = _offsets(names, fps, how, pairs, said).with_header(moved=True)
    return replace(found, seconds=seconds, rates=rates, errors=errors)


def _heard(pairs: Sequence[_Pair], how: How) -> set[str]:
    return {"sound"} if how != "motion" and any(p.sound is not None and p.sound.clear for p in pairs) else set()


def _unsure(names: Sequence[str], pairs: Sequence[_Pair], sure: Sequence[_Pair], fps: float) -> str:
    """Why nothing may be moved without being asked; empty where it may."""
    torn = next((pair for pair in pairs if pair.contradicts), None)
    if torn is not None:
        assert torn.sound is not None and torn.motion is not None
        return (
            f"Sound and motion of {_called(torn, names)} contradict each other ({torn.sound.delay:+.2f} s and "
            f"{torn.motion.delay:+.2f} s, {_apart(torn.motion, torn.sound) * fps:.1f} frames apart): nothing was "
            "moved. Ask for one of them, or for none."
        )
    reached = linked(len(names), [Edge(pair.first, pair.second, 0.0, 1.0) for pair in sure])
    if reached.all():
        return ""
    lost = ", ".join(name for name, there in zip(names, reached, strict=True) if not there)
    weak = [pair for pair in pairs if pair not in sure and pair.motion is not None]
    why = f" {_doubt(weak[0], names)}" if weak else " No second of motion is common to them."
    return f"Whether {lost} and {names[0]} start together is not clear, so nothing was moved.{why}"


def _doubt(pair: _Pair, names: Sequence[str]) -> str:
    match = pair.chosen or pair.motion or pair.sound
    assert match is not None
    if match.clarity < CLEAR and np.isfinite(match.rival):
        return (
            f"Between {_called(pair, names)} {match.rival:+.2f} s explains the {match.kind} almost as well as "
            f"{match.delay:+.2f} s (clarity {match.clarity:.2f}, {CLEAR} would be clear): does it repeat itself?"
        )
    return (
        f"Between {_called(pair, names)} {match.parts[0]} of {match.parts[1]} parts of the {match.kind} say "
        f"{match.delay:+.2f} s ({AGREEING} would be clear)."
    )


def _called(pair: _Pair, names: Sequence[str]) -> str:
    return f"{names[pair.first]} and {names[pair.second]}"


def _edge(pair: _Pair, rates: Array, sure: Sequence[_Pair]) -> Edge:
    match = pair.chosen
    assert match is not None
    delay = rates[pair.first] * match.at[0] - rates[pair.second] * match.at[1]
    error = max(match.error, 1e-4) * (1.0 if pair in sure else _UNCLEAR)
    return Edge(pair.first, pair.second, float(delay), float(error))


def _rates(count: int, pairs: Sequence[_Pair]) -> Array:
    """(N,) rates of the clips' clocks against the first one's; usual ones where they explain it."""
    edges = [
        Edge(
            pair.first, pair.second, float(np.log(pair.chosen.rate)), float(np.clip(pair.chosen.rate_error, 1e-5, 1.0))
        )
        for pair in pairs
        if pair.chosen is not None
    ]
    logs, _ = settle(count, edges, tolerance=5e-4)
    errors = np.nan_to_num(_errors(logs, edges), nan=1.0)
    rates = np.exp(logs)
    for usual in _NOMINAL:
        rates = np.where(np.abs(logs - np.log(usual)) <= np.maximum(3 * errors, 1e-5), usual, rates)
    return rates


def _errors(values: Array, edges: Sequence[Edge]) -> Array:
    """(N,) standard errors against the first clip, from the normal equations; pairs err by what they miss at least."""
    count = len(values)
    normal = np.zeros((count, count))
    for edge in edges:
        row = np.zeros(count)
        row[edge.second], row[edge.first] = 1.0, -1.0
        error = max(edge.error, abs(values[edge.second] - values[edge.first] - edge.delay))
        normal += np.outer(row, row) / error**2
    out = np.zeros(count)
    out[1:] = np.sqrt(np.diag(np.linalg.pinv(normal[1:, 1:])))
    return out


def _told(names: Sequence[str], seconds: Array, rates: Array, errors: Array, fps: float) -> str:
    parts = []
    for name, second, rate, error in zip(names[1:], seconds[1:], rates[1:], errors[1:], strict=True):
        clock = "" if rate == 1.0 else f" and its clock runs {rate:.5f} times as fast"
        when = f"{abs(second):.3f} s ({abs(second) * fps:.1f} frames) {'after' if second >= 0 else 'before'} {names[0]}"
        parts.append(f"{name} starts {when}, give or take {max(error * fps, 0.01):.2f} frames{clock}")
    return "; ".join(parts)


def _offsets(names: Sequence[str], fps: float, how: How, pairs: Sequence[_Pair], said: str) -> Offsets:
    evidence = [(pair, match) for pair in pairs for match in (pair.motion, pair.sound) if match is not None]
    size = max((len(match.curve.score) for _, match in evidence), default=0)
    curves = np.full((len(evidence), size), np.nan, np.float32)
    for row, (_, match) in zip(curves, evidence, strict=True):
        row[: len(match.curve.score)] = match.curve.score
    header = {
        "fps": fps, "how": how, "moved": False, "said": said, "views": list(names),
        "pairs": [_described(pair, match) for pair, match in evidence],
    }  # fmt: skip
    delays = [match.curve.delays for _, match in evidence]
    starts, steps = (np.array([float(f(d)) for d in delays]) for f in (lambda d: d[0], lambda d: d[1] - d[0]))
    unknown = np.full(len(names), np.nan)
    return Offsets(header, np.zeros(len(names)), np.ones(len(names)), unknown, curves, starts, steps)


def _described(pair: _Pair, match: Match) -> dict[str, Any]:
    return {
        "views": [pair.first, pair.second], "by": match.kind, "delay_s": _rounded(match.delay),
        "error_s": _rounded(match.error), "rate": _rounded(match.rate, 6), "parts": list(match.parts),
        "residual": _rounded(match.residual), "clarity": _rounded(match.clarity), "rival_s": _rounded(match.rival),
        "clear": bool(match.clear), "used": match is pair.chosen,
    }  # fmt: skip


def _rounded(value: float, digits: int = 4) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None
