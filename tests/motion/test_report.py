"""The report says what is known, in JSON that any reader takes and a page that needs nothing else."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from understudy.tests.motion import roads
from understudy.tests.motion.roads import FRAMES, Road, from_keypoints, write_views

from inference.core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from inference.core.cameras import Camera
from inference.core.skeletons import BODY_25, LIMBS
from inference.motion.overlay import confidence_colour, draw_bones, draw_keypoints, write_overlay
from inference.motion.report import write_report
from inference.motion.summary import CONTACT_NAMES, Capture, summary
from inference.protocol.errors import ResourceError
from inference.protocol.events import SilentReporter
from inference.runtime.video import read_frames


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """The demo's true 2D, walked to the end with overlays."""
    road = Road(tmp_path_factory.mktemp("report") / "job")
    folders = write_views(tmp_path_factory.mktemp("openpose"))
    assert road.run(from_keypoints(folders, overlay=True)) == 0, road.message
    return road


@pytest.fixture(scope="module")
def capture(road: Road) -> Capture:
    """All that the job made."""
    folder = road.folder.artifacts
    views = [Keypoints2D.load(folder / f"keypoints_2d_{name}.npz") for name in roads.VIEWS]
    keypoints = Keypoints3D.load(folder / "keypoints_3d.npz")
    cameras = [Camera.from_header(header) for header in keypoints.header["cameras"]]
    return Capture(views, cameras, keypoints, BodyMotion.load(folder / "body_motion.npz"), {"fit": 0.3})


def test_the_numbers_hold_what_is_promised(road: Road) -> None:
    numbers = road.report()
    assert numbers["frames"] == FRAMES and numbers["fps"] == 30 and numbers["frame"] == "world"
    for view in numbers["views"]:
        assert set(view["reprojection_px"]["by_joint"]) == set(BODY_25)
        assert view["reprojection_px"]["mean"] < 1 and view["frames_with_person"] == 1
    for name, _, _ in LIMBS:
        limb = numbers["limb_length_m"][name]
        assert limb["least"] <= limb["mean"] <= limb["most"] and abs(limb["fitted"] - limb["mean"]) < 0.08
    assert set(numbers["contacts"]) == set(CONTACT_NAMES)
    assert set(numbers["confidence"]) == {"body", "face", "left hand", "right hand"}
    assert numbers["feet"]["slide_m_s"]["smoothed"] >= 0 and numbers["feet"]["penetration_mm"]["max"] >= 0
    assert 1.4 < numbers["height_m"] < 2.0 and {"triangulate", "fit", "overlay"} <= set(numbers["seconds"])


def test_what_does_not_exist_is_null_and_never_nan(capture: Capture) -> None:
    blank = np.full_like(capture.keypoints.positions, np.nan)
    assert capture.keypoints.error_px is not None
    keypoints = replace(
        capture.keypoints,
        positions=blank,
        confidence=np.zeros(blank.shape[:2]),
        error_px=np.full_like(capture.keypoints.error_px, np.nan),
    )
    header = {
        **capture.motion.header,
        "diagnostics": {"foot_slide": np.float32("nan"), "x": [float("inf"), np.int64(3)]},
    }
    numbers = summary(replace(capture, keypoints=keypoints, motion=replace(capture.motion, header=header)))
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert numbers["reprojection_px"]["mean"] is None and numbers["limb_length_std_mm"] is None
    assert numbers["feet"]["slide_m_s"]["smoothed"] is None and numbers["fit"]["x"] == [None, 3]


def test_a_camera_that_is_off_is_named_with_its_sign(capture: Capture) -> None:
    offset = {"offset_from_others_px": [21.0, -17.0], "scatter_px": 3.0, "biased": True}
    diagnostics = {"height_m": 1.7, "cameras": [offset, {"offset_from_others_px": [None, None], "scatter_px": None}]}
    changed = replace(capture, keypoints=capture.keypoints.with_header(diagnostics=diagnostics))
    views = summary(changed)["views"]
    assert views[0]["offset_from_others_px"] == [21.0, -17.0] and views[0]["is_biased"] is True


class _Page(HTMLParser):
    """Collects all that a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [str(value) for name, value in attrs if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else(road: Road) -> None:
    page = _Page()
    page.feed((road.folder.path / "report.html").read_text(encoding="utf-8"))
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("img") == 2 and page.tags.count("svg") == 9
    pictures = [base64.b64decode(source.partition(",")[2]) for source in page.sources]
    sizes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape for data in pictures]
    assert sum(min(size[:2]) > 150 for size in sizes) == 2
    for words in (
        "How well the clips fit",
        "from above",
        "a view was used",
        "Expected error",
        "Reprojection error",
        "Limb lengths",
        "Confidence",
        "Foot contacts",
        "Height above the floor",
    ):
        assert words in page.text


def test_words_of_the_user_are_escaped_on_the_page(capture: Capture, tmp_path: Path) -> None:
    name = "<script>alert('$x$')</script>"
    views = [view.with_header(view=name) for view in capture.views]
    warnings = [{"code": "x", "text": 'a <b> & "c"'}]
    write_report(tmp_path, replace(capture, views=views, warnings=warnings))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "a &lt;b&gt; &amp;" in text


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_clip_of_a_few_frames_has_a_report_too(capture: Capture, tmp_path: Path, frames: int) -> None:
    def cut(artifact, names):
        return replace(artifact, **{name: getattr(artifact, name)[:frames] for name in names})

    keypoints = cut(capture.keypoints, ("positions", "confidence", "validity", "times"))
    assert capture.keypoints.error_px is not None
    keypoints = replace(keypoints, error_px=capture.keypoints.error_px[:, :frames])
    whole = ("positions", "confidence")
    names = ("rotations", "root", "bone_confidence", "times", "contacts", "rotations_raw", "root_raw", *whole)
    short = replace(capture, keypoints=keypoints, motion=cut(capture.motion, names))
    assert write_report(tmp_path, short)["frames"] == frames


def _found_colours(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=-1) < 30).sum())


def test_sure_points_are_green_and_unsure_ones_red() -> None:
    points, confidence = np.full((137, 2), np.nan), np.zeros(137)
    points[[2, 3]], confidence[[2, 3]] = [[20, 20], [60, 20]], 1.0
    points[[5, 6]], confidence[[5, 6]] = [[20, 60], [60, 60]], 0.1
    image = np.zeros((80, 80, 3), np.uint8)
    draw_keypoints(image, points, confidence)
    assert _found_colours(image[:40], confidence_colour(1.0)) > 40 < _found_colours(image[40:], confidence_colour(0.1))
    assert _found_colours(image[:40], confidence_colour(0.1)) == 0


def test_bones_behind_the_camera_or_far_away_are_no_trouble() -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    heads = np.array([[np.nan, 1.0], [1e12, -1e12], [10.0, 40.0]])
    draw_bones(image, heads, np.array([[1.0, 1.0], [40.0, 40.0], [70.0, 40.0]]))
    assert (image[40, 40] > 200).all()


@pytest.mark.parametrize("size", [(540, 720), (3840, 2160), (101, 67), (64, 1000)])
def test_a_movie_of_any_size_can_be_played(capture: Capture, tmp_path: Path, size: tuple[int, int]) -> None:
    rows = slice(0, 3)
    view = capture.views[0]
    scaled = view.positions[rows] * np.array(size) / np.array(roads.SIZE)
    small = replace(view, positions=scaled, confidence=view.confidence[rows], times=view.times[rows])
    motion = replace(capture.motion, rotations=capture.motion.rotations[rows], root=capture.motion.root[rows])
    small = small.with_header(image_size=list(size))
    still = write_overlay(tmp_path / "o.mp4", small, motion, capture.cameras[0], SilentReporter())
    frames = [rgb for _, _, rgb in read_frames(tmp_path / "o.mp4")]
    assert len(frames) == 3 and max(frames[0].shape) <= 960
    ratio = frames[0].shape[1] / frames[0].shape[0]
    assert still and still.is_file() and abs(np.log(ratio * size[1] / size[0])) < 0.05


def test_footage_that_ends_early_or_is_gone_leaves_a_dark_picture(capture: Capture, tmp_path: Path) -> None:
    clip = roads.DEMO / "front.mp4"
    view = capture.views[0].with_header(source=str(clip))
    write_overlay(tmp_path / "o.mp4", view, capture.motion, capture.cameras[0], SilentReporter(), start=90)
    brightness = [float(rgb.mean()) for _, _, rgb in read_frames(tmp_path / "o.mp4")]
    assert len(brightness) == FRAMES and min(brightness[:6]) > 80 and max(brightness[7:]) < 60
    gone = view.with_header(source=str(tmp_path / "gone.mp4"))
    write_overlay(tmp_path / "o.mp4", gone, capture.motion, capture.cameras[0], SilentReporter())
    assert len(list(read_frames(tmp_path / "o.mp4"))) == FRAMES


def test_a_still_that_does_not_fit_on_the_disk_is_named_and_nothing_is_left(capture: Capture, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limit of file size")
    view = capture.views[0].with_header(source=str(roads.DEMO / "front.mp4"))
    first = {name: getattr(view, name)[:3] for name in ("positions", "confidence", "times")}
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, soft[1]))
    try:
        with pytest.raises(ResourceError, match="o.png could not be written"):
            write_overlay(
                tmp_path / "o.mp4", replace(view, **first), capture.motion, capture.cameras[0], SilentReporter()
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert not list(tmp_path.iterdir())


def test_the_page_shows_no_number_that_is_not_one(road: Road) -> None:
    text = (road.folder.path / "report.html").read_text(encoding="utf-8")
    plain = re.sub(r"base64,[^']+", "", text)
    assert not re.search(r"\b(nan|inf|None)\b", plain)
