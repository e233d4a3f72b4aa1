"""One face through a film: among others, hidden for a while, and moving fast."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from inference.protocol.events import SilentReporter
from inference.sight.face_track import FaceTracker
from inference.sight.faces import Faces

Array = np.ndarray
FACE_PX = 110  # of the astronaut's, about


@pytest.fixture(scope="module")
def faces() -> Iterator[Faces]:
    with Faces() as found:
        yield found


@pytest.fixture(scope="module")
def portrait() -> Array:
    return np.ascontiguousarray(astronaut()[:300, 70:380])


class Notes(SilentReporter):
    """Keeps what was warned of."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def warning(self, code: str, text: str) -> None:
        self.said[code] = text


def middles(tracker: FaceTracker, pictures: list[Array]) -> Array:
    """(T,) px from the left of the face that is followed, NaN where none is seen."""
    seen = [tracker.see(picture) for picture in pictures]
    return np.array([np.nan if one is None else one.points[:, 0].mean() for one in seen])


def beside(portrait: Array, shown: tuple[bool, bool]) -> Array:
    """Two people, either of whom may be hidden."""
    covered = cv2.GaussianBlur(portrait, (0, 0), 60)
    other = np.ascontiguousarray(portrait[:, ::-1])
    return np.concatenate([portrait if shown[0] else covered, other if shown[1] else covered], 1)


def test_somebody_who_is_hidden_for_long_is_not_taken_for_their_neighbour(faces: Faces, portrait: Array) -> None:
    both, alone = beside(portrait, (True, True)), beside(portrait, (False, True))
    found = middles(FaceTracker(faces, 25.0, 1), [both] * 15 + [alone] * 40 + [both] * 15)
    assert np.nanmax(found) < portrait.shape[1]
    assert np.isfinite(found[:15]).all() and np.isnan(found[15:55]).all() and np.isfinite(found[60:]).all()


def test_somebody_who_comes_back_elsewhere_among_others_is_taken_up_and_said_to(faces: Faces, portrait: Array) -> None:
    empty = np.zeros_like(portrait)
    first = np.concatenate([portrait, empty, empty], 1)
    then = np.concatenate([empty, portrait, portrait[:, ::-1]], 1)
    notes = Notes()
    found = middles(FaceTracker(faces, 25.0, report=notes), [first] * 3 + [0 * first] * 30 + [then] * 5)
    assert portrait.shape[1] < found[-1] < 2 * portrait.shape[1]
    assert "it may be another one" in notes.said["other-face"]


@pytest.mark.parametrize("fps", [4.0, 24.0])
def test_a_face_that_moves_half_its_width_between_pictures_is_not_lost(
    faces: Faces, portrait: Array, fps: float
) -> None:
    wide = np.pad(portrait, ((0, 0), (FACE_PX, FACE_PX), (0, 0)), mode="edge")
    there = np.roll(wide, FACE_PX // 2, 1)
    assert np.isfinite(middles(FaceTracker(faces, fps), [wide, there] * 6)).all()
