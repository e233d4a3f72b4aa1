# ruff: noqa: E501 - bytes of files, as they stand
"""Mutates good files for a while: `python -m tests.hostile.fuzz KIND SECONDS [SEED]`; prints counts as JSON.

Clean means: every input is read or refused with a typed error, none takes longer than 5 seconds, and nothing in them
is run or followed (no file but the input appears).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from inference.core.formats.markers import read_markers
from inference.core.formats.trc import write_trc
from inference.protocol.errors import UnderstudyError

from . import corpus
from .mutation import mutated
from .readers import reader, speak

SLOWEST_S = 5


def seeds(kind: str) -> list[tuple[str, bytes]]:
    """Good files of a kind, with their names."""
    golden, demo = corpus.ROOT / "tests/golden", corpus.ROOT / "inference/demo"
    if kind in ("artifact", "markers_c3d"):
        return [(path.name, path.read_bytes()) for path in golden.glob("*.npz" if kind == "artifact" else "*.c3d")]
    alone = {
        "calibration": demo / "demo.toml", "film": demo / "front.mp4", "bvh": golden / "figure.bvh",
        "fbx": golden / "figure.fbx", "blender_bvh": golden / "figure.bvh", "blender_fbx": golden / "figure.fbx",
        "weights": corpus.ROOT / "inference/weights/view_trust.safetensors",
    }  # fmt: skip
    if kind in alone:
        return [(alone[kind].name, alone[kind].read_bytes())]
    if kind == "mapping":
        presets = corpus.ROOT / "inference/core/mapping/presets"
        return [(path.name, path.read_bytes()) for path in sorted(presets.glob("*.json"))[:4]]
    return _made(kind)


def _made(kind: str) -> list[tuple[str, bytes]]:
    people = np.random.default_rng(0).uniform(10, 400, (12, 17, 3))
    people[..., 2] = 0.8
    flat = [{"image_id": f"{n}.jpg", "keypoints": row.ravel().tolist(), "score": 1} for n, row in enumerate(people)]
    xml = (
        '<calibration><cameras><camera serial="1" model="M" active="1"><fov_video left="0" top="0" right="1920" '
        'bottom="1080"/><transform r11="1" r12="0" r13="0" r21="0" r22="1" r23="0" r31="0" r32="0" r33="1" x="0" y="0" '
        'z="3000"/><intrinsic sensorMinU="0" sensorMaxU="122880" sensorMinV="0" sensorMaxV="69120" focalLengthU="96000" focalLengthV="96000" centerPointU="61440" centerPointV="34560" '
        'skew="0" radialDistortion1="0" radialDistortion2="0" radialDistortion3="0" tangentalDistortion1="0" '
        'tangentalDistortion2="0"/></camera></cameras></calibration>'
    )
    matrix = "!!opencv-matrix\n   rows: {0}\n   cols: {1}\n   dt: d\n   data: [ {2} ]\n"
    yaml = "%YAML:1.0\n---\nimage_width: 640\nimage_height: 480\nK: " + matrix.format(3, 3, "500., 0., 320., 0., 500., 240., 0., 0., 1.")  # fmt: skip
    yaml += "dist: " + matrix.format(1, 5, "0., 0., 0., 0., 0.") + "R: " + matrix.format(3, 3, "1,0,0,0,1,0,0,0,1") + "T: " + matrix.format(3, 1, "0, 0, 3")  # fmt: skip
    smpl = {"poses.npy": np.zeros((4, 156)), "trans.npy": np.zeros((4, 3)), "mocap_framerate.npy": np.array(60.0)}
    rig = {"intrinsicMat": np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), "distortion": np.zeros((1, 5)), "rotation": np.eye(3), "translation": np.ones((3, 1)),
           "imageSize": np.array([[480.0], [640.0]])}  # fmt: skip
    marked = Path("written.trc")
    write_trc(marked, read_markers(corpus.ROOT / "tests/golden/walk_floats.c3d"))
    trc = marked.read_bytes()
    marked.unlink()
    item = {"out": "a", "task": "selftest", "request": {"steps": 3}}
    batch = {"format": "understudy-batch", "version": 1, "program": "inference", "output": "o", "items": [item]}
    order = {"protocol": 1, "task": "selftest", "request": {"steps": 3, "step_s": 0.5}, "run_id": "x", "app": ""}
    picture = np.random.default_rng(1).integers(0, 255, 100 * 301, np.uint8).tobytes()
    tensor = (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."
    )
    view = {"buffers": [{"byteLength": 8}], "bufferViews": [{"buffer": 0, "byteLength": 8}], "nodes": [{"children": [1]}, {}],
            "accessors": [{"bufferView": 0, "componentType": 5126, "count": 2, "type": "SCALAR"}]}  # fmt: skip
    files: dict[str, list[tuple[str, bytes]]] = {
        "keypoints": [("k.json", json.dumps(flat).encode())],
        "points": [("p.npy", corpus.array(people))],
        "calibration_xml": [("c.xml", xml.encode())],
        "calibration_yaml": [("c.yml", yaml.encode())],
        "calibration_pickle": [("c.pickle", corpus.dumped(rig, protocol)) for protocol in (2, 4)],
        "markers_trc": [("m.trc", trc)],
        "smpl": [("s.npz", corpus.npz({name: corpus.array(value) for name, value in smpl.items()}))],
        "batch": [("b.json", json.dumps(batch).encode())],
        "request": [("r.json", json.dumps(order).encode())],
        "photo": [("p.png", corpus.png(100, 100, zlib.compress(picture)))],
        "checkpoint": [("c.pt", corpus.checkpoint(tensor, {"a/data/0": b"\0" * 16}))],
        "gltf": [("g.glb", corpus.glb(view, b"\0" * 8))],
    }
    return files[kind]


def _read(kind: str) -> Any:
    if kind != "checkpoint":
        return reader(kind)
    from inference.runtime.convert import read_checkpoint  # without giving up what the next file needs

    return read_checkpoint


def main(kind: str, seconds: float, seed: int = 0) -> dict[str, Any]:
    """Fuzz one reader; gives counts, and the first inputs that were not taken well."""
    good, read, dice, counts, bad = seeds(kind), _read(kind), random.Random(seed), Counter[str](), list[str]()
    for name, content in good:
        Path(name).write_bytes(content)
        with contextlib.suppress(UnderstudyError):  # half of a pair is told as such
            read(Path(name))
    signal.signal(signal.SIGALRM, _too_slow)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name, content = dice.choice(good)
        path, given = Path(name), mutated(content, dice)
        path.write_bytes(given)
        signal.alarm(SLOWEST_S)
        try:
            read(path)
            counts["read"] += 1
        except UnderstudyError:
            counts["refused"] += 1
        except BaseException as error:  # noqa: BLE001 - which is the finding
            counts["escaped"] += 1
            bad.append(f"{type(error).__name__}: {error}"[:200])
            Path(tempfile.gettempdir(), f"understudy-fuzz-{kind}-{len(bad)}").write_bytes(given)
        finally:
            signal.alarm(0)
    strange = sorted(set(os.listdir()) - {name for name, _ in good})  # noqa: PTH208
    return {"kind": kind, **counts, "inputs": sum(counts.values()), "bad": bad[:5], "strange": strange}


def _too_slow(*_: Any) -> None:
    raise TimeoutError(f"longer than {SLOWEST_S} s")


if __name__ == "__main__":
    with speak() as out, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
        os.chdir("/")
        print(json.dumps(found), file=out)
