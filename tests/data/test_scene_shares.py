"""Some of the scenes or of the labels: how many, which, and that more contain the fewer."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pointlift.data.scene_clouds import SceneSplits, load_scenes
from pointlift.data.scene_config import SceneDataConfig
from pointlift.data.scene_shares import few_labels, kept_labels, share_of
from tiny_scenes import SOURCE, read

DATA = SceneDataConfig(source=SOURCE, features=["height"], voxel_size=0.2, in_memory=False)


def labels_of(splits: SceneSplits) -> dict[str, set[int]]:
    """Scene -> rows of its points that have a label."""
    scenes = [splits.train[i] for i in range(len(splits.train))]
    return {s.path: set(np.flatnonzero(s.part >= 0)) for s in scenes if s.part is not None}


def test_a_share_is_rounded_and_at_least_one_of_what_there_is() -> None:
    assert [share_of(s, 204) for s in (0.01, 0.05, 0.1, 1.0)] == [2, 10, 20, 204]
    assert share_of(0.01, 4) == 1 and share_of(0.5, 5) == 3 and share_of(0.01, 0) == 0


def test_points_that_keep_their_label_keep_the_right_one() -> None:
    part = np.random.default_rng(0).integers(-1, 4, 997)
    kept = kept_labels(part, 0.1, 3, 5)
    rows = np.flatnonzero(kept >= 0)
    assert len(rows) == round(0.1 * (part >= 0).sum()) and np.array_equal(kept[rows], part[rows])
    assert np.array_equal(kept_labels(part, 1.0, 3, 5), part)
    assert np.array_equal(part, np.random.default_rng(0).integers(-1, 4, 997)), "the scene's own stay"


@pytest.mark.parametrize("part", [[], [-1, -1], [2]])
def test_scenes_with_hardly_a_label(part: list[int]) -> None:
    given = np.array(part, dtype=np.int64)
    assert np.array_equal(kept_labels(given, 0.01, 0, 0), given)


def test_more_labels_contain_the_fewer_and_seeds_and_scenes_differ() -> None:
    part = np.zeros(500, dtype=np.int64)
    some = [set(np.flatnonzero(kept_labels(part, share, 0, 0) >= 0)) for share in (0.01, 0.05, 0.1, 1)]
    assert [len(rows) for rows in some] == [5, 25, 50, 500]
    assert all(fewer < more for fewer, more in pairwise(some))
    others = [kept_labels(part, 0.1, *key) for key in ((1, 0), (0, 1))]
    assert all(set(np.flatnonzero(kept >= 0)) != some[2] for kept in others)


def test_a_run_learns_from_a_share_and_is_judged_by_all() -> None:
    few, all_of_them = load_scenes(replace(DATA, labels=0.1), 0), load_scenes(DATA, 0)
    assert [len(rows) for rows in labels_of(few).values()] == [40] * 6  # of 395
    assert len(labels_of(few)) == len(labels_of(all_of_them))
    judged = [few.val[i].part for i in range(len(few.val))]
    assert all(np.array_equal(part, all_of_them.val[i].part) for i, part in enumerate(judged))
    assert "10 % of the labelled points of every training scene have their label" in few.account
    assert few.train[0].xyz.shape == all_of_them.train[0].xyz.shape, "the others are still seen"


def test_which_labels_a_scene_keeps_does_not_depend_on_the_others() -> None:
    half = labels_of(load_scenes(replace(DATA, scenes=0.5, labels=0.1), 2))
    whole = labels_of(load_scenes(replace(DATA, labels=0.1), 2))
    held = load_scenes(replace(DATA, labels=0.1, val_fraction=0.34, in_memory=True), 2)
    assert len(half) == 3 and all(rows == whole[path] for path, rows in half.items())
    assert all(rows == whole[path] for path, rows in labels_of(held).items())
    part = held.val[0].part
    assert part is not None and set(np.flatnonzero(part >= 0)) == whole[held.val[0].path]


def test_it_travels_to_workers_and_scenes_without_labels_pass() -> None:
    made = pickle.loads(pickle.dumps(few_labels(read(None), 0.1, 0)))
    assert int((made[0].part >= 0).sum()) == 40 and made.scene_labels is not None
    bare = read(None)
    bare = few_labels(type(bare)([replace(bare[0], part=None)], bare.classes, up_axis="z"), 0.5, 0)
    assert bare[0].part is None


@pytest.mark.parametrize("share", [0, -0.1, 1.2])
def test_shares_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"data: labels is .*, expected a share between 0 and 1"):
        replace(DATA, labels=share)
