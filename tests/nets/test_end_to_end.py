"""The original networks trained from pictures: gradients, layouts of data sets, and that a run learns and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inference import nets
from inference.core.cameras import Camera, project
from inference.nets.triangulation import AlgebraicNet, VolumetricNet
from inference.protocol.errors import InputError
from inference.protocol.folder import JobFolder, JobReporter
from inference.training import end_to_end
from inference.training.multiview import (
    COCO_19,
    Batch,
    Example,
    Human36M,
    Panoptic,
    Rendered,
    box_around,
    collate,
    crop,
    squared,
)
from inference.training.script import Run
from inference.training.studio.render import look_at

Array = np.ndarray
JOINTS = 17
SMALL: dict[str, Any] = {
    "seed": 1, "batch": 2, "steps": 4, "lr": 1e-3, "lr_volume": 2e-3, "clip": 10.0, "log_every": 2,
    "evaluate_every": 100, "soft": False, "backbone": {"layers": 18, "joints": JOINTS, "deconv": [16, 16, 16]},
}  # fmt: skip
ALGEBRAIC = {**SMALL, "method": "algebraic", "net": {"heatmap_multiplier": 10.0}}
VOLUMETRIC = {
    **SMALL, "method": "volumetric", "net": {"side": 2200.0, "size": 8},
    "volume": {"inputs": 4, "joints": JOINTS, "first": 4, "kernel": 3, "widths": [4, 8], "fronts": 1, "back": False},
}  # fmt: skip


def rig(size: int, count: int = 2) -> list[Camera]:
    """Cameras on a ring, in metres."""
    eyes = [np.array([3 * np.cos(a), 3 * np.sin(a), 1.2]) for a in np.arange(count) * 1.3]
    return [look_at(f"cam{i}", (size, size), 1.1 * size, eye, np.array([0, 0, 0.9])) for i, eye in enumerate(eyes)]


class Dots:
    """People of coloured dots before black: cheap pictures that show where joints are."""

    pelvis: tuple[int, ...] = (6,)

    def __init__(self, count: int, size: int = 64) -> None:
        rng = np.random.default_rng(0)
        self._examples = []
        for _ in range(count):
            joints = np.array([0, 0, 0.9]) + rng.uniform(-0.5, 0.5, (JOINTS, 3))
            views = rig(size)
            pictures = np.zeros((len(views), size, size, 3), np.uint8)
            for picture, camera in zip(pictures, views, strict=True):
                for k, (x, y) in enumerate(project(camera, joints)):
                    colour = tuple(int(255 * c) for c in np.random.default_rng(k).random(3))
                    cv2.circle(picture, (round(x), round(y)), 3, colour, -1)
            matrices = [c.matrix @ np.concatenate([c.rotation, 1000 * c.translation[:, None]], 1) for c in views]
            self._examples.append(Example(pictures, np.stack(matrices), 1000 * joints, np.ones(JOINTS, bool)))

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


@pytest.mark.parametrize(("recipe", "size"), [(ALGEBRAIC, 128), (VOLUMETRIC, 64)])
def test_gradients_flow_from_the_loss_in_space_to_the_first_convolution(recipe: dict[str, Any], size: int) -> None:
    """With the algebraic network's confidence head, which needs 128 px, to that head too."""
    if recipe["method"] == "algebraic":
        recipe = {**recipe, "backbone": {**recipe["backbone"], "algebraic": JOINTS}}
    net = end_to_end.build(recipe).train()
    batch = collate(Dots(2, size), [0, 1])
    end_to_end.loss_of(net, batch, batch.pelvis).backward()
    for name in ("backbone.conv1.weight", "backbone.layer4.0.conv1.weight"):
        gradient = net.get_parameter(name).grad
        assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() > 0
    if isinstance(net, AlgebraicNet):
        head = net.get_parameter("backbone.alg_confidences.head.4.weight").grad
        assert head is not None and head.abs().max() > 0
    else:
        assert net.backbone.final_layer.weight.grad is None  # frozen and unused, as published


@torch.no_grad()
def loss(net: AlgebraicNet | VolumetricNet, source: Dots) -> float:
    """As in training, normalised by the batch."""
    batch = collate(source, range(len(source)))
    return float(end_to_end.loss_of(net.train(), batch, batch.pelvis, soft=False))


@pytest.mark.parametrize("recipe", [ALGEBRAIC, VOLUMETRIC])
def test_a_few_steps_bring_the_loss_down(recipe: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    source = Dots(1)
    net = end_to_end.build(recipe)
    adam, batch, before = end_to_end.optimiser(net, recipe), collate(source, [0]), loss(net, source)
    for _ in range(6):
        adam.zero_grad()
        end_to_end.loss_of(net.train(), batch, batch.pelvis, soft=False).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        adam.step()
    assert loss(net, source) < 0.85 * before


def test_a_stopped_run_goes_on_where_it_was_and_its_weights_begin_another(tmp_path: Path) -> None:
    source = Dots(1)
    recipe = {**ALGEBRAIC, "batch": 1, "steps": 1}
    end_to_end.train(recipe, end_to_end.build(recipe), source, Run(tmp_path))
    net = end_to_end.train({**recipe, "steps": 2}, end_to_end.build({**recipe, "seed": 9}), source, Run(tmp_path))
    adam = end_to_end.optimiser(net, recipe)
    assert end_to_end.restore(tmp_path, net, adam) == 2
    assert {int(state["step"]) for state in adam.state_dict()["state"].values()} == {2}
    job = JobFolder(tmp_path)
    job.ask_to_cancel()
    with JobReporter(job) as reporter:
        run = Run(tmp_path, reporter)
        end_to_end.train({**recipe, "steps": 500}, net, source, run)
    assert run.is_cancelled
    assert end_to_end.restore(tmp_path, net, adam) == 2
    path = tmp_path / "triangulation-algebraic.safetensors"
    loaded = nets.load(path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in net.state_dict().items())
    other = end_to_end.build(VOLUMETRIC | {"seed": 5})
    end_to_end.take_backbone(other, path)
    assert torch.equal(other.backbone.conv1.weight, net.backbone.conv1.weight)


def test_losses_are_the_published_ones() -> None:
    truth = torch.zeros(1, 17, 3)
    found = torch.zeros(1, 17, 3)
    found[0, 0, 0], found[0, 1, 1] = 100.0, 30.0  # 10 cm and 3 cm
    valid = torch.ones(1, 17)
    assert end_to_end.absolute_loss(found, truth, valid) == pytest.approx(13 / 51)
    valid[0, 0] = 0
    assert end_to_end.absolute_loss(found, truth, valid) == pytest.approx(3 / 48)


def test_one_view_is_compared_about_the_root() -> None:
    net = end_to_end.build(VOLUMETRIC).eval()
    batch = collate(Dots(1), [0])
    alone = batch._replace(images=batch.images[:, :1], projections=batch.projections[:, :1])
    with torch.no_grad():
        out = net(alone.images, alone.projections, alone.pelvis)
    moved = out.joints - out.joints[:, 6:7]
    expected = ((moved - (alone.joints - alone.joints[:, 6:7])) * 0.1).abs().sum()
    expected = expected + ((out.joints - alone.joints)[:, 6] * 0.1).abs().sum()
    got = end_to_end.loss_of(net, alone, alone.pelvis).detach()
    cross = 0.01 * end_to_end.volume_loss(out.volumes, out.grid, alone.joints, alone.valid.float())
    assert float(got) == pytest.approx(float(expected / 51 + cross), rel=1e-4)


def test_a_crop_shows_what_its_matrix_says() -> None:
    """A white dot of the world stands where the matrix projects it, lens and all."""
    camera = look_at("a", (640, 480), 500.0, np.array([3.0, 0, 1.0]), np.array([0, 0, 1.0]))
    bent = Camera("a", camera.size, camera.matrix, np.array([-0.2, 0.05, 1e-3, -1e-3, 0.0]), camera.rotation,
                  camera.translation)  # fmt: skip
    for used in (camera, bent):
        point = np.array([0.1, 0.5, 1.4])
        picture = np.zeros((480, 640, 3), np.uint8)
        x, y = project(used, point)
        cv2.circle(picture, (round(x), round(y)), 6, (255, 255, 255), -1)
        ideal = project(camera, point)
        cut, matrix = crop(picture, used, (ideal[0] - 60, ideal[1] - 30, ideal[0] + 30, ideal[1] + 40), 128)
        u, v, w = matrix @ [*point, 1.0]
        rows, columns = np.nonzero(cut[..., 0] > 128)
        assert abs(columns.mean() - u / w) < 1.5 and abs(rows.mean() - v / w) < 1.5


def test_boxes_are_squared_and_reach_outside_of_pictures() -> None:
    assert squared((10, 20, 50, 120)) == (-20, 20, 80, 120)
    assert squared((0, 0, 10, 10), 1.5) == (-2, -2, 13, 13)
    assert box_around(np.array([[0.0, 0.0], [100.0, 50.0], [np.nan, 3.0]])) == (-11.0, -11.0, 111.0, 61.0)
    picture = np.full((40, 40, 3), 200, np.uint8)
    cut, _ = crop(picture, Camera("a", (40, 40), np.eye(3)), (-20, 0, 20, 40), 40)
    assert (cut[:, :20] == 0).all() and (cut[:, 20:] == 200).all()


def write_human36m(root: Path) -> Path:
    """Two subjects with two frames each, two cameras, one of which misses a frame."""
    cameras = rig(100)
    kinds = [("R", "f4", (3, 3)), ("t", "f4", (3, 1)), ("K", "f4", (3, 3)), ("dist", "f4", 5)]
    rigs = np.zeros((2, 2), kinds)
    for i, camera in enumerate(cameras):
        for field, value in (("R", camera.rotation), ("t", 1000 * camera.translation[:, None]), ("K", camera.matrix)):
            rigs[:, i][field] = value
    kinds = [("subject_idx", "i1"), ("action_idx", "i1"), ("frame_idx", "i2"), ("keypoints", "f4", (17, 3)),
             ("bbox_by_camera_tlbr", "i2", (2, 4))]  # fmt: skip
    table = np.zeros(4, kinds)
    table["subject_idx"], table["frame_idx"] = [0, 0, 1, 1], [0, 5, 0, 5]
    table["action_idx"] = [0, 0, 0, 1]
    table["keypoints"] = 900.0
    table["bbox_by_camera_tlbr"] = (10, 20, 90, 80)
    table["bbox_by_camera_tlbr"][0, 1] = 0
    for subject, action, frame in (("S1", "Walking-1", 0), ("S1", "Walking-1", 5), ("S9", "Walking-1", 0)):
        for number, camera in enumerate(("54138969", "55011271")):
            folder = root / subject / action / "imageSequence-undistorted" / camera
            folder.mkdir(parents=True, exist_ok=True)
            picture = np.zeros((100, 100, 3), np.uint8)
            picture[..., 2] = 250 - 100 * number  # red, as OpenCV stores it
            cv2.imwrite(str(folder / f"img_{frame + 1:06d}.jpg"), picture)
    labels = root / "labels.npz"
    names = {"subject_names": ["S1", "S9"], "camera_names": ["54138969", "55011271"],
             "action_names": ["Walking-1", "Waiting-1"]}  # fmt: skip
    np.savez(labels, cameras=rigs, table=table, **{name: np.array(value) for name, value in names.items()})
    return labels


def test_human36m_is_read(tmp_path: Path) -> None:
    labels = write_human36m(tmp_path)
    train = Human36M(tmp_path, labels, size=64)
    assert len(train) == 2 and len(Human36M(tmp_path, labels, subjects=("S9",))) == 1  # without the damaged action
    first, second = train[0], train[1]
    assert first.pictures.shape == (1, 64, 64, 3) and second.pictures.shape == (2, 64, 64, 3)
    assert second.pictures[0, 32, 32].tolist()[0] > 200 > second.pictures[1, 32, 32].tolist()[0]  # red first
    camera = rig(100)[1]
    seen = second.projections[1] @ [*(1000 * np.array([0.1, 0.2, 0.9])), 1.0]
    expected = (project(camera, np.array([0.1, 0.2, 0.9])) - [10, 10]) * 64 / 80
    assert np.allclose(seen[:2] / seen[2], expected, atol=1e-2)
    batch = collate(train, [0, 1])
    assert batch.images.shape == (2, 1, 3, 64, 64) and torch.equal(batch.pelvis, torch.full((2, 3), 900.0))
    swapped = collate(train, [1], bgr=True).images[0, 0, :, 32, 32]
    assert swapped.argmax() == 2  # blue first, as the published weights were trained


def test_labels_in_a_pickle_are_refused_with_the_way_out(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array({"table": 1}, object), allow_pickle=True)
    with pytest.raises(InputError, match="without pickle") as refused:
        Human36M(tmp_path, tmp_path / "labels.npy")
    assert "numpy.savez" in refused.value.hint
    with pytest.raises(InputError, match="There is no file"):
        Human36M(tmp_path, tmp_path / "absent.npz")
    labels = write_human36m(tmp_path)
    with pytest.raises(InputError, match="holds no frame of S5"):
        Human36M(tmp_path, labels, subjects=("S5",))


def write_panoptic(root: Path) -> Array:
    """One sequence with one body in two frames, seen by two HD cameras; joints in centimetres."""
    folder = root / "160224_haggling1"
    (folder / "hdPose3d_stage1_coco19").mkdir(parents=True)
    cameras = [
        {"name": f"00_{i:02d}", "type": "hd", "resolution": [100, 100], "K": c.matrix.tolist(), "distCoef": [0.0] * 5,
         "R": c.rotation.tolist(), "t": (100 * c.translation[:, None]).tolist()}
        for i, c in enumerate(rig(100))
    ]  # fmt: skip
    vga = {"name": "01_01", "type": "vga"}
    (folder / "calibration_160224_haggling1.json").write_text(json.dumps({"cameras": [vga, *cameras]}))
    joints = 100 * (np.array([0, 0, 0.9]) + np.random.default_rng(0).uniform(-0.3, 0.3, (19, 3)))
    body = np.concatenate([joints, np.full((19, 1), 0.8)], 1)
    body[4, 3] = -1.0
    for frame, bodies in ((7, [{"id": 0, "joints19": body.ravel().tolist()}]), (8, [])):
        scene = folder / "hdPose3d_stage1_coco19" / f"body3DScene_{frame:08d}.json"
        scene.write_text(json.dumps({"version": 0.7, "bodies": bodies}))
        for i, camera in enumerate(rig(100)):
            picture = np.zeros((100, 100, 3), np.uint8)
            x, y = project(camera, joints[2] / 100)
            cv2.circle(picture, (round(x), round(y)), 3, (255, 255, 255), -1)
            place = folder / "hdImgs" / f"00_{i:02d}"
            place.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / f"00_{i:02d}_{frame:08d}.jpg"), picture)
    return joints


def test_panoptic_is_read(tmp_path: Path) -> None:
    joints = write_panoptic(tmp_path)
    source = Panoptic(tmp_path, ["160224_haggling1"], ["00_00", "00_01"], size=96)
    assert len(source) == 1
    example = source[0]
    assert np.allclose(example.joints, 10 * joints) and example.valid.sum() == 18 and not example.valid[4]
    for picture, projection in zip(example.pictures, example.projections, strict=True):
        u, v, w = projection @ [*example.joints[COCO_19.index("MidHip")], 1.0]
        rows, columns = np.nonzero(picture[..., 0] > 128)
        assert abs(columns.mean() - u / w) < 4 and abs(rows.mean() - v / w) < 4  # the dot is drawn at a whole pixel
    with pytest.raises(InputError, match="knows no HD camera 00_09; it knows 00_00, 00_01"):
        Panoptic(tmp_path, ["160224_haggling1"], ["00_09"])
    with pytest.raises(InputError, match="There is no file"):
        Panoptic(tmp_path, ["171204_pose1"], ["00_00"])


def test_a_recipe_opens_its_pictures(tmp_path: Path) -> None:
    labels = write_human36m(tmp_path)
    told = {"kind": "human36m", "root": ".", "labels": labels.name, "subjects": ["S9"], "size": 64}
    assert len(end_to_end.open_source(told, tmp_path)) == 1
    with pytest.raises(InputError, match="kind 'photographs'"):
        end_to_end.open_source({"kind": "photographs", "root": "."}, tmp_path)


def test_rendered_people_stand_where_their_matrices_say(data_dir: Path) -> None:
    source = Rendered(data_dir, 1, views=2, size=96, avatars=1)
    example = source[0]
    assert source[0] is example and example.pictures.shape == (2, 96, 96, 3)
    seen = example.projections @ np.concatenate([example.joints, np.ones((15, 1))], 1).T
    pixels = (seen[:, :2] / seen[:, 2:]).transpose(0, 2, 1)
    assert (pixels > 0).all() and (pixels < 95).all()
    for picture, points in zip(example.pictures.astype(float), pixels, strict=True):
        person = picture[points[:, 1].round().astype(int), points[:, 0].round().astype(int)]
        assert np.std(person) > 1 and isinstance(collate(source, [0]), Batch)
