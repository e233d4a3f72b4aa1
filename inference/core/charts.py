"""Charts as SVG for pages of reports: panels with axes, lines, bands, pictures of values, tables; no library.

A chart is made in about a millisecond, stays sharp, and its words can be searched. The functions give pieces of SVG;
`chart` puts them together. Pixels count from the top left.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .formats.pictures import encode_png

Array = np.ndarray
WIDTH = 960  # px
UNSEEN = "#d0d0d0"
HEAT = ("#ffffcc", "#fed976", "#feb24c", "#fd8d3c", "#fc4e2a", "#e31a1c", "#b10026")
BLUES = ("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")
TRAFFIC = ("#a50026", "#d73027", "#f46d43", "#fdae61", "#fee08b", "#d9ef8b", "#a6d96a", "#66bd63", "#1a9850")
DAWN = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
_MOST_COLUMNS = 1200  # of a picture of values: more are narrower than a pixel


@dataclass(frozen=True)
class Panel:
    """A rectangle, in pixels, and what its sides stand for: `x` left and right, `y` bottom and top."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: Array | float, y: Array | float) -> tuple[Array, Array]:
        """Pixels of points."""
        across = (np.asarray(x, float) - self.x[0]) / (self.x[1] - self.x[0])
        up = (np.asarray(y, float) - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + self.width * across, self.top + self.height * (1.0 - up)

    def line(self, x: Array, y: Array, style: str) -> str:
        """Draw (T,) values over (T,) places; broken where a value is NaN."""
        seen = np.isfinite(y)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]])))
        runs = [slice(a, b) for a, b in edges.reshape(-1, 2)]
        return "".join(self._run(*_thinned(x[run], y[run], 2 * int(self.width)), style) for run in runs)

    def _run(self, x: Array, y: Array, style: str) -> str:
        across, down = self.at(x, np.clip(y, *_beyond(self.y)))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across.tolist(), down.tolist(), strict=True))
        shape = f"M{points}h.1" if len(x) == 1 else f"M{points}"
        return f'<path d="{shape}" fill="none" {style} clip-path="url(#{self.name})"/>'

    def upright(self, x: float, style: str) -> str:
        """A line from bottom to top."""
        across = float(self.at(x, self.y[0])[0])
        return f'<path d="M{across:.1f} {self.top:.1f}v{self.height:.1f}" {style} clip-path="url(#{self.name})"/>'

    def level(self, y: float, style: str) -> str:
        """A line from left to right."""
        down = float(self.at(self.x[0], y)[1])
        return f'<path d="M{self.left:.1f} {down:.1f}h{self.width:.1f}" {style} clip-path="url(#{self.name})"/>'

    @property
    def name(self) -> str:
        """What clips to this panel is called; the same in all charts where it means the same."""
        return "clip" + "_".join(f"{value:g}" for value in (self.left, self.top, self.width, self.height))

    def axes(self, *, title: str = "", x_label: str = "", ticks: tuple[int, int] = (6, 5)) -> str:
        """The frame with its lines and numbers; `ticks` are how many at most along x and y, 0 for none."""
        box = f'x="{self.left:.1f}" y="{self.top:.1f}" width="{self.width:.1f}" height="{self.height:.1f}"'
        out = [f'<clipPath id="{self.name}"><rect {box}/></clipPath>']
        bottom = self.top + self.height
        for value in tick_values(*self.x, ticks[0]):
            across = float(self.at(value, self.y[0])[0])
            out.append(f'<path d="M{across:.1f} {self.top:.1f}v{self.height:.1f}" stroke="#e4e4e4"/>')
            out.append(words(across, bottom + 14, f"{value:g}", anchor="middle", size=10))
        for value in tick_values(*self.y, ticks[1]):
            down = float(self.at(self.x[0], value)[1])
            out.append(f'<path d="M{self.left:.1f} {down:.1f}h{self.width:.1f}" stroke="#e4e4e4"/>')
            out.append(words(self.left - 5, down + 3.5, f"{value:g}", anchor="end", size=10))
        middle = self.left + self.width / 2
        out += [words(middle, self.top - 6, title, anchor="middle")] if title else []
        out += [words(middle, bottom + 28, x_label, anchor="middle", size=10)] if x_label else []
        return "".join([*out, f'<rect {box} fill="none" stroke="#666"/>'])

    def picture(self, colours: Array) -> str:
        """Fill the panel with (H, W, 3) uint8, hard-edged."""
        columns = colours.shape[1]
        if columns > _MOST_COLUMNS:
            colours = colours[:, np.linspace(0, columns - 1, _MOST_COLUMNS).round().astype(int)]
        data = base64.b64encode(encode_png(np.ascontiguousarray(colours))).decode()
        box = f'x="{self.left:.1f}" y="{self.top:.1f}" width="{self.width:.1f}" height="{self.height:.1f}"'
        how = 'preserveAspectRatio="none" style="image-rendering:pixelated"'
        return f'<image {box} {how} href="data:image/png;base64,{data}"/>'

    def row_names(self, names: Sequence[str]) -> str:
        """Names left of as many rows."""
        step = self.height / len(names)
        return "".join(
            words(self.left - 5, self.top + (row + 0.5) * step + 3.5, name, anchor="end", size=10)
            for row, name in enumerate(names)
        )


def chart(title: str, height: float, parts: Iterable[str]) -> str:
    """The whole chart, as an element of a page or a file of its own."""
    label = html.escape(title, quote=True)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}"'
    return f'{head} font-family="sans-serif" font-size="12" fill="#222" style="max-width:100%">{"".join(parts)}</svg>'


def words(x: float, y: float, text: str, *, anchor: str = "start", size: float = 12, more: str = "") -> str:
    """A line of text whose `anchor` (start, middle, end) stands at x, on y."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}" {more}>{html.escape(text)}</text>'
    )


def stroke(colour: str, width: float = 1.2, *, dash: str = "", opacity: float = 1.0) -> str:
    """How a line looks."""
    broken = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{colour}" stroke-width="{width:g}" stroke-opacity="{opacity:g}"{broken}'


def legend(x: float, y: float, entries: Iterable[tuple[str, str]], *, step: float) -> str:
    """Samples of lines with their names, side by side."""
    out = []
    for number, (name, style) in enumerate(entries):
        at = x + number * step
        out.append(f'<path d="M{at:.1f} {y - 4:.1f}h22" {style}/>' + words(at + 27, y, name, size=10))
    return "".join(out)


def colours_of(values: Array, stops: Sequence[str], low: float, high: float) -> Array:
    """(..., 3) uint8 of (...) values on a scale of colours; NaN is grey."""
    scale = np.array([_rgb(stop) for stop in stops], float)
    part = np.clip((np.asarray(values, float) - low) / (high - low), 0, 1) * (len(stops) - 1)
    known = np.where(np.isfinite(part), part, 0.0)
    mixed = np.stack([np.interp(known, np.arange(len(stops)), scale[:, channel]) for channel in range(3)], -1)
    return np.where(np.isfinite(part)[..., None], mixed, _rgb(UNSEEN)).round().astype(np.uint8)


def colour_bar(panel: Panel, stops: Sequence[str], low: float, high: float, label: str) -> str:
    """The scale of a panel's colours, to the right of it."""
    bar = Panel(panel.left + panel.width + 14, panel.top, 14, panel.height, (0, 1), (low, high))
    out = [bar.picture(colours_of(np.linspace(high, low, 64)[:, None], stops, low, high))]
    for value in tick_values(low, high, 6):
        down = float(bar.at(0, value)[1])
        out.append(words(bar.left + 19, down + 3.5, f"{value:g}", size=10))
    x, y = bar.left + 56, bar.top + bar.height / 2
    turned = f'transform="rotate(-90 {x:.1f} {y:.1f})"'
    return "".join([*out, words(x, y, label, anchor="middle", size=10, more=turned)])


def table(panel: Panel, texts: Sequence[Sequence[str]], colours: Array, columns: Sequence[str]) -> str:
    """Cells (R, C) of words on (R, C, 3) colours; the names of the `columns` are slanted below."""
    wide, high = panel.width / len(columns), panel.height / len(texts)
    out = []
    for (row, column), text in np.ndenumerate(np.array(texts, dtype=object)):
        x, y, (r, g, b) = panel.left + column * wide, panel.top + row * high, colours[row, column].tolist()
        fill = f'fill="#{r:02x}{g:02x}{b:02x}"'
        out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide + 0.3:.1f}" height="{high + 0.3:.1f}" {fill}/>')
        ink = 'fill="#fff"' if 0.3 * r + 0.59 * g + 0.11 * b < 130 else ""
        out.append(words(x + wide / 2, y + high / 2 + 3.5, str(text), anchor="middle", size=10, more=ink))
    bottom = panel.top + panel.height + 12
    for column, name in enumerate(columns):
        x = panel.left + (column + 0.5) * wide + 4
        out.append(words(x, bottom, name, anchor="end", size=10, more=f'transform="rotate(-55 {x:.1f} {bottom:.1f})"'))
    return "".join(out)


def span(values: Array, margin: float = 0.0) -> tuple[float, float]:
    """From the least to the greatest, never nothing, with a share of it added at both ends."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    high = max(high, low + 1e-3)
    return low - margin * (high - low), high + margin * (high - low)


def tick_values(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round values from `low` to `high`."""
    if most <= 0 or not high > low:
        return []
    step = tick(high - low, most)
    return [float(value) for value in np.arange(np.ceil(low / step - 1e-6), high / step + 1e-6).round() * step + 0.0]


def tick(span: float, most: int) -> float:
    """A round step of which `span` has at most `most`."""
    raw = span / most
    size = 10.0 ** np.floor(np.log10(raw))
    return float(size * next(factor for factor in (1, 2, 5, 10) if factor * size >= raw * 0.999))


def _thinned(x: Array, y: Array, most: int) -> tuple[Array, Array]:
    """Leave out what is too near to be seen: of every bin its lowest and its highest value, in their order."""
    size = -(-len(x) // max(most // 2, 1))
    if size < 3:
        return x, y
    starts = np.arange(0, len(x), size)
    bins = [slice(start, start + size) for start in starts]
    kept = {
        int(start + pick(y[part])) for start, part in zip(starts, bins, strict=True) for pick in (np.argmin, np.argmax)
    }
    order = sorted(kept | {0, len(x) - 1})
    return x[order], y[order]


def _beyond(span: tuple[float, float]) -> tuple[float, float]:
    """Twice as far out: what lies there is cut off, and numbers stay small."""
    return span[0] - (span[1] - span[0]), span[1] + (span[1] - span[0])


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
