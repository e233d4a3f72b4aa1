"""XML from strangers: elements, attributes and text. No document types, entities or anything outside the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from ...protocol.errors import InputError

_DEEPEST = 32
_MOST_ELEMENTS = 200_000
_MOST_ATTRIBUTES = 200


@dataclass
class Node:
    """One element."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def all(self, path: str) -> list[Node]:
        """Give the elements at a path of tags such as `KeyFrames/KeyFrame`."""
        found: list[Node] = [self]
        for tag in path.split("/"):
            found = [child for node in found for child in node.children if child.tag == tag]
        return found

    def first(self, path: str) -> Node | None:
        """Give the first element at a path."""
        return next(iter(self.all(path)), None)


def parse_xml(content: bytes, name: str) -> Node:
    """Parse a document and give its root.

    Raises:
        InputError: not XML, or with a document type, entities, too many elements or too deep.
    """
    root = Node("")
    stack, count = [root], 0
    texts: list[list[str]] = [[]]

    def refuse(*_: object) -> NoReturn:
        raise InputError(f"{name} brings its own document type or entities; a calibration needs none.")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > _MOST_ELEMENTS or len(stack) > _DEEPEST or len(attributes) > _MOST_ATTRIBUTES:
            raise InputError(
                f"{name} is no calibration: it has more than {_MOST_ELEMENTS:,} elements, more than {_MOST_ATTRIBUTES} "
                f"attributes in one, or is nested deeper than {_DEEPEST}."
            )
        node = Node(tag, attributes)
        stack[-1].children.append(node)
        stack.append(node)
        texts.append([])

    def end(_: str) -> None:
        stack.pop().text = "".join(texts.pop())

    def text(given: str) -> None:
        texts[-1].append(given)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise InputError(f"{name} is not XML: {str(error)[:120]}.") from error
    return root.children[0]
