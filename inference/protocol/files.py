"""Files that appear whole or not at all, and locks that the system drops when their holder dies."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from .errors import RequestError, ResourceError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REPLACE_TRIES = 5  # Windows refuses while a virus scanner holds the file


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a name beside `path` for a file to be written; when the block ends well, put it in place in one step.

    Args:
        durable: wait until the disk has it, so that it also survives a loss of power whole.
    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    temporary = path.parent / f".{path.name[:100]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        _replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # its folder may not be there
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error(path, error) from error
        raise


def atomic_write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("xb") as stream:
        write(stream)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    atomic_write(path, lambda stream: stream.write(content))


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all; names of files that are not valid Unicode get question marks.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    atomic_write_bytes(path, text.encode(errors="replace"))


def _replace(temporary: Path, path: Path) -> None:
    for attempt in range(_REPLACE_TRIES):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            if sys.platform != "win32" or attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(0.05 * 2**attempt)
    return None


def is_full(error: BaseException) -> bool:
    """Tell whether an error says that no more can be stored."""
    return isinstance(error, OSError) and error.errno in _FULL


def storage_error(path: Path, error: OSError) -> ResourceError:
    """Make a sentence of a failed write."""
    hint = "Free some disk space and start again." if is_full(error) else "Choose a folder that can be written."
    return ResourceError(f"{path.name} could not be written: {error.strerror or error}.", hint)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int, *, shared: bool) -> bool:
        del shared  # Windows knows exclusive locks only: two readers that look at once merely look again
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # beyond the text, which stays readable
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileLock:
    """A lock that one process at a time can hold, and that ends with that process however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Take the lock, trying for up to `wait_s` seconds.

        Raises:
            ResourceError: the folder cannot be written.
            RequestError: its file system has no locks.
        """
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise storage_error(self.path, error) from error
        deadline = time.monotonic() + wait_s
        try:
            while not _try_lock(handle, shared=False):
                if time.monotonic() >= deadline:
                    os.close(handle)
                    return False
                time.sleep(0.01)
        except OSError as error:
            os.close(handle)
            where = f"{self.path.parent} lies on a file system without locks: {error.strerror}"
            raise RequestError(where, "Choose a folder on a local disk.", field="out") from error
        self._handle = handle
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def is_held(self) -> bool:
        """Tell whether any process holds the lock."""
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _try_lock(handle, shared=True)
        except OSError:
            return False
        finally:
            os.close(handle)
