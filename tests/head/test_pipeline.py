"""The whole road: what comes out, what is not done twice, and how it stops."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from understudy.tests.head import faces
from understudy.tests.head.test_bad_input import written
from understudy.tests.motion.roads import Road

from inference.core.artifacts import HeadMesh, HeadSurface
from inference.protocol.events import Event
from inference.protocol.requests import HeadRequest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = {"quality": "draft", "texture_size": 256, "surface_faces": 8000}


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("photo") / "astronaut.png", faces.portrait())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, photo: Path) -> Iterator[Road]:
    """A finished draft of the portrait."""
    road = Road(tmp_path_factory.mktemp("job"))
    assert road.run(HeadRequest(photo=(photo,), **SMALL)) == 0, road.message
    yield road


def test_everything_that_is_promised_is_there_and_announced(done: Road) -> None:
    announced = {event["file"] for event in done.events if event.kind == "artifact"}
    promised = {f"artifacts/{name}" for name in (
        "head_surface.npz", "head_mesh.npz", "texture.png", "normal.png", "head.glb", "portrait.png",
    )}  # fmt: skip
    assert promised | {"report.html"} <= announced
    assert announced | {"report.json"} <= done.files() and not done.half_written()


def test_the_artifacts_are_whole_and_in_true_metres(done: Road) -> None:
    surface = HeadSurface.load(done.folder.artifacts / "head_surface.npz")
    mesh = HeadMesh.load(done.folder.artifacts / "head_mesh.npz")
    assert 6000 < len(surface.faces) < 8400 and len(mesh.shape_key_names) == 52
    height = np.ptp(mesh.placed().vertices[:, 2])
    assert 0.15 < height < 0.35
    points = surface.vertices[surface.faces].astype(float)
    assert np.einsum("fi,fi->", points[:, 0], np.cross(points[:, 1], points[:, 2])) > 0, "triangles face outwards"
    with np.load(done.folder.artifacts / "head_mesh.npz", allow_pickle=False) as archive:
        assert {"vertices", "faces", "uv", "shape_keys", "shape_key_names"} <= set(archive.files)


def test_the_texture_has_the_size_that_was_asked_for_and_the_colour_of_skin(done: Road) -> None:
    with Image.open(done.folder.artifacts / "texture.png") as image:
        assert image.size == (256, 256)
        red, _, blue = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0)
    assert red > blue


def test_the_glb_holds_mesh_shapes_and_textures(done: Road) -> None:
    content = (done.folder.artifacts / "head.glb").read_bytes()
    length = int.from_bytes(content[12:16], "little")
    document = json.loads(content[20 : 20 + length])
    assert content[:4] == b"glTF" and len(document["images"]) == 2
    assert any(
        len(primitive.get("targets", ())) == 52 for mesh in document["meshes"] for primitive in mesh["primitives"]
    )


def test_the_report_says_how_long_everything_took(done: Road) -> None:
    report = done.report()
    assert {"see", "fit", "extract", "wrap", "texture"} <= report["seconds"].keys()
    assert report["photos"][0]["name"] == "astronaut.png" and report["scale"] == 1.0
    page = (done.folder.path / "report.html").read_text(encoding="utf-8")
    written = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)  # in a picture anything may stand by chance
    assert page.count("<img") >= 4 and "http" not in written


def test_pictures_of_the_head_appear_while_it_is_made(done: Road) -> None:
    shown = [
        event["name"] for event in done.events if event.kind == "artifact" and event["name"].startswith("preview_")
    ]
    assert len(shown) >= 2 and shown == sorted(shown)


def test_what_has_not_changed_is_not_made_again(done: Road, photo: Path) -> None:
    mesh = (done.folder.artifacts / "head_mesh.npz").stat().st_mtime_ns
    assert done.run(HeadRequest(photo=(photo,), **SMALL)) == 0, done.message
    assert (done.folder.artifacts / "head_mesh.npz").stat().st_mtime_ns == mesh
    assert not {"extract", "wrap", "texture"} & done.stages
    seconds = done.report()["seconds"]
    assert not {"extract", "wrap", "texture"} & seconds.keys() and seconds["fit"] < 15


def test_a_measured_distance_of_the_pupils_scales_the_head(done: Road, photo: Path) -> None:
    before = HeadMesh.load(done.folder.artifacts / "head_mesh.npz").placed()
    assert done.run(HeadRequest(photo=(photo,), pupil_distance_mm=70.0, **SMALL)) == 0, done.message
    after = HeadMesh.load(done.folder.artifacts / "head_mesh.npz").placed()
    left, right = (middle(after, part) for part in ("eye.L", "eye.R"))
    assert np.linalg.norm(left - right) == pytest.approx(0.07, abs=1e-4)
    assert not {"extract", "wrap", "texture"} & done.stages
    larger = np.ptp(after.vertices[:, 2]) / np.ptp(before.vertices[:, 2])
    assert larger == pytest.approx(done.report()["scale"], rel=0.01)


def middle(mesh: HeadMesh, part: str) -> np.ndarray:
    """The middle of an eyeball."""
    faces = mesh.faces[mesh.face_part == mesh.header["parts"].index(part)]
    points = mesh.vertices[np.unique(faces[faces >= 0])]
    return 0.5 * (points.min(0) + points.max(0))


def test_a_checkpoint_that_is_damaged_is_a_sentence(done: Road, photo: Path) -> None:
    for path in done.folder.path.glob("checkpoints/*/*.safetensors"):
        path.write_bytes(b"damaged")
    assert done.run(HeadRequest(photo=(photo,), pupil_distance_mm=70.0, **SMALL)) == 4, done.message
    assert "checkpoint" in done.message and "damaged" in done.message


def test_a_cancel_is_answered_within_seconds_and_what_was_done_is_kept(tmp_path: Path, photo: Path) -> None:
    road, asked = Road(tmp_path / "job"), []

    def cancel_soon(event: Event) -> None:
        if event.kind == "progress" and event["stage"] == "surface" and event["done"] > 8 and not asked:
            asked.append(time.monotonic())
            road.folder.ask_to_cancel()

    assert road.run(HeadRequest(photo=(photo,), **SMALL), cancel_soon) == 130
    assert time.monotonic() - asked[0] < 6 and road.events[-1].kind == "cancelled"
    assert list(road.folder.path.glob("checkpoints/*/fit.safetensors"))
    assert "report.json" not in road.files() and not road.half_written()
