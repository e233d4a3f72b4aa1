"""Bad photos end in one sentence with numbers, the right exit code, and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from understudy.tests.head import faces
from understudy.tests.head.test_see import studio_photo
from understudy.tests.motion.roads import ROOT, Road

from inference.protocol.errors import RequestError, WeightsError
from inference.protocol.requests import HeadRequest
from inference.runtime import weights

Array = np.ndarray
OUTPUTS = ("head_surface.npz", "head_mesh.npz", "texture.png", "normal.png", "head.glb", "report.json")


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return Road(tmp_path / "job")


def refused(road: Road, request: HeadRequest, code: int = 3) -> str:
    """Run what must fail; what it says, once it is clear that it failed well."""
    assert road.run(request) == code, road.message
    last = road.events[-1]
    assert last.kind == "failed" and last["code"] != "bug", road.message
    assert "\n" not in last["message"] and len(last["message"]) < 400 and last["hint"]
    assert not [name for name in road.files() if name.endswith(OUTPUTS)] and not road.half_written()
    return road.message


def written(path: Path, picture: Array) -> Path:
    Image.fromarray(picture).save(path)
    return path


def test_a_photo_without_a_face(road: Road, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    said = refused(road, HeadRequest(photo=(written(tmp_path / "noise.png", noise),)))
    assert said.startswith("No face was found in noise.png (400 x 300 px).")


def test_several_faces_are_listed_from_the_left_with_how_to_choose(road: Road, tmp_path: Path) -> None:
    said = refused(road, HeadRequest(photo=(written(tmp_path / "both.png", faces.twice()),)))
    assert "both.png shows 2 faces, from the left 1: x 1" in said and "; 2: x 69" in said
    assert "--face N, 1 to 2" in said


def test_a_chosen_face_that_is_not_there(road: Road, tmp_path: Path) -> None:
    request = HeadRequest(photo=(written(tmp_path / "one.png", faces.portrait()),), face=(3,))
    assert "face: 3 is asked for, and one.png shows 1 face" in refused(road, request, 2)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (faces.drawn, "looks drawn, not photographed"),
        (faces.in_sunglasses, "wears glasses that hide the eyes"),
        (faces.masked, "has its mouth covered"),
    ],
)
def test_drawings_dark_glasses_and_masks(road: Road, tmp_path: Path, picture: Any, words: str) -> None:
    said = refused(road, HeadRequest(photo=(written(tmp_path / "a.png", picture()),)))
    assert f"The face in a.png {words}" in said and "--accept-doubtful" in said


def test_a_face_that_is_too_small(road: Road, tmp_path: Path) -> None:
    small = np.asarray(Image.fromarray(faces.portrait()).resize((180, 180)))
    said = refused(road, HeadRequest(photo=(written(tmp_path / "small.png", small),)))
    assert "px large; at least 48 px are needed" in said


@pytest.mark.data
@pytest.mark.parametrize("turn", [70, 88])
def test_nothing_but_a_profile(road: Road, tmp_path: Path, data_dir: Path, turn: int) -> None:
    said = refused(road, HeadRequest(photo=(written(tmp_path / "side.png", studio_photo(data_dir, turn)),)))
    assert "a profile is not enough" in said or "No face was found in side.png" in said
    assert "from the front" in said or "turned by less than 55 degrees" in said


@pytest.mark.slow
def test_a_photo_of_12000_px_each_way_is_read_within_1500_mib(tmp_path: Path) -> None:
    path = written(tmp_path / "huge.png", np.zeros((12_000, 12_000, 3), np.uint8))
    script = (
        "import re, sys; from pathlib import Path; from inference.sight.photos import read_photo;"
        "assert read_photo(Path(sys.argv[1])).rgb.shape == (6000, 6000, 3);"
        # not by getrusage, which counts what the parent had before it started this process
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, path], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    assert int(told.stdout) < 1500


def test_one_photo_that_cannot_be_read_ends_the_job_though_others_can(road: Road, tmp_path: Path) -> None:
    good = written(tmp_path / "good.png", faces.portrait())
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    assert "bad.jpg (10 bytes) cannot be read" in refused(road, HeadRequest(photo=(good, tmp_path / "bad.jpg")))


def test_a_film_without_a_face(road: Road, tmp_path: Path) -> None:
    from inference.runtime.video import write_movie

    with write_movie(tmp_path / "a.mp4", 30, (128, 128)) as movie:
        for _ in range(12):
            movie.write(np.full((128, 128, 3), 90, np.uint8))
    said = refused(road, HeadRequest(video=tmp_path / "a.mp4"))
    assert "No face was found in a.mp4: 12 of its 12 frames were looked at." in said


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "photo: no photo and no film"),
        ({"photo": (Path("a"),) * 9}, "photo: 9 given"),
        ({"photo": (Path("a"),), "video": Path("b")}, "video: given beside photos"),
        ({"photo": (Path("a"),) * 3, "face": (1, 2)}, "face: 2 given for 3 pictures"),
        (
            {"photo": (Path("a"),), "pupil_distance_mm": 63.0, "head_height_m": 0.2},
            "head_height_m: given beside the distance of the pupils",
        ),
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as caught:
        HeadRequest(**settings)
    assert caught.value.message == sentence and caught.value.hint


@pytest.mark.parametrize("content", [b"", b"no weights at all" * 99])
def test_weights_that_are_damaged(road: Road, tmp_path: Path, content: bytes) -> None:
    photo = written(tmp_path / "a.png", faces.portrait())
    (tmp_path / "prior.safetensors").write_bytes(content)
    said = refused(road, HeadRequest(photo=(photo,), prior=tmp_path / "prior.safetensors"), 4)
    assert "prior.safetensors" in said


def test_weights_of_another_network(road: Road, tmp_path: Path) -> None:
    photo = written(tmp_path / "a.png", faces.portrait())
    said = refused(road, HeadRequest(photo=(photo,), prior=weights.FOLDER / "view_trust.safetensors"), 4)
    assert "view_trust.safetensors holds no prior of heads." in said


@pytest.mark.parametrize("name", ["heads", "head-template"])
def test_published_weights_that_differ_from_their_hash(tmp_path: Path, name: str) -> None:
    entry = weights.registry()[name]
    changed = bytearray((weights.FOLDER / entry.file).read_bytes())
    changed[-1] ^= 1
    (tmp_path / entry.file).write_bytes(changed)
    with pytest.raises(WeightsError, match="its sha256 differs"):
        weights.locate(name, folder=tmp_path)
    shutil.copy(weights.FOLDER / entry.file, tmp_path / entry.file)
    assert weights.locate(name, folder=tmp_path) == tmp_path / entry.file
