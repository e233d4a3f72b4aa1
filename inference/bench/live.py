"""What a live frame costs beyond detection, on one core, and how near the stream comes to the whole capture.

python -m inference bench live [--clip FILE] [--repeat N] [--out FILE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..core.artifacts import Keypoints2D
from ..core.kinematics import forward, transformed
from ..core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS
from ..motion.fit import FitSettings, fit
from ..motion.live_fit import MEASURED_AT, LiveFit
from ..protocol.events import SilentReporter
from ..protocol.stream import STAGES, StreamReader, StreamWriter, clock_ns
from ..sight.detect import DetectSettings, detect
from ..sight.lift import LiftSettings, StreamingLifter, lift
from .motion import ROOT, ask
from .table import Table, write

Array = np.ndarray
QUANTILES = (0.1, 0.5, 0.95)
DEMO = ROOT / "inference" / "demo" / "front.mp4"
LIMBS = [i for i, name in enumerate(HUMANOID_NAMES) if name.split(".")[0] in (
    "head", "upper_arm", "forearm", "hand", "thigh", "shin", "foot")]  # fmt: skip


def bench_stages(seen: Keypoints2D, repeat: int) -> tuple[Table, Array]:
    """Time every stage of each frame; also gives the joints (T, B, 3) of the first pass."""
    costs: dict[str, list[float]] = {"lift": [], "fit": [], "publish": [], "read": []}
    busy: dict[str, list[float]] = {name: [] for name in costs}
    joints: list[Array] = []
    for _ in range(repeat):
        pass_joints = _play(seen, costs, busy)
        joints = joints or pass_joints
    table = Table(
        "A live frame on one core (ms)",
        ("stage", "10 %", "median", "95 %", "processor time, median"),
        note="Target: lift, fit, retarget and pose together at most 15. On a busy machine the fastest tenth says most.",
    )
    for name in costs:
        table.add(name, *(1e3 * float(np.quantile(costs[name], q)) for q in QUANTILES), 1e3 * _median(busy[name]))
    for script in sorted(ROOT.glob(".venv*/bin/python")) + sorted(ROOT.glob(".venv*/Scripts/python.exe")):
        for row in (ask(script, "bench_live.py") or {}).get("rows", []):
            table.add(*row)
    return table, np.stack(joints)


def _play(seen: Keypoints2D, costs: dict[str, list[float]], busy: dict[str, list[float]]) -> list[Array]:
    """Show the keypoints frame by frame as the worker does; times count once the person has been measured."""
    lifter, fitter, joints = StreamingLifter(seen.image_size, seen.fps), LiveFit(seen.fps), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.bin"
        with StreamWriter(path, len(HUMANOID_NAMES)) as stream:
            stream.describe({"generation": 1})
            reader = StreamReader(path)
            for row in range(len(seen.times)):
                marks, work = [time.perf_counter()], [time.thread_time()]

                def mark(marks: list[float] = marks, work: list[float] = work) -> None:
                    marks.append(time.perf_counter())
                    work.append(time.thread_time())

                points, sure = lifter.push(seen.positions[row], seen.confidence[row])
                mark()
                pose = fitter.push(points, sure, seen.confidence[row] >= 0.3, 1.0 / seen.fps)
                mark()
                assert pose is not None
                stream.write(
                    captured_ns=clock_ns(), generation=1, recorded=0, rotations=pose.rotations.ravel().tolist(),
                    root=pose.root.tolist(), confidence=pose.confidence.tolist(), contacts=pose.contacts.tolist(),
                    timings=[0.0] * len(STAGES),
                )  # fmt: skip
                mark()
                reader.read()
                mark()
                if row >= MEASURED_AT[2] and row not in (MEASURED_AT[3] - 1, MEASURED_AT[3]):
                    for name, wall, processor in zip(costs, np.diff(marks), np.diff(work), strict=True):
                        costs[name].append(float(wall))
                        busy[name].append(float(processor))
                placed = forward(fitter.skeleton.rest, HUMANOID_PARENTS, pose.rotations[None], pose.root[None])
                joints.append(placed[0, :, :3, 3])
            reader.close()
    return joints


def bench_accuracy(seen: Keypoints2D, live: Array) -> Table:
    """Joints of the stream against those that the whole clip's fit finds afterwards."""
    motion = fit(lift(seen, LiftSettings(), SilentReporter()), FitSettings(), SilentReporter())
    floor = np.array(motion.header["floor_from_frame"])
    rotations, root = transformed(motion.rest, motion.rotations, motion.root, floor)
    whole = forward(motion.rest, motion.parents, rotations, root)[..., :3, 3]
    warm = slice(MEASURED_AT[2], None)
    away = np.linalg.norm((live - live[:, :1] - whole + whole[:, :1])[warm][:, LIMBS], axis=-1)
    height = np.abs(live[warm, 0, 2] - whole[warm, 0, 2])
    table = Table(
        "The stream against the whole capture (mm)",
        ("joints of the limbs and the head, from the hips", "height of the hips", "tremor, stream", "tremor, capture"),
        note="Tremor: root mean square second difference from the hips times fps squared, m/s^2.",
    )
    tremor = (_tremor((points - points[:, :1])[warm][:, LIMBS], seen.fps) for points in (live, whole))
    table.add(1e3 * float(away.mean()), 1e3 * float(height.mean()), *tremor)
    return table


def _tremor(points: Array, fps: float) -> float:
    return float(np.sqrt(np.mean(np.sum(np.diff(points, 2, axis=0) ** 2, axis=-1))) * fps**2)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a clip and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m inference bench live", description=__doc__)
    parser.add_argument("--clip", type=Path, default=DEMO, help="a film of one person (default: the demo)")
    parser.add_argument("--repeat", type=int, default=5, help="passes over the clip (default 5)")
    parser.add_argument("--out", type=Path, help="also write FILE.json and FILE.md")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    seen = detect(args.clip, DetectSettings(face=False, unswap=False), SilentReporter())
    table, joints = bench_stages(seen, args.repeat)
    write([table, bench_accuracy(seen, joints)], args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
