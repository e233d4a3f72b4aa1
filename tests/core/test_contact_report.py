"""The report's numbers are those of the feet, and its plot is a picture that says what it shows."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from inference.core.retarget.contact_report import plot_svg, report
from inference.core.retarget.feet import find_feet, measure, settle
from inference.core.retarget.posing import repose
from inference.core.rig import HUMANOID_MAPPING, RigMotion
from tests.rigs import made
from tests.walker import rest_motion, walk

SVG = "{http://www.w3.org/2000/svg}"


def _skating(frames: int = 60) -> tuple[RigMotion, np.ndarray]:
    """A walk that is carried along at 5 mm a frame, 10 mm under the floor."""
    motion, contacts = walk(made.humanoid(), HUMANOID_MAPPING, frames)
    hips = int(motion.moved[0])
    away = np.outer(np.arange(frames) * 0.005, [1.0, 0.0, 0.0]) - [0.0, 0.0, 0.01]
    return repose(motion, {}, {hips: motion.heads[:, hips] + away}), contacts


def test_numbers_before_and_after_are_reported() -> None:
    before, contacts = _skating()
    feet = find_feet(before.rig, HUMANOID_MAPPING)
    after = settle(before, feet, contacts)
    found = json.loads(json.dumps(report(measure(before, feet, contacts), measure(after, feet, contacts))))
    assert found["before"]["slide_mm_per_frame"]["mean"] == pytest.approx(5.0, abs=1e-3)
    assert found["before"]["penetration_mm"]["max"] == pytest.approx(10.0, abs=1e-3)
    assert found["after"]["slide_mm_per_frame"]["max"] <= 0.001
    assert found["after"]["penetration_mm"]["max"] <= 0.001
    standing = (contacts[1:, 0] > 0.5) & (contacts[:-1, 0] > 0.5)
    assert found["before"]["left"]["contact_frames"] == standing.sum()


def test_a_motion_without_feet_is_reported_as_nothing() -> None:
    motion = rest_motion(made.humanoid(), HUMANOID_MAPPING, 4)
    nothing = measure(motion, (), np.zeros((4, 4)))
    assert report(nothing, nothing)["after"] == {
        "slide_mm_per_frame": {"mean": 0.0, "p95": 0.0, "max": 0.0},
        "penetration_mm": {"mean": 0.0, "p95": 0.0, "max": 0.0},
        "knee": 0.0,
    }


def test_the_plot_is_a_picture_with_every_line_and_bar() -> None:
    before, contacts = _skating()
    feet = find_feet(before.rig, HUMANOID_MAPPING)
    picture = ElementTree.fromstring(plot_svg(before, settle(before, feet, contacts), feet, contacts, title="<A> & B"))
    texts = [element.text for element in picture.iter(f"{SVG}text")]
    for text in ("<A> & B", "left foot: height above the floor, mm", "right foot: speed across the floor, mm a frame"):
        assert text in texts
    lines = [path for path in picture.iter(f"{SVG}path") if (path.get("d") or "").count("L") == 59]
    assert len(lines) == 2 * 2 * 4  # feet, panels, heel and ball before and after
    bars = sum(int(np.sum(np.diff(np.concatenate([[0], contacts[:, i] > 0.5])).clip(0))) for i in range(4))
    assert len(list(picture.iter(f"{SVG}rect"))) == 2 + 2 * bars  # background, legend, and each bar in two panels


def test_the_plot_stays_inside_its_frame_and_takes_a_single_frame() -> None:
    before, contacts = _skating()
    feet = find_feet(before.rig, HUMANOID_MAPPING)
    picture = ElementTree.fromstring(plot_svg(before, settle(before, feet, contacts), feet, contacts))
    width, height = float(picture.get("width") or 0), float(picture.get("height") or 0)
    for path in picture.iter(f"{SVG}path"):
        d = path.get("d") or ""
        if "L" in d:
            points = np.array([pair.split() for pair in d[1:].split("L")], float)
            assert points.min() >= 0
            assert (points <= [width, height]).all()
    single, contacts = _skating(1)
    ElementTree.fromstring(plot_svg(single, single, feet, contacts))
