"""A user's own model file: one made up here in the form of SMPL's, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy.tests.body.bodies import exercise, golden_mesh

from inference.body.foreign import _SOURCES, NAMES, as_foreign, read_model
from inference.core.artifacts import BodyMesh
from inference.core.body import place_bones
from inference.protocol.errors import InputError

Array = np.ndarray
TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


@pytest.fixture(scope="module")
def ours() -> BodyMesh:
    return golden_mesh()


def arrays(ours: BodyMesh) -> dict[str, Any]:
    """A model whose joints are ours at nine tenths of the size, with one direction of shape: its size."""
    index = {name: row for row, name in enumerate(ours.header["bones"])}
    wanted = np.concatenate([ours.heads[[index[name] for name in _SOURCES]],
                             ours.heads[[index["finger3-1.L"], index["finger3-1.R"]]]])  # fmt: skip
    vertices = ours.vertices.astype(float)
    regressor = np.zeros((24, len(vertices)))
    for row, joint in enumerate(wanted):  # the joint as a mean of near vertices, put right by all of them
        near = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:60]
        base = np.concatenate([vertices[near].T, np.ones((1, 60))])
        regressor[row, near] = np.linalg.lstsq(base, np.append(joint, 1.0), rcond=None)[0]
    weights = np.zeros((len(vertices), 24))
    weights[np.arange(len(vertices)), np.linalg.norm(vertices[:, None] - wanted, axis=-1).argmin(1)] = 1.0
    template = 0.9 * vertices @ TO_Y_UP.T
    return {
        "v_template": template, "shapedirs": 0.1 * template[..., None], "J_regressor": regressor, "weights": weights,
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], list(range(24))]), "f": ours.faces[:, :3],
    }  # fmt: skip


def test_a_foreign_body_takes_on_our_size_and_moves_as_ours_does(ours: BodyMesh, tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **arrays(ours))
    theirs = read_model(tmp_path / "model.npz").mesh_like(ours)
    theirs.check("theirs")
    assert np.ptp(theirs.vertices[:, 2]) == pytest.approx(np.ptp(ours.vertices[:, 2]), rel=0.01)
    moving = exercise(ours, np.linspace(0, 1, 20), yaw=0.4)
    moved = as_foreign(moving, ours, theirs)
    _, mine = place_bones(ours, moving.pose, moving.root)
    _, other = place_bones(theirs, moved.pose, moved.root)
    index = {name: row for row, name in enumerate(ours.header["bones"])}
    for joint, source in zip(NAMES, _SOURCES, strict=True):
        gap = np.linalg.norm(other[:, NAMES.index(joint)] - mine[:, index[source]], axis=1)
        assert gap.max() < 0.05, joint


def test_what_is_no_model_is_refused_and_no_pickle_is_opened(ours: BodyMesh, tmp_path: Path) -> None:
    whole = arrays(ours)
    path = tmp_path / "model.npz"
    with pytest.raises(InputError, match=r"SMPL\.pkl is no \.npz"):
        (tmp_path / "SMPL.pkl").write_bytes(b"\x80\x04.")
        read_model(tmp_path / "SMPL.pkl")
    np.savez(path, **{name: value for name, value in whole.items() if name != "weights"})
    with pytest.raises(InputError, match="lacks weights: it is no SMPL model"):
        read_model(path)
    np.savez(path, **{**whole, "weights": np.array([object()], dtype=object)})
    with pytest.raises(InputError, match="cannot be read"):
        read_model(path)
    np.savez(path, **{**whole, "f": whole["f"] + len(whole["v_template"])})
    with pytest.raises(InputError, match="faces of vertices outside"):
        read_model(path)
    np.savez(path, **{**whole, "v_template": np.full_like(whole["v_template"], np.nan)})
    with pytest.raises(InputError, match="not finite"):
        read_model(path)
