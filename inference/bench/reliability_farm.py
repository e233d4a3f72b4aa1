"""Engines: what they cost, what they lose, and whether they make the same pixels."""

# ruff: noqa: S311 - no secrets

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..batch.ledger import Ledger
from ..batch.local import run_local, seats
from ..batch.manifest import Manifest, write_manifest
from ..batch.plan import Wishes, plan
from ..batch.record import Records, pixel_hash
from ..protocol.folder import JobFolder, new_run_id
from ..protocol.requests import MotionRequest, Order, SelftestRequest
from ..runtime.worker import run_job
from .reliability_faults import INFERENCE, ROOT, children, write_batch, wrong

RAY = os.environ.get("UNDERSTUDY_RAY_PYTHON", "")
NO_RAY = "UNDERSTUDY_RAY_PYTHON names no Python with Ray"
NO_BLENDER = "no Blender as a module here"
MAKE_SHOT = """
import bpy, os, sys
bpy.ops.wm.read_homefile(use_empty=True)
scene = bpy.context.scene
bpy.ops.mesh.primitive_monkey_add()
for frame, angle in ((1, 0.0), (40, 3.0)):
    bpy.context.object.rotation_euler.z = angle
    bpy.context.object.keyframe_insert("rotation_euler", frame=frame)
camera = bpy.data.objects.new("Cam", bpy.data.cameras.new("Cam"))
scene.collection.objects.link(camera)
camera.location, camera.rotation_euler, scene.camera = (0, -6, 0), (1.5708, 0, 0), camera
scene.world = bpy.data.worlds.new("World")
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising = int(sys.argv[2]), False
scene.render.resolution_x, scene.render.resolution_y = int(sys.argv[3]), int(sys.argv[4])
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
os._exit(0)
"""


def overhead(folder: Path, count: int) -> str:
    """What an item costs beyond the job itself: the same jobs through the engine, and one after the other alone."""
    manifest = write_batch(folder / "b.json", [{"steps": 0, "artifact_kib": 1}] * (count + 1))
    ledger = Ledger(Records(manifest), manifest.items[:1])
    run_local(ledger, seats("cpu", 1))
    start = time.perf_counter()
    ledger = Ledger(Records(manifest), manifest.items[1:])
    run_local(ledger, seats("cpu", 1))
    engine_s = (time.perf_counter() - start) / count
    start = time.perf_counter()
    for number in range(count):
        job = JobFolder(folder / "alone" / str(number))
        order = Order("selftest", SelftestRequest(steps=0, artifact_kib=1), new_run_id())
        job.prepare(order)
        run_job(job)
    alone_s = (time.perf_counter() - start) / count
    beyond = 1000 * (engine_s - alone_s)
    return f"{beyond:.1f} ms an item ({1000 * engine_s:.1f} with the engine, {1000 * alone_s:.1f} alone)"


def throughput(folder: Path, count: int, sample: int) -> str:
    """Short clips of keypoints through resident workers, and a process for each (measured on some of them)."""
    points = np.random.default_rng(0).uniform([150, 60], [350, 420], (17, 2))
    for number in range(count):
        rows = points + number / 10 + 2.0 * np.arange(12)[:, None, None]
        np.savez(folder / f"clip_{number}.npz", positions=rows, confidence=np.full((12, 17), 0.8))
    fixed: dict[str, Any] = {"image_size": (640, 480), "fps": 30.0, "overlay": False}
    names = [f"clip_{number}" for number in range(count)]
    requests = [(name, "motion", MotionRequest(keypoints=(folder / f"{name}.npz",), **fixed)) for name in names]
    manifest = write_manifest(folder / "b.json", "inference", folder / "out", requests)
    start, used = time.perf_counter(), _children_s()
    run = subprocess.run([*INFERENCE, "batch", "run", str(manifest.path)], cwd=ROOT, capture_output=True, check=False)
    together_s, together_cpu_s = (time.perf_counter() - start) / count, (_children_s() - used) / count
    start, used = time.perf_counter(), _children_s()
    for number in range(sample):
        words = [
            "motion",
            "--keypoints",
            folder / f"clip_{number}.npz",
            "--image-size",
            640,
            480,
            "--fps",
            30,
            "--no-overlay",
        ]
        command = [*INFERENCE, *map(str, words), "--out", str(folder / "alone" / str(number))]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    alone_s, alone_cpu_s = (time.perf_counter() - start) / sample, (_children_s() - used) / sample
    told = "" if run.returncode == 0 else f", exit code {run.returncode}"
    return (
        f"{count} clips: {alone_s / together_s:.1f} times ({together_s:.2f} s a clip; {alone_s:.2f} s with a process "
        f"each, on {sample}); in processor time {alone_cpu_s / together_cpu_s:.1f} times{told}"
    )


def _children_s() -> float:
    """Processor time of all children that have ended, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system


def _shot(folder: Path) -> Path | None:
    if importlib.util.find_spec("bpy") is None:
        return None
    shot = folder / "shot.blend"
    subprocess.run([sys.executable, "-c", MAKE_SHOT, str(shot), "8", "160", "120"], check=True, capture_output=True)
    return shot


def _frames(folder: Path, shot: Path, count: int) -> Manifest:
    return write_manifest(
        folder / "b.json", "blender", folder / "out", plan("render", [shot], Wishes(frames=f"1-{count}"))
    )


def _pixels(manifest: Manifest) -> list[str]:
    return [pixel_hash(file) if (file := manifest.result(item)).is_file() else "" for item in manifest.items]


def _local_frames(folder: Path, shot: Path, count: int) -> Manifest:
    manifest = _frames(folder, shot, count)
    command = [*INFERENCE, "batch", "run", str(manifest.path), "--blender", sys.executable]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return manifest


def openjd(folder: Path, count: int, chunk: int) -> str:
    """Render frames by `openjd run` and real Blender, then again."""
    program, shot = Path(sys.executable).with_name("openjd"), _shot(folder)
    if not program.is_file() or shot is None:
        return "openjd or Blender is not installed"
    local, manifest = _local_frames(folder / "local", shot, count), _frames(folder / "farm", shot, count)
    seconds, texts = [], []
    for _ in range(2):
        start = time.monotonic()
        texts.append(_run_openjd(folder, manifest, program, chunk))
        seconds.append(time.monotonic() - start)
    skipped = texts[1].count(f"0 done, {chunk} skipped") * chunk
    same = sum(a == b and bool(a) for a, b in zip(_pixels(local), _pixels(manifest), strict=True))
    return (
        f"{count} frames {seconds[0]:.1f} s; again {seconds[1]:.1f} s, {skipped} skipped; {same} with the local pixels"
    )


def _run_openjd(folder: Path, manifest: Manifest, program: Path, chunk: int) -> str:
    """Run a batch by `openjd run` and give what it printed."""
    bundle = folder / "bundle"
    words = ["batch", "export", "openjd", manifest.path, "--out", bundle, "--chunk", chunk, "--blender", sys.executable]
    subprocess.run([*INFERENCE, *map(str, words)], cwd=ROOT, capture_output=True, check=True)
    command = [program, "run", bundle / "template.json", "-p", f"file://{bundle}/parameters.json"]
    command += ["--extensions", "TASK_CHUNKING"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def frame_kills(folder: Path, count: int, kills: int) -> str:
    """Render frames while Blenders are killed, and compare the pixels with those of a quiet run."""
    shot = _shot(folder)
    if shot is None:
        return NO_BLENDER
    quiet, manifest = _local_frames(folder / "quiet", shot, count), _frames(folder / "farm", shot, count)
    dice, killed, code = random.Random(0), 0, 75
    command = [*INFERENCE, "batch", "run", str(manifest.path), "--blender", sys.executable, "--retries", "20"]
    start = time.monotonic()
    while code == 75 or killed < kills:
        if code == 0:  # all done before enough were killed: some frames again
            for item in dice.sample(manifest.items, 3):
                manifest.result(item).unlink()
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as supervisor:
            while supervisor.poll() is None:
                time.sleep(dice.uniform(0.5, 1.6))
                for pid in children(supervisor.pid) if killed < kills else ():
                    with contextlib.suppress(OSError):
                        os.kill(pid, 9)
                        killed += 1
        code = supervisor.returncode
    same = sum(a == b and bool(a) for a, b in zip(_pixels(quiet), _pixels(manifest), strict=True))
    return f"{same} of {count} frames with the same pixels, {killed} Blenders killed, {time.monotonic() - start:.0f} s"


RAY_HEAD = """
set -e
ip link set lo up
{network}
export RAY_ADDRESS={address}:6399 RAY_USAGE_STATS_ENABLED=0 HOME={home} RAY_health_check_period_ms=1000
export RAY_health_check_timeout_ms=2000 RAY_AUTH_MODE=token RAY_health_check_failure_threshold=3
export BIN=$(dirname {python})
$BIN/ray get-auth-token --generate >/dev/null
$BIN/ray start --head --node-ip-address={address} --port=6399 --num-cpus=2 --include-dashboard=false \\
    --temp-dir={home}/r >/dev/null
{before}
cd {root}
{beside} &
{python} -m inference batch run {manifest} --engine ray --workers {workers} --retries 6 {more}
"""
KILLER = """
import glob, json, os, sys, time
work, kills, killed = sys.argv[1], int(sys.argv[2]), set()
while len(killed) < kills:
    time.sleep(0.3)
    for file in glob.glob(work + "/*/events.jsonl"):
        lines = open(file, "rb").read().splitlines()
        pid = json.loads(lines[0])["pid"] if len(lines) > 1 else 0
        if pid and pid not in killed:
            try:
                os.kill(pid, 9)
            except OSError:
                continue
            killed.add(pid)
            break
"""
# Kills Blenders, and every other time the actor that runs one.
BLENDER_KILLER = """
import glob, os, random, sys, time
kills, killed, dice = int(sys.argv[1]), 0, random.Random(0)
while killed < kills:
    time.sleep(dice.uniform(0.5, 3.0))
    blenders = []
    for entry in glob.glob("/proc/[0-9]*"):
        try:
            if b"headless.py" in open(entry + "/cmdline", "rb").read():
                parent = int(open(entry + "/stat").read().rpartition(")")[2].split()[1])
                blenders.append((int(entry[6:]), parent))
        except OSError:
            continue
    if blenders:
        pid, actor = dice.choice(blenders)
        try:
            os.kill(actor if killed % 2 else pid, 9)
        except OSError:
            continue
        killed += 1
        open(sys.argv[2], "w").write(str(killed))
"""
# A second network, joined by a cable; the node in it lives in processes of its own and ends with them at once.
CABLE = """
unshare --net sleep 1000 &
OTHER=$!
sleep 0.5
ip link add v0 type veth peer name v1
ip link set v1 netns $OTHER
ip addr add 10.99.0.1/24 dev v0
ip link set v0 up
nsenter -t $OTHER --net sh -c 'ip link set lo up; ip addr add 10.99.0.2/24 dev v1; ip link set v1 up'
"""
NODE = """
nsenter -t $OTHER --net unshare --pid --fork --kill-child --mount-proc sh -c '
    $BIN/ray start --address={address}:6399 --node-ip-address=10.99.0.2 --num-cpus=2 --block >/dev/null 2>&1' &
NODE=$!
sleep 12
"""
KILL_NODE = """(
    until [ $(ls '{results}' 2>/dev/null | wc -l) -gt 24 ]; do sleep 0.2; done
    kill -9 $NODE
    touch {home}/killed
)"""


ALONE: dict[str, Any] = {"network": "", "before": "", "address": "127.0.0.1", "workers": 2}


def ray(folder: Path, count: int, kills: int) -> str:
    """Run items on Ray in a network of its own while actors are killed."""
    if not RAY:
        return NO_RAY
    manifest = write_batch(
        folder / "b.json", [{"artifact_kib": 1 + n % 8, "steps": 4, "step_s": 0.02} for n in range(count)]
    )
    (folder / "killer.py").write_text(KILLER)
    beside = f"{RAY} {folder}/killer.py '{manifest.output}/.work' {kills}"
    run, seconds, _ = _ray(manifest, **ALONE, beside=beside, more="--silence-s 20")
    return _told(run, manifest, f"{kills} actors killed", seconds)


def ray_frames(folder: Path, count: int, kills: int) -> str:
    """Render frames on Ray while Blenders and actors are killed, and compare their pixels with two other engines'."""
    program, shot = Path(sys.executable).with_name("openjd"), _shot(folder)
    if not RAY or shot is None or not program.is_file():
        return f"{NO_RAY}, or openjd or Blender is not installed"
    local, manifest = _local_frames(folder / "local", shot, count), _frames(folder / "ray", shot, count)
    farm = _frames(folder / "farm", shot, count)
    _run_openjd(folder, farm, program, max(count // 4, 1))
    (folder / "killer.py").write_text(BLENDER_KILLER)
    dice, killed, start, code = random.Random(0), 0, time.monotonic(), 75
    while code == 75 or killed < kills:
        if code == 0:  # all done before enough were killed: half of them again
            for item in dice.sample(manifest.items, count // 2):
                manifest.result(item).unlink()
        beside = f"{RAY} {folder}/killer.py {kills - killed} {folder}/killed"
        code = _ray(manifest, **ALONE, beside=beside, more=f"--blender {sys.executable} --retries 20")[0].returncode
        killed += int((folder / "killed").read_text()) if (folder / "killed").is_file() else 0
        (folder / "killed").unlink(missing_ok=True)
        if code not in (0, 75):
            break
    rows = zip(_pixels(local), _pixels(farm), _pixels(manifest), strict=True)
    same = sum(a == b == c and bool(a) for a, b, c in rows)
    told = f"{same} of {count} frames with the pixels of the local engine and of Open Job Description"
    return f"{told}, {killed} kills, exit code {code}, {time.monotonic() - start:.0f} s"


def ray_nodes(folder: Path, count: int) -> str:
    """Run items on two nodes in two networks, one of which is killed in the middle."""
    if not RAY:
        return NO_RAY
    manifest = write_batch(
        folder / "b.json", [{"artifact_kib": 1 + n % 8, "steps": 10, "step_s": 0.05} for n in range(count)]
    )
    cluster = {"network": CABLE, "before": NODE, "address": "10.99.0.1", "beside": KILL_NODE, "workers": 4}
    cluster["more"] = "--silence-s 20"
    run, seconds, killed = _ray(manifest, **cluster)
    return _told(run, manifest, f"node killed: {'yes' if killed else 'NO'}", seconds)


def _told(run: subprocess.CompletedProcess[str], manifest: Manifest, what: str, seconds: float) -> str:
    lost = wrong(manifest)
    said = (run.stderr.strip().splitlines() or ["nothing"])[-1][:120]
    return f"{len(manifest.items)} items, {what}: {lost} lost, exit code {run.returncode}, {seconds:.0f} s ({said})"


def _ray(manifest: Manifest, **words: Any) -> tuple[subprocess.CompletedProcess[str], float, bool]:
    home = Path(tempfile.mkdtemp(prefix="understudy-ray-"))  # Ray's sockets need a short path
    fixed = {"home": home, "python": RAY, "root": ROOT, "manifest": f"'{manifest.path}'"}
    for name in ("before", "beside"):
        for word, value in (("address", words["address"]), ("home", home), ("results", manifest.output)):
            words[name] = words[name].replace(f"{{{word}}}", str(value))
    script = RAY_HEAD.format(**fixed, **words)
    command = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script]
    start = time.monotonic()
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        return run, time.monotonic() - start, (home / "killed").exists()
    finally:
        shutil.rmtree(home, ignore_errors=True)
