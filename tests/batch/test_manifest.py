"""A batch says exactly what is meant, or is refused by a sentence."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batch.manifest import check_out, in_ranges, read_manifest, select
from inference.batch.record import digest
from inference.protocol.errors import RequestError

from .batches import write_batch

ITEM = {"out": "a", "task": "selftest", "request": {}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "is not a batch manifest"),
        ({"version": 2}, "has version 2, this program reads 1"),
        ({"program": "bash"}, "program: 'bash' is not one of inference, blender"),
        ({"output": ""}, "output: '' is not a folder"),
        ({"items": []}, "items: 0 items"),
        ({"items": [[]]}, "an item has out, task and request"),
        ({"items": [{**ITEM, "more": 1}]}, "nothing else"),
        ({"items": [ITEM, {**ITEM, "out": "A"}]}, "'A' is used twice"),
        ({"items": [{**ITEM, "task": "live"}]}, "'live' is not one of"),
        ({"items": [{**ITEM, "request": 1}]}, "1 is not an object"),
    ],
)
def test_a_wrong_batch_is_refused(tmp_path, changes, words):
    with pytest.raises(RequestError, match=words):
        write_batch(tmp_path / "b.json", [{}], **changes)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", '{"a": NaN}', "1" * 5000, "\ud800"])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "b.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(RequestError):
        read_manifest(tmp_path / "b.json")


@pytest.mark.parametrize(
    "out",
    ["", ".", "..", "../a", "a/../b", "/a", "a//b", "a\\b", "C:", "C:a", "a\0", "a\n", "con", "nul.png", "LPT1", "a.",
     "a ", ".hidden", "a.json", "$(touch x)", "`x`", "a;b", "a&b", "%PATH%", "a" * 200, "a/b/c/d/e", None, 3],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_is_refused(out):
    with pytest.raises(RequestError, match="is not a name for a result"):
        check_out(out)


@pytest.mark.parametrize("out", ["walk", "shot 1/0001.png", "日本 é", "a-b_c.d", "console"])
def test_usual_names_are_taken(out):
    assert check_out(out) == out


@given(st.sets(st.integers(1, 60), min_size=1))
def test_ranges_are_read_as_they_are_written(numbers):
    items = [{**ITEM, "out": str(n)} for n in range(1, 61)]
    path = Path(__file__).with_name("never-written.json")
    from inference.batch.manifest import Manifest, _read_items, known_tasks

    manifest = Manifest(path, "inference", path.parent, tuple(_read_items(items, known_tasks("inference"))), "")
    assert {item.number for item in select(manifest, in_ranges(sorted(numbers)))} == numbers


@pytest.mark.parametrize("ranges", ["0", "1-9", "3-2", "a", "1-", "-1", "1;2", "1-3-4", "99999999999"])
def test_ranges_that_are_none_are_refused(tmp_path, ranges):
    with pytest.raises(RequestError):
        select(write_batch(tmp_path / "b.json", [{}] * 8), ranges)


def test_paths_start_at_the_manifest_so_that_a_batch_can_be_moved(tmp_path):
    (tmp_path / "one").mkdir()
    manifest = write_batch(tmp_path / "one/b.json", [{"video": ["clips/a.mp4"]}], task="motion")
    assert manifest.request(manifest.items[0]).video == (tmp_path / "one/clips/a.mp4",)
    (tmp_path / "one").rename(tmp_path / "two")
    moved = read_manifest(tmp_path / "two/b.json")
    assert moved.request(moved.items[0]).video == (tmp_path / "two/clips/a.mp4",)
    assert moved.digest == manifest.digest


def test_a_wrong_setting_names_its_item(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{}, {"steps": -1}])
    with pytest.raises(RequestError, match=r"items\[2\].request.steps: -1 is outside"):
        manifest.request(manifest.items[1])


def test_the_digest_names_the_bytes(tmp_path):
    first = write_batch(tmp_path / "b.json", [{}])
    text = (tmp_path / "b.json").read_text()
    (tmp_path / "b.json").write_text(json.dumps(json.loads(text), indent=2))
    assert read_manifest(tmp_path / "b.json").digest != first.digest


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name files in Unicode alone")
def test_the_digest_of_a_folder_takes_any_name(tmp_path):
    file = tmp_path / os.fsdecode(b"J\xf6rg_0001.json")
    file.write_text("{}")
    before = digest(tmp_path)
    file.rename(tmp_path / "Jörg_0001.json")
    assert digest(tmp_path) != before
