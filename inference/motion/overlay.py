"""Movies of what was seen and what was made of it, drawn over the footage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..core.artifacts import BodyMotion, Keypoints2D
from ..core.cameras import Camera, project
from ..core.kinematics import forward, tails
from ..core.skeletons import BODY, BODY_25_PARENTS, FACE, HAND_21_PARENTS, LEFT_HAND, RIGHT_HAND
from ..protocol.events import Reporter
from ..protocol.files import atomic_write_bytes
from ..runtime.video import read_frames, write_movie

Array = np.ndarray
Colour = tuple[int, int, int]
MAX_SIDE_PX = 960
BONE_COLOUR = (255, 255, 255)
# Of several people: apart for every kind of colour vision (Okabe & Ito).
PERSON_COLOURS = (
    (240, 228, 66), (86, 180, 233), (230, 159, 0), (204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 114, 178),
)  # fmt: skip


def confidence_colour(confidence: float) -> tuple[int, int, int]:
    """RGB from red (0) over amber to green (1)."""
    c = float(np.clip(confidence, 0.0, 1.0))
    return int(255 * min(1.0, 2.0 - 2.0 * c)), int(220 * min(1.0, 2.0 * c)), 60


def draw_keypoints(image: Array, points: Array, confidence: Array, *, min_confidence: float = 0.05) -> None:
    """Draw one person's (137, 2) pixels into an RGB image in place, coloured by confidence."""
    radius = max(1, round(max(image.shape[:2]) / 480))
    seen = np.isfinite(points).all(axis=1) & (confidence >= min_confidence)
    for block, parents in ((BODY, BODY_25_PARENTS), (LEFT_HAND, HAND_21_PARENTS), (RIGHT_HAND, HAND_21_PARENTS)):
        for child, parent in enumerate(parents):
            a, b = block.start + child, block.start + parent
            if parent >= 0 and seen[a] and seen[b]:
                colour = confidence_colour(min(confidence[a], confidence[b]))
                cv2.line(image, _pixel(points[a]), _pixel(points[b]), colour, radius, cv2.LINE_AA)
    for index in np.flatnonzero(seen):
        size = 1 if FACE.start <= index < FACE.stop else radius + 1
        cv2.circle(image, _pixel(points[index]), size, confidence_colour(confidence[index]), -1, cv2.LINE_AA)


def draw_bones(image: Array, heads: Array, ends: Array, bone_colour: Colour = BONE_COLOUR) -> None:
    """Draw projected bones, (B, 2) heads to (B, 2) ends, into an RGB image in place: outlined, short ones thinner."""
    widest = max(2, round(max(image.shape[:2]) / 160))
    drawn = [(a, b) for a, b in zip(heads, ends, strict=True) if np.isfinite(a).all() and np.isfinite(b).all()]
    widths = [int(np.clip(np.linalg.norm(b - a) / 8, 1, widest)) for a, b in drawn]
    for colour, extra in (((0, 0, 0), 2), (bone_colour, 0)):
        for (start, end), width in zip(drawn, widths, strict=True):
            cv2.line(image, _pixel(start), _pixel(end), colour, width + extra, cv2.LINE_AA)


def projected_bones(motion: BodyMotion, camera: Camera) -> tuple[Array, Array]:
    """Pixels (T, B, 2) of every bone's head and tail in one camera."""
    matrices = forward(motion.rest, motion.parents, motion.rotations, motion.root)
    ends = tails(matrices, np.asarray(motion.header["lengths_m"]))
    return project(camera, matrices[..., :3, 3]), project(camera, ends)


def write_overlay(
    path: Path, keypoints: Keypoints2D, motion: BodyMotion, camera: Camera, report: Reporter, *, start: int = 0,
    others: Sequence[tuple[Keypoints2D, BodyMotion]] = (),
) -> Path | None:  # fmt: skip
    """Write the overlay movie of one view and a still beside it; without footage the background is dark.

    Args:
        path: `<name>.mp4`; the still is `<name>.png`.
        camera: the view's camera in the frame of `motion`.
        start: first frame of the footage that the artifacts hold.
        others: what the view saw of other people, and what was made of it; each gets a colour.
    Returns:
        The path of the still.
    """
    everybody = [(keypoints, motion), *others]
    bones = [projected_bones(one, camera) for _, one in everybody]
    colours = [PERSON_COLOURS[i % len(PERSON_COLOURS)] for i in range(len(everybody))] if others else [BONE_COLOUR]
    begins = [round((one.times[0] - motion.times[0]) * motion.fps) for _, one in everybody]
    width, height = keypoints.image_size
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    size = (int(width * scale) // 2 * 2, int(height * scale) // 2 * 2)
    factor = np.array(size) / np.array([width, height])
    total, still = len(keypoints.positions), path.with_suffix(".png")
    best = _best_frame(keypoints)
    with write_movie(path, keypoints.fps, size) as movie:
        for frame, image in enumerate(_background(keypoints, size, start, total)):
            for (heads, ends), begin, colour in zip(bones, begins, colours, strict=True):
                if 0 <= frame - begin < len(heads):
                    from_px, to_px = ((points[frame - begin] + 0.5) * factor - 0.5 for points in (heads, ends))
                    draw_bones(image, from_px, to_px, colour)
            for seen, _ in everybody:
                draw_keypoints(image, (seen.positions[frame] + 0.5) * factor - 0.5, seen.confidence[frame])
            _caption(image, f"frame {start + frame}   {keypoints.times[frame]:.2f} s")
            movie.write(image)
            if frame == best:
                atomic_write_bytes(still, cv2.imencode(".png", image[..., ::-1])[1].tobytes())
            report.progress("overlay", frame + 1, total)
    return still


def _background(keypoints: Keypoints2D, size: tuple[int, int], start: int, total: int) -> Iterator[Array]:
    source = str(keypoints.header.get("source") or "")
    done = 0
    if source and Path(source).is_file():
        for frame in _frames(keypoints, Path(source), start, total):
            yield cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            done += 1
    for _ in range(done, total):
        yield np.full((size[1], size[0], 3), 32, np.uint8)


def _frames(keypoints: Keypoints2D, source: Path, start: int, total: int) -> Iterator[Array]:
    """Give the picture of each sample: the next one, or the nearest in time where the clip was put in step."""
    first = keypoints.header.get("clip_start_s")
    if first is None:
        yield from (frame for _, _, frame in read_frames(source, start=start, stop=start + total))
        return
    wanted = first + (keypoints.times - keypoints.times[0]) * keypoints.header.get("clip_rate", 1.0)
    shown, last = 0, None
    for _, time_s, frame in read_frames(source):
        while last is not None and shown < total and wanted[shown] < 0.5 * (last[0] + time_s):
            yield last[1]
            shown += 1
        last = (time_s, frame)
    if last is not None:
        yield from (last[1] for _ in range(shown, total))


def _best_frame(keypoints: Keypoints2D) -> int:
    """The frame whose body is seen best, in the middle half of the clip where possible."""
    score = keypoints.confidence[:, BODY].mean(axis=1)
    middle = np.zeros(len(score))
    middle[len(score) // 4 : max(len(score) * 3 // 4, 1)] = 0.05
    return int(np.argmax(score + middle))


def _caption(image: Array, text: str) -> None:
    """Say on a dark band which frame this is and what the colours mean."""
    unit = max(min(image.shape[1] / 36, image.shape[0] / 26), 8.0)  # about the height of a line
    band = image[: round(1.5 * unit)]
    band[:] = (0.35 * band).astype(np.uint8)
    x = _write(image, text, 0.5 * unit, unit) + unit
    x = _write(image, "detected, unsure", x, unit) + 0.3 * unit
    for step in range(16):
        left, right = (int(x + 0.2 * unit * edge) for edge in (step, step + 1))
        image[round(0.5 * unit) : round(1.0 * unit), left:right] = confidence_colour(step / 15)
    x = _write(image, "sure", x + 3.5 * unit, unit) + unit
    y = 0.75 * unit
    draw_bones(image, np.array([[x, y]]), np.array([[x + 2 * unit, y]]))
    _write(image, "3D skeleton", x + 2.4 * unit, unit)


def _write(image: Array, text: str, x: float, unit: float) -> float:
    """Write a line at the top of the image; give where it ends."""
    scale = unit / 36
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    origin = (int(x), round(1.05 * unit))
    cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, BONE_COLOUR, 1, cv2.LINE_AA)
    return x + width


def _pixel(point: Array) -> tuple[int, int]:
    x, y = np.clip(np.round(point), -4096, 8192)
    return int(x), int(y)
