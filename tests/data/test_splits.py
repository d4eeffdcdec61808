from __future__ import annotations

import numpy as np
import pytest

from pointlift.data.splits import fraction, holdout, k_shot

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, -1], [5, 30, 12, 7]))


def test_k_shot_is_balanced_sorted_seeded_and_nested() -> None:
    drawn = k_shot(LABELS, 4, seed=1)
    assert np.bincount(LABELS[drawn]).tolist() == [4, 4, 4] and (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, k_shot(LABELS, 4, seed=1))
    assert not np.array_equal(drawn, k_shot(LABELS, 4, seed=2))
    assert set(k_shot(LABELS, 2, seed=1)) < set(drawn)


def test_fraction_rounds_and_keeps_one_of_every_class() -> None:
    assert np.bincount(LABELS[fraction(LABELS, 0.5, 0)]).tolist() == [3, 15, 6]
    assert np.bincount(LABELS[fraction(LABELS, 0.01, 0)]).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(fraction(LABELS, 1.0, 3), np.flatnonzero(LABELS >= 0))
    assert set(fraction(LABELS, 0.1, 5)) < set(fraction(LABELS, 0.4, 5))


def test_holdout_is_disjoint_and_complete() -> None:
    kept, held = holdout(LABELS, 0.2, 0)
    assert not set(kept) & set(held) and len(kept) + len(held) == 47
    assert np.bincount(LABELS[held]).tolist() == [1, 6, 2]
    # one of each class is always kept
    assert np.bincount(LABELS[holdout([0, 0, 1, 1, 1], 0.9, 0)[1]], minlength=1).sum() == 3


def test_every_draw_is_possible() -> None:
    """Uniform: over many seeds every cloud of the small class is drawn about equally often."""
    counts = np.zeros(len(LABELS))
    for seed in range(400):
        counts[k_shot(LABELS, 1, seed)] += 1
    share = counts[LABELS == 0] / 400
    assert counts.sum() == 1200 and np.abs(share - 0.2).max() < 4 * np.sqrt(0.16 / 400)


def test_errors() -> None:
    for call, words in (
        (lambda: k_shot(LABELS, 6, 0), "class 0 has 5 clouds, 6"),
        (lambda: k_shot(LABELS, 6, 0, ("chair", "b", "c")), "'chair' has 5"),
        (lambda: k_shot(LABELS, 1, 0, ("a", "b", "c", "lamp")), "'lamp' has no clouds"),
        (lambda: k_shot(LABELS, 0, 0), "k is 0"),
        (lambda: k_shot([-1, -1], 1, 0), "no labelled"),
        (lambda: fraction(LABELS, 0.0, 0), "share is 0"),
        (lambda: fraction(LABELS, 1.5, 0), "share is 1.5"),
        (lambda: holdout(LABELS, 1.0, 0), "between 0 and 1"),
        (lambda: holdout([0, 0, 1], 0.5, 0), "class 1 has 1 cloud"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
