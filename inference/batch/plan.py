"""From folders of clips, photos, captures and shots to the items of a batch."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..protocol import schema
from ..protocol.errors import InputError, RequestError
from ..protocol.requests import MAX_PHOTOS, PHOTOS, TASKS
from .manifest import MAX_ITEMS, known_tasks
from .tasks import BLENDER_TASKS

CLIPS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mts", ".mpg", ".mpeg"})
SOURCES = frozenset({".npz", ".bvh", ".fbx", ".glb"})
COLUMNS = ("name", "blend", "capture", "camera", "frames", "rig")
MAX_DEPTH = 8
_FRAMES = re.compile(r"(-?\d{1,7})(?:-(\d{1,7})(?:x(\d{1,5}))?)?")
Row = tuple[str, str, Any]


@dataclass(frozen=True)
class Wishes:
    """What holds for all items: settings by task, and for Blender the file and the frames."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    blend: Path | None = None
    frames: str = ""
    capture: Path | None = None
    camera: str = ""

    def request(self, task: str, **given: Any) -> Any:
        """Make a request of what is given, the settings for its task beneath.

        Raises:
            RequestError: a setting is wrong.
        """
        request = BLENDER_TASKS.get(task) or TASKS[task].request
        known = {name: value for name, value in given.items() if value not in (None, "")}
        return schema.decode(request, {**self.settings.get(task, {}), **known}, task)


def read_settings(value: Any, program: str) -> dict[str, dict[str, Any]]:
    """Take settings by task from JSON values, as in {"motion": {"smoothing": 0.2}}.

    Raises:
        RequestError: it names something that is no task.
    """
    known = known_tasks(program)
    if not isinstance(value, dict) or not all(isinstance(part, dict) for part in value.values()):
        raise RequestError("expected an object of objects, one for each task", field="settings")
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise RequestError(f"{unknown[0][:60]!r} is not one of {', '.join(known)}", field="settings")
    return value


def plan(kind: str, sources: Sequence[Path], wishes: Wishes) -> list[Row]:
    """Give out, task and request of each item.

    Args:
        kind: "clips" (and photos), "apply", "retarget", "export" or "render".
    Raises:
        InputError: a source is missing, or there is nothing in it.
        RequestError: a setting is wrong.
    """
    for source in sources:
        if not source.exists():
            raise InputError(f"There is no {source}.")
    rows = [_unique(row, taken) for taken in [set()] for row in _PLANS[kind]([s.absolute() for s in sources], wishes)]
    if not rows:
        raise InputError(f"Nothing for {kind} was found in {', '.join(str(source) for source in sources)}.")
    if len(rows) > MAX_ITEMS:
        raise InputError(f"{len(rows):,} items were found; a batch has at most {MAX_ITEMS:,}.", "Plan parts of it.")
    return rows


def _unique(row: Row, taken: set[str]) -> Row:
    """Number names that are taken."""
    out, task, request = row
    suffix = Path(out).suffix
    stem = out.removesuffix(suffix)
    number = 1
    while out.casefold() in taken:
        number += 1
        out = f"{stem}_{number}{suffix}"
    taken.add(out.casefold())
    return out, task, request


def name_part(text: str) -> str:
    """Make a part of an item's name of any text: letters of every script, digits, space, dot, minus stay."""
    kept = re.sub(r"[^\w \-.]+", "_", text)[:100].strip(". ").removesuffix(".json").strip(". ")
    return f"_{kept}" if not kept or re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", kept) else kept


def _folder_name(path: Path) -> str:
    """Name the folder of a result after a file or folder; a dot would make a file of it."""
    return name_part(path.name if path.is_dir() else path.stem).replace(".", "_")


def _clips(sources: Sequence[Path], wishes: Wishes) -> Iterator[Row]:
    """Each clip and each photo; the clips beside one .toml are views of one take, a folder of photos is one person."""
    for source in sources:
        if source.is_file():
            yield from _single(source, wishes)
            continue
        for folder, files in _walk(source):
            is_top = folder == source
            clips = [file for file in files if file.suffix.lower() in CLIPS]
            photos = [file for file in files if file.suffix.lower() in PHOTOS]
            rigs = [file for file in files if file.suffix.lower() == ".toml"]
            name = _folder_name(folder)
            if len(clips) > 1 and len(rigs) == 1:
                views = [str(clip) for clip in clips]
                yield name, "motion", wishes.request("motion", video=views, calibration=str(rigs[0]))
                clips = []
            if not is_top and 0 < len(photos) <= MAX_PHOTOS and "head" in TASKS:
                yield name, "head", wishes.request("head", photo=[str(photo) for photo in photos])
                photos = []
            for file in (*clips, *photos):
                yield from _single(file, wishes)


def _single(file: Path, wishes: Wishes) -> Iterator[Row]:
    name = _folder_name(file)
    if file.suffix.lower() in CLIPS:
        yield name, "motion", wishes.request("motion", video=[str(file)])
    elif file.suffix.lower() in PHOTOS and "head" in TASKS:
        yield name, "head", wishes.request("head", photo=[str(file)])


def _walk(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Folders and their files in order of name; what is hidden, a link, or a capture is left out."""
    for place, folders, names in os.walk(top):
        folder = Path(place)
        is_deep = len(folder.relative_to(top).parts) >= MAX_DEPTH
        if is_deep or "events.jsonl" in names:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "events.jsonl" not in names:
            files = [folder / name for name in sorted(names) if not name.startswith(".")]
            yield folder, [file for file in files if not file.is_symlink()]


def _captures(sources: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for source in sources:
        if source.is_file() or (source / "artifacts" / "body_motion.npz").is_file():
            yield _folder_name(source), source
        else:
            for file in sorted(source.glob("*/artifacts/body_motion.npz")):
                yield _folder_name(file.parents[1]), file.parents[1]


def _apply(sources: Sequence[Path], wishes: Wishes) -> Iterator[Row]:
    for name, capture in _captures(sources):
        yield name, "apply", wishes.request("apply", capture=_motion(capture), blend=wishes.blend)


def _motion(capture: Path) -> Path:
    return capture if capture.is_file() else capture / "artifacts" / "body_motion.npz"


def _retarget(sources: Sequence[Path], wishes: Wishes) -> Iterator[Row]:
    if wishes.blend is None:
        raise RequestError("no character", "Give its .blend.", field="blend")
    for name, capture in _captures([*_loose(sources)]):
        yield name, "retarget", wishes.request("retarget", blend=wishes.blend.absolute(), source=[_motion(capture)])


def _loose(sources: Sequence[Path]) -> Iterator[Path]:
    """Files of a folder that is no capture, and captures in it."""
    for source in sources:
        files = [file for file in sorted(source.glob("*")) if file.suffix.lower() in SOURCES] if source.is_dir() else []
        yield from files or [source]


def _export(sources: Sequence[Path], wishes: Wishes) -> Iterator[Row]:
    for source in sources:
        for file in [source] if source.is_file() else sorted(source.glob("*.blend")):
            yield _folder_name(file), "export", wishes.request("export", blend=file)


def _render(sources: Sequence[Path], wishes: Wishes) -> Iterator[Row]:
    """Each frame of each shot; a source is a .blend, or a table of shots (.csv)."""
    for source in sources:
        if source.suffix.lower() == ".csv":
            for number, row in enumerate(_shots(source), start=2):
                yield from _frames_of(source, number, row, wishes)
        else:
            shot = {"blend": str(source), "capture": str(wishes.capture or ""), "camera": wishes.camera}
            yield from _frames_of(source, 0, {"name": source.stem, "frames": wishes.frames, **shot}, wishes)


def _shots(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restkey="more")
            rows = [{name: value or "" for name, value in row.items()} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{table.name} is no table: {error}.") from error
    strange = {name for row in rows for name in row} - set(COLUMNS)
    if strange or not rows:
        known = ", ".join(COLUMNS)
        raise InputError(f"{table.name} has columns other than {known}, or no row.", "One row is one shot.")
    return rows


def _frames_of(source: Path, line: int, row: dict[str, str], wishes: Wishes) -> Iterator[Row]:
    where = f"{source.name}, line {line}" if line else source.name
    if not row.get("blend"):
        raise InputError(f"{where}: no .blend is named.")
    blend = Path(os.path.normpath(source.parent / row["blend"]))
    capture = Path(os.path.normpath(source.parent / row["capture"])) if row.get("capture") else None
    for path in filter(None, (blend, capture)):
        if not path.exists():
            raise InputError(f"{where}: there is no {path}.")
    name = name_part(row.get("name") or blend.stem)
    given = {"blend": blend, "capture": _motion(capture) if capture else None}
    for frame in parse_frames(row.get("frames") or wishes.frames, where):
        number = f"{frame:04d}" if frame >= 0 else f"minus{-frame:04d}"
        words = {"camera": row.get("camera"), "rig": row.get("rig"), "frame": frame}
        yield f"{name}/{number}.png", "render", wishes.request("render", **given, **words)


def parse_frames(text: str, where: str) -> list[int]:
    """Read frames such as `1-40`, `1-40x2` or `7`, several with commas.

    Raises:
        InputError: it is something else, or more than 100,000 frames.
    """
    frames: list[int] = []
    for part in text.replace(" ", "").split(","):
        found = _FRAMES.fullmatch(part)
        if not found:
            raise InputError(f"{where}: {text[:60]!r} are no frames.", "As in 1-40, 1-40x2 or 7.")
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first or step < 1 or (last - first) // step + len(frames) >= MAX_ITEMS:
            raise InputError(f"{where}: {text[:60]!r} is no range of at most {MAX_ITEMS:,} frames.")
        frames += range(first, last + 1, step)
    return list(dict.fromkeys(frames))


_PLANS = {"clips": _clips, "apply": _apply, "retarget": _retarget, "export": _export, "render": _render}
