"""Rooms and streets as sources: what readers of scenes promise, options, and refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pointlift.data import DataError, open_dataset
from pointlift.data.procedural.rooms import ROOM_CLASSES
from pointlift.data.procedural.streets import STREET_CLASSES, STREET_RAW
from pointlift.data.sources.open import available_splits, describe_source, parse_source

ROOMS = "procedural:rooms?train=3&test=1&points=301&use=normals,colors"
STREETS = "procedural:streets?train=3&beams=16&azimuths=40&sweeps=2&use=intensity"


def test_rooms() -> None:
    dataset = open_dataset(ROOMS, "train", n_points=None)
    assert len(dataset) == 3 and dataset.up_axis == "z" and dataset.columns == ("normals", "colors")
    assert dataset.scene_labels is not None and dataset.scene_labels.names == ROOM_CLASSES == dataset.classes
    assert "3 made rooms of 301 points" in dataset.account
    scene = dataset[1]
    assert scene.features is not None and scene.features.shape == (301, 6) and scene.label == -1
    assert np.allclose(np.linalg.norm(scene.features[:, :3], axis=1), 1, atol=1e-5)
    assert scene.part is not None and 0 <= scene.part.min() and scene.part.max() < 13
    again = pickle.loads(pickle.dumps(dataset))[1]
    more = open_dataset("procedural:rooms?train=9&points=301", "train", n_points=None)[1]
    assert np.array_equal(again.xyz, scene.xyz) and np.array_equal(more.xyz, scene.xyz)
    assert more.features is None and "train 1" in more.path
    assert not np.array_equal(open_dataset(ROOMS, "test", n_points=None)[0].xyz, dataset[0].xyz)
    assert len(open_dataset(ROOMS, "test", n_points=77)[0]) == 77


def test_streets() -> None:
    dataset = open_dataset(STREETS, "train", n_points=None)
    assert len(dataset) == 3 and dataset.scene_labels is not None and dataset.columns == ("intensity",)
    assert dataset.scene_labels.names == STREET_CLASSES and dataset.scene_labels.written == STREET_RAW
    one, two, other = (dataset[i] for i in range(3))
    assert one.pose is not None and two.pose is not None and other.pose is not None
    assert abs(np.linalg.norm(two.pose[:3, 3] - one.pose[:3, 3]) - 6) < 0.6  # the same street, further on
    assert not np.array_equal(other.xyz[:9], one.xyz[:9])
    few = open_dataset(f"{STREETS}&points=50", "train", n_points=None)
    assert len(few[1]) == 50 < len(two) and few[1].features is not None and few[1].features.shape == (50, 1)
    assert {tuple(p) for p in few[1].xyz} <= {tuple(p) for p in two.xyz}
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))[1].xyz, two.xyz)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("procedural:rooms?train=0", "procedural:rooms with train=0 is empty"),
        ("procedural:rooms?use=intensity", "no 'intensity', use=colors,normals at most"),
        ("procedural:rooms?points=0", "at least 1 point"),
        ("procedural:rooms?seed=-1", "seed=-1"),
        ("procedural:rooms?pints=3", "unknown option 'pints', did you mean 'points'"),
        ("procedural:streets?use=colors", "no 'colors', use=intensity at most"),
        ("procedural:streets?beams=0", "beams=0, at least 1"),
        ("procedural:streets?spacing=0", "spacing=0.0"),
    ],
)
def test_scene_source_refusals(source: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(source, "train", n_points=None)


def test_what_they_are() -> None:
    assert describe_source("procedural:rooms") == "procedural rooms"
    assert available_splits("procedural:streets") == ("train", "val", "test")
    assert parse_source("procedural:rooms").spec.kind == "scene"
    assert parse_source("procedural:shapes").spec.kind == "parts"
    with pytest.raises(DataError, match="no split 'dev'"):
        open_dataset("procedural:rooms", "dev", n_points=None)
