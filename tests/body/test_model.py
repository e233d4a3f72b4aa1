"""The parametric body against anny's own forward pass, and bodies of stated measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from understudy.tests.body.bodies import parameters_of

from inference.body.model import BodyModel, load_model, spread
from inference.core.artifacts import BodyMesh
from inference.core.body import Skin, as_motion, global_turns, place_bones, shaped
from inference.core.body_measures import MEASURES, adjustable_of, outline, reach
from inference.core.kinematics import forward
from inference.core.rotations import matrix_from_rotvec
from inference.nets.gc_body import PARTS
from inference.protocol.errors import InputError

Array = np.ndarray


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return load_model()


@pytest.fixture(scope="module")
def mesh(model: BodyModel) -> BodyMesh:
    return model.mesh({"gender": 0.2, "weight": 0.7})


@pytest.fixture(scope="module")
def parts() -> Array:
    return matrix_from_rotvec(np.random.default_rng(3).normal(0, 0.5, (4, len(PARTS), 3)))


def test_a_body_survives_being_saved_with_all_its_quads_expressions_and_shape_keys(mesh: BodyMesh, tmp_path) -> None:
    mesh.save(tmp_path / "body_mesh.npz")
    again = BodyMesh.load(tmp_path / "body_mesh.npz")
    assert len(again.header["bones"]) == 104
    assert len(again.shape_keys) == 52
    assert (again.faces >= 0).all()
    assert {"weight+", "height-", "measure-waist-circ+"} <= {str(name) for name in again.parameter_names}
    assert np.array_equal(again.vertices, mesh.vertices)


def test_skin_is_that_of_anny_for_the_same_turns_of_bones(model: BodyModel, mesh: BodyMesh, parts: Array) -> None:
    pose = spread(parts, model.bones, model.parents)
    turns, heads = place_bones(mesh, pose, np.zeros((len(parts), 3)))
    anny: Any = model._model
    phenotypes = torch.tensor([[mesh.header["shape"][name] for name in model.phenotypes]])
    with torch.no_grad():
        rest = anny(phenotype_kwargs=phenotypes)["rest_bone_poses"][0, :, :3, :3].numpy()
        wanted = np.tile(np.eye(4, dtype=np.float32), (len(parts), len(model.bones), 1, 1))
        wanted[..., :3, :3] = turns @ rest
        posed = anny(
            pose_parameters=torch.from_numpy(wanted), phenotype_kwargs=phenotypes.repeat(len(parts), 1),
            pose_parameterization="world-orient",
        )["vertices"].numpy()  # fmt: skip
    ours = np.stack([Skin(mesh).vertices(*frame) for frame in zip(turns, heads, strict=True)])
    np.testing.assert_allclose(ours - ours[:, :1], posed - posed[:, :1], atol=5e-6)


def test_bones_of_parts_turn_as_the_parts_do_and_those_between_follow(model: BodyModel, parts: Array) -> None:
    turns = global_turns(spread(parts, model.bones, model.parents), model.parents)
    index = {name: row for row, name in enumerate(model.bones)}
    for part, (_, _, bone) in enumerate(PARTS):
        np.testing.assert_allclose(turns[:, index[bone]], parts[:, part], atol=1e-9)
    for bone, leader in (("upperarm02.L", "upperarm01.L"), ("finger3-2.R", "wrist.R"), ("spine02", "spine03"),
                         ("toe5-1.L", "toe2-1.L"), ("eye.R", "head")):  # fmt: skip
        np.testing.assert_allclose(turns[:, index[bone]], turns[:, index[leader]], atol=1e-9)


def test_an_armature_moved_by_the_motion_puts_joints_where_the_body_has_them(mesh: BodyMesh, parts: Array) -> None:
    parameters = parameters_of(mesh, spread(parts, mesh.header["bones"], mesh.parents))
    motion = as_motion(parameters, mesh)
    placed = forward(motion.rest, motion.parents, motion.rotations, motion.root)[..., :3, 3]
    _, heads = place_bones(mesh, parameters.pose, parameters.root)
    np.testing.assert_allclose(placed, heads, atol=1e-6)


def test_a_key_at_full_value_is_the_shape_with_that_parameter_at_its_end(model: BodyModel, mesh: BodyMesh) -> None:
    vertices, heads, _ = shaped(mesh, {"weight+": 1.0})
    direct = model.mesh({**mesh.header["shape"], "weight": 1.0}, keys=False)
    np.testing.assert_allclose(vertices, direct.vertices, atol=1e-5)
    np.testing.assert_allclose(heads, direct.heads, atol=1e-5)


def test_a_tape_round_a_square_measures_its_four_sides() -> None:
    inside = np.random.default_rng(0).uniform(-0.9, 0.9, (50, 2))
    assert outline(np.concatenate([inside, [[-1, -1], [1, -1], [1, 1], [-1, 1.0]]])) == pytest.approx(8.0)


def test_wanted_measures_are_reached_and_joints_go_with_them(mesh: BodyMesh) -> None:
    wanted = {"height": 1.72, "chest": 1.0, "waist": 0.9, "inseam": 0.79}
    keys = reach(adjustable_of(mesh), wanted)
    vertices, heads, _ = shaped(mesh, keys)
    found = adjustable_of(mesh).ruler.measure(vertices)
    assert set(found) == set(MEASURES)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=0.005)
    head = mesh.header["bones"].index("head")
    assert heads[head, 2] / mesh.heads[head, 2] == pytest.approx(1.72 / mesh.header["measures_m"]["height"], abs=0.02)


def test_measures_no_body_has_and_parameters_nobody_knows_are_refused(model: BodyModel, mesh: BodyMesh) -> None:
    with pytest.raises(InputError, match=r"height of 3.10 m is no body's; 0.45 to 2.4 m"):
        reach(adjustable_of(mesh), {"height": 3.1})
    with pytest.raises(InputError, match="These measures do not go together"):
        reach(adjustable_of(mesh), {"height": 1.5, "inseam": 1.1})
    with pytest.raises(InputError, match="no measure 'girth'"):
        reach(adjustable_of(mesh), {"girth": 1.0})
    with pytest.raises(InputError, match="no shape parameter 'beta0'"):
        model.mesh({"beta0": 1.0})
