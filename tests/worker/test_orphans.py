"""Kills at random moments: nothing is left running, nothing half-written.

The long versions (`-m slow`) do what the short ones do, 200 times.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.protocol.client import WorkerClient
from inference.protocol.folder import JobFolder
from inference.protocol.requests import Order, SelftestRequest
from inference.protocol.watch import JobWatch
from inference.runtime.selftest import ARTIFACT, contents

ROOT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG is Linux's")
IDLE: dict[str, object] = {"steps": 0}
BUSY: dict[str, object] = {"steps": 100_000, "step_s": 0.001}
HOLDING: dict[str, object] = {"steps": 1, "hold_gil_s": 30.0}
NUMBERS = [pytest.param(20), pytest.param(200, marks=pytest.mark.slow)]


class StandIn:
    """A process in Blender's place, with a worker."""

    def __init__(self, folder: Path, request: dict[str, object], *words: str) -> None:
        command = [sys.executable, "-m", "tests.worker.stand_in", str(folder), json.dumps(request), *words]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.worker = int(self.hear())

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def whole_or_absent(folder: Path, kib: int) -> bool:
    path = folder / ARTIFACT
    return not path.exists() or path.read_bytes() == contents(kib)


@LINUX
@pytest.mark.parametrize("request_", [IDLE, BUSY, HOLDING], ids=["idle", "busy", "holding the interpreter"])
def test_the_worker_dies_with_blender(tmp_path, gone_after, request_):
    stand_in = StandIn(tmp_path / "job", request_)
    assert stand_in.hear() == "running" or request_ is IDLE
    time.sleep(0.2)
    stand_in.kill()
    gone_after(stand_in.worker, 3.0)


@LINUX
@pytest.mark.parametrize("count", NUMBERS)
def test_no_worker_outlives_blender_killed_at_any_moment(tmp_path, gone_after, count):
    dice = random.Random(count)
    slowest = 0.0
    for number in range(count):
        request = dice.choice([IDLE, BUSY, HOLDING])
        stand_in = StandIn(tmp_path / str(number), request)
        time.sleep(dice.uniform(0, 0.3))  # from the interpreter's start to the middle of the job
        stand_in.kill()
        slowest = max(slowest, gone_after(stand_in.worker, 3.0))
    assert slowest < 3.0


@LINUX
def test_a_worker_started_from_a_thread_outlives_that_thread_and_dies_with_blender(tmp_path, gone_after):
    stand_in = StandIn(tmp_path / "job", BUSY, "thread")
    assert stand_in.hear() == "running"
    assert stand_in.hear() == "thread ended"
    time.sleep(0.3)
    os.kill(stand_in.worker, 0)
    stand_in.kill()
    gone_after(stand_in.worker, 3.0)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_without_the_kernels_help_the_watchdog_ends_a_worker_that_holds_the_interpreter(tmp_path):
    folder = JobFolder(tmp_path / "job")
    folder.prepare(Order("selftest", SelftestRequest(steps=1, hold_gil_s=30), "run"))
    command = [sys.executable, "-m", "inference", "worker", "--silence-s", "1"]
    with (
        (tmp_path / "out").open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=out, start_new_session=True) as worker,
    ):
        assert worker.stdin
        worker.stdin.write(json.dumps({"protocol": 1, "job": str(folder.path), "run_id": "run"}).encode() + b"\n")
        worker.stdin.flush()
        watch = JobWatch(folder)
        while watch.state != "running":
            watch.poll()
            time.sleep(0.01)
        time.sleep(0.2)  # from here on only native code runs
        worker.stdin.close()
        assert worker.wait(5) != 0
    assert "Timeout" in folder.log_tail()


@LINUX
def test_a_long_native_call_is_left_in_peace_while_blender_lives(tmp_path):
    client = WorkerClient(sys.executable)
    last = client.submit(tmp_path / "job", "selftest", SelftestRequest(steps=1, hold_gil_s=2)).wait(30)
    client.close()
    assert last and last.kind == "done"


@LINUX
@pytest.mark.parametrize("count", NUMBERS)
def test_a_worker_killed_at_any_moment_loses_one_job_and_nothing_else(tmp_path, gone_after, count):
    dice = random.Random(count)
    client = WorkerClient(sys.executable)
    request = SelftestRequest(steps=4, step_s=0.005, artifact_kib=1024)
    start = time.monotonic()
    client.submit(tmp_path / "0", "selftest", request).wait(30)
    span_s = 1.3 * (time.monotonic() - start)  # from the interpreter's start to just after the last word
    kinds = []
    for number in range(count):
        job = client.submit(tmp_path / str(number % 10), "selftest", request)
        pid = client.pid
        assert pid
        wait_until = time.monotonic() + dice.uniform(0, span_s)
        while time.monotonic() < wait_until:
            job.poll()
            time.sleep(0.002)
        os.kill(pid, 9)
        last = job.wait(10)
        gone_after(pid, 3.0)
        while client.pid == pid:  # the process shows as gone a moment before its last thread is
            time.sleep(0.001)
        assert last and last.kind in ("done", "crashed"), last
        assert last.kind == "done" or "SIGKILL" in last["message"]
        assert whole_or_absent(job.folder.path, 1024)
        kinds.append(last.kind)
    assert "crashed" in kinds
    for number in range(10):  # the folders can be used again, and nothing half-written stays
        job = client.submit(tmp_path / str(number), "selftest", request)
        last = job.wait(30)
        assert last and last.kind == "done"
        left = {path.name for path in job.folder.path.rglob("*") if path.is_file()}
        assert left == {"request.json", "events.jsonl", "log.txt", "lock", "selftest.bin"}
    client.close()
