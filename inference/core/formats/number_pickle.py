"""Numbers out of a pickle, without unpickling.

A pickle is a program, and running one from a stranger runs whatever they wrote. OpenCap keeps its cameras in pickles,
so they are read here as data: `pickletools.genops` decodes the operations and executes none, and a machine that knows
nothing but dictionaries, lists, strings, numbers and NumPy's arrays of numbers goes through them. A name of anything
else, or any operation that could import or call, ends the reading. Nothing is ever imported or called by name.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...protocol.errors import InputError

MAX_PICKLE_BYTES = 1 << 20
_MOST_AXES, _LONGEST_AXIS, _MOST_BYTES = 4, 4096, 1 << 15
_MOST_CALLS = 1000  # of the few that are known; a calibration makes some forty
_MARK = object()
_KNOWN = {
    **{f"numpy.{core}.multiarray _reconstruct": "array" for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": "scalar" for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": "buffer" for core in ("core", "_core")},
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_KEPT = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME"}
_FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NEW: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}


class _Broken(Exception):
    """The pickle is not one of numbers; says why."""


@dataclass(frozen=True)
class _Name:
    """What a pickle names and this reader knows; never the thing itself."""

    what: str


@dataclass
class _Kind:
    """A data type: `code` as f8, and its byte order."""

    code: str
    order: str = "<"


@dataclass
class _Array:
    """An array that waits for its numbers."""

    values: np.ndarray | None = None


def read_number_pickle(content: bytes, name: str) -> Any:
    """Give the dictionaries, lists, strings and numbers in a pickle; arrays where its outermost dictionary has them.

    Raises:
        InputError: larger than 1 MiB, damaged, or with anything else in it; nothing of it has been executed.
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise InputError(f"{name} has {len(content):,} bytes; at most {MAX_PICKLE_BYTES:,} of a pickle are read.")
    try:
        found = _Machine().run(content)
        if isinstance(found, dict):
            return {key: value.values if isinstance(value, _Array) else value for key, value in found.items()}
        return found.values if isinstance(found, _Array) else found
    except _Broken as error:
        raise InputError(
            f"{name} is a pickle that holds more than numbers ({error}); none of it was executed.",
            "Ask for the calibration in another format, such as TOML.",
        ) from error
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError, MemoryError) as error:
        raise InputError(f"{name} is a damaged pickle: {str(error)[:120] or type(error).__name__}.") from error


class _Machine:
    """The stack of a pickle, for data only."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.calls = 0

    def run(self, content: bytes) -> Any:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "STOP":
                return self.stack.pop()
            self._step(operation.name, argument)
        raise ValueError("it does not end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _KEPT:
            stack.append(argument)
        elif name in _FIXED:
            stack.append(_FIXED[name])
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            self.memo[len(self.memo) if argument is None else int(argument)] = stack[-1]
        elif name in _GETS:
            stack.append(self.memo[int(argument)])
        elif name not in _IGNORED and not self._collect(name):
            self._name_or_build(name, argument)

    def _collect(self, name: str) -> bool:
        """Make tuples, lists and dictionaries; tell whether the operation was one of these."""
        stack = self.stack
        if name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._from_mark()
        elif name.startswith("TUPLE"):
            items = self._from_mark() if name == "TUPLE" else [stack.pop() for _ in range(int(name[-1]))][::-1]
            stack.append(tuple(items))
        elif name == "LIST":
            stack.append(self._from_mark())
        elif name == "DICT":
            stack.append(_pairs({}, self._from_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._from_mark()
            _a(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._from_mark()
            _pairs(_a(dict, stack[-1]), items)
        else:
            return False
        return True

    def _name_or_build(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name == "GLOBAL":
            stack.append(_known(str(argument)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_known(f"{module} {attribute}"))
        elif name == "REDUCE":
            self._count()
            arguments, called = stack.pop(), stack.pop()
            stack.append(_made(called, _a(tuple, arguments)))
        elif name == "BUILD":
            self._count()
            state = stack.pop()
            _build(stack[-1], _a(tuple, state))
        else:
            raise _Broken(f"operation {name}")

    def _count(self) -> None:
        self.calls += 1
        if self.calls > _MOST_CALLS:
            raise ValueError(f"more than {_MOST_CALLS:,} arrays and types")

    def _from_mark(self) -> list[Any]:
        at = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items


def _a(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {kind.__name__} is missing")
    return value


def _pairs(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, (str, int, bytes)):
            raise ValueError("a key is neither text nor a number")
        target[key] = value
    return target


def _known(named: str) -> _Name:
    if named not in _KNOWN:
        raise _Broken(f"it names {named.replace(' ', '.')[:80]}")
    return _Name(_KNOWN[named])


def _made(called: Any, arguments: tuple[Any, ...]) -> Any:
    """Stand in for the few calls that NumPy's pickles make."""
    what = called.what if isinstance(called, _Name) else ""
    if what == "dtype":
        return _Kind(_code(arguments[0]))
    if what == "array" and isinstance(arguments[0], _Name) and arguments[0].what == "ndarray":
        return _Array()
    if what == "scalar":
        return _numbers(arguments[0], (), arguments[1], fortran=False).item()
    if what == "buffer":
        data, kind, shape, order = arguments
        return _Array(_numbers(kind, shape, bytes(data[: _MOST_BYTES + 1]), fortran=order == "F"))
    if what == "encode" and isinstance(arguments[0], str) and len(arguments[0]) <= _MOST_BYTES:
        return arguments[0].encode("latin-1")
    raise _Broken("it calls something")


def _build(target: Any, state: tuple[Any, ...]) -> None:
    if isinstance(target, _Kind):
        target.order = {"<": "<", ">": ">", "|": "|", "=": "<"}[_a(str, state[1])]
    elif isinstance(target, _Array):
        _, shape, kind, fortran, data = state
        target.values = _numbers(kind, shape, data, fortran=bool(fortran))
    else:
        raise _Broken("it builds something")


def _code(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else _a(str, value)
    if not re.fullmatch("[<>|=]?(f[248]|[iu][1248]|b1)", text):
        raise _Broken(f"an array of {text[:20]}")
    return text.lstrip("<>|=")


def _numbers(kind: Any, shape: Any, data: Any, *, fortran: bool) -> np.ndarray:
    if (
        not isinstance(kind, _Kind)
        or not isinstance(data, bytes)
        or type(shape) is not tuple
        or len(data) > _MOST_BYTES
    ):
        raise ValueError("an array is not made of few numbers")
    if (
        type(shape) is not tuple
        or len(shape) > _MOST_AXES
        or not all(type(axis) is int and 0 <= axis <= _LONGEST_AXIS for axis in shape)
    ):
        raise ValueError("an array has no possible shape")
    element = np.dtype((kind.order if kind.order in "<>" else "") + kind.code)
    if math.prod(shape) * element.itemsize != len(data):
        raise ValueError("an array has more or fewer numbers than its shape")
    return np.frombuffer(data, element).reshape(shape, order="F" if fortran else "C").astype(float)
