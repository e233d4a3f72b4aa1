"""The whole road of frames: what comes out, what is not made twice, and what it says of bad input."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from understudy.tests.motion.roads import ROOT, Road
from understudy.tests.reenact import clips

from inference.core.artifacts import FaceTrack, PoseDescriptors
from inference.core.face_shapes import SHAPES
from inference.core.formats.pictures import read_picture
from inference.protocol.errors import RequestError
from inference.protocol.events import Event
from inference.protocol.requests import ReenactRequest
from inference.reenact.driver import open_driver
from inference.reenact.movie import frames_each
from inference.reenact.person import steps_for
from inference.runtime.video import read_frames, squared, write_movie
from inference.sight.live_source import open_film

Array = np.ndarray
TURNS = [0, 3, 6, 9, 6, 3, 0, -3, -6, -3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo, a film and a network."""
    folder = tmp_path_factory.mktemp("inputs")
    Image.fromarray(clips.face()).save(folder / "ada.png")
    clips.film(folder / "driver.mp4", TURNS)
    clips.network(folder / "net.safetensors")
    return folder


def asked(made: Path, **settings: Any) -> ReenactRequest:
    given = {"driver": made / "driver.mp4", "iterations": 0, "movie": False, **settings}
    return ReenactRequest(source=(made / "ada.png",), network=made / "net.safetensors", **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Iterator[Road]:
    """Frames 3 to 8 of the film."""
    road = Road(tmp_path_factory.mktemp("job"))
    assert road.run(asked(made, frames="3-8", movie=True)) == 0, road.message
    yield road


def frames(road: Road) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((road.folder.artifacts / "frames").iterdir())}


def pictures(road: Road) -> Array:
    """(T, H, W, 4) float."""
    return np.stack([read_picture(path) for path in sorted((road.folder.artifacts / "frames").iterdir())])


def test_there_is_a_frame_for_each_that_was_asked_for_under_its_number(done: Road) -> None:
    assert list(frames(done)) == [f"frame_{number:04d}.png" for number in range(3, 9)]
    manifest = json.loads((done.folder.artifacts / "reenactment.json").read_text())
    assert manifest["frames"] == list(range(3, 9)) and manifest["fps"] == pytest.approx(25)
    assert manifest["times"] == pytest.approx(np.arange(2, 8) / 25, abs=1e-3)
    assert manifest["start_s"] == pytest.approx(2 / 25) and manifest["is_film"]
    announced = {event["file"] for event in done.events if event.kind == "artifact"}
    assert {
        "artifacts/driver.npz",
        "artifacts/reenactment.json",
        "artifacts/reenactment.mp4",
        "report.html",
    } <= announced
    assert announced | {"report.json"} <= done.files() and not done.half_written()


def test_frames_are_of_the_networks_size_with_alpha_and_move(done: Road) -> None:
    shown = pictures(done)
    assert shown.shape == (6, 64, 64, 4) and 0.05 < shown[..., 3].mean() < 0.95
    assert np.abs(np.diff(shown, axis=0)).max() > 0
    assert done.report()["driver"] == {"fps": 25.0, "unseen": 0}


def test_descriptors_say_which_frames_they_belong_to(done: Road) -> None:
    driven = PoseDescriptors.load(done.folder.artifacts / "driver.npz")
    assert driven.frames.tolist() == list(range(3, 9)) and driven.seen.all()
    assert np.allclose(driven.times, np.arange(2, 8) / 25, atol=1e-3)
    assert driven.crops is not None and len(np.unique(driven.crops[:, 2])) == 1, "one scale for a shot"


def test_a_run_is_not_done_twice(done: Road, made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done.folder.artifacts / "frames").iterdir()}
    assert done.run(asked(made, frames="3-8", movie=True)) == 0, done.message
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert done.report()["frames"]["made"] == 0 and "follow" not in done.stages


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_what_a_kill_left_is_gone_on_with_to_the_same_pixels(done: Road, made: Path, tmp_path: Path, kept: int) -> None:
    expected = frames(done)
    shutil.copytree(done.folder.path, tmp_path / "job")
    road = Road(tmp_path / "job")
    left = sorted((road.folder.artifacts / "frames").iterdir())
    for path in left[kept:]:
        path.unlink()
    (road.folder.artifacts / "frames" / ".frame_0009.png.77.abc.tmp").write_bytes(b"half")
    if kept:
        left[0].write_bytes(left[0].read_bytes()[:-30])
    assert road.run(asked(made, frames="3-8", movie=True)) == 0, road.message
    assert frames(road) == expected and road.report()["frames"]["made"] == 6 - max(kept - 1, 0)


def test_a_killed_process_is_gone_on_with_to_the_same_pixels(made: Path, tmp_path: Path) -> None:
    words = ["--source", made / "ada.png", "--driver", made / "driver.mp4", "--network", made / "net.safetensors"]
    words += ["--iterations", "0", "--no-movie", "--size", "512"]

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "inference", "reenact", *map(str, words), "--out", str(folder)], cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    killed = start(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "killed/artifacts/frames").glob("frame_*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it ended before it was killed"
    road, whole = Road(tmp_path / "killed"), Road(tmp_path / "whole")
    assert road.run(asked(made, size=512)) == 0 and whole.run(asked(made, size=512)) == 0, road.message
    assert 0 < road.report()["frames"]["made"] <= 8, "what was whole is not made again"
    assert frames(road) == frames(whole) and len(frames(whole)) == 10


def test_a_cancel_keeps_whole_frames_and_half_ones_do_not_exist(made: Path, tmp_path: Path) -> None:
    road = Road(tmp_path / "job")

    def cancel(event: Event) -> None:
        if event.kind == "progress" and event["stage"] == "frames":
            road.folder.ask_to_cancel()

    assert road.run(asked(made, size=1024), cancel) == 130
    assert road.events[-1].kind == "cancelled" and not road.half_written()
    assert "report.json" not in road.files() and len(list(road.folder.artifacts.glob("frames/*"))) < 10


def test_openexr_holds_the_same_picture(done: Road, made: Path, tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    assert road.run(asked(made, frames="3-8", format="exr", size=64)) == 0, road.message
    assert list(frames(road)) == [f"frame_{number:04d}.exr" for number in range(3, 9)]
    png, exr = pictures(done), pictures(road)
    assert np.abs(png[..., 3] - exr[..., 3]).max() < 0.01
    opaque = png[..., 3] > 0.2
    assert np.abs(png - exr)[opaque].max() < 0.02


def test_other_settings_leave_no_old_frames(done: Road, made: Path, tmp_path: Path) -> None:
    shutil.copytree(done.folder.path, tmp_path / "job")
    road = Road(tmp_path / "job")
    assert road.run(asked(made, frames="5-6", size=96)) == 0, road.message
    assert list(frames(road)) == ["frame_0005.png", "frame_0006.png"] and pictures(road).shape[1] == 96


def test_without_strength_the_person_stays_and_the_reference_is_at_rest(made: Path, tmp_path: Path) -> None:
    still, relative = Road(tmp_path / "still"), Road(tmp_path / "relative")
    assert still.run(asked(made, frames="1-4", strength=0.0)) == 0, still.message
    shown = pictures(still)
    assert (shown == shown[0]).all()
    assert relative.run(asked(made, frames="1-4", mode="relative", reference=3)) == 0, relative.message
    moved = pictures(relative)
    assert np.array_equal(moved[2], shown[0]) and not np.array_equal(moved[0], shown[0])


def test_a_region_moves_less_than_all_and_needs_a_network_that_reads(made: Path, tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    assert road.run(asked(made, frames="1-4", region="lips")) == 0, road.message
    clips.network(tmp_path / "plain.safetensors", coefficients=0)
    plain = ReenactRequest(
        source=(made / "ada.png",), driver=made / "driver.mp4", network=tmp_path / "plain.safetensors", iterations=0,
        region="eyes", movie=False,
    )  # fmt: skip
    assert road.run(plain) == 4 and "no region" in road.message


def test_kept_descriptors_drive_as_the_film_did(done: Road, made: Path, tmp_path: Path) -> None:
    shutil.copy(done.folder.artifacts / "driver.npz", tmp_path / "kept.npz")
    road = Road(tmp_path / "job")
    assert road.run(asked(made, driver=tmp_path / "kept.npz", frames="4-6", movie=True)) == 0, road.message
    assert list(frames(road)) == ["frame_0004.png", "frame_0005.png", "frame_0006.png"]
    assert np.array_equal(pictures(road), pictures(done)[1:4])


def test_of_kept_frames_those_without_a_face_are_counted_and_refused_alone(made: Path, tmp_path: Path) -> None:
    clips.film(tmp_path / "gone.mp4", [0, 2, 4, None, None, None, 3, 2], fps=10.0)
    whole = Road(tmp_path / "whole")
    assert whole.run(asked(made, driver=tmp_path / "gone.mp4", hold_s=0.0)) == 0, whole.message
    kept, road = tmp_path / "kept.npz", Road(tmp_path / "part")
    shutil.copy(whole.folder.artifacts / "driver.npz", kept)
    assert road.run(asked(made, driver=kept, frames="5-8", hold_s=0.0)) == 0, road.message
    assert np.array_equal(pictures(road), pictures(whole)[4:]), "what was before frame 5 still counts"
    assert "2 of 4 frames of kept.npz show no face" in road.warnings
    assert "None of 2 frames of kept.npz shows a face" in refused(
        Road(tmp_path / "none"), asked(made, driver=kept, frames="5-6")
    )


def test_kept_frames_that_lie_in_a_gap_are_a_sentence(done: Road, made: Path, tmp_path: Path) -> None:
    kept = PoseDescriptors.load(done.folder.artifacts / "driver.npz")
    replace(kept, frames=np.array([1, 2, 3, 8, 9, 10])).save(tmp_path / "kept.npz")
    said = refused(Road(tmp_path / "job"), asked(made, driver=tmp_path / "kept.npz", frames="4-6"), 2)
    assert "no frame of kept.npz lies in 4-6" in said


def test_numbered_pictures_drive_under_their_own_numbers(made: Path, tmp_path: Path) -> None:
    for number in (17, 18, 21):
        Image.fromarray(clips.face(number)).save(tmp_path / f"shot2_{number:04d}.png")
    road = Road(tmp_path / "job")
    assert road.run(asked(made, driver=tmp_path, fps=12.0)) == 0, road.message
    assert list(frames(road)) == ["frame_0017.png", "frame_0018.png", "frame_0021.png"]
    assert PoseDescriptors.load(road.folder.artifacts / "driver.npz").times.tolist() == pytest.approx(
        [0, 1 / 12, 4 / 12]
    )


def test_the_movie_shows_numbered_pictures_at_their_times(made: Path, tmp_path: Path) -> None:
    for number, turned in ((1, 0), (2, 4), (9, 8), (10, 12)):
        Image.fromarray(clips.face(turned)).save(tmp_path / f"shot_{number:04d}.png")
    road = Road(tmp_path / "job")
    assert road.run(asked(made, driver=tmp_path, fps=10.0, movie=True)) == 0, road.message
    shown = [rgb.astype(float) for _, _, rgb in read_frames(road.folder.artifacts / "reenactment.mp4")]
    changes = [float(np.abs(after - before).mean()) for before, after in itertools.pairwise(shown)]
    assert len(shown) == 10 and np.flatnonzero(np.array(changes) > 1.0).tolist() == [0, 7, 8]


@pytest.mark.parametrize(
    ("times", "fps", "lasting"),
    [
        (np.arange(2, 8) / 25, 25.0, [1] * 6),
        (np.arange(2000) / 29.97, 30.0, [1] * 2000),
        (np.round(np.arange(50) / 30, 2), 30.0, [1] * 50),
        ([0.0], 24.0, [1]),
        ([0.5, 1.3], 10.0, [8, 1]),
        (np.arange(4) / 5, 10.0, [2, 2, 2, 1]),
        ([0.0, 0.1, 0.12, 0.2, 0.6], 10.0, [1, 0, 1, 4, 1]),
    ],
)
def test_pictures_last_until_the_next_and_even_ones_one_frame_each(
    times: list[float], fps: float, lasting: list[int]
) -> None:
    assert frames_each(np.array(times), fps).tolist() == lasting


def squeezed(path: Path, aspect: Fraction) -> Path:
    """A film whose pixels are `aspect` times as wide as high; it shows what one of 320 x 240 square ones does."""
    size = (round(320 / max(aspect, 1)), round(240 * min(aspect, 1)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"crf": "10"}
        stream.codec_context.sample_aspect_ratio = aspect
        for turned in (0, 4):
            picture = np.asarray(Image.fromarray(clips.face(turned, (320, 240))).resize(size))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(3, 4)])
def test_films_with_pixels_that_are_not_square_are_seen_as_they_are_meant(
    made: Path, tmp_path: Path, aspect: Fraction
) -> None:
    driver = ReenactRequest(source=(made / "ada.png",), driver=squeezed(tmp_path / "film.mp4", aspect))
    for turned, (_, _, rgb) in zip((0, 4), open_driver(driver).pictures(), strict=True):
        assert rgb.shape == (240, 320, 3) and np.abs(rgb.astype(float) - clips.face(turned, (320, 240))).mean() < 6
    with open_film(tmp_path / "film.mp4", in_time=False) as played:
        picture = played.next()
        assert picture is not None and picture.rgb.shape == (240, 320, 3) and played.size == (320, 240)
    road, upright = Road(tmp_path / "job"), Road(tmp_path / "upright")
    source, network = (tmp_path / "film.mp4",), made / "net.safetensors"
    asks = {"network": network, "driver": made / "driver.mp4", "iterations": 0, "frames": "1-2", "movie": False}
    assert road.run(ReenactRequest(source=source, **asks)) == 0, road.message
    source = (squeezed(tmp_path / "square.mp4", Fraction(1)),)
    assert upright.run(ReenactRequest(source=source, **asks)) == 0, upright.message
    assert np.abs(pictures(road) - pictures(upright)).mean() < 0.01


def test_an_impossible_shape_of_pixels_is_taken_for_square() -> None:
    picture = clips.face()
    assert all(squared(picture, aspect) is picture for aspect in (0.002, 1.0, 500.0))


def test_frames_without_a_face_hold_the_pose_and_fade_and_are_counted(made: Path, tmp_path: Path) -> None:
    clips.film(tmp_path / "gone.mp4", [0, 4, *[None] * 12, 0, 2], fps=10.0)
    road = Road(tmp_path / "job")
    assert road.run(asked(made, driver=tmp_path / "gone.mp4", hold_s=0.3)) == 0, road.message
    alpha = pictures(road)[..., 3].mean((1, 2))
    assert np.allclose(alpha[2:5], alpha[1], atol=1e-3) and 0 < alpha[7] < alpha[1]
    assert alpha[9] == 0 < alpha[10] < alpha[12] < alpha[14]
    shown = pictures(road)
    opaque = shown[13, ..., 3] > 0.5
    assert np.allclose(shown[13, opaque], shown[14, opaque] * [1, 1, 1, 0.8], atol=0.01), "it fades in as the next one"
    assert "12 of 16 frames of gone.mp4 show no face" in road.warnings
    assert json.loads((road.folder.artifacts / "reenactment.json").read_text())["unseen"] == list(range(3, 15))


@pytest.mark.parametrize(("fps", "size"), [(4.0, (240, 240)), (120.0, (240, 240)), (25.0, (180, 320))])
def test_slow_fast_and_upright_films_keep_their_rate_and_count(
    made: Path, tmp_path: Path, fps: float, size: tuple[int, int]
) -> None:
    clips.film(tmp_path / "film.mp4", [0, 2, 4, 2], fps=fps, size=size)
    road = Road(tmp_path / "job")
    assert road.run(asked(made, driver=tmp_path / "film.mp4", smoothing_s=0.05)) == 0, road.message
    assert len(frames(road)) == 4 and road.report()["driver"] == {"fps": fps, "unseen": 0}


def test_a_camera_drives_until_it_is_stopped(made: Path, tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    clips.film(tmp_path / "camera.mp4", TURNS * 20)

    def stop(event: Event) -> None:
        if event.kind == "progress" and event["stage"] == "live" and event["done"] >= 3:
            road.folder.ask_to_stop()

    code = road.run(asked(made, driver=None, camera=str(tmp_path / "camera.mp4"), mode="relative"), stop)
    assert code == 0, road.message
    count = len(frames(road))
    assert 3 <= count < 200 and next(iter(frames(road))) == "frame_000001.png"
    assert (road.folder.artifacts / "live.png").is_file()
    manifest = json.loads((road.folder.artifacts / "reenactment.json").read_text())
    assert manifest["frames"] == list(range(1, count + 1)) and manifest["digits"] == 6


def test_a_live_picture_fades_out_and_in_again(made: Path, tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    clips.film(tmp_path / "camera.mp4", [0.0] * 12 + [None] * 30 + [0.0] * 30)
    assert road.run(asked(made, driver=None, camera=str(tmp_path / "camera.mp4"), hold_s=0.1)) == 0, road.message
    opacity = pictures(road)[..., 3].max(axis=(1, 2)).astype(float)
    gone = int(opacity.argmin())
    back = next(index for index in range(gone, len(opacity)) if opacity[index] > 0)
    assert opacity[0] == pytest.approx(opacity[-1], rel=0.1) and opacity[gone] == 0
    assert opacity[back] < 0.8 * opacity[-1] and (np.diff(opacity[back:]) > -0.02).all()


def refused(road: Road, request: ReenactRequest, code: int = 3) -> str:
    assert road.run(request) == code, road.message
    assert not list(road.folder.artifacts.glob("frames/*")) and not road.half_written()
    return road.message


@pytest.mark.parametrize("wanted", ["0-3", "5-11", "12-20"])
def test_frames_outside_the_film_are_a_sentence_with_numbers(made: Path, tmp_path: Path, wanted: str) -> None:
    said = refused(Road(tmp_path / "job"), asked(made, frames=wanted), 2)
    assert wanted in said and "driver.mp4 has frames 1-10" in said


@pytest.mark.parametrize("wanted", ["9-3", "a-b", "3-", "-5", "1-2-3", "1.5"])
def test_what_is_no_range_is_refused_at_the_door(made: Path, wanted: str) -> None:
    with pytest.raises(RequestError, match="frames"):
        asked(made, frames=wanted)


def test_nobody_several_drivers_and_settings_that_do_not_fit_are_refused_at_the_door(made: Path) -> None:
    for wrong in (
        {"driver": None}, {"camera": "0"}, {"driver": None, "camera": "0", "frames": "1-2"}, {"face": (1, 2)},
        {"reference": 3},
    ):  # fmt: skip
        with pytest.raises(RequestError):
            asked(made, **wrong)
    with pytest.raises(RequestError, match="source"):
        ReenactRequest(driver=made / "driver.mp4")


def test_driver_and_source_exchanged_are_told_apart(made: Path, tmp_path: Path) -> None:
    request = ReenactRequest(source=(made / "driver.mp4",), driver=made / "ada.png", network=made / "net.safetensors")
    assert "exchanged" in refused(Road(tmp_path / "job"), request)


def test_a_driver_without_a_face_is_a_sentence(made: Path, tmp_path: Path) -> None:
    clips.film(tmp_path / "wall.mp4", [None] * 4)
    said = refused(Road(tmp_path / "job"), asked(made, driver=tmp_path / "wall.mp4"))
    assert "None of 4 frames of wall.mp4 shows a face" in said


def test_a_source_without_a_face_is_left_out_or_refused(made: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((240, 240, 3), 90, np.uint8)).save(tmp_path / "wall.png")
    network, driver = made / "net.safetensors", made / "driver.mp4"
    request = ReenactRequest(source=(tmp_path / "wall.png",), driver=driver, network=network, iterations=0)
    assert "No face was found in wall.png" in refused(Road(tmp_path / "a"), request)
    both = ReenactRequest(
        source=(tmp_path / "wall.png", made / "ada.png"), driver=driver, network=network, iterations=0, frames="1-2"
    )
    road = Road(tmp_path / "b")
    assert road.run(both) == 0 and "wall.png shows no face and is left out" in road.warnings


def test_photos_of_a_browser_are_read_and_of_those_of_a_phone_it_is_said_what_they_are(
    made: Path, tmp_path: Path
) -> None:
    Image.fromarray(clips.face()).save(tmp_path / "ada.jfif", "JPEG")
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    given = {"driver": made / "driver.mp4", "network": made / "net.safetensors", "iterations": 0, "frames": "1-2"}
    assert Road(tmp_path / "a").run(ReenactRequest(source=(tmp_path / "ada.jfif",), movie=False, **given)) == 0
    request = ReenactRequest(source=(tmp_path / "IMG_1.HEIC",), **given)
    assert "IMG_1.HEIC is a HEIC photo, which is not read" in refused(Road(tmp_path / "b"), request)


def test_of_several_faces_one_can_be_chosen(made: Path, tmp_path: Path) -> None:
    both = np.concatenate([clips.face(), clips.face()[:, ::-1]], 1)
    Image.fromarray(both).save(tmp_path / "two.png")
    road = Road(tmp_path / "job")
    source, network = (tmp_path / "two.png",), made / "net.safetensors"
    given = {"source": source, "driver": made / "driver.mp4", "network": network, "iterations": 0, "frames": "1-2"}
    assert road.run(ReenactRequest(**given)) == 0 and "2 faces" in road.warnings
    first = frames(road)
    assert road.run(ReenactRequest(**given, face=(2,))) == 0 and "2 faces" not in road.warnings
    assert frames(road) != first
    assert road.run(ReenactRequest(**given, face=(3,))) == 2 and "shows 2 faces" in road.message


def test_of_a_film_that_shows_the_chosen_one_for_a_while_only_that_while_is_taken(made: Path, tmp_path: Path) -> None:
    alone = np.concatenate([clips.face(), np.full_like(clips.face(), 90)], 1)
    both = np.concatenate([clips.face(), clips.face()[:, ::-1]], 1)
    with write_movie(tmp_path / "two.mp4", 25, (480, 240)) as movie:
        for picture in (alone, alone, both, both):
            movie.write(picture)
    asks = {"source": (tmp_path / "two.mp4",), "driver": made / "driver.mp4", "network": made / "net.safetensors"}
    road = Road(tmp_path / "job")
    assert road.run(ReenactRequest(**asks, iterations=0, frames="1-2", movie=False, face=(2,))) == 0, road.message
    assert road.run(ReenactRequest(**asks, iterations=0, face=(3,))) == 2 and "shows 2 faces" in road.message


def test_a_film_that_is_sound_only_or_missing_or_cut_off_is_a_sentence(made: Path, tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "voice.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    (tmp_path / "voice.avi").write_bytes((tmp_path / "voice.wav").read_bytes())
    (tmp_path / "cut.mp4").write_bytes((made / "driver.mp4").read_bytes()[:2000])
    for name, words in (
        ("voice.wav", "voice.wav"),
        ("voice.avi", "voice.avi"),
        ("cut.mp4", "cut.mp4"),
        ("no.mp4", "no.mp4"),
    ):
        assert words in refused(Road(tmp_path / f"job_{name}"), asked(made, driver=tmp_path / name))


def test_a_network_that_is_a_pickle_or_damaged_is_not_run(made: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    hostile = b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    (tmp_path / "hostile.safetensors").write_bytes(hostile)
    damaged = (made / "net.safetensors").read_bytes()
    (tmp_path / "damaged.safetensors").write_bytes(damaged[: len(damaged) // 2])
    for name in ("hostile", "damaged", "missing"):
        request = ReenactRequest(
            source=(made / "ada.png",), driver=made / "driver.mp4", network=tmp_path / f"{name}.safetensors"
        )
        assert name in refused(Road(tmp_path / f"job_{name}"), request, 4)
    assert not trap.exists()


def test_descriptors_of_another_network_are_refused(done: Road, made: Path, tmp_path: Path) -> None:
    kept = PoseDescriptors.load(done.folder.artifacts / "driver.npz")
    kept.with_header(network="0" * 64).save(tmp_path / "other.npz")
    assert "another network" in refused(Road(tmp_path / "job"), asked(made, driver=tmp_path / "other.npz"))


def test_a_full_disk_is_a_sentence_and_leaves_whole_frames(made: Path, tmp_path: Path) -> None:
    road, soft = Road(tmp_path / "job"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60 << 10, soft[1]))
    try:
        code = road.run(asked(made, size=2048))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert code == 5 and "could not be written" in road.message and not road.half_written()


@pytest.mark.parametrize(("pictures", "steps"), [(1, 125), (30, 230), (200, 230)])
def test_more_pictures_call_for_more_steps_up_to_a_bound(pictures: int, steps: int) -> None:
    assert steps_for(pictures) == steps


def test_a_face_track_as_driver_says_which_way_it_goes(made: Path, tmp_path: Path) -> None:
    still = np.tile([1.0, 0.0, 0.0, 0.0], (2, 1))
    header = {"unit": "m", "frame": "camera, upright", "fps": 24.0, "shapes": list(SHAPES)}
    track = FaceTrack(
        header, np.zeros((2, len(SHAPES))), still, np.zeros((2, 3)), np.tile(still[:, None], (1, 2, 1)), np.ones(2),
        np.arange(2) / 24,
    )  # fmt: skip
    track.save(tmp_path / "face_track.npz")
    assert "--driver-head" in refused(Road(tmp_path / "job"), asked(made, driver=tmp_path / "face_track.npz"))


def test_a_network_is_made_the_persons_own_once_and_a_damaged_one_is_a_sentence(made: Path, tmp_path: Path) -> None:
    road = Road(tmp_path / "job")
    request = asked(made, frames="1-2", iterations=2)
    assert road.run(request) == 0, road.message
    before, plain = frames(road), Road(tmp_path / "plain")
    assert "personalise" in road.stages and road.report()["iterations"] == 2
    assert plain.run(asked(made, frames="1-2")) == 0 and frames(plain) != before
    assert road.run(request) == 0 and "personalise" not in road.stages and frames(road) == before
    (network,) = road.folder.path.glob("checkpoints/*/network.safetensors")
    network.write_bytes(network.read_bytes()[:1000])
    assert road.run(request) == 4 and "checkpoint of the person is damaged" in road.message
