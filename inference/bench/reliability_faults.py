"""Kills, hangs, memory, disks and hostile files, with the product's own processes."""

# ruff: noqa: S311 - no secrets

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ..batch.manifest import Manifest, read_manifest
from ..protocol.client import WorkerClient
from ..protocol.requests import SelftestRequest
from ..runtime.selftest import ARTIFACT, contents

ROOT = Path(__file__).resolve().parents[2]
INFERENCE = [sys.executable, "-m", "inference"]
FAULTS = ("abort", "exit", "memory", "error", "hang", "hold")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGSTOP)
LEFT_S = 3.0


def write_batch(path: Path, requests: list[dict[str, Any]], output: str = "results") -> Manifest:
    """Write a batch of jobs whose results are known, in a folder whose names are odd."""
    items = [{"out": f"é 日本 ({n})", "task": "selftest", "request": request} for n, request in enumerate(requests)]
    table = {"format": "understudy-batch", "version": 1, "program": "inference", "output": output, "items": items}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table), encoding="utf-8")
    return read_manifest(path)


def wrong(manifest: Manifest) -> int:
    """Count the items whose result is not there or not what it must be."""
    return sum(not _is_right(manifest.result(item) / ARTIFACT, item.request) for item in manifest.items)


def _is_right(file: Path, request: dict[str, Any]) -> bool:
    return file.is_file() and file.read_bytes() == contents(request.get("artifact_kib", 4))


def children(pid: int) -> set[int]:
    """Give the living children of a process."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.add(int(entry.parent.name))
    return found


def descendants(pid: int) -> set[int]:
    """Give the living children of a process and theirs."""
    found = children(pid)
    return found | {each for child in found for each in descendants(child)}


def naming(word: str) -> set[int]:
    """Give the processes whose command line names a folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in entry.read_bytes():
                found.add(int(entry.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def left_after(pids: set[int], seconds: float = LEFT_S) -> int:
    """Count the processes that still live when the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(is_alive, pids)):
        time.sleep(0.01)
    return sum(map(is_alive, pids))


def chaos(folder: Path, *, seeds: int, jobs: int) -> str:
    """Jobs that fail by themselves and are signalled from outside, until all are done or told as failed."""
    total: Counter[str] = Counter()
    for seed in range(seeds):
        total += _one_chaos(folder / str(seed), random.Random(seed), jobs)
    parts = [f"{total[name]} {name}" for name in ("lost", "wrong", "orphans", "temporary")]
    return f"{seeds} x {jobs} jobs, {total['faults']} faults, {total['signals']} signals: {', '.join(parts)}"


def _one_chaos(folder: Path, dice: random.Random, jobs: int) -> Counter[str]:
    requests: list[dict[str, Any]] = []
    marks = folder / "marks"
    marks.mkdir(parents=True)
    for number in range(jobs):
        request: dict[str, Any] = {"artifact_kib": 1 + number % 8, "steps": dice.randint(1, 5), "step_s": 0.01}
        if dice.random() < 0.55:
            request |= {"fault": dice.choice(FAULTS), "once": str(marks / str(number))}
        requests.append(request)
    manifest = write_batch(folder / "batch é.json", requests)
    seen: set[int] = set()
    signals = 0
    for _ in range(12):  # an engine gives the command again
        words = [
            "batch",
            "run",
            manifest.path,
            "--workers",
            "2",
            "--silence-s",
            "1.5",
            "--progress",
            "none",
            "--retry-failed",
        ]
        with subprocess.Popen([*INFERENCE, *map(str, words)], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
            signals += _molest(process, dice, seen, most=4 * jobs // 3 - signals)
        if process.returncode == 0:
            break
    orphans = left_after(seen)
    temporary = [path for path in manifest.output.rglob("*.tmp")] + [  # noqa: C416
        path for path in (manifest.output / ".work").iterdir() if path.suffix != ".lock"
    ]
    lost = sum(not manifest.result(item).is_dir() for item in manifest.items)
    found = {"lost": lost, "wrong": wrong(manifest) - lost, "orphans": orphans, "temporary": len(temporary)}
    return Counter({**found, "faults": len(list(marks.iterdir())), "signals": signals})


def _molest(process: subprocess.Popen[bytes], dice: random.Random, seen: set[int], *, most: int) -> int:
    """Signal a worker now and then until the supervisor ends; give the number of signals.

    Args:
        most: signals are sent no oftener, since on a slow machine the last item's worker would never come to work.
    """
    signals = 0
    while process.poll() is None:
        time.sleep(dice.uniform(0.1, 0.5))
        workers = children(process.pid)
        seen |= workers
        if workers and signals < most:
            with contextlib.suppress(OSError):
                os.kill(dice.choice(sorted(workers)), dice.choice(SIGNALS))
                signals += 1
    return signals


BLENDER = """
import sys, time, types
from pathlib import Path
import bpy
package = types.ModuleType("understudy")
package.__path__ = [sys.argv[1]]
sys.modules["understudy"] = package
from understudy.blender_addon import register
from understudy.inference.protocol.requests import SelftestRequest
from understudy.operators.session import SESSION
register()
how, folder = sys.argv[2], Path(sys.argv[3])
request = {"idle": {"steps": 0}, "busy": {"steps": 100000, "step_s": 0.001}, "hold": {"hold_gil_s": 60.0}}.get(how)
if request is None:
    SESSION.launch("batch", ["batch", "run", str(folder / "b.json"), "--job", str(folder / "job")], folder / "job")
else:
    SESSION.start("selftest", SelftestRequest(**request), folder=folder / "job")
sys.stdout.write("ready\\n")
sys.stdout.flush()
while True:
    SESSION.pump()
    time.sleep(0.05)
"""


def parent_kills(folder: Path, count: int) -> str:
    """Kill Blender, with the add-on in it, while its worker starts, is idle, busy, in native code, or has its own."""
    if importlib.util.find_spec("bpy") is None:
        return "no Blender as a module here"
    dice, left, slowest, seen = random.Random(count), 0, 0.0, 0
    variables = os.environ | {"UNDERSTUDY_PYTHON": sys.executable, "BLENDER_USER_RESOURCES": str(folder / "user")}
    for number in range(count):
        how = ("idle", "busy", "hold", "batch")[number % 4]
        place = folder / str(number)
        if how == "batch":
            write_batch(place / "b.json", [{"steps": 1000, "step_s": 0.01}] * 4)
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-c", BLENDER, str(ROOT), how, str(place)]
        with subprocess.Popen(command, cwd=place, env=variables, stdout=subprocess.PIPE) as process:
            assert process.stdout
            said = any(line == b"ready\n" for line in process.stdout)  # Blender prints words of its own
            assert said, f"Blender ended with code {process.wait()}"
            while number % 8 >= 4 and not any(
                place.rglob("results/**/events.jsonl" if how == "batch" else "events.jsonl")
            ):
                time.sleep(0.02)
            time.sleep(dice.uniform(0, 0.5))  # of the first four of eight, the worker still starts
            theirs = descendants(process.pid)
            process.kill()
            start = time.monotonic()
        theirs |= naming(f"{place}/")  # what was started since
        seen += len(theirs)
        left += left_after(theirs)
        slowest = max(slowest, time.monotonic() - start)
    gone = f"{left} left after {LEFT_S:g} s, slowest gone after {slowest:.2f} s"
    return f"{count} kills: {gone}, of {seen} processes below Blender"


EATER = """
import os, sys
from pathlib import Path
Path(sys.argv[1], "tasks" if Path(sys.argv[1], "tasks").exists() else "cgroup.procs").write_text(str(os.getpid()))
ours = bytearray(os.urandom(1 << 20) * 150)
from inference.protocol.client import WorkerClient
from inference.protocol.requests import SelftestRequest
client = WorkerClient(sys.executable)
last = client.submit(sys.argv[2], "selftest", SelftestRequest(artifact_kib=900_000)).wait(60)
client.close()
print(last.kind, last.values.get("message", ""), flush=True)
"""


def memory(folder: Path, count: int) -> str:
    """Let a worker grow in a control group of 400 MB beside a process of 150 MB in Blender's place."""
    group = next((Path(top) for top in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup") if Path(top).is_dir()), None)
    place = group / f"understudy-{os.getpid()}" if group else None
    try:
        if place is None:
            raise OSError
        place.mkdir()
        limit = "memory.limit_in_bytes" if (place / "memory.limit_in_bytes").exists() else "memory.max"
        (place / limit).write_text(str(400 << 20))
    except OSError:
        return "no control group can be made here"
    killed = told = 0
    for number in range(count):
        command = [sys.executable, "-c", EATER, str(place), str(folder / str(number))]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        killed += run.returncode < 0
        told += "memory ran out" in run.stdout.lower()
    time.sleep(0.2)
    with contextlib.suppress(OSError):
        place.rmdir()
    return f"{count} exhaustions: Blender killed {killed}, told as memory {told}"


def cancels(folder: Path, count: int) -> str:
    """Cancel jobs that step, sleep or hold the interpreter, at random moments."""
    dice, slowest_call, slowest_free, partial = random.Random(1), 0.0, 0.0, 0
    client = WorkerClient(sys.executable)
    kinds = (
        SelftestRequest(steps=100_000, step_s=0.001, artifact_kib=64),
        SelftestRequest(steps=1, step_s=60.0),
        SelftestRequest(steps=1, hold_gil_s=60.0),
    )
    for number in range(count):
        job = client.submit(folder / str(number), "selftest", dice.choice(kinds))
        _poll_until(job, dice.uniform(0.0, 0.4))
        start = time.monotonic()
        job.cancel()
        slowest_call = max(slowest_call, time.monotonic() - start)
        while job.last is None:
            job.poll()
            time.sleep(0.01)
        slowest_free = max(slowest_free, time.monotonic() - start)
        partial += any(path.name.endswith(".tmp") for path in job.folder.artifacts.glob("*"))
    client.close()
    return f"{count}: answered in {slowest_call:.3f} s, free in {slowest_free:.2f} s, {partial} half-made"


def _poll_until(job: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job.poll()
        time.sleep(0.01)


def full_disks(folder: Path, count: int) -> str:
    """Let batches overflow a disk of 1 MiB that holds an older result."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return "mounting is not allowed here"
    try:
        old = write_batch(folder / "b.json", [{"artifact_kib": 100}], str(disk))
        first = _run_batch(old)
        damaged, told = 0, 0
        for number in range(count):
            larger = write_batch(folder / "b.json", [{"artifact_kib": 950 + number}], str(disk))
            run = _run_batch(larger)
            told += run.returncode == 75 and ("disk" in run.stderr or "written" in run.stderr)
            damaged += wrong(old)
        return f"{count}: {damaged + (first.returncode != 0)} old results damaged, {told} told in a sentence"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _run_batch(manifest: Manifest) -> subprocess.CompletedProcess[str]:
    words = ["batch", "run", str(manifest.path), "--retries", "0"]
    return subprocess.run([*INFERENCE, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def _hostile(module: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", f"tests.hostile.{module}", *map(str, words)]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def malformed(folder: Path) -> str:
    """Read the corpus of malformed files."""
    corpus, work = folder / "corpus", folder / "work"
    work.mkdir()
    _hostile("corpus", corpus, cwd=folder)
    files = refused = 0
    slowest, most = 0.0, 0
    readers = [(kind.name, kind) for kind in sorted(corpus.iterdir())]
    readers += [(f"blender_{kind}", corpus / kind) for kind in _through_blender()]
    for reader, kind in readers:
        rows = [json.loads(line) for line in _hostile("readers", reader, kind, cwd=work).stdout.splitlines()]
        found = [row for row in rows if "outcome" in row]
        files += len(list(kind.iterdir()))
        refused += sum(row["outcome"] == "refused" for row in found)
        slowest = max(slowest, *(row["seconds"] for row in found))
        most = max(most, *(row["bytes"] for row in found))
    fired = len(list(work.iterdir()))
    return f"{files} files: {refused} refused, slowest {slowest:.2f} s, most {most >> 20} MiB, {fired} canaries"


def _through_blender() -> tuple[str, ...]:
    """Kinds that are also read to the end, by Blender, where it is installed as a module."""
    return ("bvh", "fbx") if importlib.util.find_spec("bpy") else ()


def fuzz(folder: Path, seconds: float) -> str:
    """Mutate good files of each parser for a while."""
    _hostile("corpus", folder / "corpus", cwd=folder)
    work = folder / "work"
    work.mkdir()
    inputs, bad = 0, []
    kinds = sorted({path.name for path in (folder / "corpus").iterdir()} - {"calibration_json"})
    kinds += [f"blender_{kind}" for kind in _through_blender()]
    for kind in kinds:
        lines = _hostile("fuzz", kind, seconds, cwd=work).stdout.splitlines()
        found = json.loads(lines[-1]) if lines else {"inputs": 0, "bad": ["died"], "strange": []}
        inputs += found["inputs"]
        bad += [f"{kind}: {text}" for text in (*found["bad"], *found["strange"])]
    return f"{len(kinds)} parsers, {seconds:g} s each, {inputs:,} inputs: " + ("; ".join(bad[:3]) or "clean")


def in_background(work: Any) -> threading.Thread:
    """Start work beside this thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
