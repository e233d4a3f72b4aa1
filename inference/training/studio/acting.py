"""What actors do: expressions drawn at random, performances over time, and the cameras that see them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.cameras import Camera, pinhole
from ...core.face_shapes import SHAPES
from ...core.rotations import matrix_from_euler
from ...head.frame import CENTRE
from .portrait import Light, Portrait

Array = np.ndarray
AIM = CENTRE - [0.0, 0.06, 0.045]  # middle of the face
SECONDS = 1.2  # for which a shape is moved, about
_TURNED = np.radians([14.0, 9.0, 7.0])  # standard deviations of yaw, pitch and roll
MOST = np.radians([38.0, 24.0, 22.0])
# What moves by itself: names without sides where both sides exist; then how often, among all of them.
_UNITS = (
    ("browDown", 1.0), ("browInnerUp", 1.0), ("browOuterUp", 1.0), ("cheekPuff", 0.6), ("cheekSquint", 0.8),
    ("eyeBlink", 1.2), ("eyeSquint", 1.0), ("eyeWide", 0.8), ("jawForward", 0.4), ("jawLeft", 0.4), ("jawOpen", 2.5),
    ("jawRight", 0.4), ("mouthClose", 0.5), ("mouthDimple", 0.7), ("mouthFrown", 0.9), ("mouthFunnel", 0.9),
    ("mouthLeft", 0.5), ("mouthLowerDown", 1.0), ("mouthPress", 0.7), ("mouthPucker", 1.0), ("mouthRight", 0.5),
    ("mouthRollLower", 0.6), ("mouthRollUpper", 0.6), ("mouthShrugLower", 0.6), ("mouthShrugUpper", 0.6),
    ("mouthSmile", 1.8), ("mouthStretch", 0.8), ("mouthUpperUp", 1.0), ("noseSneer", 0.8),
)  # fmt: skip
# At most one of each of these at a time: faces cannot do both.
_RIVALS = (
    ("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"), ("eyeBlink", "eyeWide"), ("eyeSquint", "eyeWide"),
    ("mouthSmile", "mouthFrown"), ("mouthSmile", "mouthPucker"), ("mouthStretch", "mouthPucker"),
    ("mouthSmile", "mouthFunnel"), ("mouthStretch", "mouthFunnel"), ("mouthDimple", "mouthPucker"),
    ("browDown", "browOuterUp"), ("mouthPress", "mouthFunnel"), ("mouthPress", "mouthLowerDown"),
    ("mouthPress", "mouthUpperUp"), ("mouthRollLower", "mouthLowerDown"), ("mouthRollUpper", "mouthUpperUp"),
    ("mouthRollLower", "mouthFunnel"), ("mouthRollUpper", "mouthFunnel"), ("cheekPuff", "jawOpen"),
)  # fmt: skip


@dataclass(frozen=True)
class Performance:
    """weights (T, 52); camera-from-head rotations (T, 3, 3) and translations (T, 3) m, both OpenCV's; times (T,) s."""

    weights: Array
    rotations: Array
    translations: Array
    times: Array


def sides_of(unit: str) -> list[int]:
    """Indices of a unit's shapes: one, or left and right."""
    names = [unit] if unit in SHAPES else [f"{unit}Left", f"{unit}Right"]
    return [SHAPES.index(name) for name in names]


def settle(weights: Array) -> Array:
    """(T, 52) without what faces cannot do at once: of rivals the stronger stays; lips close as far as jaws open."""
    out = weights.copy()
    for first, second in _RIVALS:
        a, b = sides_of(first), sides_of(second)
        strong = out[:, a].max(1) >= out[:, b].max(1)
        fade = np.abs(out[:, a].max(1) - out[:, b].max(1)) / np.maximum(out[:, a + b].max(1), 1e-6)
        out[:, b] *= np.where(strong, 1 - fade.clip(0, 1) ** 0.5, 1.0)[:, None]
        out[:, a] *= np.where(strong, 1.0, 1 - fade.clip(0, 1) ** 0.5)[:, None]
        both = np.minimum(out[:, a].max(1), out[:, b].max(1)) / np.maximum(out[:, a + b].max(1), 1e-6)
        out[:, a + b] *= (1 - 0.5 * both)[:, None]
    jaw, close = SHAPES.index("jawOpen"), SHAPES.index("mouthClose")
    out[:, close] = np.minimum(out[:, close], 0.9 * out[:, jaw])
    return out


def look(weights: Array, side: Array, up: Array) -> None:
    """Turn the eyes, in place: `side` (T,) to the person's left and `up` (T,), each in [-1, 1]."""
    for name, value in (
        ("eyeLookOutLeft", side), ("eyeLookInRight", side), ("eyeLookInLeft", -side), ("eyeLookOutRight", -side),
        ("eyeLookUpLeft", up), ("eyeLookUpRight", up), ("eyeLookDownLeft", -up), ("eyeLookDownRight", -up),
    ):  # fmt: skip
        weights[:, SHAPES.index(name)] = np.maximum(value, 0.0)


def expressions(count: int, rng: np.random.Generator) -> Array:
    """(N, 52) expressions, each by itself; one in twelve is neutral."""
    odds = np.array([often for _, often in _UNITS])
    out = np.zeros((count, len(SHAPES)))
    for row in out:
        if rng.random() < 1 / 12:
            continue
        for k in rng.choice(len(_UNITS), rng.integers(1, 8), replace=False, p=odds / odds.sum()):
            row[sides_of(_UNITS[k][0])] = _sided(rng.uniform(0.1, 1.0), sides_of(_UNITS[k][0]), rng)
    jaw, close = SHAPES.index("jawOpen"), SHAPES.index("mouthClose")
    out[:, jaw] = np.where((out[:, close] > 0) & (out[:, jaw] == 0), rng.uniform(0.2, 0.8, count), out[:, jaw])
    out = settle(out)
    moving = rng.random(count) < 0.6
    look(out, moving * rng.uniform(-0.9, 0.9, count), moving * rng.uniform(-0.8, 0.8, count))
    return out


def _sided(value: float, sides: list[int], rng: np.random.Generator) -> Array:
    """A unit's values: mostly alike on both sides."""
    if len(sides) == 1 or rng.random() < 0.65:
        return np.full(len(sides), value) * (1 - 0.1 * rng.random(len(sides)))
    return value * np.array([1.0, rng.uniform(0, 0.5)])[:: 1 if rng.random() < 0.5 else -1]


def perform(
    seconds: float, fps: float, rng: np.random.Generator, *, distance_m: float = 0.7, busy: float = 2.6
) -> Performance:
    """Act: shapes come and go, eyes jump, lids blink, the head turns, and the face is neutral at times.

    busy: movements that begin in a second.
    """
    count = max(round(seconds * fps), 1)
    times = np.arange(count) / fps
    weights = np.zeros((count, len(SHAPES)))
    odds = np.array([often for _, often in _UNITS])
    for _ in range(round(seconds * busy)):
        unit = _UNITS[rng.choice(len(_UNITS), p=odds / odds.sum())][0]
        sides, long = sides_of(unit), SECONDS * rng.uniform(0.5, 1.8) * (0.25 if unit == "eyeBlink" else 1.0)
        bump = _bump(times, rng.uniform(-0.5, seconds), long)
        value = _sided(rng.uniform(0.25, 1.0), sides, rng)
        weights[:, sides] = np.maximum(weights[:, sides], bump[:, None] * value)
        if unit == "mouthClose":
            jaw = SHAPES.index("jawOpen")
            weights[:, jaw] = np.maximum(weights[:, jaw], bump * rng.uniform(0.3, 0.8))
    weights = settle(weights)
    look(weights, _jumps(times, rng, 0.8), _jumps(times, rng, 0.6))
    turned = np.stack([_sway(times, rng, _TURNED[k], MOST[k]) for k in range(3)], 1)
    moved = np.stack([_sway(times, rng, size, 3 * size) for size in (0.03, 0.02, 0.04)], 1)
    rotations, translations = place(turned, moved + [0.0, 0.0, distance_m])
    return Performance(weights, rotations, translations, times)


def _bump(times: Array, start: float, long: float) -> Array:
    """(T,) 0 to 1 and back, with a rest on top; smooth."""
    part = ((times - start) / long).clip(0, 1)
    rise = np.minimum(part, 1 - part).clip(0, 0.3) / 0.3
    return rise * rise * (3 - 2 * rise)


def _jumps(times: Array, rng: np.random.Generator, most: float) -> Array:
    """(T,) eyes that rest and jump within 60 ms."""
    out, value, at = np.zeros(len(times)), 0.0, 0.0
    while at < times[-1]:
        after = rng.uniform(-most, most) if rng.random() < 0.65 else 0.0
        out = np.where(times >= at, value + (after - value) * ((times - at) / 0.06).clip(0, 1), out)
        value, at = after, at + rng.uniform(0.4, 1.4)
    return out


def _sway(times: Array, rng: np.random.Generator, size: float, most: float) -> Array:
    """(T,) a slow random motion of a standard deviation."""
    out = np.zeros(len(times))
    for hz in (0.11, 0.23, 0.41, 0.8):
        out += np.sin(2 * np.pi * (hz * times * rng.uniform(0.8, 1.2) + rng.random())) * rng.normal() * 0.3 / hz**0.5
    return (out * size / 0.55).clip(-most, most)


def place(turned: Array, moved: Array) -> tuple[Array, Array]:
    """Give camera-from-head rotations and translations of heads whose face's middle is at `moved` (T, 3) m.

    turned: (T, 3) rad about that middle: yaw to the person's left, pitch up, roll; the camera's frame is OpenCV's.
    """
    facing = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    own = matrix_from_euler(np.stack([-turned[:, 1], turned[:, 2], turned[:, 0]], 1), "XYZ")
    rotations = facing @ own
    return rotations, moved - rotations @ AIM


def photograph(portrait: Portrait, camera: Camera, light: Light, background: Array) -> Array:
    """(H, W, 3) uint8 picture of a posed head before a background (H, W, 3)."""
    image, mask, _ = portrait.photograph(camera, light, supersample=1)
    return (mask[..., None] * image + (1 - mask[..., None]) * background).clip(0, 255).astype(np.uint8)


def a_background(size: tuple[int, int], rng: np.random.Generator) -> Array:
    """(H, W, 3) a soft ramp between two colours."""
    width, height = size
    ends = rng.uniform(30, 220, (2, 3))
    part = np.linspace(0, 1, height)[:, None, None] * rng.random() + np.linspace(0, 1, width)[None, :, None] * 0.5
    return ends[0] + (ends[1] - ends[0]) * part


def a_camera(size: tuple[int, int], focal_px: float, rotation: Array, translation: Array) -> Camera:
    """A pinhole with its principal point in the middle, and where it sees a head: camera-from-head."""
    return replace(pinhole("film", size, focal_px), rotation=rotation, translation=translation)
