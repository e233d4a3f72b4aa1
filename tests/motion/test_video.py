"""Films in and out: times, rotation, damage and bad input, on films made here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from inference.core.formats.turned import quarter_turns
from inference.protocol.errors import InputError
from inference.runtime.video import MAX_PIXELS, probe, read_frames, write_movie

LEVELS = [20, 60, 100, 140, 180, 220, 60, 100]


def grey(level: float, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def film(path: Path, times_ms: list[int], *, rotation: int = 0, offset_ms: int = 0) -> Path:
    """A film whose frames are grey levels, bright in the upper left, at the times given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for level, time_ms in zip(LEVELS * 20, times_ms, strict=False):
            picture = grey(level)
            picture[:12, :16] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms + offset_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_frames_keep_their_own_times_at_a_variable_rate(tmp_path):
    times_ms = [0, 40, 80, 200, 240, 1000, 1033, 1066]
    frames = list(read_frames(film(tmp_path / "vfr.mkv", times_ms)))
    assert [index for index, _, _ in frames] == list(range(8))
    np.testing.assert_allclose([time for _, time, _ in frames], np.array(times_ms) / 1000, atol=1e-3)
    np.testing.assert_allclose([picture[30, 40, 0] for _, _, picture in frames], LEVELS, atol=3)


def test_times_count_from_the_first_frame_wherever_the_clock_starts(tmp_path):
    times = [time for _, time, _ in read_frames(film(tmp_path / "late.mkv", [0, 40, 80], offset_ms=5000))]
    np.testing.assert_allclose(times, [0, 0.04, 0.08], atol=1e-3)


def test_start_and_stop_choose_frames_and_keep_their_times(tmp_path):
    path = film(tmp_path / "clip.mp4", [40 * i for i in range(8)])
    frames = list(read_frames(path, start=2, stop=5))
    assert [index for index, _, _ in frames] == [2, 3, 4]
    np.testing.assert_allclose([time for _, time, _ in frames], [0.08, 0.12, 0.16], atol=1e-3)
    assert list(read_frames(path, start=8)) == []


@pytest.mark.parametrize(
    ("rotation", "corner", "size"),
    [(0, (0, 0), (64, 48)), (-90, (0, -1), (48, 64)), (90, (-1, 0), (48, 64)), (180, (-1, -1), (64, 48))],
)
def test_a_phone_held_upright_gives_upright_pictures(tmp_path, rotation, corner, size):
    path = film(tmp_path / "phone.mp4", [0, 40, 80], rotation=rotation)
    assert probe(path).size == size
    picture = next(read_frames(path))[2]
    assert picture.shape == (size[1], size[0], 3)
    corners = {(y, x): int(picture[y, x, 0]) for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=corners.__getitem__) == corner


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_the_turn_is_read_from_the_file_alone(tmp_path, rotation):
    path = film(tmp_path / "phone.mp4", [0, 40, 80], rotation=rotation)
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0)).rotation
    assert quarter_turns(path) == decoded / 90 % 4 == rotation / 90 % 4
    assert quarter_turns(film(tmp_path / "phone.mkv", [0, 40])) == 0 and quarter_turns(tmp_path / "none.mp4") == 0


def test_a_damaged_file_asks_for_some_turn_or_none(tmp_path):
    whole = film(tmp_path / "phone.mp4", [0, 40, 80], rotation=90).read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "damaged.mp4"
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert quarter_turns(path) in (0, 1)
        found = np.frombuffer(whole, np.uint8).copy()
        found[rng.integers(0, len(found), 20)] = rng.integers(0, 256, 20)
        path.write_bytes(found.tobytes())
        assert quarter_turns(path) in range(4)


def test_probe_tells_size_rate_count_and_duration(tmp_path):
    path = tmp_path / "made.mp4"
    with write_movie(path, 29.97, (64, 48)) as movie:
        for level in LEVELS:
            movie.write(grey(level))
    info = probe(path)
    assert (info.path, info.size, info.frames) == (path, (64, 48), 8)
    assert info.fps == pytest.approx(29.97)
    assert info.duration_s == pytest.approx(8 / 29.97, abs=0.01)
    assert info.pixel_aspect == 1.0


def test_a_browsers_recording_has_the_rate_and_the_count_of_its_pictures(tmp_path):
    path = film(tmp_path / "recorded.mkv", [40 * i for i in range(50)])
    data = path.read_bytes()
    for name, size in ((b"\x23\xe3\x83", 3), (b"\x44\x89", 2)):  # browsers write no DefaultDuration, no Duration
        start = data.index(name)
        length = size + 1 + (data[start + size] & 0x7F)
        data = data[:start] + bytes([0xEC, 0x80 | (length - 2)]) + bytes(length - 2) + data[start + length :]
    path.write_bytes(data)
    info = probe(path)
    assert (info.fps, info.frames) == (pytest.approx(25.0), 50)
    assert info.duration_s == pytest.approx(2.0)


def test_a_film_that_is_cut_off_gives_what_can_be_decoded(tmp_path):
    whole = tmp_path / "whole.mp4"
    noise = np.random.default_rng(0)
    with write_movie(whole, 25, (64, 48)) as movie:
        for _ in range(120):
            movie.write(noise.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    decoded = len(list(read_frames(cut)))
    assert probe(cut).frames == 120
    assert 40 < decoded < 110


def test_damage_in_the_middle_costs_frames_and_nothing_else(tmp_path):
    whole = film(tmp_path / "whole.mkv", [40 * i for i in range(100)])
    content = bytearray(whole.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    whole.write_bytes(content)
    times = [time for _, time, _ in read_frames(whole)]
    assert len(times) > 30
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize(
    "name", ["with space.mp4", "quo\"te's.mp4", "動画.mp4", "$(touch x).mp4", "%03d.mp4", "a#b?c.mp4"]
)
def test_any_file_name_is_only_a_name(tmp_path, name):
    path = tmp_path / name
    with write_movie(path, 25, (64, 48)) as movie:
        movie.write(grey(100))
    assert len(list(read_frames(path))) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def empty_film(path: Path) -> None:
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def without_index(path: Path) -> None:
    film(path, [40 * i for i in range(50)])
    path.write_bytes(path.read_bytes()[:600])


BAD = {
    "nothing": (lambda _: None, "There is no file"),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes"),
    "text": (lambda path: path.write_text("hello, world\n" * 50), r"650 bytes\) cannot be opened"),
    "folder": (lambda path: path.mkdir(), "There is no file .*: it is a folder"),
    "sound": (sound, "holds no film, only: audio"),
    "no frames": (empty_film, "holds no picture that can be decoded: 0 frames"),
    "no index": (without_index, "cannot be opened"),
    "playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nother.mp4\n"), "cannot be opened"),
    "script": (lambda path: path.write_text("ffconcat version 1.0\nfile /etc/passwd\n"), "cannot be opened"),
    "huge": (
        lambda path: path.write_bytes(b"YUV4MPEG2 W9000 H8000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(5000)),
        f"9000 x 8000 = 72 megapixels; at most {MAX_PIXELS // 1_000_000}",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_film_is_refused_in_one_sentence_with_a_hint(tmp_path, kind):
    make, sentence = BAD[kind]
    path = tmp_path / "film.mp4"
    make(path)
    with pytest.raises(InputError, match=sentence) as caught:
        probe(path)
    assert caught.value.hint
    if kind != "no frames":
        with pytest.raises(InputError, match=sentence):
            next(read_frames(path))


def test_a_movie_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "movie.mp4"
    with pytest.raises(ZeroDivisionError), write_movie(path, 25, (64, 48)) as movie:
        movie.write(grey(100))
        assert not path.exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_movie_of_odd_size_loses_a_row_and_a_column(tmp_path):
    path = tmp_path / "odd.mp4"
    with write_movie(path, 30, (65, 49)) as movie:
        movie.write(grey(100, (65, 49)))
    assert probe(path).size == (64, 48)


def test_a_real_clip_has_the_frames_and_the_times_it_claims(data_dir):
    path = data_dir / "multiview" / "pose2sim_single" / "cam03.mp4"
    info = probe(path)
    times = [time for _, time, _ in read_frames(path)]
    assert info.frames == len(times) == 100
    np.testing.assert_allclose(np.diff(times), 1 / 60, atol=1e-3)
