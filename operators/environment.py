"""Where the networks live: the Python of the inference environment, and whether it works."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import bpy

from ..inference.protocol.client import ROOT as PACKAGE
from ..inference.protocol.client import clean_environment, command_line
from ..inference.protocol.errors import InputError
from .base import ROOT, preference

VARIABLE = "UNDERSTUDY_PYTHON"
_NEEDED = ("torch", "mediapipe")
_HINT = "Press Set Up Inference in the add-on's preferences, or set the Python of an environment there."


def find_python() -> Path:
    """Choose the inference environment's Python.

    Preference, environment variable, the one that was set up, `.venv` beside, or this one.

    Raises:
        InputError: there is none.
    """
    chosen = preference("python", "") or os.environ.get(VARIABLE, "")
    if chosen:
        path = Path(bpy.path.abspath(chosen))
        if not path.is_file():
            raise InputError(f"There is no Python at {path}.", _HINT)
        return path
    from ..inference.setup.install import current

    installed = current(environments_folder())
    if installed:
        return installed
    beside = next((path for path in _beside(PACKAGE) if path.is_file()), None)
    if beside:
        return beside
    if all(importlib.util.find_spec(name) for name in _NEEDED):  # the bpy module inside that very environment
        return Path(sys.executable)
    raise InputError("No inference environment was found.", _HINT)


def user_folder(name: str) -> Path:
    """Give a folder for files of this add-on outside the add-on; it need not exist yet."""
    if ROOT.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(ROOT, path=name))
    return Path(tempfile.gettempdir()) / "understudy" / name


def environments_folder() -> Path:
    """Where *Set Up Inference* installs."""
    return user_folder("environments")


def output_folder() -> Path:
    """Choose where new jobs go: preference, `understudy` beside a saved file, or the add-on's own folder."""
    chosen = preference("output", "")
    if chosen and (bpy.data.filepath or not chosen.startswith("//")):
        return Path(bpy.path.abspath(chosen))
    if bpy.data.filepath:
        return Path(bpy.path.abspath("//understudy"))
    return user_folder("jobs")


@dataclass
class Run:
    """A run of `python -m inference ...` that does not hold Blender up; `close` it early, or ask until it has ended."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]

    @classmethod
    def start(cls, python: Path, *words: str) -> Run:
        """Begin it.

        Raises:
            InputError: the file is not a program.
        """
        output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            process = subprocess.Popen(
                command_line(python, *words), cwd=PACKAGE, env=clean_environment(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except OSError as error:
            output.close()
            errors.close()
            raise InputError(f"{python} does not start: {error.strerror}.", _HINT) from error
        return cls(process, output, errors)

    def result(self) -> tuple[int, str, str] | None:
        """Its exit code, what it put out and what it said of errors, once it is over; None before."""
        code = self.process.poll()
        if code is None:
            return None
        texts = []
        for stream in (self.output, self.errors):
            stream.seek(0)
            texts.append(stream.read(1 << 20).decode("utf-8", "replace"))
        self.close()
        return code, texts[0], texts[1]

    def close(self) -> None:
        """End it where it still runs."""
        self.process.kill()
        self.process.wait()
        self.output.close()
        self.errors.close()


@dataclass
class Check:
    """A run of `python -m inference doctor --json`."""

    run: Run

    @classmethod
    def start(cls, python: Path) -> Check:
        """Begin the check.

        Raises:
            InputError: the file is not a program.
        """
        return cls(Run.start(python, "doctor", "--json"))

    def result(self) -> tuple[bool, list[str]] | None:
        """Whether all is well and what to show, once the check is over; None before."""
        ended = self.run.result()
        if ended is None:
            return None
        code, text, _ = ended
        return code == 0, _lines(text) or [f"The environment's Python left with code {code} and no word."]

    def stop(self) -> None:
        """End the check early."""
        self.run.close()


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder / ".venv" / "bin" / "python", folder / ".venv" / "Scripts" / "python.exe"


def _lines(text: str) -> list[str]:
    """Turn the doctor's findings into lines, trouble first, what helps once; of what is not JSON the end is shown."""
    try:
        findings = sorted(json.loads(text), key=lambda finding: (finding["verdict"] == "ok", finding["hint"]))
        lines = []
        for hint, group in itertools.groupby(findings, key=lambda finding: finding["hint"]):
            lines += [f"{finding['name']}: {finding['text']}" for finding in group]
            lines += [f"    {hint}"] if hint else []
        return lines
    except (ValueError, RecursionError, KeyError, TypeError):
        return text.strip().splitlines()[-4:]
