"""A page that needs nothing else: headings, tables and pictures as HTML in one file."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .formats.pictures import encode_png

Array = np.ndarray
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%}table{border-collapse:collapse;width:100%}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}th{font-weight:600}h2{margin:1.8em 0 .4em;font-size:1.1em}
.warn{background:#fff3cd;padding:.5em 1em;border-left:4px solid #e0a800}.views{display:flex;flex-wrap:wrap;gap:1em}
figure{margin:0}figcaption{color:#666}"""


def page(title: str, parts: Iterable[str], warnings: Sequence[dict[str, Any]] = ()) -> str:
    """Give the whole page; `parts` are made by the functions below."""
    name = html.escape(title)
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{name}</title>"
    noted = [f"<p class='warn'>{html.escape(warning['text'])}</p>" for warning in warnings]
    body = "\n".join([f"<h1>{name}</h1>", *noted, *parts])
    return f"<!doctype html><html lang='en'><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>"


def heading(text: str) -> str:
    """A heading of the second order."""
    return f"<h2>{html.escape(text)}</h2>"


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """A table; without a `head` the first cell of each row is its label."""
    top = "<tr>" + "".join(f"<th>{html.escape(label)}</th>" for label in head) + "</tr>" if head else ""
    return "<table>" + top + "".join(_row(row, labelled=not head) for row in rows) + "</table>"


def _row(row: Sequence[object], *, labelled: bool) -> str:
    tags = ["th" if labelled and place == 0 else "td" for place in range(len(row))]
    cells = (f"<{tag}>{html.escape(str(cell))}</{tag}>" for tag, cell in zip(tags, row, strict=True))
    return "<tr>" + "".join(cells) + "</tr>"


def pictures(shown: Iterable[tuple[str, Array]]) -> str:
    """Pictures (H, W, 3 or 4) uint8 beside each other, each with its caption."""
    return "<div class='views'>" + "".join(_figure(caption, image) for caption, image in shown) + "</div>"


def _figure(caption: str, image: Array) -> str:
    data, text = base64.b64encode(encode_png(image)).decode(), html.escape(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"
