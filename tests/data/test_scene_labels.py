"""Numbers of files to classes and back."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.data.errors import DataError
from pointlift.data.scene_labels import SceneLabels

LABELS = SceneLabels(("road", "car"), {0: -1, 40: 0, 60: 0, 10: 1}, (40, 10))


def test_numbers_become_labels_and_labels_numbers() -> None:
    assert LABELS.map(np.array([60, 0, 10, 40]), "x").tolist() == [0, -1, 1, 0]
    assert LABELS.map(np.zeros(0, np.int64), "x").tolist() == []
    assert LABELS.to_written(np.array([1, 0])).tolist() == [10, 40]
    plain = SceneLabels(("a", "b"))
    assert plain.map(np.array([1, -1]), "x").tolist() == [1, -1] and plain.to_written(
        np.array([1])
    ).tolist() == [1]
    assert plain.palette().shape == (2, 3)


def test_numbers_of_no_class_are_counted() -> None:
    with pytest.raises(DataError, match=r"room: 2 points have the labels 7, which are none of the 2 classes"):
        LABELS.map(np.array([7, 40, 7]), "room")
    with pytest.raises(ValueError, match=r"0 \.\. 1"):
        LABELS.to_written(np.array([-1]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"names": ()}, "different ones"),
        ({"names": ("a", "a")}, "different ones"),
        ({"names": ("a",), "ids": {3: 1}}, "-1 .. 0"),
        ({"names": ("a",), "written": (1, 2)}, "2 written ids for 1"),
    ],
)
def test_tables_that_cannot_be(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SceneLabels(**settings)
