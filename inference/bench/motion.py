"""All figures of the motion wing, ours beside the plain way or the peer in the same run.

python -m inference bench motion [--data DIR] [--only lifter views one-camera speed blender] [--out FILE]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints2D, Keypoints3D
from ..core.cameras import Camera, CameraSet
from ..core.formats.calibration import write_calibration
from ..core.metrics import pa_mpjpe
from ..core.skeletons import BODY
from ..motion.triangulate import TriangulateSettings, triangulate
from ..protocol.events import SilentReporter
from ..protocol.requests import MotionRequest
from ..runtime.video import read_frames
from ..sight.detect import DetectSettings, detect
from ..sight.lift import LiftSettings, lift
from .sections import run_sections
from .table import Table

ROOT = Path(__file__).resolve().parents[2]
VIEWS = ("cam01", "cam02", "cam03", "cam04")


def footage(data: Path) -> tuple[list[Path], CameraSet]:
    """The four calibrated clips of Pose2Sim's single-person demo (BSD-3)."""
    folder = data / "multiview" / "pose2sim_single"
    with np.load(folder / "calib_pose2d_ref3d.npz", allow_pickle=False) as calib:
        cameras = tuple(
            Camera(
                name, (int(calib["image_wh"][i][0]), int(calib["image_wh"][i][1])), calib["K"][i],
                np.append(calib["dist_k1k2p1p2"][i], 0.0), calib["R_w2c"][i], calib["t_w2c"][i],
            )
            for i, name in enumerate(VIEWS)
        )  # fmt: skip
    return [folder / f"{name}.mp4" for name in VIEWS], CameraSet(cameras)


def detections(clips: Sequence[Path], *, unswap: bool) -> list[Keypoints2D]:
    """What the detector sees in each clip."""
    settings = DetectSettings(unswap=unswap)
    return [detect(clip, settings, SilentReporter(), view=clip.stem) for clip in clips]


def bench_lifter(data: Path) -> list[Table]:
    """Accuracy on people never trained on, and time a frame."""
    from . import lifter

    return lifter.tables(data)


def bench_views(data: Path) -> list[Table]:
    """Triangulation of the four-camera footage, and of synthetic rigs with truth."""
    from . import views

    clips, cameras = footage(data)
    return views.tables(detections(clips, unswap=False), cameras, data)


def bench_one_camera(data: Path) -> list[Table]:
    """Each camera alone, against all four together; the detector's own 3D guess on the same frames and joints."""
    clips, cameras = footage(data)
    raw = detections(clips, unswap=False)
    reference = triangulate(raw, cameras, TriangulateSettings(), SilentReporter())
    table = Table(
        "One camera against four (PA-MPJPE, mm)",
        ("camera", "understudy", "understudy, calibrated lens", "mediapipe world landmarks", "frames"),
    )
    for view, clip, camera in zip(raw, clips, cameras, strict=True):
        own = detect(clip, DetectSettings(), SilentReporter(), view=clip.stem)
        plain = lift(own, LiftSettings(), SilentReporter())
        known = lift(own, LiftSettings(), SilentReporter(), camera=camera)
        assert view.world_m is not None
        guesses = (plain.positions, known.positions, view.world_m)
        table.add(camera.name, *(_pa_mm(guess, reference, view.world_m) for guess in guesses), len(own.positions))
    return [table]


def _pa_mm(points: np.ndarray, reference: Keypoints3D, common: np.ndarray) -> float:
    """PA-MPJPE in millimetres over the body joints that the reference and `common` both hold."""
    truth = np.where(np.isfinite(common[:, BODY]), reference.positions[:, BODY], np.nan)
    return 1000 * pa_mpjpe(points[:, BODY], truth)


def bench_speed(data: Path) -> list[Table]:
    """From pixels to a skeleton, one 1080p camera; decoding timed apart."""
    from ..motion import pipeline

    clips, cameras = footage(data)
    table = Table(
        "Time a frame, one 1088x1920 camera (ms)",
        ("clip", "decode", "detect", "lift", "fit", "all beyond decoding", "behind detection"),
        note=f"{os.cpu_count()} cores. Target: at most 45 beyond decoding, at most 5 behind detection.",
    )
    for clip in clips[2:]:
        start = time.perf_counter()
        count = sum(1 for _ in read_frames(clip))
        decode = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            numbers = pipeline.run(MotionRequest(video=(clip,), overlay=False), Path(folder), SilentReporter())
        seconds = numbers["seconds"]
        stages = [seconds["detect"] - decode, seconds["lift"], seconds["fit"]]
        cells = [1000 * value / count for value in (decode, *stages, sum(stages), sum(stages[1:]))]
        table.add(clip.stem, *cells)
    with tempfile.TemporaryDirectory() as folder:
        calibration = Path(folder) / "rig.toml"
        write_calibration(calibration, cameras)
        request = MotionRequest(video=tuple(clips), calibration=calibration, overlay=False)
        numbers = pipeline.run(request, Path(folder) / "job", SilentReporter())
    behind = [1000 * numbers["seconds"][name] / numbers["frames"] for name in ("triangulate", "fit")]
    table.add("four cameras", None, None, behind[0], behind[1], None, sum(behind))
    return [table]


def bench_blender(_: Path) -> list[Table]:
    """Writing keys, and registration, in every Blender whose environment exists here."""
    keys = Table(
        "Writing 2,000 frames x 60 bones (s)",
        ("Blender", "understudy", "keyframe_insert", "times faster", "largest difference in play"),
        note="Target: at least 100 times faster.",
    )
    register = Table(
        "Enabling the add-on (ms)",
        ("Blender", "import", "register", "heavy modules imported"),
        note="Target: at most 50, and none of torch, mediapipe, cv2, scipy and numpy.",
    )
    for python in sorted(ROOT.glob(".venv*/bin/python")) + sorted(ROOT.glob(".venv*/Scripts/python.exe")):
        found = ask(python, "bench_registration.py")
        if found is None:
            continue  # an environment without bpy
        register.add(found["blender"], found["import_ms"], found["register_ms"], ", ".join(found["heavy"]) or "none")
        found = ask(python, "bench_keys.py")
        if found is not None:
            names = ("blender", "bulk_s", "keyframe_insert_s", "times_faster", "largest_difference")
            keys.add(*(found[name] for name in names))
    return [keys, register]


def ask(python: Path, script: str) -> dict[str, Any] | None:
    """Run one of the Blender suite's benchmark scripts and read the JSON line that it prints."""
    command = [python, ROOT / "tests" / "blender" / script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    lines = [text for text in done.stdout.splitlines() if text.startswith("{")]
    return json.loads(lines[-1]) if lines else None


SECTIONS: dict[str, Callable[[Path], list[Table]]] = {
    "lifter": bench_lifter,
    "views": bench_views,
    "one-camera": bench_one_camera,
    "speed": bench_speed,
    "blender": bench_blender,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen sections and print their tables."""
    return run_sections("motion", __doc__, SECTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
