"""Bad input ends in one sentence with numbers, the right exit code, nothing half-written and nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy.tests.motion import roads
from understudy.tests.motion.roads import CALIBRATION, DEMO, Road, from_keypoints, write_views
from understudy.tests.openpose_files import write_openpose

from inference.protocol.errors import ResourceError
from inference.protocol.requests import MotionRequest
from inference.runtime import weights
from inference.runtime.video import write_movie

MAX_SENTENCE = 400
CLIPS = (DEMO / "front.mp4", DEMO / "side.mp4")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """True 2D of both views, as OpenPose files."""
    return write_views(tmp_path_factory.mktemp("openpose"))


@pytest.fixture
def road(tmp_path: Path) -> Road:
    """A job folder."""
    return Road(tmp_path / "job")


def refused(road: Road, request: MotionRequest, code: int = 3) -> str:
    """Run what must fail; what it says, once it is clear that it failed well."""
    assert road.run(request) == code, road.message
    last = road.events[-1]
    assert last.kind == "failed" and last["code"] != "bug"
    assert "Traceback" not in road.message and "\n" not in last["message"] and len(last["message"]) < MAX_SENTENCE
    assert not road.half_written() and "report.json" not in road.files()
    return road.message


def clips(second: Path, **settings: Any) -> MotionRequest:
    """The demo, its second clip another."""
    return MotionRequest(video=(CLIPS[0], second), calibration=CALIBRATION, overlay=False, **settings)


def film(path: Path, pictures: np.ndarray) -> Path:
    """A clip of (T, H, W, 3) pictures."""
    with write_movie(path, 30, (pictures.shape[2], pictures.shape[1])) as movie:
        for picture in pictures:
            movie.write(picture)
    return path


def _missing(path: Path) -> Path:
    return path


def _text(path: Path) -> Path:
    path.write_text("this is not a film\n" * 40)
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _without_frames(path: Path) -> Path:
    path.write_bytes(b"YUV4MPEG2 W540 H720 F30:1 Ip A1:1 C420jpeg\n")
    return path


def _sound_only(path: Path) -> Path:
    import wave

    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    return path


def _without_index(path: Path) -> Path:
    content = CLIPS[1].read_bytes()  # a recording that was cut off: the index would have come last
    index = content.find(b"moov") - 4
    length = int.from_bytes(content[index : index + 4], "big")
    path.write_bytes(content[:index] + content[index + length :])
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_missing, "no file"),
        (_text, "760 bytes"),
        (_empty, "0 bytes"),
        (_without_frames, ""),
        (_sound_only, ""),
        (_without_index, "bytes"),
        (_folder, "no file"),
    ],
)
def test_a_clip_that_is_none_is_named_before_any_work(
    road: Road, tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    said = refused(road, clips(make(tmp_path / "clip $(x) 「二」.mp4")))
    assert "clip $(x) 「二」.mp4" in said and says in said
    assert not road.stages


def test_a_clip_of_another_size_is_told_from_its_calibration_before_any_work(road: Road, tmp_path: Path) -> None:
    small = film(tmp_path / "side.mp4", np.full((12, 180, 320, 3), 99, np.uint8))
    said = refused(road, clips(small))
    assert "320" in said and "180" in said and "540" in said and "720" in said and not road.stages


def test_one_clip_cannot_be_two_views(road: Road) -> None:
    assert "front.mp4 is given for two views" in refused(road, clips(CLIPS[0])) and not road.stages


def test_a_film_of_nobody_is_counted(road: Road, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (12, 720, 540, 3), dtype=np.uint8)
    said = refused(road, MotionRequest(video=(film(tmp_path / "side.mp4", noise), *CLIPS[:1]), calibration=CALIBRATION))
    assert "12 frames of side.mp4" in said


def test_somebody_in_3_of_240_frames_is_not_enough(road: Road, tmp_path: Path, folders: tuple[Path, ...]) -> None:
    view = roads.true_view(1, slice(0, 3))
    blank = np.zeros((240, 137))
    blank[100:103] = view.confidence
    positions = np.full((240, 137, 2), np.nan)
    positions[100:103] = view.positions
    write_openpose(tmp_path / "side", replace(view, positions=positions, confidence=blank, times=np.arange(240) / 30))
    said = refused(road, from_keypoints((folders[0], tmp_path / "side")))
    assert "3 of 240 frames show a person; at least 10 are needed" in said


def test_a_film_that_breaks_off_is_used_as_far_as_it_goes(road: Road, tmp_path: Path) -> None:
    for clip in CLIPS:  # the index comes first, so that what is there can be read
        content = clip.read_bytes()
        assert content.find(b"moov") < content.find(b"mdat")
        (tmp_path / clip.name).write_bytes(content[: len(content) // 4])
    request = MotionRequest(
        video=tuple(tmp_path / clip.name for clip in CLIPS), calibration=CALIBRATION, overlay=False, face=False
    )
    assert road.run(request) == 0, road.message
    assert 10 <= road.report()["frames"] < 60 and "96" in road.warnings


@dataclass(frozen=True)
class _Calibration:
    """A change to the demo's calibration, and what must be said of it."""

    name: str
    change: Callable[[str], str]
    says: tuple[str, ...]


def _scaled(factor: float) -> Callable[[str], str]:
    def change(text: str) -> str:
        for old in re.findall(r"translation = (.*)", text):
            text = text.replace(old, str([factor * value for value in json.loads(old)]))
        return text

    return change


def _mirrored(text: str) -> str:
    from inference.core.formats.text import read_toml
    from inference.core.rotations import matrix_from_rotvec

    document = read_toml(CALIBRATION)
    for table in document.values():
        if "rotation" in table:
            matrix = matrix_from_rotvec(np.array(table["rotation"])) @ np.diag([-1.0, 1.0, 1.0])
            text = text.replace(f"rotation = {table['rotation']}", f"rotation = {matrix.tolist()}")
    return text


def _with_another(text: str) -> str:
    return text + text.split("\n\n")[0].replace("cam_0", "cam_2").replace('"front"', '"back"')


CALIBRATIONS = [
    _Calibration("millimetres", _scaled(1000.0), ("metres",)),
    _Calibration("a hundredth", _scaled(0.01), ("metres",)),
    _Calibration("mirrored", _mirrored, ("mirror",)),
    _Calibration("a long line", lambda text: f"x = '{'a' * 40_000}'\n{text}", ("40,006", "4,096")),
    _Calibration("a dotted key", lambda text: f"{'a.' * 2000}b = 1\n{text}", ()),
    _Calibration("no camera", lambda _: "[metadata]\nerror = 0.0\n", ("no camera",)),
    _Calibration("three cameras", _with_another, ("2 views", "3 cameras")),
    _Calibration("not TOML", lambda _: "{" * 3000, ("TOML",)),
    _Calibration("size", lambda text: text.replace("540, 720", "1920, 1080"), ("540", "720", "1920", "1080")),
    _Calibration("no number", lambda text: text.replace("900.0", '"900"'), ()),
    _Calibration("nan", lambda text: text.replace("900.0", "nan"), ("finite",)),
    _Calibration("huge size", lambda text: text.replace("540, 720", "1e300, 720"), ()),
    _Calibration("list for name", lambda text: text.replace('"front"', "[1, [2]]"), ()),
    _Calibration("text for count", lambda text: text.replace("fisheye = false", 'rotation_count = "x"'), ()),
    _Calibration("words for a lens", lambda text: text.replace("distortions = [0.0", 'distortions = ["x"'), ()),
    _Calibration("ragged turn", lambda text: text.replace("rotation = [", "rotation = [[1.0], "), ()),
]


@pytest.mark.parametrize("case", CALIBRATIONS, ids=lambda case: case.name)
def test_a_calibration_that_cannot_be_is_told(
    road: Road, tmp_path: Path, folders: tuple[Path, ...], case: _Calibration
) -> None:
    names = ("one", "two") if case.name == "three cameras" else roads.VIEWS  # or they would be found by name
    views = tuple(shutil.copytree(folder, tmp_path / name) for folder, name in zip(folders, names, strict=True))
    path = tmp_path / "rig.toml"
    path.write_text(case.change(CALIBRATION.read_text()), encoding="utf-8")
    if case.name == "list for name":
        assert road.run(from_keypoints(views, calibration=path)) in {0, 3} and road.code != "bug"
        return
    said = refused(road, from_keypoints(views, calibration=path))
    assert all(word in said for word in case.says), said


def _one_frame(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = sorted(folder.iterdir())[7]
        document = change(json.loads(file.read_text()))
        file.write_text(document if isinstance(document, str) else json.dumps(document))

    return apply


def _with(values: list[Any]) -> Callable[[dict[str, Any]], Any]:
    def change(document: dict[str, Any]) -> Any:
        document["people"][0]["pose_keypoints_2d"][: len(values)] = values
        return document

    return change


def _joints(count: int) -> Callable[[dict[str, Any]], Any]:
    def change(document: dict[str, Any]) -> Any:
        document["people"][0]["pose_keypoints_2d"] = [1.0] * (3 * count)
        return document

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_with([float("nan")]), "NaN"),
        (_with([float("inf")]), "Infinity"),
        (_with([float("-inf")]), "Infinity"),
        (_with(["12"]), "not a number"),
        (_with([[1, 2]]), ""),
        (_with([1e308, 1e308]), "1e+308"),
        (_with([-5e12]), "5e+12"),
        (_joints(24), "24"),
        (_joints(7), "7"),
        (lambda _: "[" * 100_000, "nested"),
        (lambda _: '{"people":' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        (lambda document: json.dumps(document).replace("540", "9" * 5000)[:-20], "JSON"),
        (lambda _: "[" + "9" * 5000 + "]", ""),
        (lambda _: "{}", "none of the keypoint formats"),
        (lambda _: "", "JSON"),
        (lambda _: {"people": None}, ""),
    ],
)
def test_a_damaged_keypoint_file_is_named(
    road: Road, tmp_path: Path, folders: tuple[Path, ...], damage: Callable[[dict[str, Any]], Any], says: str
) -> None:
    side = shutil.copytree(folders[1], tmp_path / "side")
    _one_frame(damage)(side)
    said = refused(road, from_keypoints((folders[0], side)))
    assert says in said and "side" in said, said


def test_a_folder_of_other_things_and_a_wrong_range_are_told(road: Road, tmp_path: Path, folders) -> None:
    (tmp_path / "side").mkdir()
    assert "without a keypoint file" in refused(road, from_keypoints((folders[0], tmp_path / "side")))
    assert "500" in refused(road, from_keypoints(folders, start=500)) and "30" in road.message
    assert "--fps" in refused(road, from_keypoints(folders, fps=None))
    assert "--image-size" in refused(road, from_keypoints(folders, image_size=None))


def test_earlier_outputs_stay_when_a_later_run_fails(road: Road, folders: tuple[Path, ...]) -> None:
    assert road.run(from_keypoints(folders)) == 0
    before = {name: (road.folder.path / name).read_bytes() for name in road.files() if name.startswith(("art", "rep"))}
    assert road.run(from_keypoints(folders, start=500)) == 3
    assert before == {name: (road.folder.path / name).read_bytes() for name in before}


def test_missing_weights_are_told_before_any_work(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = weights.locate.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "folder", tmp_path)
    assert "lifter" in refused(road, MotionRequest(video=(CLIPS[0],)), code=4) and not road.stages


def test_a_device_that_is_not_there_is_told_before_any_work(road: Road, folders: tuple[Path, ...]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "CUDA" in refused(road, from_keypoints(folders, device="cuda"), code=2) and not road.stages


def test_an_artifact_that_is_damaged_is_made_again(road: Road, folders: tuple[Path, ...]) -> None:
    assert road.run(from_keypoints(folders)) == 0
    path = road.folder.artifacts / "keypoints_3d.npz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert road.run(from_keypoints(folders)) == 0 and "triangulate" in road.stages
    assert len(path.read_bytes()) == len(content)


@pytest.mark.parametrize("limit_kib", [3, 200, 280])
def test_a_disk_that_fills_up_half_way_costs_nothing_but_the_run(
    tmp_path: Path, folders: tuple[Path, ...], limit_kib: int
) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limit of file size")
    job = tmp_path / "job"
    words = [word for folder in folders for word in ("--keypoints", folder)]
    words += ["--image-size", "540", "720", "--fps", "30", "--calibration", CALIBRATION, "--out", job]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kib << 10, limit_kib << 10))

    done = roads.command_line(*words, preexec_fn=limit)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr and "could not be written" in done.stderr
    left = [path.name for path in job.rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith(".tmp")] and "report.json" not in left


def test_a_movie_that_does_not_fit_on_the_disk_is_told_and_the_earlier_one_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limit of file size")
    noise = np.random.default_rng(0).integers(0, 255, (30, 180, 320, 3), dtype=np.uint8)
    path = film(tmp_path / "overlay.mp4", noise[:4])
    before, soft = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, soft[1]))
    try:
        with pytest.raises(ResourceError, match="could not be written"):
            film(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["overlay.mp4"]


def test_the_command_line_says_one_sentence_and_its_code(tmp_path: Path) -> None:
    done = roads.command_line("--video", tmp_path / "無い $(x).mp4", "--out", tmp_path / "job")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert f"Error: There is no file {tmp_path}/無い $(x).mp4." in done.stderr and not done.stdout


def test_a_second_job_in_the_same_folder_is_refused(road: Road, folders: tuple[Path, ...]) -> None:
    road.folder.path.mkdir()
    with road.folder.lock():
        words = [word for folder in folders for word in ("--keypoints", folder)]
        done = roads.command_line(*words, "--calibration", CALIBRATION, "--out", road.folder.path, "--overwrite")
    assert done.returncode == 2 and "in use" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, folders: tuple[Path, ...]) -> None:
    tmp_path.chmod(0o500)
    done = roads.command_line("--video", CLIPS[0], "--out", tmp_path / "job")
    tmp_path.chmod(0o700)
    assert done.returncode == 2 and "Traceback" not in done.stderr
