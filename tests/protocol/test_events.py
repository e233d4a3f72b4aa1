from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.protocol.events import (
    MAX_READ,
    Event,
    EventReader,
    Pace,
    Part,
    SilentReporter,
    decode,
    encode,
    make_event,
)

events = st.one_of(
    st.builds(
        lambda s, d, t: make_event("progress", stage=s, done=d, total=t), st.text(), st.integers(), st.integers()
    ),
    st.builds(lambda c, t: make_event("warning", code=c, text=t), st.text(), st.text()),
    st.builds(lambda m: make_event("failed", code="input", message=m, hint=""), st.text()),
)


def same(event: Event) -> tuple:
    return event.kind, dict(event.values)


@given(events)
def test_an_event_is_one_line_and_comes_back(event):
    line = encode(event)
    assert line.count(b"\n") == 1
    again = decode(line)
    assert again and same(again) == same(event)


@given(st.binary())
def test_garbage_is_no_event(line):
    assert decode(line) is None


@pytest.mark.parametrize(
    "line",
    [b'{"event": "done"}', b'{"event": "progress", "time": 1, "stage": "a", "done": "1", "total": 2}',
     b'{"event": "progress", "time": 1, "stage": "a", "done": true, "total": 2}', b'{"event": [], "time": 1}',
     b'{"event": "unheard-of", "time": 1}', b'{"event": "done", "time": NaN}', b"[" * 100_000, b"null"],
)  # fmt: skip
def test_lines_of_another_form_are_no_events(line):
    assert decode(line) is None


@given(st.lists(events, min_size=1, max_size=6), st.lists(st.integers(0, 400), max_size=6))
def test_a_file_cut_anywhere_gives_the_events_that_are_complete(tmp_path_factory, sent, cuts):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    data = b"".join(map(encode, sent))
    reader, received = EventReader(path), []
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        path.write_bytes(data[:cut])
        received += reader.read()
        assert len(received) == data[:cut].count(b"\n")
    assert [same(event) for event in received] == [same(event) for event in sent]


def test_garbage_between_events_is_skipped(tmp_path):
    path = tmp_path / "events.jsonl"
    done = encode(make_event("done"))
    path.write_bytes(b"\x00\xff not json\n" + b'{"event": "pro\n' + done)
    assert [event.kind for event in EventReader(path).read()] == ["done"]


def test_a_line_without_end_does_not_stop_the_reader_for_ever(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * (MAX_READ + 5) + b"\n" + encode(make_event("done")))
    assert [event.kind for event in EventReader(path).read()] == ["done"]


def test_a_file_that_is_not_there_yet_has_no_events(tmp_path):
    assert EventReader(tmp_path / "none").read() == []


def test_the_pace_tells_how_long_the_stage_takes():
    pace = Pace()
    for second, done in enumerate((0, 10, 20)):
        pace.add(Event("progress", 100.0 + second, {"stage": "detect", "done": done, "total": 100}))
    assert pace.fraction == 0.2
    assert pace.seconds_left == pytest.approx(8.0)
    assert pace.text == "detect 20 %, 8 s left"
    pace.add(Event("progress", 200.0, {"stage": "fit", "done": 0, "total": 4}))
    assert pace.text == "fit 0 %"


class Heard(SilentReporter):
    """Keeps the pace of what is said."""

    def __init__(self) -> None:
        self.pace, self.fractions = Pace(), []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.pace.add(make_event("progress", stage=stage, done=done, total=total))
        self.fractions.append(self.pace.fraction)


def test_pieces_of_work_are_told_as_one():
    heard = Heard()
    for index, frames in enumerate((10, 40)):
        for frame in range(frames + 1):
            Part(heard, index, 2).progress("detect", frame, frames)
    assert heard.fractions == sorted(heard.fractions)
    assert heard.fractions[10] == 0.5 and 0.5 < heard.fractions[12] < 0.6 and heard.fractions[-1] == 1.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "89 s"), (60, "89 min 00 s"), (100, "2 h 28 min"), (1000, "24 h 43 min")]
)
def test_a_long_time_is_told_in_hours(seconds, words):
    pace = Pace()
    for second, done in ((0.0, 0), (float(seconds), 10)):
        pace.add(Event("progress", second, {"stage": "train", "done": done, "total": 900}))
    assert pace.text == f"train 1 %, {words} left"
