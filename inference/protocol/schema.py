"""One reader of request dataclasses, for four customers: command-line flags, strict JSON, Blender properties, tables.

A request is a frozen dataclass, which `frozen` makes cheaply; a setting is a field of it annotated `Annotated[type,
About("A sentence.", low=0, high=1)]`. Types: bool, int, float, str, Path, Literal of words; tuples of these, of fixed
or any length, one inside another; and `| None`.
"""

from __future__ import annotations

import functools
import json
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from .errors import RequestError

if TYPE_CHECKING:
    import argparse  # as difflib, imported where it is used: Blender reads this file whenever it starts

MAX_JSON_BYTES = 1 << 20
MAX_ITEMS = 10_000
_T = TypeVar("_T")


@dataclass(frozen=True)
class About:
    """What a type cannot say about a setting."""

    text: str
    low: float | None = None
    high: float | None = None
    unit: str = ""
    parts: tuple[str, ...] = ()  # the names of a vector's parts, as in ("W", "H")


@dataclass(frozen=True)
class Setting:
    """One field of a request, as plain data."""

    name: str
    about: About
    kind: str  # "bool", "int", "float", "str", "path" or "choice"
    default: Any  # MISSING: it must be given
    choices: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()  # () one value, (2,) a pair, (None,) a list of any length, and so on inwards
    optional: bool = False

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")


@typing.dataclass_transform(frozen_default=True)
def frozen(cls: type[_T]) -> type[_T]:
    """`dataclass(frozen=True)` whose methods are shared: compiling six for each request costs Blender 8 ms."""
    shared = {
        "__init__": _fill, "__repr__": _spell, "__eq__": _is_equal, "__hash__": _hash_of, "__setattr__": _refuse_change,
        "__delattr__": _refuse_change,
    }  # fmt: skip
    made = dataclass(init=False, repr=False, eq=False)(cls)
    for name, method in shared.items():
        setattr(made, name, method)
    return made


def _fill(self: Any, *values: Any, **named: Any) -> None:
    known = {field.name: _default(field) for field in fields(self)}
    given = dict(zip(known, values, strict=False)) | named
    absent = [name for name, default in known.items() if default is MISSING and name not in given]
    if absent or len(given) < len(values) + len(named) or given.keys() - known.keys():
        said = f"given were {len(values)} and {', '.join(named)}"
        raise TypeError(f"{type(self).__name__} takes {', '.join(known)}; {said}")
    self.__dict__.update(known | given)
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _spell(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def _is_equal(self: Any, other: object) -> bool:
    return vars(self) == vars(other) if type(other) is type(self) else NotImplemented


def _hash_of(self: Any) -> int:
    return hash(tuple(vars(self).values()))


def _refuse_change(self: Any, name: str, *_: Any) -> NoReturn:
    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")


@functools.lru_cache(maxsize=64)
def read(request: type) -> tuple[Setting, ...]:
    """Describe the fields of a request class, in order."""
    hints = typing.get_type_hints(request, include_extras=True)
    return tuple(_read_field(field.name, hints[field.name], _default(field)) for field in fields(request))


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _read_field(name: str, hint: Any, default: Any) -> Setting:
    about = About("")
    if typing.get_origin(hint) is typing.Annotated:
        hint, about = typing.get_args(hint)[:2]
    optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
    if optional:
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    shape: list[int | None] = []
    while typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        shape.append(None if parts[-1] is Ellipsis else len(parts))
        hint = parts[0]
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    kind = "choice" if choices else hint.__name__.lower()
    return Setting(name, about, kind, default, choices, tuple(shape), optional)


def load_json(text: str | bytes) -> Any:
    """Read JSON from a stranger.

    Raises:
        RequestError: not JSON, larger than 1 MiB, nested too deeply, with NaN, Infinity or a key given twice.
    """
    if len(text) > MAX_JSON_BYTES:
        raise RequestError(f"the request has {len(text)} bytes; at most {MAX_JSON_BYTES} are read.")
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
    except RecursionError as error:
        raise RequestError("the request is nested too deeply.") from error
    except ValueError as error:
        raise RequestError(f"the request is not JSON: {error}") from error


def _refuse_constant(word: str) -> NoReturn:
    raise RequestError(f"{word} is not a number a request may hold.")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise RequestError("is given twice", field=next(name for name in names if names.count(name) > 1))
    return result


def decode(request: type[_T], value: Any, path: str = "") -> _T:
    """Make a request of JSON values.

    Raises:
        RequestError: its message begins with the path of the setting, as in `person[0][1]: 'x' is not a number`.
    """
    if not isinstance(value, Mapping):
        raise RequestError(f"expected an object, got {_word(value)}", field=path)
    settings = {setting.name: setting for setting in read(request)}
    for name in value:
        if name not in settings:
            import difflib

            close = difflib.get_close_matches(str(name), settings, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(settings)}."
            raise RequestError("there is no such setting", hint, field=_join(path, str(name)[:80]))
    for name, setting in settings.items():
        if setting.default is MISSING and name not in value:
            raise RequestError("is missing", field=_join(path, name))
    given = {name: _decode_setting(settings[name], item, _join(path, name)) for name, item in value.items()}
    return request(**given)


def encode(request: Any) -> dict[str, Any]:
    """Turn a request into JSON values; paths become absolute."""
    return {setting.name: _plain(getattr(request, setting.name)) for setting in read(type(request))}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _decode_setting(setting: Setting, value: Any, path: str) -> Any:
    if value is None and setting.optional:
        return None
    return _decode_shape(setting, value, path, setting.shape)


def _decode_shape(setting: Setting, value: Any, path: str, shape: tuple[int | None, ...]) -> Any:
    if not shape:
        return _LEAVES[setting.kind](setting, value, path)
    if not isinstance(value, list | tuple):
        raise RequestError(f"expected a list, got {_word(value)}", field=path)
    if len(value) != shape[0] and (shape[0] is not None or len(value) > MAX_ITEMS):
        names = f" ({', '.join(setting.about.parts)})" if setting.about.parts else ""
        raise RequestError(f"{len(value)} values given, {shape[0] or f'at most {MAX_ITEMS}'} needed{names}", field=path)
    return tuple(_decode_shape(setting, item, f"{path}[{i}]", shape[1:]) for i, item in enumerate(value))


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _decode_bool(_: Setting, value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{_word(value)} is neither true nor false", field=path)
    return value


def _decode_int(setting: Setting, value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{_word(value)} is not a whole number", field=path)
    return _in_range(setting, value, path)


def _decode_float(setting: Setting, value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{_word(value)} is not a number", field=path)
    if (isinstance(value, int) and abs(value) > 2**63) or not math.isfinite(value):
        raise RequestError(f"{_word(value)} is not a finite number", field=path)
    return _in_range(setting, float(value), path)


def _in_range(setting: Setting, value: Any, path: str) -> Any:
    low, high = setting.about.low, setting.about.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise RequestError(f"{_word(value)} {_outside(setting)}", field=path)
    return value


def _outside(setting: Setting) -> str:
    low, high = _ends(setting)
    if low is None or high is None:
        return f"is above {high}" if low is None else f"is below {low}"
    return f"is outside [{low}, {high}]"


def _ends(setting: Setting) -> list[float | int | None]:
    number = int if setting.kind == "int" else float
    return [None if end is None else number(end) for end in (setting.about.low, setting.about.high)]


def _decode_str(_: Setting, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{_word(value)} is not a text", field=path)
    if "\0" in value:
        raise RequestError("holds a NUL character", field=path)
    return value


def _decode_path(setting: Setting, value: Any, path: str) -> Path:
    text = _decode_str(setting, os.fspath(value) if isinstance(value, Path) else value, path)
    if not text:
        raise RequestError("is an empty path", field=path)
    return Path(text)


def _decode_choice(setting: Setting, value: Any, path: str) -> str:
    if not isinstance(value, str) or value not in setting.choices:
        raise RequestError(f"{_word(value)} is not one of {', '.join(setting.choices)}", field=path)
    return value


_LEAVES: dict[str, Callable[[Setting, Any, str], Any]] = {
    "bool": _decode_bool,
    "int": _decode_int,
    "float": _decode_float,
    "str": _decode_str,
    "path": _decode_path,
    "choice": _decode_choice,
}


def add_flags(parser: argparse.ArgumentParser, request: type) -> None:
    """Add one flag for each setting; only flags that were given appear in the parsed namespace."""
    import argparse

    for setting in read(request):
        keywords: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": setting.name}
        keywords["help"] = _help(setting).replace("%", "%%")
        parser.add_argument(setting.flag, **keywords, **_flag_form(setting))


def _flag_form(setting: Setting) -> dict[str, Any]:
    if setting.kind == "bool":
        import argparse

        return {"action": argparse.BooleanOptionalAction}
    form: dict[str, Any] = {"type": {"int": int, "float": float}.get(setting.kind, str)}
    form["metavar"] = {"path": "FILE", "int": "N"}.get(setting.kind, "X")
    if setting.kind == "choice":
        form.update(choices=setting.choices, metavar=None)
    if setting.shape[:1] == (None,):
        form["action"] = "append"
    if setting.shape and setting.shape[-1] is not None:
        form.update(nargs=setting.shape[-1], metavar=setting.about.parts or form["metavar"])
    elif len(setting.shape) > 1:
        form["nargs"] = "+"
    return form


def _help(setting: Setting) -> str:
    extent = "" if setting.kind == "choice" else describe_extent(setting)
    default = "" if setting.default in (None, MISSING, ()) else f"default {_show(setting.default)}"
    notes = [note for note in (extent, default) if note]
    return setting.about.text + (f" ({'; '.join(notes)})" if notes and setting.kind != "bool" else "")


def from_flags(request: type[_T], namespace: argparse.Namespace) -> _T:
    """Make a request of parsed flags.

    Raises:
        RequestError: as `decode` does.
    """
    names = {setting.name for setting in read(request)}
    return decode(request, {name: value for name, value in vars(namespace).items() if name in names})


@dataclass(frozen=True)
class Property:
    """A Blender property as plain data: `getattr(bpy.props, kind)(**keywords)`."""

    name: str
    kind: str
    keywords: dict[str, Any]


def properties(request: type) -> tuple[Property, ...]:
    """Describe the settings a PropertyGroup can hold; lists of any length are left to operators.

    A number that may be absent becomes two properties: `use_<name>`, off, and the number.
    """
    result = []
    for setting in read(request):
        if None in setting.shape:
            continue
        if setting.optional and setting.kind in ("int", "float"):
            keywords = {"name": f"Use {_label(setting)}", "description": setting.about.text, "default": False}
            result.append(Property(f"use_{setting.name}", "BoolProperty", keywords))
        result.append(_property(setting))
    return tuple(result)


def from_properties(request: type[_T], value_of: Callable[[str], Any], **others: Any) -> _T:
    """Make a request of what a PropertyGroup holds; `others` are settings that are not properties.

    Args:
        value_of: gives the value of a property by its name.
    Raises:
        RequestError: as `decode` does.
    """
    values = dict(others)
    for setting in read(request):
        if setting.name in others or None in setting.shape or not _is_used(setting, value_of):
            continue
        value = value_of(setting.name)
        values[setting.name] = tuple(value) if setting.shape else widen(value)
    return decode(request, values)


def widen(value: Any) -> Any:
    """Give the number that was meant by what Blender keeps in single precision: 0.30000001192092896 is 0.3."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _is_used(setting: Setting, value_of: Callable[[str], Any]) -> bool:
    if setting.optional and setting.kind in ("int", "float"):
        return bool(value_of(f"use_{setting.name}"))
    return not (setting.optional and setting.kind in ("path", "str") and not value_of(setting.name))


_SIGNS = {"deg": "\u00b0"}
_KINDS = {"bool": "Bool", "int": "Int", "float": "Float", "str": "String", "path": "String", "choice": "Enum"}
_UNITS = {
    "m": {"precision": 3},  # not Blender's lengths, which are the scene's units and not metres
    "px": {"subtype": "PIXEL"}, "s": {"unit": "TIME_ABSOLUTE"},
    "rad": {"subtype": "ANGLE", "unit": "ROTATION"},
}  # fmt: skip


def _property(setting: Setting) -> Property:
    keywords: dict[str, Any] = {"name": _label(setting), "description": setting.about.text}
    low, high = _ends(setting)
    if setting.kind in ("int", "float"):
        keywords.update({name: end for name, end in (("min", low), ("max", high)) if end is not None})
    if setting.kind == "float":
        keywords.update(_UNITS.get(setting.about.unit, {}))
    if setting.kind == "path":
        keywords["subtype"] = "FILE_PATH"
    if setting.kind == "choice":
        keywords["items"] = [(choice, _words(choice), "") for choice in setting.choices]
    if setting.shape:
        keywords["size"] = setting.shape[0]
    if setting.default not in (None, MISSING):
        keywords["default"] = setting.default
    elif low is not None:
        keywords["default"] = (low,) * (setting.shape[0] or 0) if setting.shape else low
    return Property(setting.name, _KINDS[setting.kind] + ("VectorProperty" if setting.shape else "Property"), keywords)


def _label(setting: Setting) -> str:
    """Name a setting for people; a unit that Blender does not show itself stands behind it."""
    unit = setting.about.unit
    shown = f" ({_SIGNS.get(unit, unit)})" if unit == "m" or (unit and unit not in _UNITS) else ""
    return _words(setting.name.removesuffix(f"_{unit}") if unit else setting.name) + shown


def _words(name: str) -> str:
    """Write a name as a title; axes and the like (xy, fk) in capitals."""
    return " ".join(word.upper() if word in _ACRONYMS else word.title() for word in name.split("_"))


_ACRONYMS = {"cpu", "exr", "fk", "fps", "ik", "png", "x", "y", "z", "xy", "xyz"}


def table(request: type) -> str:
    """Draw the settings as a markdown table."""
    rows = ["| Setting | Values | Default | What it does |", "|---|---|---|---|"]
    for setting in read(request):
        name = f"`{setting.flag}`" if setting.kind != "bool" else f"`{setting.flag}`, `--no-{setting.flag[2:]}`"
        default = "" if setting.default in (None, MISSING, ()) else f"`{_show(setting.default)}`"
        rows.append(f"| {name} | {describe_extent(setting)} | {default} | {setting.about.text} |")
    return "\n".join(rows) + "\n"


def describe_extent(setting: Setting) -> str:
    """Say which values a setting takes, as in `0.0 to 1.0` or `0.5 to 2.5 m`."""
    low, high = _ends(setting)
    if setting.kind == "choice":
        text = ", ".join(setting.choices)
    elif low is None and high is None:
        return setting.about.unit
    elif high is None:
        text = f"at least {low}"
    else:
        text = f"at most {high}" if low is None else f"{low} to {high}"
    return f"{text} {setting.about.unit}".strip()


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
