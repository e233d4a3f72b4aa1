"""Foreign checkpoints become safetensors without being run."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.protocol.errors import InputError
from inference.runtime.convert import convert

ROOT = Path(__file__).resolve().parents[2]


def test_tensors_arrive_as_they_were(tmp_path):
    torch.manual_seed(0)
    kinds = [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    ]
    model = OrderedDict((str(kind), torch.ones(3, 2).to(kind)) for kind in kinds)
    model["shared"] = torch.arange(12.0)[4:8]
    model["parameter"] = torch.nn.Parameter(torch.randn(2, 3))
    torch.save({"model": model, "epoch": 7, "lr": [0.1], "net": torch.nn.Linear(3, 2).state_dict()}, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert set(found) == {f"model.{name}" for name in model} | {"net.weight", "net.bias"}
    for name, tensor in model.items():
        assert torch.equal(found[f"model.{name}"], tensor.detach()), name


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_in_the_layout_of_latent_pose_is_read_past_its_settings(tmp_path, zipped):
    torch.manual_seed(1)
    net = torch.nn.Linear(3, 2)
    shared = torch.arange(10, dtype=torch.float64)
    checkpoint = {
        "embedder": net.state_dict(), "running_averages": {"generator": {"constant.constant": torch.ones(1, 2, 4, 4)}},
        "args": Namespace(experiment_dir=Path("runs") / "one", lr=5e-5, criterions="perceptual, dice", shape=(1, 2)),
        "optimizer_G": {"state": {0: {"step": 3, "part": shared[2:5], "rest": shared[5:]}}, "param_groups": [{}]},
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "a.pth", pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    convert(tmp_path / "a.pth", tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert torch.equal(found["embedder.weight"], net.weight.detach())
    assert found["running_averages.generator.constant.constant"].shape == (1, 2, 4, 4)
    assert (
        found["optimizer_G.state.0.part"].tolist() == [2, 3, 4] and found["optimizer_G.state.0.rest"].tolist()[0] == 5
    )
    assert not any(name.startswith("args") for name in found)


def test_an_old_checkpoint_that_would_run_something_or_is_cut_off_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "b": Fires()}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"nothing of it was executed"):
        convert(tmp_path / "a.pth", tmp_path / "a.safetensors")
    torch.save({"a": torch.ones(2000)}, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "b.pth").write_bytes((tmp_path / "b.pth").read_bytes()[:-100])
    with pytest.raises(InputError, match="cut off"):
        convert(tmp_path / "b.pth", tmp_path / "a.safetensors")
    (tmp_path / "c.pth").write_bytes(b"not a pickle")
    with pytest.raises(InputError):
        convert(tmp_path / "c.pth", tmp_path / "a.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth", "c.pth"]


class Fires:
    def __reduce__(self):
        import os

        return os.system, ("touch canary",)


def test_a_checkpoint_that_would_run_something_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "b": Fires()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"names posix.system; nothing of it was executed"):
        convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.skipif(sys.platform != "linux", reason="rlimits")
def test_the_process_that_converts_has_little_memory_and_no_network(tmp_path):
    code = (
        "import socket, sys; from inference.runtime.convert import confine; confine()\n"
        "try: bytearray(4 << 30)\nexcept MemoryError: print('memory')\n"
        "try: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError as error: print(error.errno)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[0] == "memory"
    assert int(said.splitlines()[1]) in (101, 111), "unreachable, or refused where the system keeps its namespaces"


def test_a_result_is_whole_or_absent(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:-200])
    with pytest.raises(InputError):
        convert(tmp_path / "cut.pt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(InputError, match="not a readable checkpoint"):
        convert(tmp_path / "no.pt", tmp_path / "out.safetensors")
