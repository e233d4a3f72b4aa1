"""What can be installed, what fits this computer, and what it takes."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..protocol.client import ROOT
from ..protocol.errors import RequestError, ResourceError

FOLDER = ROOT / "requirements"
NAME = "setup.toml"
BACKENDS = ("auto", "cpu", "cuda", "rocm", "metal")
NOTHING_FOUND, AS_CHOSEN = "no accelerator was found", "as chosen"
_PROBE_S = 10.0


@dataclass(frozen=True)
class Option:
    """One way of computing, as `setup.toml` says it."""

    backend: str
    systems: tuple[str, ...]
    locks: tuple[str, ...]
    download_mb: int
    disk_mb: int
    driver: int = 0
    indexes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """All options, what makes them, and what proves them."""

    folder: Path
    python: str
    tools: str
    selftest: tuple[str, ...]
    options: tuple[Option, ...]

    def find(self, backend: str, system: str) -> Option | None:
        """Look up what installs a way of computing on a system."""
        return next((each for each in self.options if each.backend == backend and system in each.systems), None)

    def digest(self, option: Option) -> str:
        """Name an environment by everything that goes into it."""
        total = hashlib.sha256(self.python.encode())
        for lock in option.locks:
            total.update((self.folder / lock).read_bytes())
        return total.hexdigest()[:16]


@dataclass(frozen=True)
class Choice:
    """What is installed here and why it is this."""

    option: Option
    reason: str


@dataclass(frozen=True)
class Hardware:
    """What decides: the system, NVIDIA's driver (0: none), whether AMD's compute driver is there."""

    system: str
    nvidia_driver: int = 0
    has_amd: bool = False


def read_recipe(folder: Path = FOLDER) -> Recipe:
    """Read `setup.toml` of a folder.

    Raises:
        RequestError: it is missing or damaged.
    """
    try:
        table: dict[str, Any] = tomllib.loads((folder / NAME).read_text(encoding="utf-8"))
        options = [_option(name, value) for name, value in table.items() if isinstance(value, dict)]
        return Recipe(folder, table["python"], table["tools"], tuple(table["selftest"]), tuple(options))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{folder / NAME} cannot be read: {error}", "Install the extension again.") from error


def _option(name: str, table: dict[str, Any]) -> Option:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Option(**{"backend": name, **values})


def look() -> Hardware:
    """Find out what this computer has, without importing anything that needs it."""
    kinds = {"win32": "windows", "darwin": "macos"}
    system = f"{kinds.get(sys.platform, 'linux')}-{platform.machine().lower()}"
    return Hardware(system, _nvidia_driver(), Path("/dev/kfd").exists())


def _nvidia_driver() -> int:
    """Give the major version of NVIDIA's driver; 0 where there is none, or no card that it sees."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=True).stdout
        found = re.match(r"\s*(\d+)\.", said)
        return int(found[1]) if found else 0
    return 0


def choose(recipe: Recipe, wanted: str, hardware: Hardware) -> Choice:
    """Pick the environment for a computer.

    Raises:
        RequestError: nothing is locked for this system, or not for what is wanted.
    """
    cpu = recipe.find("cpu", hardware.system)
    if wanted == "auto":
        return _automatic(recipe, hardware, cpu)
    option = recipe.find(wanted, hardware.system)
    if option is None:
        hint = "Choose auto or cpu, or make an environment by hand and set its Python in the preferences."
        raise RequestError(f"{wanted} is not locked for {hardware.system}", hint, field="backend")
    return Choice(option, AS_CHOSEN)


def _automatic(recipe: Recipe, hardware: Hardware, cpu: Option | None) -> Choice:
    metal, cuda = recipe.find("metal", hardware.system), recipe.find("cuda", hardware.system)
    reason = NOTHING_FOUND
    if metal:
        return Choice(metal, "an Apple processor")
    if cuda and hardware.nvidia_driver >= cuda.driver:
        return Choice(cuda, f"NVIDIA's driver {hardware.nvidia_driver}")
    if cuda and hardware.nvidia_driver:
        reason = f"NVIDIA's driver {hardware.nvidia_driver} is older than {cuda.driver}: update it to use the card"
    elif hardware.nvidia_driver:
        reason = f"no environment for NVIDIA's cards is locked for {hardware.system} yet"
    elif hardware.has_amd:
        reason = "no environment for AMD's cards is locked yet"
    if cpu is None:
        hint = "Make an environment by hand (requirements/inference.lock) and set its Python in the preferences."
        raise RequestError(f"nothing is locked for {hardware.system}", hint, field="backend")
    return Choice(cpu, reason)


def check_disk(folder: Path, option: Option) -> int:
    """Give the free MB where an environment would go.

    Raises:
        ResourceError: there is less than twice what it takes.
    """
    place = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(place).free // 1_000_000
    if free < 2 * option.disk_mb:
        text = f"{free / 1000:.1f} GB are free in {place}; {2 * option.disk_mb / 1000:.1f} are needed while installing."
        raise ResourceError(text, "Free some disk space, or choose another folder.")
    return free


def describe(choice: Choice) -> str:
    """Say what will be installed and what it takes."""
    option = choice.option
    sizes = f"{option.download_mb / 1000:.1f} GB to download, {option.disk_mb / 1000:.1f} GB on disk"
    return f"{option.backend} ({choice.reason}): {sizes}"
