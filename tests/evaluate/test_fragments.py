"""Fragments and test-time augmentation: every point answered once, lazily, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from types import GeneratorType

import numpy as np
import pytest

from pointlift.evaluate.fragments import Cost, Fragment, Variant, answers_of, cost_of, fragments, variants


def scene(n: int = 401, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, 3)) * [2, 2, 0.5]).astype(np.float32)


def cells(xyz: np.ndarray, size: float) -> list[tuple[int, ...]]:
    return [tuple(c) for c in np.floor(xyz.astype(np.float64) / size).astype(int)]


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("seed", [0, 7, None])
@pytest.mark.parametrize("points", [1, 2, 401])
def test_every_point_is_in_exactly_one_fragment(context: bool, seed: int | None, points: int) -> None:
    xyz = scene(points)
    cell = cells(xyz, 0.5)
    found = list(fragments(xyz, 0.5, seed, context))
    assert len(found) == max(cell.count(c) for c in set(cell))
    owned = np.concatenate([f.rows[f.own] for f in found])
    assert sorted(owned.tolist()) == list(range(points))
    for fragment in found:
        assert (np.diff(fragment.rows) > 0).all() and fragment.own.any()
        seen = [cell[r] for r in fragment.rows]
        assert len(set(seen)) == len(seen)  # one point per voxel
        assert not context or len(seen) == len(set(cell))  # of every voxel
        assert context or fragment.own.all()


def test_fragments_are_lazy_follow_their_seed_and_there_are_none_of_nothing() -> None:
    xyz = scene()
    assert isinstance(fragments(xyz, 0.5), GeneratorType)
    first, again, other = (next(fragments(xyz, 0.5, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert not np.array_equal(first.rows, other.rows)
    assert not list(fragments(xyz[:0], 0.5))
    cell = cells(xyz, 0.5)
    assert sorted(next(fragments(xyz, 0.5, None)).rows) == sorted(cell.index(c) for c in set(cell))
    alike = np.zeros((9, 3), np.float32)
    assert [f.own.sum() for f in fragments(alike, 1.0)] == [1] * 9


@pytest.mark.parametrize("context", [True, False])
def test_answers_are_those_of_the_points_own_fragment(context: bool) -> None:
    xyz = scene()
    truth = np.random.default_rng(1).random((401, 3))

    def network() -> Iterator[tuple[Fragment, np.ndarray]]:
        for fragment in fragments(xyz, 0.5, context=context):
            yield fragment, np.where(fragment.own[:, None], truth[fragment.rows], -1)

    np.testing.assert_array_equal(answers_of(401, network()), truth)


def test_points_without_an_answer_are_never_passed_over() -> None:
    every = list(fragments(scene(), 0.5))
    with pytest.raises(ValueError, match="points have no answer and 0 more than one"):
        answers_of(401, ((f, np.zeros((len(f.rows), 2))) for f in every[:-1]))
    with pytest.raises(ValueError, match="0 of 401 points have no answer and 401 more than one"):
        answers_of(401, ((f, np.zeros((len(f.rows), 2))) for f in every + every))
    with pytest.raises(ValueError, match="got 1 rows of scores"):
        answers_of(401, ((f, np.zeros((1, 2))) for f in every))
    with pytest.raises(ValueError, match="4 of 4 points have no answer"):
        answers_of(4, iter(()))


def test_variants_are_undone_and_turn_normals() -> None:
    xyz = scene(50)
    found = list(variants(angles=(0.0, np.pi / 2, 1.0)))
    assert len(found) == 30 and len(set(found)) == 30 and len(list(variants())) == 10
    for variant in found:
        np.testing.assert_allclose(variant.undo(variant.apply(xyz)), xyz, atol=1e-5)
        features = np.concatenate([np.ones((50, 2)), xyz], axis=1)
        turned = variant.apply_features(features, 2)
        np.testing.assert_allclose(turned[:, 2:] * variant.scale, variant.apply(xyz), atol=1e-5)
        np.testing.assert_array_equal(turned[:, :2], 1)
        np.testing.assert_array_equal(variant.apply_features(features, None), features.astype(np.float32))
    by_hand = Variant(2.0, (True, False), np.pi / 2).apply(np.array([[1.0, 3.0, 5.0]]))
    np.testing.assert_allclose(by_hand, [[-6, -2, 10]], atol=1e-6)  # mirrored to (-1, 3), turned to (-3, -1)
    np.testing.assert_array_equal(Variant().apply(xyz), xyz)


@pytest.mark.parametrize("context", [True, False])
def test_the_cost_is_what_is_then_paid(context: bool) -> None:
    xyz = scene()
    tests = list(variants((0.5, 1.0), angles=(0.3,)))
    cost = cost_of(xyz, 0.5, tests, context)
    paid = [f for t in tests for f in fragments(t.apply(xyz), 0.5, context=context)]
    assert cost.forwards == len(paid) and cost.seen == sum(len(f.rows) for f in paid)
    assert cost_of(xyz[:0], 0.5) == Cost(1, 0, 0, 0)
    both = Cost(1, 100, 7, 650) + Cost(1, 100, 5, 350)
    assert both.summary() == (
        "12 forwards for 2 scenes, 1,000 points in all, 5.0 times the 200 points there are "
        "(the inverse map needs 2 forwards)"
    )


def test_wrong_values_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="voxel_size is 0, a positive number"):
        next(fragments(scene(), 0))
    with pytest.raises(ValueError, match="got no variants, at least one is expected"):
        cost_of(scene(), 0.5, ())
    with pytest.raises(ValueError, match="got 0 scales, 2 flips and 1 angles"):
        variants(())
    with pytest.raises(ValueError, match="positive scales are expected"):
        variants((1.0, 0.0))
