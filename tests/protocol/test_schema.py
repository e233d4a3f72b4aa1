from __future__ import annotations

import argparse
import json
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.protocol import schema
from inference.protocol.errors import RequestError
from inference.protocol.requests import TASKS, MotionRequest, Order, SelftestRequest
from inference.protocol.schema import About, frozen


@dataclass(frozen=True)
class Sample:
    """One field of each form."""

    name: Annotated[str, About("A name.")]
    rate: Annotated[float, About("A rate.", 0, 1)] = 0.5
    count: Annotated[int | None, About("A count.", 1)] = None
    size: Annotated[tuple[int, int], About("A size.", 0, 100, "px", ("W", "H"))] = (1, 2)
    boxes: Annotated[tuple[tuple[float, ...], ...], About("Boxes.")] = ()
    mode: Annotated[Literal["fast", "slow"], About("A mode.")] = "fast"
    files: Annotated[tuple[Path, ...], About("Files.")] = ()
    draft: Annotated[bool, About("Whether.")] = False


@frozen
class Pair:
    """A request as the tasks' are made."""

    first: Annotated[int, About("One.")]
    second: Annotated[int, About("Another.")] = 2

    def __post_init__(self) -> None:
        if self.first > self.second:
            raise RequestError("the first is the larger one")


def test_a_request_is_a_frozen_dataclass():
    pair = Pair(1)
    assert pair == Pair(first=1, second=2) != Pair(1, 3) and len({pair, Pair(1, 2)}) == 1
    assert repr(replace(pair, second=5)) == "Pair(first=1, second=5)" and pair != (1, 2)
    with pytest.raises(FrozenInstanceError):
        pair.first = 2  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(FrozenInstanceError):
        del pair.first  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(RequestError, match="larger"):
        replace(pair, first=3)


@pytest.mark.parametrize(("values", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"first": 1}), ((1,), {"third": 3})])
def test_a_request_of_other_arguments_is_a_bug(values, named):
    with pytest.raises(TypeError, match="Pair takes first, second"):
        Pair(*values, **named)


def refusal(value) -> str:
    with pytest.raises(RequestError) as caught:
        schema.decode(Sample, value)
    return caught.value.message


numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(
    lambda text: Path("/", text)
)
samples = st.builds(
    Sample,
    name=st.text(st.characters(exclude_characters="\0")),
    rate=st.floats(0, 1),
    count=st.none() | st.integers(1, 10**15),
    size=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    boxes=st.lists(st.lists(numbers, max_size=4).map(tuple), max_size=3).map(tuple),
    mode=st.sampled_from(["fast", "slow"]),
    files=st.lists(paths, max_size=3).map(tuple),
    draft=st.booleans(),
)


@given(samples)
def test_a_request_survives_json(sample):
    text = json.dumps(schema.encode(sample), allow_nan=False)
    assert schema.decode(Sample, schema.load_json(text)) == sample


@given(samples.filter(lambda sample: all(sample.boxes)))
def test_a_request_survives_the_command_line(sample):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    schema.add_flags(parser, Sample)
    words = [f"--name={sample.name}", f"--rate={sample.rate!r}", f"--mode={sample.mode}"]
    words += ["--size", *map(str, sample.size), "--draft" if sample.draft else "--no-draft"]
    words += [f"--count={sample.count}"] if sample.count else []
    words += [f"--files={path}" for path in sample.files]
    for box in sample.boxes:
        words += ["--boxes", *(f"{number:.17f}" for number in box)]
    parsed = schema.from_flags(Sample, parser.parse_args(words))
    flat = [number for box in sample.boxes for number in box]
    assert [number for box in parsed.boxes for number in box] == pytest.approx(flat, abs=1e-12)
    assert schema.encode(parsed) | {"boxes": 0} == schema.encode(sample) | {"boxes": 0}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["rate", "size"]), inner),
    max_leaves=8,
)


@given(anything | st.fixed_dictionaries({"name": anything}, optional={"rate": anything, "size": anything}))
def test_whatever_arrives_is_a_sample_or_a_request_error(value):
    try:
        assert isinstance(schema.decode(Sample, value), Sample)
    except RequestError as error:
        assert error.message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 5}, "rate: 5.0 is outside [0.0, 1.0]"),
        ({"rate": float("nan")}, "rate: nan is not a finite number"),
        ({"rate": True}, "rate: True is not a number"),
        ({"rate": None}, "rate: null is not a number"),
        (
            {"rate": 10**400},
            "rate: 100000000000000000000000000000000000000000000000000000000... is not a finite number",
        ),
        ({"count": 1.5}, "count: 1.5 is not a whole number"),
        ({"count": 0}, "count: 0 is below 1"),
        ({"size": [1, 2, 3]}, "size: 3 values given, 2 needed (W, H)"),
        ({"size": [1, 101]}, "size[1]: 101 is outside [0, 100]"),
        ({"size": 7}, "size: expected a list, got 7"),
        ({"boxes": [[1, 2], [3, "x"]]}, "boxes[1][1]: 'x' is not a number"),
        ({"mode": "quick"}, "mode: 'quick' is not one of fast, slow"),
        ({"files": [""]}, "files[0]: is an empty path"),
        ({"files": ["a\0b"]}, "files[0]: holds a NUL character"),
        ({"draft": 1}, "draft: 1 is neither true nor false"),
        ({"rat": 1}, "rat: there is no such setting"),
    ],
)
def test_an_error_names_the_setting_and_the_value(values, message):
    assert refusal({"name": "n", **values}) == message


def test_a_missing_setting_is_named():
    assert refusal({}) == "name: is missing"


def test_a_misspelt_setting_is_guessed():
    with pytest.raises(RequestError) as caught:
        schema.decode(Sample, {"name": "n", "raet": 1})
    assert caught.value.hint == "Did you mean rate?"


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', "[Infinity]", "-Infinity", "[" * 100_000, '{"a":' * 100_000, '{"a": 1, "a": 2}', "1" * 5000, "",
     b"\xff\xfe\x00", b'"\xc3"', " " * (schema.MAX_JSON_BYTES + 1), "{'a': 1}"],
)  # fmt: skip
def test_hostile_json_is_refused_by_a_sentence(text):
    with pytest.raises(RequestError, match="request|number|twice"):
        schema.load_json(text)


def test_a_number_too_large_for_a_float_is_refused_where_it_is_read():
    with pytest.raises(RequestError, match="rate: inf is not a finite number"):
        schema.decode(Sample, schema.load_json('{"name": "n", "rate": 1e999}'))


@pytest.mark.parametrize("task", TASKS)
def test_each_setting_of_each_task_has_a_sentence(task):
    for setting in schema.read(TASKS[task].request):
        assert setting.about.text.endswith("."), setting.name


@pytest.mark.parametrize("task", TASKS)
def test_the_table_and_the_help_hold_each_setting(task):
    request = TASKS[task].request
    parser = argparse.ArgumentParser()
    schema.add_flags(parser, request)
    for setting in schema.read(request):
        assert f"`{setting.flag}`" in schema.table(request)
        assert setting.flag in parser.format_help()


def test_properties_make_the_request_that_their_defaults_describe():
    values = {prop.name: prop.keywords["default"] for prop in schema.properties(SelftestRequest)}
    assert schema.from_properties(SelftestRequest, values.__getitem__) == SelftestRequest()


def test_a_number_that_may_be_absent_is_a_property_with_a_switch():
    values = {prop.name: prop.keywords.get("default", "") for prop in schema.properties(MotionRequest)}
    clip = (Path("/a.mp4"),)
    assert schema.from_properties(MotionRequest, values.__getitem__, video=clip) == MotionRequest(video=clip)
    values.update(use_height_m=True, height_m=1.75)
    assert schema.from_properties(MotionRequest, values.__getitem__, video=clip).height_m == 1.75


def test_single_precision_of_a_property_does_not_change_the_request():
    values = {prop.name: prop.keywords["default"] for prop in schema.properties(SelftestRequest)}
    values["step_s"] = 0.30000001192092896
    assert schema.from_properties(SelftestRequest, values.__getitem__).step_s == 0.3


A, B = Path("/a.mp4"), Path("/b.mp4")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "video: no clip and no keypoints"),
        ({"video": (A, B), "triangulation": "lift"}, "triangulation: 2 views are not lifted"),
        ({"video": (A,), "refine": True}, "refine: there is nothing to refine"),
        ({"video": (A,), "keypoints": (A, B)}, "keypoints: 2 given for 1 videos"),
        ({"video": (A,), "person": ((1, 2), (3, 4))}, "person: 2 given for 1 views"),
        ({"video": (A,), "person": ((1, 2, 3),)}, "person[0]: 3 values given, 2 or 4 needed"),
        ({"video": (A,), "start": 5, "stop": 5}, "stop: 5 is not after start 5"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(values, message):
    with pytest.raises(RequestError) as caught:
        MotionRequest(**values)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": 2}, "protocol: the request speaks protocol 2, this worker speaks 1."),
        ({"task": "juggle"}, f"task: 'juggle' is not one of {', '.join(TASKS)}"),
        ({"task": ["motion"]}, f"task: \"['motion']\" is not one of {', '.join(TASKS)}"),
        ({"request": 3}, "expected an object, got 3"),
    ],
)
def test_an_order_from_elsewhere_is_refused_by_a_sentence(change, message):
    order = Order("selftest", SelftestRequest(), "id").to_json()
    with pytest.raises(RequestError) as caught:
        Order.from_json(order | change)
    assert caught.value.message == message
