from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.protocol.client import WorkerClient


@pytest.fixture
def client() -> Iterator[WorkerClient]:
    """A client whose cancels press on after half a second."""
    client = WorkerClient(sys.executable, app="tests", grace_s=0.5)
    yield client
    client.close()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        pass
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@pytest.fixture
def gone_after() -> Callable[[int, float], float]:
    """Wait for a process to end, and give the seconds it took; fails after the limit."""

    def wait(pid: int, limit_s: float) -> float:
        start = time.monotonic()
        while _is_alive(pid):
            assert time.monotonic() - start < limit_s, f"process {pid} lives after {limit_s} s"
            time.sleep(0.005)
        return time.monotonic() - start

    return wait
