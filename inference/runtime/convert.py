"""Foreign checkpoints (.pt, .pth) to safetensors, read as data in a process of its own that may do next to nothing.

`python -m inference convert-weights model.pt --out model.safetensors`

A checkpoint is a zip with a pickle, and a pickle is a program. It is not run, not even in the way that
`weights_only=True` promises (which has had two advisories): `pickletools` decodes its operations, a machine that knows
dictionaries, lists, numbers and tensors goes through them, and any other name ends it. The process that does so has
limits on memory, time and files, and no network on Linux where the system allows it.
"""

from __future__ import annotations

import ctypes
import io
import json
import math
import pickletools
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..protocol.client import ROOT, clean_environment, command_line
from ..protocol.errors import InputError, ResourceError, UnderstudyError
from ..protocol.files import atomic_path

MAX_BYTES = 16 << 30
MAX_PICKLE_BYTES = 64 << 20
MAX_TENSORS = 100_000
MAX_ENTRIES = 200_000
MAX_RATIO = 200  # of what a zip claims to what it has
MEMORY_BYTES = 2 << 30  # beyond the interpreter; tensors are copied piece by piece
SECONDS = 600
PIECE = 1 << 20
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # of Linux' sched.h
_TYPES = {
    "FloatStorage": ("F32", 4), "DoubleStorage": ("F64", 8), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}  # fmt: skip
_CALLS = {
    "collections OrderedDict": "dict",
    "torch._utils _rebuild_tensor_v2": "tensor",
    "torch._utils _rebuild_parameter": "parameter",
    # settings that training scripts keep beside their tensors: passed over
    "argparse Namespace": "nothing",
    "pathlib PosixPath": "nothing",
    "pathlib PurePosixPath": "nothing",
    "pathlib WindowsPath": "nothing",
}
_LEGACY = 0x1950A86A20F9469CFC6C  # the number that begins checkpoints of torch before 1.6
_CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_HINT = "It is neither a zip nor what torch wrote before 1.6: save it again with a current torch."
_MARK = object()
_DAMAGED = (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError, RecursionError, struct.error)


@dataclass(frozen=True)
class _Name:
    what: str


@dataclass(frozen=True)
class Tensor:
    """Where the numbers of a tensor stand: in an entry of the archive, or `at` bytes into a file that is none."""

    entry: str
    kind: str
    item: int
    offset: int
    shape: tuple[int, ...]
    at: int | None = None

    @property
    def size(self) -> int:
        """Bytes of all numbers."""
        return self.item * math.prod(self.shape)


def convert(source: Path, out: Path) -> str:
    """Convert in a one-shot process; give the sha256 of what was written.

    Raises:
        InputError: it is no checkpoint of tensors, or would run something.
        ResourceError: it needs more memory or time than it gets, or the disk is full.
    """
    command = command_line(
        sys.executable, "convert-weights", str(source.absolute()), "--out", str(out.absolute()), "--here"
    )
    try:
        result = subprocess.run(
            command, cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=2 * SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"{source.name} took longer than {2 * SECONDS} s.") from error
    if result.returncode == 0:
        return result.stdout.strip()
    said = result.stderr.strip().removeprefix("Error: ")[-600:]
    kind = {InputError.exit_code: InputError, ResourceError.exit_code: ResourceError}.get(result.returncode)
    raise (kind or InputError)(said or f"{source.name} ended its reader (exit code {result.returncode}).")


def convert_here(source: Path, out: Path) -> str:
    """Convert in this process, which is to do nothing else after."""
    import hashlib

    confine()
    tensors = read_checkpoint(source)
    with atomic_path(out) as temporary, temporary.open("xb") as stream:
        write_safetensors(source, tensors, stream)
    with out.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def confine() -> None:
    """Give up what reading and writing one file does not need."""
    if sys.platform == "win32":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 if sys.platform == "linux" else 1 << 30
    limits = {
        resource.RLIMIT_AS: used + MEMORY_BYTES, resource.RLIMIT_CPU: SECONDS, resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_FSIZE: MAX_BYTES, resource.RLIMIT_CORE: 0,
    }  # fmt: skip
    for name, most in limits.items():
        hard = resource.getrlimit(name)[1]
        resource.setrlimit(name, (most, most) if hard == resource.RLIM_INFINITY else (min(most, hard), hard))
    if sys.platform == "linux":  # where it is not allowed, nothing here speaks to a network anyway
        ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)


def read_checkpoint(source: Path) -> dict[str, Tensor]:
    """Find the tensors of a checkpoint by their names; of nested dictionaries joined by dots.

    Raises:
        InputError: missing, damaged, too large, or with anything in it but tensors and plain values.
    """
    try:
        if source.is_file() and not zipfile.is_zipfile(source):
            return _read_legacy(source)
        with zipfile.ZipFile(source) as archive:
            folder = _check_archive(source, archive)
            with archive.open(f"{folder}data.pkl") as stream:
                content = stream.read(MAX_PICKLE_BYTES + 1)
            if len(content) > MAX_PICKLE_BYTES:
                raise InputError(f"{source.name} has a description of more than {MAX_PICKLE_BYTES >> 20} MiB.")
            found = dict(_named("", _Machine(folder).run(content), 0))
            _check_tensors(source, archive, found)
            return found
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise InputError(f"{source.name} is not a readable checkpoint: {str(error)[:160]}.", _HINT) from error
    except MemoryError as error:
        raise InputError(f"{source.name} asks for more memory than it may have.") from error
    except _DAMAGED as error:
        raise InputError(f"{source.name} is damaged: {str(error)[:160] or type(error).__name__}.") from error


def _read_legacy(source: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint of torch before 1.6: pickles one after another, then the storages with their lengths."""
    size = source.stat().st_size
    with source.open("rb") as stream:
        text = io.BytesIO(stream.read(MAX_PICKLE_BYTES))
        if _Machine("").run(text) != _LEGACY:
            raise InputError(f"{source.name} is not a readable checkpoint.", _HINT)
        for _ in ("version", "system"):
            _Machine("").run(text)
        machine = _Machine("")
        found = dict(_named("", machine.run(text), 0))
        places, at = {}, 0
        keys = _a(list, _Machine("").run(text))
        at = text.tell()
        for key in keys:
            stream.seek(at)
            (count,) = struct.unpack("<q", stream.read(8))
            places[f"data/{key}"] = at + 8, _whole(count) * machine.items[str(key)]
            at += 8 + places[f"data/{key}"][1]
            if at > size:
                raise InputError(f"{source.name} ({size:,} bytes) is cut off.")
    _check_count(source, found)
    for name, tensor in found.items():
        start, there = places[tensor.entry]
        if tensor.offset + tensor.size > there:
            raise InputError(f"{source.name}: {name[:80]} ends behind its storage of {there:,} bytes.")
        found[name] = replace(tensor, at=start + tensor.offset)
    return found


def _check_archive(source: Path, archive: zipfile.ZipFile) -> str:
    """Give the folder in which everything stands."""
    infos = archive.infolist()
    total, size = sum(info.file_size for info in infos), source.stat().st_size
    if len(infos) > MAX_ENTRIES or total > min(MAX_BYTES, MAX_RATIO * size + PIECE):
        raise InputError(f"{source.name} ({size:,} bytes) claims {len(infos):,} entries of {total:,} bytes in all.")
    names = [info.filename for info in infos]
    strange = [name for name in names if name.startswith("/") or "\\" in name or ".." in name.split("/")]
    if strange or len(set(names)) < len(names):
        raise InputError(f"{source.name} holds entries that lead elsewhere or twice to the same: {strange[:1]}.")
    tops = [name.removesuffix("data.pkl") for name in names if re.fullmatch(r"[^/]*/?data\.pkl", name)]
    if len(tops) != 1:
        raise InputError(f"{source.name} holds {len(tops)} descriptions; a checkpoint has one.")
    return tops[0]


def _check_count(source: Path, found: dict[str, Tensor]) -> None:
    if not found:
        raise InputError(f"{source.name} holds no tensor.")
    if len(found) > MAX_TENSORS or sum(tensor.size for tensor in found.values()) > MAX_BYTES:
        raise InputError(f"{source.name} holds {len(found):,} tensors of too many bytes.")


def _check_tensors(source: Path, archive: zipfile.ZipFile, found: dict[str, Tensor]) -> None:
    _check_count(source, found)
    for name, tensor in found.items():
        there = archive.getinfo(tensor.entry).file_size
        if tensor.offset + tensor.size > there:
            raise InputError(f"{source.name}: {name[:80]} ends behind its storage of {there:,} bytes.")


class _Machine:
    """The stack of a checkpoint's pickle, for tensors and plain values only; nothing is ever called by name."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.items: dict[str, int] = {}  # bytes of a number in each storage

    def run(self, content: bytes | io.BytesIO) -> Any:
        """Go through a pickle, from a stream up to its end; gives what it describes."""
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "STOP":
                return self._stack.pop()
            self._step(operation.name, argument)
        raise ValueError("its description does not end")

    def _step(self, name: str, argument: Any) -> None:  # noqa: C901, PLR0912 - one line for each operation
        stack = self._stack
        match name:
            case "PROTO" | "FRAME":
                return
            case "MARK":
                stack.append(_MARK)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._memo[len(self._memo) if argument is None else int(argument)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[int(argument)])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple([stack.pop() for _ in range(int(name[-1]))][::-1]))
            case "TUPLE":
                stack.append(tuple(self._from_mark()))
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if name == "APPEND" else self._from_mark()
                _a(list, stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._from_mark()
                _a(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_known(str(argument)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_known(f"{module} {attribute}"))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                if not isinstance(called, _Name) or called.what != "nothing":
                    raise InputError("The checkpoint would make something; nothing of it was executed.")
                stack.append({})
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_made(called, _a(tuple, arguments)))
            case "BUILD":  # an OrderedDict's own attributes, such as `_metadata`: not wanted
                stack.pop()
                _a(dict, stack[-1])
            case _ if name in _CONSTANTS:
                stack.append(argument)
            case _:
                raise InputError(f"The checkpoint would run something ({name}); nothing of it was executed.")

    def _storage(self, reference: Any) -> tuple[str, str, int]:
        word, kind, entry, _, count, *view = reference
        known = word == "storage" and isinstance(kind, _Name) and re.fullmatch(r"[0-9]{1,20}", str(entry))
        if not known or any(part is not None for part in view):
            raise ValueError("a storage is not described as torch does")
        name, item = _TYPES[kind.what]
        _whole(count)
        self.items[str(entry)] = item
        return f"{self._folder}data/{entry}", name, item

    def _from_mark(self) -> list[Any]:
        at = len(self._stack) - 1 - self._stack[::-1].index(_MARK)
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items


def _a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {kind.__name__} is missing")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]} is not a count")
    return value


def _known(named: str) -> _Name:
    if named in _CALLS:
        return _Name(_CALLS[named])
    module, _, kind = named.partition(" ")
    if module == "torch" and kind in _TYPES:
        return _Name(kind)
    told = named.replace(" ", ".")[:80]
    hint = "Only tensors and plain values are converted: save its state_dict() alone."
    raise InputError(f"The checkpoint names {told}; nothing of it was executed.", hint)


def _made(called: Any, arguments: tuple[Any, ...]) -> Any:
    what = called.what if isinstance(called, _Name) else ""
    if what == "dict" and not arguments:
        return OrderedDict()
    if what == "nothing":
        return None
    if what == "parameter" and isinstance(arguments[0], Tensor):
        return arguments[0]
    if what == "tensor":
        (entry, kind, item), offset, shape, stride = arguments[:4]
        sizes, steps = [_whole(n) for n in _a(tuple, shape)], [_whole(n) for n in _a(tuple, stride)]
        plain = [math.prod(sizes[n + 1 :]) for n in range(len(sizes))]
        if any(step != want and size > 1 for step, want, size in zip(steps, plain, sizes, strict=True)):
            raise InputError("A tensor of the checkpoint is a view with steps.", "Save it with .contiguous().")
        return Tensor(entry, kind, item, _whole(offset) * item, tuple(sizes))
    raise InputError("The checkpoint would call something; nothing of it was executed.")


def _named(prefix: str, value: Any, depth: int) -> Iterator[tuple[str, Tensor]]:
    if depth > 16:
        raise ValueError("it is nested too deeply")
    if isinstance(value, Tensor):
        yield prefix or "tensor", value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _named(f"{prefix}.{key}" if prefix else str(key), part, depth + 1)


def write_safetensors(source: Path, tensors: dict[str, Tensor], stream: Any) -> None:
    """Copy tensors, in order of name, behind a header of the safetensors format."""
    header: dict[str, Any] = {"__metadata__": {"converted_from": source.name[:200]}}
    at = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        header[name] = {"dtype": tensor.kind, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.size]}
        at += tensor.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)
    with ExitStack() as opened:
        legacy = any(tensor.at is not None for tensor in tensors.values())
        archive = None if legacy else opened.enter_context(zipfile.ZipFile(source))
        for name in sorted(tensors):
            _copy(source, archive, tensors[name], stream)


def _copy(source: Path, archive: zipfile.ZipFile | None, tensor: Tensor, stream: Any) -> None:
    with source.open("rb") if archive is None else archive.open(tensor.entry) as storage:
        storage.seek(tensor.offset if tensor.at is None else tensor.at)
        left = tensor.size
        while left:
            piece = storage.read(min(left, PIECE))
            if not piece:
                raise UnderstudyError("A storage of the checkpoint is cut off.")
            stream.write(piece)
            left -= len(piece)
