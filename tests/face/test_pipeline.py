"""From a film to a track, by the real detector: a portrait that moves, twice in one picture, upright, or not at all."""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from skimage import data

from inference.core.artifacts import FacePoints, FaceTrack
from inference.core.face_shapes import SHAPES, VISEMES
from inference.core.formats.live_link import read_live_link
from inference.face.pipeline import run
from inference.protocol.errors import InputError, RequestError, ResourceError
from inference.protocol.events import SilentReporter
from inference.protocol.requests import FaceRequest
from inference.runtime.video import write_movie

FACE = data.astronaut()[20:260, 110:350]


class Told(SilentReporter):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, code: str, text: str) -> None:
        """Keep one."""
        self.said.append(f"{code}: {text}")


def picture(angle: float, *, size=(320, 240), places=((160, 120),), scale: float = 0.9):
    """The portrait's face, tilted by degrees, at places of a grey picture."""
    out = np.full((size[1], size[0], 3), 110, np.uint8)
    for x, y in places:
        matrix = cv2.getRotationMatrix2D((120, 120), angle, scale)
        matrix[:, 2] += [x - 120, y - 120]
        moved = cv2.warpAffine(FACE, matrix, size)
        there = cv2.warpAffine(np.ones(FACE.shape[:2], np.uint8), matrix, size)
        out[there > 0] = moved[there > 0]
    return out


def film(path, count: int = 10, fps: float = 25.0, **options):
    """A head that tilts to its left by 2 degrees a frame."""
    size = options.get("size", (320, 240))
    with write_movie(path, fps, size) as movie:
        for index in range(count):
            movie.write(picture(2.0 * index, **options))
    return path


def captured(tmp_path, video, told=None, **options):
    """Run the task; give its numbers and its track."""
    request = FaceRequest(video=video, **{"overlay": False, "smoothing": 0.2, **options})
    numbers = run(request, tmp_path / "job", told or SilentReporter())
    return numbers, FaceTrack.load(tmp_path / "job" / "artifacts" / "face_track.npz")


def test_a_film_becomes_a_track_with_overlay_report_and_a_phones_file(tmp_path):
    numbers, track = captured(
        tmp_path, film(tmp_path / "a.mp4"), overlay=True, visemes=True, export=tmp_path / "take.csv"
    )
    assert track.weights.shape == (10, 52) and track.fps == pytest.approx(25.0) and numbers["seen"] == 10
    assert list(track.header["shapes"]) == list(SHAPES) and track.visemes is not None
    assert track.visemes.shape == (10, len(VISEMES))
    first, last = (2 * np.arctan2(track.rotations[k, 2], track.rotations[k, 0]) for k in (0, 9))
    assert abs(np.degrees(first - last)) == pytest.approx(18, abs=3)
    artifacts = tmp_path / "job" / "artifacts"
    assert (artifacts / "overlay.mp4").stat().st_size > 1000 and "<img" in (
        tmp_path / "job" / "report.html"
    ).read_text()
    assert json.loads((tmp_path / "job" / "report.json").read_text())["frames"] == 10
    assert np.allclose(read_live_link(tmp_path / "take.csv").weights, track.weights, atol=1e-6)


def test_other_settings_need_no_second_look_at_the_film(tmp_path):
    video = film(tmp_path / "a.mp4", 6)
    first, rough = captured(tmp_path, video, smoothing=0.0)
    again, soft = captured(tmp_path, video, smoothing=0.9)
    assert "see" in first["seconds"] and "see" not in again["seconds"]
    assert np.abs(np.diff(soft.weights, 2, axis=0)).sum() <= np.abs(np.diff(rough.weights, 2, axis=0)).sum()


def test_of_several_faces_one_is_followed_and_all_are_told(tmp_path):
    video, told = film(tmp_path / "a.mp4", 4, size=(480, 240), places=((120, 120), (360, 120))), Told()
    _, track = captured(tmp_path, video, told)
    assert any("2 faces are in view" in text for text in told.said)
    _, right = captured(tmp_path, video, face=2)
    assert right.landmarks is not None
    assert np.nanmean(right.landmarks[..., 0]) > 240 and np.isfinite(track.weights).all()


def test_a_face_that_is_asked_for_and_not_there_is_a_mistake_of_the_request(tmp_path):
    with pytest.raises((RequestError, InputError), match=r"face"):
        captured(tmp_path, film(tmp_path / "a.mp4", 8, fps=2.0), face=3)


def test_a_film_held_upright_and_one_of_four_frames_a_second_are_captured(tmp_path):
    video, told = film(tmp_path / "a.mp4", 5, fps=4.0, size=(240, 426), places=((120, 200),)), Told()
    _, track = captured(tmp_path, video, told)
    assert track.header["image_size"] == [240, 426] and (track.confidence > 0).all()
    assert any(text.startswith("slow: ") and "4 frames a second" in text for text in told.said)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name files in Unicode alone")
def test_a_film_whose_name_is_no_unicode_is_captured_and_reported(tmp_path):
    video = film(tmp_path / os.fsdecode(b"J\xf6rg.mp4"), 5, fps=4.0)
    captured(tmp_path, video, overlay=True)
    assert "rg.mp4 has 4 frames a second" in (tmp_path / "job" / "report.html").read_text("utf-8")


def test_frames_without_a_face_have_no_confidence(tmp_path):
    with write_movie(tmp_path / "a.mp4", 25.0, (320, 240)) as movie:
        for index in range(12):
            movie.write(picture(0.0) if index < 5 or index > 8 else np.full((240, 320, 3), 110, np.uint8))
    told = Told()
    _, track = captured(tmp_path, tmp_path / "a.mp4", told)
    assert (track.confidence[5:9] == 0).all() and (track.confidence[:5] > 0).all()
    assert any("frames show no face" in text for text in told.said)


def test_bad_films_are_refused_with_one_sentence(tmp_path):
    empty = tmp_path / "grey.mp4"
    with write_movie(empty, 25.0, (320, 240)) as movie:
        for _ in range(5):
            movie.write(np.full((240, 320, 3), 110, np.uint8))
    with pytest.raises(InputError, match=r"No face is seen in any of the 5 frames of grey\.mp4"):
        captured(tmp_path, empty)
    with pytest.raises(InputError, match="has 5 frames; none of them lies from frame 9"):
        captured(tmp_path, empty, start=9)
    with pytest.raises(InputError, match="ends at frame 4; frame 7 is not read"):
        captured(tmp_path, empty, neutral=7)
    with pytest.raises(InputError):
        captured(tmp_path, sound_only(tmp_path / "talk.mp4"))


def sound_only(path):
    """A file of sound without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files' sizes are Unix's")
def test_a_full_disk_is_a_sentence_at_each_stage_and_what_was_whole_is_used_again(tmp_path):
    import resource

    video, artifacts = film(tmp_path / "a.mp4"), tmp_path / "job" / "artifacts"
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    for lacking, there in (("face_points.npz", []), ("face_track.npz", ["face_points.npz"])):
        if there:  # the smaller of the two files is lost
            captured(tmp_path, video)
            (artifacts / lacking).unlink()
        resource.setrlimit(resource.RLIMIT_FSIZE, (40 << 10, soft[1]))
        try:
            with pytest.raises(ResourceError, match=f"{lacking} could not be written"):
                captured(tmp_path, video)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        assert [path.name for path in artifacts.iterdir()] == there
    seen = (artifacts / "face_points.npz").stat().st_mtime_ns
    captured(tmp_path, video)
    assert (artifacts / "face_points.npz").stat().st_mtime_ns == seen


def test_a_phones_file_becomes_a_job_and_says_which_shapes_it_lacks(tmp_path):
    names = [name for name in SHAPES if not name.startswith("brow")]
    rows = [",".join(["Timecode", *names])]
    rows += [",".join([f"00:00:00:{frame:02d}", *["0.5"] * len(names)]) for frame in range(4)]
    (tmp_path / "take.csv").write_text("\n".join(rows))
    told = Told()
    request = FaceRequest(live_link=tmp_path / "take.csv", visemes=True, fps=30.0)
    run(request, tmp_path / "job", told)
    track = FaceTrack.load(tmp_path / "job" / "artifacts" / "face_track.npz")
    assert track.weights.max() == 0.5 and track.visemes is not None
    assert any("lacks 5 of the 52 shapes" in text for text in told.said)


def phones(path, weights):
    """A phone's file at 60 frames a second whose jaw opens by (T,), NaN where it saw nobody."""
    rows = [",".join(["Timecode", "BlendShapeCount", *SHAPES])]
    for frame, weight in enumerate(weights):
        shown = [str(weight if name == "jawOpen" else 0.1) for name in SHAPES]
        seen = ["61", *shown] if np.isfinite(weight) else ["0", *[""] * len(SHAPES)]
        rows.append(",".join([f"00:00:{frame // 60:02d}:{frame % 60:02d}", *seen]))
    path.write_text("\n".join(rows))
    return path


def of_phone(folder, told, **settings):
    run(FaceRequest(live_link=folder / "take.csv", **settings), folder / "job", told)
    return FaceTrack.load(folder / "job" / "artifacts" / "face_track.npz")


def test_a_phones_file_is_held_faded_cut_and_calibrated_as_a_film_is(tmp_path):
    weights = np.full(240, 0.8)
    weights[60:180], weights[180:] = np.nan, 0.2
    phones(tmp_path / "take.csv", weights)
    jaw, told = SHAPES.index("jawOpen"), Told()
    track = of_phone(tmp_path, told, hold_s=0.3)
    assert np.allclose(track.weights[60:76, jaw], 0.8) and track.weights[110:140, jaw].max() == 0
    assert any("120 of 240 frames show no face" in text for text in told.said)
    assert np.array_equal(track.confidence == 0, np.isnan(weights))
    part = of_phone(tmp_path, Told(), start=190, stop=220, neutral=200)
    assert len(part.times) == 30 and part.times[0] == pytest.approx(190 / 60, abs=1e-3)
    assert part.weights.max() < 1e-6
    for settings, said in (({"start": 240}, "none of them lies from frame 240 on"),
                           ({"neutral": 250}, "ends at frame 239; frame 250 is not read"),
                           ({"start": 70, "stop": 80}, "None of the 10 frames")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            of_phone(tmp_path, Told(), **settings)


def test_a_phones_take_shorter_than_a_second_says_which_rate_is_assumed(tmp_path):
    phones(tmp_path / "take.csv", np.full(45, 0.5))
    told = Told()
    assert of_phone(tmp_path, told).times[-1] == pytest.approx(44 / 60)
    assert any("60 a second are assumed" in text for text in told.said)


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(3, 4)])
def test_films_whose_pixels_are_not_square_are_read_as_they_are_seen(tmp_path, aspect):
    size = round(320 / max(aspect, 1)), round(240 * min(aspect, 1))
    with av.open(str(tmp_path / "squeezed.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for index in range(10):
            shown = cv2.resize(picture(2.0 * index), size, interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(np.asarray(shown, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, track = captured(tmp_path, tmp_path / "squeezed.mp4", overlay=True)
    _, plain = captured(tmp_path / "plain", film(tmp_path / "film.mp4"))
    assert track.header["image_size"] == [320, 240]
    assert track.landmarks is not None and plain.landmarks is not None
    assert np.abs(track.landmarks - plain.landmarks)[..., :2].mean() < 1.0
    assert np.abs(track.weights - plain.weights).mean() < 0.02


def test_points_of_another_size_are_refused(tmp_path):
    header = {"unit": "px", "frame": "image", "fps": 25.0, "image_size": [320, 240]}
    FacePoints(header, np.zeros((2, 477, 3)), np.ones(2), np.arange(2) / 25).save(tmp_path / "p.npz")
    with pytest.raises(InputError, match="positions has shape"):
        FacePoints.load(tmp_path / "p.npz")
