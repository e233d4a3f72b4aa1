"""The published networks that several tests look at."""

from __future__ import annotations

import pytest

from inference import nets
from inference.nets.joint_volume import JointVolume
from inference.nets.view_trust import ViewTrust
from inference.runtime.weights import locate


@pytest.fixture(scope="module")
def trust() -> ViewTrust:
    net = nets.load(locate("view-trust"))
    assert isinstance(net, ViewTrust)
    return net


@pytest.fixture(scope="module")
def volume() -> JointVolume:
    net = nets.load(locate("joint-volume"))
    assert isinstance(net, JointVolume)
    return net
