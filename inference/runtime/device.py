"""Where networks run: the accelerator if there is one, and this process' fair share of the cores."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from ..protocol.errors import RequestError

CPUS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Device:
    """A choice: torch's name of the device, its human name, and the processor threads."""

    name: str
    label: str
    threads: int


def let_idle_threads_sleep() -> None:
    """Ask OpenMP not to spin where a thread waits for the others; call before torch is imported.

    Spinning gains microseconds on an idle machine. Where other programs have a core of those that torch counts on, a
    lift of 12 frames takes 0.7 s instead of 0.01.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def set_threads(threads: int = 0) -> int:
    """Set OpenCV's threads, which resize, draw and encode; 0 for the physical cores that this process may use."""
    import cv2

    count = threads or physical_cores()
    cv2.setNumThreads(count)
    return count


def choose(wanted: str = "auto", threads: int = 0) -> Device:
    """Pick a device and set the threads of torch and OpenCV.

    Args:
        wanted: "auto", "cpu" or "cuda".
        threads: 0 for the physical cores that this process may use.
    Raises:
        RequestError: CUDA is asked for and is not there.
    """
    import torch

    count = set_threads(threads)
    torch.set_num_threads(count)
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return Device("cpu", f"processor, {count} threads", count)
    if not torch.cuda.is_available():
        raise RequestError(f"torch {torch.__version__} sees no CUDA device", "Use auto or cpu.", field="device")
    return Device("cuda", torch.cuda.get_device_name(), count)


def physical_cores() -> int:
    """Count the physical cores that this process may use, at least 1.

    Two threads on one core slow matrix products down, and so do more threads than a container's quota.
    """
    logical = _allowed()
    cores = {_siblings(cpu) for cpu in logical}
    return max(1, min(len(cores), math.ceil(_quota(len(logical)))))


def _allowed() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _siblings(cpu: int) -> str:
    try:
        return (CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:  # not Linux, or hidden: each counts
        return str(cpu)


def _quota(count: int) -> float:
    try:
        limit, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    return count if limit == "max" else int(limit) / int(period)
