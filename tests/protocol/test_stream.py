"""The newest pose, from one process to another: whole, fresh, and cheap to ask for."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.protocol.errors import RequestError
from inference.protocol.stream import STAGES, StreamReader, StreamWriter, clock_ns

ROOT = Path(__file__).resolve().parents[2]
BONES = 51


def values(number: float, generation: int = 1) -> dict:
    """A frame all of whose numbers are the same."""
    return {
        "captured_ns": clock_ns(), "generation": generation, "recorded": 0, "rotations": [number] * (4 * BONES),
        "root": [number] * 3, "confidence": [number] * BONES, "contacts": [number] * 4,
        "timings": [number] * len(STAGES),
    }  # fmt: skip


def numbers(frame) -> set[float]:
    return {*frame.rotations, *frame.root, *frame.confidence, *frame.contacts, *frame.timings}


def head(generation: int = 1) -> dict:
    return {"generation": generation, "bones": [f"bone {i}" for i in range(BONES)], "rest": [generation] * 200}


# A writer that does nothing else; now and then the skeleton changes.
HAMMER = """
import sys, time
from pathlib import Path
from inference.protocol.stream import StreamWriter
from tests.protocol.test_stream import BONES, head, values
with StreamWriter(Path(sys.argv[1]), BONES) as stream:
    end, number = time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < end:
        number += 1
        if number % 500 == 1:
            stream.describe(head(number // 500))
        stream.write(**values(float(number % 1000), number // 500))
print(number)
"""


def test_a_frame_arrives_as_it_was_written_with_its_head(tmp_path):
    with StreamWriter(tmp_path / "live.bin", BONES) as stream:
        stream.describe(head())
        written = values(0.5)
        stream.write(**written)
        reader = StreamReader(tmp_path / "live.bin")
        frame = reader.read()
        assert frame is not None and reader.head == head()
        assert numbers(frame) == {0.5} and len(frame.rotations) == 4 * BONES
        assert (frame.sequence, frame.captured_ns, frame.generation) == (1, written["captured_ns"], 1)
        assert written["captured_ns"] <= frame.published_ns <= clock_ns()
        reader.close()


def test_only_the_newest_frame_is_given_and_only_once(tmp_path):
    reader = StreamReader(tmp_path / "live.bin")
    assert reader.read() is None, "there is no file yet"
    with StreamWriter(tmp_path / "live.bin", BONES) as stream:
        stream.describe(head())
        assert reader.read() is None, "there is no frame yet"
        for number in range(5):
            stream.write(**values(number))
        frame = reader.read()
        assert frame is not None and frame.sequence == 5 and numbers(frame) == {4.0}
        assert reader.read() is None
        stream.write(**values(7))
        frame = reader.read()
        assert frame is not None and numbers(frame) == {7.0}
    reader.close()


def test_the_file_never_grows(tmp_path):
    with StreamWriter(tmp_path / "live.bin", BONES) as stream:
        size = (tmp_path / "live.bin").stat().st_size
        for number in range(100):
            stream.describe(head(number))
            stream.write(**values(number))
    assert (tmp_path / "live.bin").stat().st_size == size < 50_000


def test_no_reader_ever_sees_half_a_frame(tmp_path):
    path = tmp_path / "live.bin"
    command = [sys.executable, "-c", HAMMER, str(path), "2.0"]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    reader, seen = StreamReader(path), []
    while writer.poll() is None:
        frame = reader.read()
        if frame is not None:
            assert len(numbers(frame)) == 1, "a frame is of one piece"
            assert reader.head["rest"][0] == frame.generation, "and so is what it is of"
            seen.append(frame.sequence)
    reader.close()
    assert writer.stdout and writer.returncode == 0
    written = int(writer.stdout.read())
    writer.stdout.close()
    assert seen == sorted(set(seen)) and len(seen) > 100
    assert written > 1000 and seen[-1] <= written


def test_a_frame_that_is_half_written_is_passed_over(tmp_path):
    path = tmp_path / "live.bin"
    with StreamWriter(path, BONES) as stream:
        stream.describe(head())
        stream.write(**values(1))
        stream.write(**values(2))
    content = bytearray(path.read_bytes())
    start = content.index(b"\x00\x00\x00\x40\x00\x00\x00\x40")  # 2.0, twice
    content[start + 2] ^= 1
    path.write_bytes(bytes(content))
    reader = StreamReader(path)
    frame = reader.read()
    reader.close()
    assert frame is not None and numbers(frame) == {1.0}


def test_asking_costs_a_tenth_of_a_millisecond_at_most(tmp_path):
    with StreamWriter(tmp_path / "live.bin", BONES) as stream:
        stream.describe(head())
        stream.write(**values(1))
        reader = StreamReader(tmp_path / "live.bin")
        reader.read()
        idle, fresh = [], []
        for number in range(300):
            start = time.thread_time_ns()
            reader.read()
            idle.append(time.thread_time_ns() - start)
            stream.write(**values(number))
            start = time.thread_time_ns()
            assert reader.read() is not None
            fresh.append(time.thread_time_ns() - start)
        reader.close()
    assert sorted(idle)[150] < 100_000 and sorted(fresh)[150] < 200_000  # the second is for a busy machine


@pytest.mark.parametrize("content", [b"UNDLIVE9" + bytes(100), b"\x00" * 5000, b"UNDLIVE1" + b"\xff" * 100])
def test_a_file_of_another_kind_is_refused_with_advice(tmp_path, content):
    (tmp_path / "live.bin").write_bytes(content)
    with pytest.raises(RequestError, match="not a stream of this version") as caught:
        StreamReader(tmp_path / "live.bin").read()
    assert "update both" in caught.value.hint


def test_a_file_that_breaks_off_holds_nothing(tmp_path):
    with StreamWriter(tmp_path / "live.bin", BONES) as stream:
        stream.describe(head())
        stream.write(**values(1))
    whole = (tmp_path / "live.bin").read_bytes()
    for length in (0, 3, 16, 1000, len(whole) - 3000):
        (tmp_path / "short.bin").write_bytes(whole[:length])
        reader = StreamReader(tmp_path / "short.bin")
        assert reader.read() is None
        reader.close()
