"""BVH and FBX as programs write them pass; what is told of them is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from understudy.tests.hostile import corpus

from inference.core.formats.bvh_guard import check_bvh
from inference.core.formats.fbx_guard import check_fbx
from inference.protocol.errors import InputError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SHARES = (rb"\\127.0.0.1\share\skin.png", b"//nas/share/skin.png")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""), ("\n", "\r\n"), ("\n", "\r"), ("HIERARCHY", "\ufeffHIERARCHY"), ("ROOT Hips", "ROOT my hips"),
        ("Frames: ", "Frames:"), ("Frame Time: ", "Frame Time:\t"), ("JOINT", "Joint"), ("Xposition", "XPOSITION"),
        ("End Site", "End Site of it"), ("\n", "\n\n"), ("0.041667", "4.1667e-02"), ("Hips", "H\u00fcfte"),
    ],
)  # fmt: skip
def test_ways_to_write_a_bvh(tmp_path, old, new):
    text = (GOLDEN / "figure.bvh").read_text(encoding="utf-8")
    path = tmp_path / "a.bvh"
    path.write_bytes((text.replace(old, new) if old else text).encode())
    assert check_bvh(path) == pytest.approx(0.041667)


def test_a_bvh_is_refused_with_the_line(tmp_path):
    lines = (GOLDEN / "figure.bvh").read_text().splitlines()
    lines[101] = lines[101].replace(" ", " x", 1)
    path = tmp_path / "a.bvh"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="a.bvh: line 102 holds 'x"):
        check_bvh(path)


def test_addresses_of_other_computers_are_told(tmp_path):
    assert check_fbx(GOLDEN / "figure.fbx") == ()
    inner = [(b"FileName", [corpus.fbx_text(share)], []) for share in SHARES]
    inner.append((b"RelativeFilename", [corpus.fbx_text(b"C:\\textures\\skin.png")], []))
    path = tmp_path / "binary.fbx"
    path.write_bytes(corpus.fbx((b"Objects", [], [(b"Video", [], inner)])))
    content = path.read_bytes()
    assert tuple(content[where.start : where.stop] for where in check_fbx(path)) == SHARES
    lines = [b"; FBX 7.4.0 project file", b"Objects: {", *(b' FileName: "' + share + b'"' for share in SHARES), b"}"]
    path = tmp_path / "text.fbx"
    path.write_bytes(b"\n".join([*lines, b'; "//nobody/asks"', b""]))
    content = path.read_bytes()
    assert tuple(content[where.start : where.stop] for where in check_fbx(path)) == SHARES
