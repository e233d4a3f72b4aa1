"""What stands beside each result: how it was made, or why it could not be.

    walk/              the result, whole or absent
    walk.json          written after it: its key, the sha256 of each file, versions, times
    walk.error.json    in their place where the item failed: what, why, and whether another try may help
    .work/             what is being made, and one lock for each item

An item's key is the sha256 of what determines its result: the contents of its input files, its settings, the published
weights and the version of Understudy. A result is done where its record parses, bears that key, and the files hash to
what it says; dates play no part, so a copy on another disk counts.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..protocol import schema
from ..protocol.client import ROOT
from ..protocol.errors import InputError, ResourceError, UnderstudyError
from ..protocol.files import FileLock, atomic_path, storage_error
from ..runtime import weights
from .manifest import Item, Manifest

VERSION = 1
WORK = ".work"
MAX_RECORD_BYTES = 16 << 20
MAX_INPUT_FILES = 200_000
# What a job folder holds besides results: it may change when somebody looks, or with the hour.
PASSING = frozenset({"lock", "log.txt", "events.jsonl", "request.json", "cancel", "record", "stop", "live.bin"})
IRRELEVANT = frozenset({"threads"})  # settings that say how, not what
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class State:
    """How it stands with an item: "done", "failed" or "open", and for failures why."""

    word: str
    message: str = ""
    is_retryable: bool = False


@functools.cache
def version() -> str:
    """Give the version of this package."""
    for file in (ROOT / "pyproject.toml", ROOT / "blender_manifest.toml"):
        with contextlib.suppress(OSError):
            found = re.search(r'^version = "([^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                return found[1]
    return "unknown"


def _digested(value: Any) -> Any:
    if isinstance(value, Path):
        return digest(value)
    return [_digested(part) for part in value] if isinstance(value, tuple) else value


def digest(path: Path) -> str:
    """Give the sha256 of a file's content, or of the names and contents in a folder.

    Raises:
        InputError: it is missing, or holds more than 200,000 files.
    """
    try:
        if not path.is_dir():
            return _hash(path)
        total = hashlib.sha256()
        for name, file in _files(path, MAX_INPUT_FILES):
            total.update(f"{name}\0{_hash(file)}\n".encode(errors="surrogatepass"))
        return total.hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Put the file back, or plan again.") from error


def _hash(file: Path) -> str:
    status = file.stat()
    return _hash_once(os.fspath(file), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _hash_once(file: str, size: int, changed_ns: int) -> str:
    del size, changed_ns  # within this process a file that kept them is not read again
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(folder: Path, limit: int) -> list[tuple[str, Path]]:
    """Names relative to the folder, sorted, and the files; links and hidden files are left out."""
    found, before = [], len(os.path.join(folder, ""))  # noqa: PTH118 - of each result: paths are slow
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = os.path.join(place, name)  # noqa: PTH118
            if not name.startswith(".") and not os.path.islink(file):  # noqa: PTH114
                found.append((file[before:].replace(os.sep, "/"), Path(file)))
        if len(found) > limit:
            raise InputError(f"{folder} holds more than {limit:,} files.", "Give the folder of one clip.")
    return sorted(found)


class Records:
    """The results of a batch and what is known of them."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.work = manifest.output / WORK
        self._weights: dict[str, Any] = {}
        if manifest.program == "inference":
            self._weights["weights"] = {name: entry.sha256 for name, entry in weights.registry().items()}

    def key_of(self, item: Item) -> str:
        """Give the sha256 of all that determines an item's result.

        Raises:
            RequestError: its request is wrong.
            InputError: one of its files is missing.
        """
        request = self.manifest.request(item)
        settings = {
            setting.name: _digested(getattr(request, setting.name))
            for setting in schema.read(type(request))
            if setting.name not in IRRELEVANT
        }
        said = {"task": item.task, "settings": settings, "version": version(), "record": VERSION, **self._weights}
        return hashlib.sha256(json.dumps(said, sort_keys=True, allow_nan=False).encode("ascii")).hexdigest()

    def state(self, item: Item, key: str) -> State:
        """Tell how it stands with an item, by the files alone."""
        record = _read(self.record_file(item))
        if record and record.get("key") == key and self._agrees(item, record.get("files")):
            return State("done")
        error = _read(self.error_file(item))
        if error and error.get("key") == key:
            return State("failed", str(error.get("message", ""))[:2000], bool(error.get("retryable")))
        return State("open")

    def _agrees(self, item: Item, files: Any) -> bool:
        result = self.manifest.result(item)
        if not isinstance(files, dict) or not files:
            return False
        try:
            if item.is_file:
                return set(files) == {""} and _hash(result) == files[""]
            return all(_is_inside(name) and _hash(result / name) == files[name] for name in files)
        except OSError:
            return False

    def record_file(self, item: Item) -> Path:
        """Where it stands how an item's result was made."""
        result = self.manifest.result(item)
        return result.with_name(f"{result.name}.json")

    def error_file(self, item: Item) -> Path:
        """Where it stands why an item failed."""
        result = self.manifest.result(item)
        return result.with_name(f"{result.name}.error.json")

    def work_path(self, item: Item) -> Path:
        """Where an item is being made: a folder, or a file with the result's extension."""
        return self.work / item.out.replace("/", "~")

    def begin(self, item: Item, key: str) -> None:
        """Clear away what another version of an item left unfinished; of this version, it is gone on from.

        Raises:
            ResourceError: the folder cannot be written.
        """
        made = self.work_path(item)
        mark = made.with_name(f"{made.name}.key")
        try:
            if mark.is_file() and mark.read_text(encoding="ascii", errors="replace") == key:
                return
            shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
            mark.write_text(key, encoding="ascii")
        except OSError as error:
            raise storage_error(made, error) from error

    def lease(self, item: Item) -> FileLock:
        """Give the lock that keeps others from an item; it ends with its holder.

        Raises:
            ResourceError: the folder cannot be written.
        """
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.work, error) from error
        return FileLock(self.work / f"{item.out.replace('/', '~')}.lock")

    def publish(self, item: Item, key: str, *, seconds: float, attempt: int, made_by: dict[str, Any]) -> None:
        """Put what was made into its place in one step, and write its record after it; call with the lease held.

        Raises:
            ResourceError: it cannot be written.
        """
        made, result = self.work_path(item), self.manifest.result(item)
        try:
            files = {"": _hash(made)} if item.is_file else _results(made)
            if not files:
                raise UnderstudyError(f"{item.out}: the job is done and left no result.")
            pixels = {name: hashed for name in files if (hashed := pixel_hash(made / name if name else made))}
            result.parent.mkdir(parents=True, exist_ok=True)
            _put(made, result, self.work)
        except OSError as error:
            raise storage_error(result, error) from error
        record = {
            "key": key, "files": files, "pixels": pixels, "task": item.task, "batch": self.manifest.digest,
            "item": item.number, "attempt": attempt, "seconds": round(seconds, 3), "finished": round(time.time(), 3),
            "host": socket.gethostname(), "versions": {"understudy": version(), "python": platform.python_version()},
            **made_by,
        }  # fmt: skip
        _write(self.record_file(item), record)
        self.error_file(item).unlink(missing_ok=True)
        made.with_name(f"{made.name}.key").unlink(missing_ok=True)

    def fail(
        self, item: Item, key: str, error: UnderstudyError, *, retryable: bool, attempt: int, log: str = ""
    ) -> None:
        """Write down why an item failed; an older result and its record stay.

        Raises:
            ResourceError: it cannot be written.
        """
        _write(self.error_file(item), {
            "key": key, "class": error.code, "message": error.message, "hint": error.hint, "retryable": retryable,
            "attempt": attempt, "log": log[-4000:], "task": item.task, "batch": self.manifest.digest,
            "item": item.number, "time": round(time.time(), 3), "host": socket.gethostname(),
        })  # fmt: skip

    def sweep(self, *, everything: bool = False) -> int:
        """Remove what killed runs left; give the number of things removed. What somebody works on stays.

        Args:
            everything: also unfinished work that a next run would go on from, and the folder itself.
        """
        removed = 0
        for path in sorted(self.manifest.output.rglob(".*.tmp")):
            removed += _remove_if_orphaned(path)
        for old in sorted(self.work.glob("*.replaced")):
            removed += self._settle(old)
        if everything and self.work.is_dir():
            removed += self._sweep_work()
        return removed

    def _settle(self, old: Path) -> int:
        """Put an older result back whose replacement never arrived, or remove it."""
        place = self.manifest.output.joinpath(*old.name.removesuffix(".replaced").split("~"))
        with contextlib.suppress(OSError):
            if place.exists():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            else:
                old.rename(place)
            return 1
        return 0

    def _sweep_work(self) -> int:
        removed = 0
        for path in sorted(self.work.iterdir()):
            stem = path.name.removesuffix(".lock").removesuffix(".key")
            lock = FileLock(path.with_name(f"{stem}.lock"))
            if not lock.is_held():
                with contextlib.suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    removed += path.suffix not in (".lock", ".key")
        with contextlib.suppress(OSError):
            self.work.rmdir()
        return removed


def _results(folder: Path) -> dict[str, str]:
    """The sha256 of each file that is a result."""
    return {name: _hash(file) for name, file in _files(folder, MAX_INPUT_FILES) if name not in PASSING}


def _put(made: Path, result: Path, work: Path) -> None:
    """Replace a result in one step; a folder, which no system replaces, in two that `_settle` can finish."""
    if not made.is_dir() or not result.exists():
        os.replace(made, result)
        return
    old = work / f"{made.name}.replaced"
    shutil.rmtree(old, ignore_errors=True)
    os.replace(result, old)
    os.replace(made, result)
    shutil.rmtree(old, ignore_errors=True)


def _is_inside(name: Any) -> bool:
    parts = name.split("/") if isinstance(name, str) else [".."]
    return ".." not in parts and not Path(name).is_absolute() and "\\" not in name and bool(parts[0])


def _read(file: Path) -> dict[str, Any] | None:
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_RECORD_BYTES + 1)
        value = json.loads(text) if len(text) <= MAX_RECORD_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _write(file: Path, values: dict[str, Any]) -> None:
    """Write a record; one that a loss of power spoils is one that does not agree, and its item is done again."""
    with atomic_path(file, durable=False) as temporary:
        temporary.write_bytes(json.dumps(values, indent=1, allow_nan=False).encode("ascii") + b"\n")


_TEMPORARY = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}\.tmp")
_OLD_S = 24 * 3600.0


def _remove_if_orphaned(path: Path) -> int:
    """Remove a half-written file whose writer is gone from this computer, or that is a day old."""
    named = _TEMPORARY.fullmatch(path.name)
    with contextlib.suppress(OSError):
        is_old = time.time() - path.stat().st_mtime > _OLD_S
        if is_old or (named and not _lives(int(named[1]))):
            path.unlink()
            return 1
    return 0


def _lives(pid: int) -> bool:
    if os.name == "nt":  # a signal would end the process there: wait for the file to be old
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def pixel_hash(file: Path) -> str:
    """Give the sha256 of the size, the type and the scanlines of a PNG; "" for other files.

    The file itself differs each time, since Blender writes the hour into it; this does not.
    """
    if file.suffix.lower() != ".png":
        return ""
    content = file.read_bytes()
    if not content.startswith(_PNG):
        return ""
    total, data, offset = hashlib.sha256(), zlib.decompressobj(), len(_PNG)
    try:
        while offset + 8 <= len(content):
            length, kind = struct.unpack_from(">I4s", content, offset)
            chunk = content[offset + 8 : offset + 8 + length]
            if kind == b"IHDR":
                total.update(chunk)
            elif kind == b"IDAT":
                total.update(data.decompress(chunk))
            offset += length + 12
    except zlib.error:
        return ""
    return total.hexdigest()


def is_retryable(error: UnderstudyError) -> bool:
    """Tell whether the same item may succeed at another time: memory and disk come back, input does not."""
    return isinstance(error, ResourceError)
