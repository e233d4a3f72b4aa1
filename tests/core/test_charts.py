"""Charts are SVG that any reader takes, and what they show is where the numbers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from inference.core.charts import HEAT, Panel, chart, colours_of, stroke, table, tick_values, words

PANEL = Panel(100, 10, 200, 50, (0.0, 1.0), (0.0, 10.0))


def points_of(piece: str) -> np.ndarray:
    """The corners of the lines in a piece of SVG."""
    return np.array([[float(a), float(b)] for a, b in re.findall(r"(-?[\d.]+),(-?[\d.]+)", piece)])


def test_points_lie_where_the_axes_say() -> None:
    drawn = points_of(PANEL.line(np.array([0.0, 0.5, 1.0]), np.array([0.0, 10.0, 5.0]), stroke("#000000")))
    assert drawn.tolist() == [[100, 60], [200, 10], [300, 35]]


def test_a_line_is_broken_where_nothing_is_known() -> None:
    values = np.array([1.0, 2.0, np.nan, 3.0, np.nan, 4.0, 5.0])
    piece = PANEL.line(np.linspace(0, 1, 7), values, stroke("#000000"))
    assert piece.count("<path") == 3 and "nan" not in piece


def test_a_long_line_keeps_every_peak() -> None:
    values = np.full(100_000, 5.0)
    values[[12_345, 77_777]] = 9.0, 1.0
    drawn = points_of(PANEL.line(np.linspace(0, 1, len(values)), values, stroke("#000000")))
    assert len(drawn) < 1000 and drawn[:, 1].min() == 15 and drawn[:, 1].max() == 55


def test_unknown_values_are_grey_and_others_on_the_scale() -> None:
    found = colours_of(np.array([0.0, np.nan, 2.0, 9.0]), HEAT, 0.0, 2.0)
    assert found.tolist() == [[255, 255, 204], [208, 208, 208], [177, 0, 38], [177, 0, 38]]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-3.0, 4.0, [-2.0, 0.0, 2.0, 4.0]), (5.0, 5.0, [])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert tick_values(low, high, 5) == pytest.approx(expected)


def test_words_from_strangers_do_not_become_markup() -> None:
    cells = table(PANEL, [["<b>", "1"]], np.zeros((1, 2, 3), np.uint8), ["a&b", "c"])
    whole = ElementTree.fromstring(chart('"><script>', 100, [words(0, 0, "<i>"), PANEL.axes(title="<u>"), cells]))
    assert {each.tag.partition("}")[2] for each in whole.iter()} <= {"svg", "text", "rect", "path", "clipPath"}
    assert {"<i>", "<u>", "<b>", "a&b"} <= {each.text for each in whole.iter()}
