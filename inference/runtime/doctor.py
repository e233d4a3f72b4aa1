"""Says whether this environment can work, and what to do where it cannot."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..protocol.client import WorkerClient
from ..protocol.errors import EXIT_BUG, EXIT_DONE, ResourceError, UnderstudyError, WeightsError
from ..protocol.requests import PROTOCOL, SelftestRequest
from ..setup import recipe
from . import device, selftest, weights

PACKAGES = ("torch", "numpy", "scipy", "mediapipe", "protobuf", "opencv-contrib-python", "av", "safetensors")
MIN_DISK_GIB = 2.0
MIN_MEMORY_GIB = 2.0
WORKER_TIMEOUT_S = 60.0
GOLDEN_MM = 1.0
SET_UP = "Press Set Up Inference in the preferences; in a checkout: build_addon.py env."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `code` is the exit code where it is not well."""

    name: str
    verdict: str  # "ok", "missing" or "bad"
    text: str
    hint: str = ""
    code: int = EXIT_DONE


def examine(*, golden: bool = False) -> list[Finding]:
    """Look at everything, layer by layer; takes a few seconds.

    Args:
        golden: also compute something whose result is known.
    """
    looks: list[Callable[[], list[Finding]]] = [
        _platform, _driver, _packages, _device, _weights, _disk, _memory, _worker
    ]  # fmt: skip
    looks += [_golden] if golden else []
    return [finding for look in looks for finding in look()]


def exit_code(findings: list[Finding]) -> int:
    """Give the exit code of the first thing that is not well."""
    return next((finding.code for finding in findings if finding.code), EXIT_DONE)


def _platform() -> list[Finding]:
    text = f"{platform.python_version()} on {platform.platform()}, protocol {PROTOCOL}"
    return [Finding("python", "ok", text)]


def _driver() -> list[Finding]:
    """Compare the computer's accelerator with what torch was built for."""
    hardware = recipe.look()
    if not hardware.nvidia_driver:
        none = "none of a graphics card that computes"
        told = "AMD's compute driver; no environment is locked for it" if hardware.has_amd else none
        return [Finding("driver", "ok", told)]
    text = f"NVIDIA's, {hardware.nvidia_driver}"
    try:
        import torch
    except ImportError:
        return [Finding("driver", "ok", text)]
    built = torch.version.cuda or ""
    if built and not torch.cuda.is_available():
        hint = "Update the driver, or set up inference for the processor."
        return [Finding("driver", "bad", f"{text}; torch is built for CUDA {built} and sees no card", hint, EXIT_BUG)]
    return [Finding("driver", "ok", text + (f", CUDA {built}" if built else "; torch computes on the processor"))]


def _golden() -> list[Finding]:
    from .golden import difference_mm

    try:
        difference = difference_mm()
    except (ImportError, UnderstudyError) as error:
        return [Finding("golden", "bad", str(error), "Set up inference again.", EXIT_BUG)]
    if difference > GOLDEN_MM:
        text = f"a known pose comes out {difference:.2f} mm off; at most {GOLDEN_MM:g} are expected"
        return [Finding("golden", "bad", text, "Set up inference again, for the processor.", EXIT_BUG)]
    return [Finding("golden", "ok", f"a known pose comes out {difference:.3f} mm off")]


def _packages() -> list[Finding]:
    return [_package(name) for name in PACKAGES]


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", "not installed", SET_UP, EXIT_BUG)


def _device() -> list[Finding]:
    try:
        return [Finding("device", "ok", device.choose().label)]
    except ImportError as error:
        return [Finding("device", "bad", str(error), SET_UP, EXIT_BUG)]


def _weights() -> list[Finding]:
    try:
        known = weights.registry()
    except WeightsError as error:
        return [_bad("weights", error)]
    if not known:
        return [_bad("weights", WeightsError("None are published in this checkout.", weights.HINT))]
    return [_one_weight(entry) for entry in known.values()]


def _one_weight(entry: weights.Weights) -> Finding:
    try:
        weights.check(entry, weights.FOLDER / entry.file)
    except WeightsError as error:
        return _bad("weights", error)
    return Finding("weights", "ok", f"{entry.name}: {entry.bytes / 1e6:.1f} MB, {entry.licence}")


def _bad(name: str, error: UnderstudyError) -> Finding:
    return Finding(name, "bad", error.message, error.hint, error.exit_code)


def _disk() -> list[Finding]:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 2**30
    return [_enough("disk", free, MIN_DISK_GIB, f"free in {folder}")]


def _memory() -> list[Finding]:
    available = available_memory()
    return [] if available is None else [_enough("memory", available / 2**30, MIN_MEMORY_GIB, "available")]


def _enough(name: str, gib: float, least: float, where: str) -> Finding:
    text = f"{gib:.1f} GiB {where}"
    if gib >= least:
        return Finding(name, "ok", text)
    return Finding(name, "bad", f"{text}; at least {least:g} are needed", "Free some.", ResourceError.exit_code)


def available_memory() -> int | None:
    """Give the bytes that can still be taken, or None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines)
    available = int(values["MemAvailable"].split()[0]) * 1024
    try:  # a container may have less than the machine
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return available
    return min(available, max(limit - used, 0))


def _worker() -> list[Finding]:
    """Start a real worker, let it do one job well and one badly, and see whether both are told rightly."""
    client = WorkerClient(sys.executable, app="doctor")
    with tempfile.TemporaryDirectory(prefix="understudy-", ignore_cleanup_errors=True) as folder:
        try:
            return [_good_job(client, Path(folder, "good")), _bad_job(client, Path(folder, "bad"))]
        except UnderstudyError as error:
            return [_bad("worker", error)]
        finally:
            client.close()


def _good_job(client: WorkerClient, folder: Path) -> Finding:
    request = SelftestRequest(print_kib=64)
    job = client.submit(folder, "selftest", request)
    last = job.wait(WORKER_TIMEOUT_S)
    if last is None:
        return Finding("worker", "bad", f"no answer in {WORKER_TIMEOUT_S:.0f} s", "", EXIT_BUG)
    if last.kind != "done":
        said = os.linesep.join(str(value) for value in last.values.values())
        return Finding("worker", "bad", f"{last.kind}: {said}", "", EXIT_BUG)
    if (folder / selftest.ARTIFACT).read_bytes() != selftest.contents(request.artifact_kib):
        return Finding("worker", "bad", "its artifact is damaged", "", EXIT_BUG)
    return Finding("worker", "ok", "starts, works, writes")


def _bad_job(client: WorkerClient, folder: Path) -> Finding:
    last = client.submit(folder, "selftest", SelftestRequest(fault="abort")).wait(WORKER_TIMEOUT_S)
    if last is None or last.kind != "crashed":
        return Finding("worker", "bad", f"a crash is told as {last.kind if last else 'nothing'}", "", EXIT_BUG)
    return Finding("worker", "ok", "a crash is told as such")
