"""Performances on characters: landed once, and landed again while sliders move."""

from __future__ import annotations

import secrets
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bpy
from bpy.app.handlers import persistent

from ..inference.protocol import schema
from ..inference.protocol.errors import InputError, UnderstudyError
from ..inference.protocol.retarget import RetargetSettings
from .base import sentence
from .mapping import count_roles, match_of
from .session import redraw
from .settings import RETARGET, retarget_settings

if TYPE_CHECKING:  # numpy comes with the first use
    from ..inference.core.mapping.mapper import Match
    from ..inference.core.retarget import Retargeter
    from ..inference.core.rig import Mapping, Performance

MARK = "understudy_landing"  # custom property of our actions: tells one landing from all others
_WORST = 5  # bones that a report names
_SETTLED_S = 0.3  # after this long without a change, the feet are measured again


@dataclass(frozen=True)
class Landing:
    """What is asked for beside the settings; see `settings.RETARGET`."""

    take: str = ""
    frame_start: int = 1
    rate: Any = "SCENE"
    stash: bool = True
    asset: bool = False


@dataclass
class Landed:
    """A performance on a character. Datablocks are kept by name: they do not survive an undo."""

    rig: str
    action: str
    mark: str
    clip: str
    retargeter: Retargeter
    result: Any
    settings: RetargetSettings
    notes: tuple[str, ...]
    seconds: float
    match: Match
    before: Any = None
    after: Any = None
    measured: RetargetSettings | None = None
    keys: int = 0
    imprint: int | None = None  # of the keys once sliders rest

    @property
    def mapping(self) -> Mapping:
        """Which bones did what."""
        return self.match.mapping

    @property
    def recognised(self) -> str:
        """What the character was recognised as, in a few words."""
        return count_roles(self.mapping.name, self.mapping.bones)

    @property
    def is_measured(self) -> bool:
        """Whether the feet's figures are those of the present settings."""
        return self.measured == self.settings

    def measure(self) -> None:
        """Measure the feet as they would be by themselves, and as they are."""
        from ..inference.core.retarget import feet

        motions = self.retargeter.unlocked(self.settings), self.retargeter.solve(self.settings)
        found, contacts = self.retargeter.feet, self.retargeter.contacts
        self.before, self.after = (feet.measure(motion, found, contacts) for motion in motions)
        self.measured = self.settings

    def figures(self) -> list[tuple[str, float, float, str]]:
        """Give what feet do to the floor: name, before, after and unit."""
        if self.before is None or self.after is None:
            return []
        return [
            ("Slide a frame", self.before.slide_mm[0], self.after.slide_mm[0], "mm"),
            ("Slide at most", self.before.slide_mm[2], self.after.slide_mm[2], "mm"),
            ("In the floor", self.before.depth_mm[2], self.after.depth_mm[2], "mm"),
        ]

    def report(self) -> dict[str, Any]:
        """Give everything that is known, as JSON values."""
        from ..inference.core.mapping.presets import encode
        from ..inference.core.retarget import contact_report

        if not self.is_measured:
            self.measure()
        return {
            "clip": self.clip, "rig": self.rig, "action": self.action, "keys": self.keys,
            "seconds": round(self.seconds, 3),
            "recognised": self.recognised, "how": self.match.how, "score": round(float(self.match.score), 3),
            "notes": list(self.notes), "settings": schema.encode(self.settings), "mapping": encode(self.mapping),
            "feet": contact_report.report(self.before, self.after),
        }  # fmt: skip

    def verify(self, frames: int = 5) -> dict[str, Any]:
        """Compare where Blender itself puts the bones with where they were meant to be, as JSON values."""
        from .scene.bake import verify
        from .scene.rig import read_character

        character = read_character(bpy.data.objects[self.rig], self.mapping)
        motion = self.retargeter.solve(self.settings)
        return summary(verify(character, motion, frames, timing=self.result.timing))

    def plot(self) -> str:
        """Draw the feet before and after, as SVG."""
        from ..inference.core.retarget import contact_report

        motions = self.retargeter.unlocked(self.settings), self.retargeter.solve(self.settings)
        return contact_report.plot_svg(*motions, self.retargeter.feet, self.retargeter.contacts)


def summary(errors: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Summarise errors (degrees, millimetres) by bone, and name the worst bones."""
    if not errors:
        return {}
    degrees, millimetres = zip(*errors.values(), strict=True)
    worst = sorted(errors, key=lambda name: -max(errors[name]))[:_WORST]
    return {
        "bones": len(errors),
        "mean_deg": round(sum(degrees) / len(errors), 4), "max_deg": round(max(degrees), 4),
        "mean_mm": round(sum(millimetres) / len(errors), 3), "max_mm": round(max(millimetres), 3),
        "worst": {name: [round(float(value), 3) for value in errors[name]] for name in worst},
    }  # fmt: skip


def land(
    rig: bpy.types.Object,
    performance: Performance,
    scene: bpy.types.Scene,
    *,
    landing: Landing = Landing(),
    settings: RetargetSettings | None = None,
    match: Match | None = None,
) -> Landed:
    """Carry a performance over to a character: a new action, all of it or nothing.

    Settings are those of the character's sliders, and the mapping its own, unless given.

    Raises:
        InputError: the character or the performance cannot be used; names the bone and says what to do.
    """
    from ..inference.core.retarget import Retargeter
    from ..inference.core.timing import place
    from .scene.bake import bake
    from .scene.compat import curves_in
    from .scene.rig import check_character, read_character
    from .scene.take import scene_fps

    start = time.perf_counter()
    settings = settings or retarget_settings(rig.understudy.tuning)
    match = match or match_of(rig)
    character = read_character(rig, match.mapping)
    notes = check_character(character, match.mapping)
    retargeter = Retargeter(performance, character.rig, match.mapping)
    motion = retargeter.solve(settings)
    timing = place(performance.times, scene_fps=scene_fps(scene), start=landing.frame_start, rate=landing.rate)
    name = landing.take or performance.name or "Motion"
    result = bake(character, motion, settings, timing, name=name, stash=landing.stash, asset=landing.asset)
    mark = secrets.token_hex(8)
    bpy.data.actions[result.action][MARK] = mark
    said = (*performance.header.get("notes", ()), *match.notes, *notes, *retargeter.notes, *result.notes)
    landed = Landed(
        rig.name, result.action, mark, performance.name, retargeter, result, settings, tuple(dict.fromkeys(said)),
        time.perf_counter() - start, match,
    )  # fmt: skip
    landed.measure()
    landed.imprint = fingerprint(rig)
    landed.keys = sum(len(curve.keyframe_points) for curve in curves_in(bpy.data.actions[result.action], rig))
    LANDINGS.keep(landed)
    return landed


class Landings:
    """The last landing of each character, which its sliders change at once."""

    def __init__(self) -> None:
        self.trouble = ""  # why the last change of a slider could not be followed
        self._of: dict[str, Landed] = {}
        self._is_held = False
        self._changed_s = 0.0

    def open(self) -> None:
        """Begin with the registration."""
        for handlers, function in _HANDLERS:
            handlers.append(function)

    def close(self) -> None:
        """End with the registration."""
        self._of.clear()
        if bpy.app.timers.is_registered(_settle):
            bpy.app.timers.unregister(_settle)
        for handlers, function in _HANDLERS:
            if function in handlers:
                handlers.remove(function)

    def keep(self, landed: Landed) -> None:
        """Let a character's sliders change this landing from now on."""
        self.trouble = ""
        self._of[landed.rig] = landed

    def forget(self) -> None:
        """Let go of all landings."""
        self._of.clear()

    def of(self, rig: bpy.types.Object | None) -> Landed | None:
        """Give the landing that a character plays; None where it plays something else, or that was undone."""
        landed = self._of.get(rig.name) if rig is not None else None
        action = rig.animation_data.action if landed and rig and rig.animation_data else None
        return landed if landed and action is not None and action.get(MARK) == landed.mark else None

    def hold(self) -> _Held:
        """Give a context in which several sliders may change before the character follows."""
        return _Held(self)

    def follow(self, rig: bpy.types.Object) -> None:
        """Make a character's landing again with its present sliders; nothing where it has none."""
        landed = self.of(rig)
        if landed is None or self._is_held:
            return
        self.trouble = ""
        try:
            _refuse_edited(landed, rig)
            _land_again(landed, rig)
        except UnderstudyError as error:
            self.trouble = sentence(error)
        self._changed_s = time.monotonic()
        if not bpy.app.background and not bpy.app.timers.is_registered(_settle):
            bpy.app.timers.register(_settle, first_interval=_SETTLED_S)

    def settle(self) -> float | None:
        """Measure the feet again once the sliders rest; give the seconds until the next look."""
        if time.monotonic() - self._changed_s < _SETTLED_S:
            return _SETTLED_S
        for name, landed in self._of.items():
            rig = bpy.data.objects.get(name)
            if rig is None or self.of(rig) is None:
                continue
            landed.imprint = landed.imprint or fingerprint(rig)
            if not landed.is_measured:
                landed.measure()
        redraw()
        return None

    def undone(self) -> None:
        """Take in that undo or redo put sliders and keys back to what they were, together."""
        self.trouble = ""
        for name, landed in self._of.items():
            rig = bpy.data.objects.get(name)
            if rig is not None and self.of(rig) is not None:
                landed.settings, landed.imprint = retarget_settings(rig.understudy.tuning), None
                landed.result.forget()


class _Held:
    def __init__(self, landings: Landings) -> None:
        self._landings = landings

    def __enter__(self) -> None:
        self._landings._is_held = True

    def __exit__(self, *_: object) -> None:
        self._landings._is_held = False


def _refuse_edited(landed: Landed, rig: bpy.types.Object) -> None:
    if landed.imprint and landed.imprint != fingerprint(rig):
        raise InputError(
            f"{landed.action} was edited since it was made, so the slider left it as it is.",
            "Press Retarget to make it anew; the edited action is kept.",
        )


def fingerprint(rig: bpy.types.Object) -> int:
    """Give a number that changes with any key of what an armature plays."""
    import numpy as np

    from .scene.compat import curves_in

    number = 1
    for curve in curves_in(rig.animation_data.action, rig):
        keys = np.empty(2 * len(curve.keyframe_points), np.float32)
        curve.keyframe_points.foreach_get("co", keys)
        number = zlib.crc32(keys.tobytes(), number)
    return number


def _land_again(landed: Landed, rig: bpy.types.Object) -> None:
    from .scene.bake import update

    settings = retarget_settings(rig.understudy.tuning)
    if settings == landed.settings:
        return
    update(landed.result, landed.retargeter.solve(settings), settings)
    landed.settings, landed.imprint = settings, None


def _settle() -> float | None:
    return LANDINGS.settle()


@persistent
def _before_load(*_: Any) -> None:
    LANDINGS.forget()


@persistent
def _after_undo(*_: Any) -> None:
    LANDINGS.undone()


_HANDLERS = (
    (bpy.app.handlers.load_pre, _before_load),
    (bpy.app.handlers.undo_post, _after_undo),
    (bpy.app.handlers.redo_post, _after_undo),
)
LANDINGS = Landings()


def options_of(holder: Any) -> Landing:
    """Read the options from the panel's settings or from an operator."""
    return Landing(**{name: getattr(holder, name) for name in RETARGET})
