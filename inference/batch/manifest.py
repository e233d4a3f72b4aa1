"""What a batch is to do: an immutable list of items, one JSON file.

{"format": "understudy-batch", "version": 1, "program": "inference" | "blender", "output": "results",
 "items": [{"out": "walk", "task": "motion", "request": {"video": ["clips/walk.mp4"]}}, ...]}

Paths that are not absolute start at the manifest's folder, so a batch can be moved with its clips. `out` is the
item's name and where its result stands under `output`: a folder, or a file where it has an extension.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..protocol import schema
from ..protocol.errors import RequestError
from ..protocol.files import atomic_write_bytes
from ..protocol.requests import TASKS
from .tasks import BLENDER_TASKS

FORMAT, VERSION = "understudy-batch", 1
MAX_ITEMS = 100_000
MAX_BYTES = 64 << 20
MAX_PARTS = 4  # of an item's name
PROGRAMS = ("inference", "blender")
# One part of a name that every system takes for a file's, and no shell for anything else.
_PART = re.compile(r"(?!\.)[^\x00-\x1f\\/:*?\"<>|$`;&%!']{1,120}(?<![. ])")
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # Windows opens these whatever folder they are in
_RANGES = re.compile(r"\d{1,7}(-\d{1,7})?(,\d{1,7}(-\d{1,7})?)*")


@dataclass(frozen=True)
class Item:
    """One thing to do; `request` as JSON values, with paths as they stand in the manifest."""

    number: int  # from 1
    out: str
    task: str
    request: dict[str, Any]

    @property
    def is_file(self) -> bool:
        """Whether the result is one file."""
        return bool(Path(self.out).suffix)


@dataclass(frozen=True)
class Manifest:
    """A batch that was read; `digest` is the sha256 of its file and names it."""

    path: Path
    program: str
    output: Path
    items: tuple[Item, ...]
    digest: str

    def result(self, item: Item) -> Path:
        """Give the place of an item's result."""
        return self.output.joinpath(*item.out.split("/"))

    def request(self, item: Item) -> Any:
        """Give an item's request, with all paths absolute.

        Raises:
            RequestError: a setting is wrong; its message begins with the item's number.
        """
        request = known_tasks(self.program)[item.task]
        where = f"items[{item.number}].request"
        return schema.decode(request, _anchored(request, item.request, self.path.parent), where)


def known_tasks(program: str) -> dict[str, type]:
    """Give the request classes of what a program can do in a batch."""
    if program == "blender":
        return BLENDER_TASKS
    return {name: task.request for name, task in TASKS.items() if name != "live"}


def read_manifest(path: Path) -> Manifest:
    """Read a batch.

    Raises:
        RequestError: it is missing, larger than 64 MiB, not a manifest of this version, or names something wrong.
    """
    path = path.absolute()
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.", "Write one with `batch plan`.") from error
    if len(text) > MAX_BYTES:
        raise RequestError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB.", "Split the batch.")
    table = _load(path, text)
    program, output = table.get("program"), table.get("output")
    if program not in PROGRAMS:
        raise RequestError(f"{_shown(program)} is not one of {', '.join(PROGRAMS)}", field="program")
    if not isinstance(output, str) or not output or "\0" in output:
        raise RequestError(f"{_shown(output)} is not a folder", field="output")
    items = tuple(_read_items(table.get("items"), known_tasks(program)))
    digest = hashlib.sha256(text).hexdigest()
    return Manifest(path, program, Path(os.path.normpath(path.parent / output)), items, digest)


def _load(path: Path, text: bytes) -> dict[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise RequestError(f"{path.name}: {word} is not a number a manifest may hold.")

    try:
        table = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path.name} is not JSON: {str(error)[:160]}.") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise RequestError(f"{path.name} is not a batch manifest.", "Write one with `batch plan`.")
    if table.get("version") != VERSION:
        raise RequestError(f"{path.name} has version {_shown(table.get('version'))}, this program reads {VERSION}.")
    return table


def _read_items(rows: Any, tasks: dict[str, type]) -> Iterator[Item]:
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_ITEMS:
        count = len(rows) if isinstance(rows, list) else 0
        raise RequestError(f"{count} items; a batch has 1 to {MAX_ITEMS:,}", field="items")
    taken: set[str] = set()
    for number, row in enumerate(rows, start=1):
        where = f"items[{number}]"
        if not isinstance(row, dict) or row.keys() != {"out", "task", "request"}:
            raise RequestError("an item has out, task and request, and nothing else", field=where)
        out = check_out(row["out"], f"{where}.out")
        if out.casefold() in taken:
            raise RequestError(f"{out!r} is used twice", field=f"{where}.out")
        taken.add(out.casefold())
        if not isinstance(row["task"], str) or row["task"] not in tasks:
            raise RequestError(f"{_shown(row['task'])} is not one of {', '.join(tasks)}", field=f"{where}.task")
        if not isinstance(row["request"], dict):
            raise RequestError(f"{_shown(row['request'])} is not an object", field=f"{where}.request")
        yield Item(number, out, row["task"], row["request"])


def check_out(out: Any, where: str = "out") -> str:
    """Give a name back that stays inside of its folder on every system.

    Raises:
        RequestError: it does not.
    """
    parts = out.split("/") if isinstance(out, str) else []
    fits = 0 < len(parts) <= MAX_PARTS and all(_PART.fullmatch(part) and not _DEVICES.fullmatch(part) for part in parts)
    if not fits or out.endswith(".json"):  # beside the results stand their records
        raise RequestError(f"{_shown(out)} is not a name for a result", field=where)
    return out


def _anchored(request: type, values: dict[str, Any], base: Path) -> dict[str, Any]:
    """Let paths that are not absolute start at the manifest's folder."""
    paths = {setting.name for setting in schema.read(request) if setting.kind == "path"}

    def anchor(value: Any) -> Any:
        if isinstance(value, list):
            return [anchor(part) for part in value[: schema.MAX_ITEMS + 1]]
        return os.path.normpath(base / value) if isinstance(value, str) and value and "\0" not in value else value

    return {name: anchor(value) if name in paths else value for name, value in values.items()}


def _shown(value: Any) -> str:
    return repr(value)[:60]


def write_manifest(
    path: Path, program: str, output: Path, rows: Sequence[tuple[str, str, Any]], *, overwrite: bool = False
) -> Manifest:
    """Write a batch and read it back.

    Args:
        rows: out, task and request of each item.
    Raises:
        RequestError: an item cannot be, or another batch stands there.
        ResourceError: the folder cannot be written.
    """
    path = path.absolute()
    items = [{"out": out, "task": task, "request": _given(request, path.parent)} for out, task, request in rows]
    table = {"format": FORMAT, "version": VERSION, "program": program, "output": _relative(output, path.parent)}
    text = json.dumps({**table, "items": items}, indent=1, allow_nan=False).encode("ascii") + b"\n"
    if path.exists() and not overwrite and path.read_bytes() != text:
        hint = "A batch does not change; write it under another name, or replace it (--overwrite)."
        raise RequestError(f"{path} holds another batch", hint, field="out")
    tuple(_read_items(items, known_tasks(program)))
    if not path.exists() or path.read_bytes() != text:
        atomic_write_bytes(path, text)
    return read_manifest(path)


def _given(request: Any, base: Path) -> dict[str, Any]:
    """Give what differs from the defaults, with paths as seen from the manifest."""
    result = {}
    for setting in schema.read(type(request)):
        value = getattr(request, setting.name)
        if value != setting.default:
            result[setting.name] = _plain(value, base)
    return result


def _plain(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return _relative(value, base)
    return [_plain(part, base) for part in value] if isinstance(value, tuple) else value


def _relative(path: Path, base: Path) -> str:
    path = path.absolute()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def select(manifest: Manifest, ranges: str) -> list[Item]:
    """Give the items of ranges such as `1-10` or `3,5-7`, counted from 1; of "" all.

    Raises:
        RequestError: no such ranges, or numbers that the batch does not have.
    """
    if not ranges:
        return list(manifest.items)
    if not _RANGES.fullmatch(ranges.replace(" ", "")):
        raise RequestError(f"{ranges[:60]!r} is no range of items", "As in 1-10 or 3,5-7.", field="items")
    numbers: set[int] = set()
    for part in ranges.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= len(manifest.items):
            raise RequestError(f"{part} is outside 1-{len(manifest.items)}", field="items")
        numbers.update(range(low, high + 1))
    return [manifest.items[number - 1] for number in sorted(numbers)]


def in_ranges(numbers: Sequence[int]) -> str:
    """Write numbers as ranges, the way `select` reads them."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in parts)
