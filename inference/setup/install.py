"""An environment is made beside the one in use, proven, and swapped in at once; whatever fails, the old one stays.

    environments/
      current.json              which one is used; replaced in one step
      cpu-0123456789abcdef/     named by what is in it
      *.partial/                being made, or left by a kill: removed by the next run
      tools/                    uv, which lays the wheels in

Nothing is built, nothing runs while installing, every file has its hash: `--require-hashes --no-build --no-config`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ..protocol.client import ROOT, clean_environment
from ..protocol.errors import Cancelled, InputError, RequestError, ResourceError, UnderstudyError
from ..protocol.events import Reporter
from ..protocol.files import FileLock, atomic_write_bytes, storage_error
from ..protocol.schema import About
from .recipe import AS_CHOSEN, FOLDER, NOTHING_FOUND, Choice, Option, Recipe, check_disk, choose, look, read_recipe

POINTER = "current.json"
POLL_S = 0.2
SELFTEST_S = 300.0
_TAIL = 700


@dataclass(frozen=True)
class SetupRequest:
    """The environment of inference is installed, privately and without administrator's rights."""

    into: Annotated[Path, About("Folder of the environments.")]
    backend: Annotated[
        Literal["auto", "cpu", "cuda", "rocm", "metal"], About("What it computes on; auto asks the driver.")
    ] = "auto"
    offline: Annotated[Path | None, About("A folder of wheels; nothing is downloaded.")] = None
    python: Annotated[str, About("Python to start from; without it, one of the right version is looked for.")] = ""
    recipe: Annotated[Path | None, About("Folder with setup.toml and its locks; without it, the shipped one.")] = None


def current(folder: Path) -> Path | None:
    """Give the Python of the environment in use; None where none is installed."""
    try:
        table = json.loads((folder / POINTER).read_bytes()[: 1 << 16])
        path = folder / str(table["python"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if path.is_relative_to(folder) and ".." not in path.parts and path.is_file() else None


def run(request: SetupRequest, report: Reporter) -> Path:
    """Install and swap in; give the new environment's Python.

    Raises:
        RequestError: another set-up runs, or nothing is locked for this computer.
        InputError: no base Python, a wheel that is missing offline, or not what was locked.
        ResourceError: disk.
    """
    recipe = read_recipe(request.recipe or FOLDER)
    choice = choose(recipe, request.backend, look())
    folder = request.into.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    lock = FileLock(folder / "setup.lock")
    if not lock.acquire():
        raise RequestError(f"another set-up works in {folder}", "Wait for it to end.", field="into")
    try:
        sweep(folder)
        try:
            return _Installation(request, recipe, choice, report).make()
        except UnderstudyError as error:
            cpu = recipe.find("cpu", look().system)
            if request.backend != "auto" or choice.option.backend == "cpu" or cpu is None or _is_final(error):
                raise
            report.warning("fallback", f"{choice.option.backend} does not work here, cpu is taken: {error.message}")
            return _Installation(request, recipe, Choice(cpu, "the other did not work"), report).make()
    finally:
        for partial in folder.glob("*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        lock.release()


def _is_final(error: UnderstudyError) -> bool:
    return isinstance(error, Cancelled | ResourceError)


def sweep(folder: Path) -> None:
    """Remove what kills left, and environments that are no longer used; call with the lock held."""
    used = current(folder)
    for path in folder.iterdir():
        is_used = used is not None and used.is_relative_to(path)
        is_environment = path.is_dir() and (path.name.endswith(".partial") or (path / "pyvenv.cfg").is_file())
        if is_environment and not is_used and path.name != "tools":
            shutil.rmtree(path, ignore_errors=True)


class _Installation:
    """One environment on its way."""

    def __init__(self, request: SetupRequest, recipe: Recipe, choice: Choice, report: Reporter) -> None:
        self._request = request
        self._recipe = recipe
        self._option: Option = choice.option
        self._report = report
        self._folder = request.into.absolute()
        if choice.option.backend == "cpu" and choice.reason not in (NOTHING_FOUND, AS_CHOSEN):
            report.warning("choice", f"Installing for the processor: {choice.reason}.")

    def make(self) -> Path:
        """Do it all."""
        check_disk(self._folder, self._option)
        name = f"{self._option.backend}-{self._recipe.digest(self._option)}"
        place, partial = self._folder / name, self._folder / f"{name}.{secrets.token_hex(4)}.partial"
        python = place / _INSIDE
        if not python.is_file():
            base = find_base(self._recipe.python, self._request.python)
            uv = self._uv(base)
            self._call(
                [uv, "venv", "--quiet", "--no-config", "--relocatable", "--python", base, str(partial)], "venv", partial
            )
            for lock in self._option.locks:
                self._install(uv, partial, lock)
            self._prove(partial / _INSIDE)
            os.replace(partial, place)
        else:
            self._prove(python)
        pointer = {"python": f"{name}/{_INSIDE}", "backend": self._option.backend, "made": round(time.time())}
        atomic_write_bytes(self._folder / POINTER, json.dumps(pointer, indent=1).encode("ascii") + b"\n")
        return python

    def _uv(self, base: str) -> str:
        """Get the installer itself, by its own lock."""
        tools = self._folder / "tools"
        uv = tools / ("Scripts/uv.exe" if os.name == "nt" else "bin/uv")
        if uv.is_file():
            return str(uv)
        partial = self._folder / f"tools.{secrets.token_hex(4)}.partial"
        self._call([base, "-E", "-s", "-m", "venv", "--clear", str(partial)], "tools", partial)
        python = str(partial / _INSIDE)
        offline = ["--no-index", "--find-links", str(self._request.offline)] if self._request.offline else []
        pip = [python, "-E", "-s", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        self._call(
            [*pip, "--only-binary", ":all:", "--no-deps", *offline, "-r", self._lock(self._recipe.tools)],
            "tools",
            partial,
        )
        shutil.rmtree(tools, ignore_errors=True)
        os.replace(partial, tools)
        return str(uv)

    def _lock(self, name: str) -> str:
        return str(self._recipe.folder / name)

    def _install(self, uv: str, partial: Path, lock: str) -> None:
        index = self._option.indexes.get(lock, "")
        if self._request.offline:
            source = ["--offline", "--no-index", "--find-links", str(self._request.offline)]
        else:
            source = ["--default-index", index] if index else []
        exactly = ["--require-hashes", "--no-build", "--no-config", "--no-deps", "--quiet"]
        command = [uv, "pip", "install", *exactly, *source, "--python", str(partial / _INSIDE), "-r", self._lock(lock)]
        self._call(command, "install", partial)

    def _call(self, command: list[str], stage: str, growing: Path) -> None:
        """Run a program, saying how much of the environment is there; a cancel ends it."""
        log = self._folder / "setup.txt"
        variables = clean_environment() | {"UV_CACHE_DIR": str(self._folder / "cache"), "UV_PYTHON_DOWNLOADS": "never"}
        try:
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command, cwd=self._folder, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
        except OSError as error:
            raise InputError(f"{command[0]} cannot be started: {error.strerror}.") from error
        try:
            while process.poll() is None:
                self._report.progress(stage, _size_mb(growing) if stage == "install" else 0, self._option.disk_mb)
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            raise self._trouble(stage, log.read_text("utf-8", "replace")[-_TAIL:].strip())

    def _trouble(self, stage: str, said: str) -> UnderstudyError:
        words = " ".join(said.split())
        if "No space left" in said or "not enough space" in said:
            return ResourceError(f"The disk is full: {words}", "Free some space and start again.")
        if "hash" in said.lower() and ("mismatch" in said.lower() or "do not match" in said.lower()):
            return InputError(f"A file is not what was locked: {words}", "Do not use it; tell where it came from.")
        hint = "Check the network, or install from a folder of wheels."
        if self._request.offline:
            hint = f"Put what is missing into {self._request.offline}."
        return InputError(f"{stage} failed: {words}", hint)

    def _prove(self, python: Path) -> None:
        """Let the new environment show that it works."""
        self._report.progress("self-test", 0, 1)
        command = [str(python), "-E", "-s", "-X", "utf8", *self._recipe.selftest]
        try:
            result = subprocess.run(
                command, cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=SELFTEST_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"The new environment does not start: {error}.", "The old one is kept.") from error
        if result.returncode:
            said = " ".join((result.stdout + result.stderr).decode("utf-8", "replace").split())[-_TAIL:]
            raise InputError(f"The new environment failed its self-test: {said}", "The old one is kept.")


_INSIDE = "Scripts/python.exe" if os.name == "nt" else "bin/python"


def _size_mb(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - thousands of files
    return total // 1_000_000


def find_base(version: str, chosen: str = "") -> str:
    """Find a Python of `version` that can make environments: the one given, this one, or one on the path.

    Raises:
        InputError: there is none.
    """
    names = [f"python{version}", "python3", "python"]
    places = [chosen] if chosen else [sys.executable, *filter(None, map(shutil.which, names))]
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for place in places:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(
                [place, "-E", "-s", "-c", code], capture_output=True, text=True, timeout=30, check=True
            )
            if said.stdout.strip() == version:
                return place
    hint = f"Install Python {version}, or name one. Blender 4.5 and 5.0 bring it; Blender 5.2 brings a newer one."
    raise InputError(f"No Python {version} with the modules venv and ensurepip was found.", hint)
