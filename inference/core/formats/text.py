"""Text, JSON and TOML from strangers, read without surprises."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from ...protocol.errors import InputError

MAX_JSON_BYTES = 512 << 20
MAX_TOML_BYTES = 64 << 10
# tomllib takes quadratic time in the parts of a dotted key: 20,000 of them, 40 kB, take nine seconds.
MAX_TOML_LINE = 4 << 10
MAX_TOML_DOTS = 64  # in a line; a 3 x 3 matrix has 9


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """Parse a JSON file.

    Raises:
        InputError: missing, too large, not UTF-8, not JSON, nested too deeply, or holding NaN or Infinity.
    """
    text = read_text(path, limit)
    try:
        return json.loads(text, parse_constant=lambda word: _refuse_constant(path, word))
    except RecursionError as error:
        raise InputError(f"{path.name} is nested too deeply to be keypoints or a calibration.") from error
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON: {str(error)[:160]}.") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: missing, larger than 64 KiB, with a line over 4 KiB or of more than 64 dots, not UTF-8, or not TOML.
    """
    text = read_text(path, MAX_TOML_BYTES)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MAX_TOML_LINE or line.count(".") > MAX_TOML_DOTS:
            raise InputError(
                f"{path.name} has {len(line):,} characters and {line.count('.'):,} dots in line {number}; a "
                f"calibration has at most {MAX_TOML_LINE:,} and {MAX_TOML_DOTS}."
            )
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise InputError(f"{path.name} is nested too deeply to be a calibration.") from error
    except ValueError as error:
        raise InputError(f"{path.name} is not TOML: {str(error)[:160]}.") from error


def read_text(path: Path, limit: int) -> str:
    """Read a file of UTF-8.

    Raises:
        InputError: missing, larger than `limit` bytes, or not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text: byte {error.start} cannot be read as UTF-8.") from error


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file.

    Raises:
        InputError: missing, larger than `limit` bytes, or unreadable.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise InputError(f"{path.name} has {size:,} bytes; at most {limit:,} are read.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def _refuse_constant(path: Path, word: str) -> NoReturn:
    raise InputError(f"{path.name} holds {word} where a number belongs.")
