"""Moments batch by batch against all features at once."""

import numpy as np
import pytest
import torch

from pointlift.evaluate.collapse import ClassMoments, cdnv


def sample(
    n: int = 400, classes: int = 6, features: int = 9, offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(classes, size=n)
    return rng.normal(size=(classes, features))[labels] * 2 + rng.normal(size=(n, features)) + offset, labels


def streamed(x: np.ndarray, y: np.ndarray, batch: int, classes: int) -> ClassMoments:
    moments = ClassMoments(classes, x.shape[1])
    for start in range(0, len(x), batch):
        moments.update(x[start : start + batch], y[start : start + batch])
    return moments


@pytest.mark.parametrize("batch", [1, 7, 400])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_agrees_with_all_features_at_once(batch: int, offset: float) -> None:
    x, y = sample(offset=offset)
    expected, moments = cdnv(x, y), streamed(x, y, batch, 6)
    # float64 keeps 16 digits; at 1e6 from the origin,
    # squares would have lost 12 of them (a naive sum is wrong in the fourth digit)
    tolerance = 1e-12 if offset == 0 else 1e-8
    np.testing.assert_allclose(moments.cdnv().pairwise, expected.pairwise, rtol=tolerance)
    assert moments.cdnv().mean == pytest.approx(expected.mean, rel=tolerance)
    assert moments.cdnv().counts.tolist() == expected.counts.tolist()


def test_a_stored_state_goes_on_bit_for_bit() -> None:
    x, y = sample()
    whole = streamed(x, y, 50, 6)
    half = ClassMoments.restore(streamed(x[:200], y[:200], 50, 6).state())
    for start in range(200, 400, 50):
        half.update(torch.from_numpy(x[start : start + 50]), torch.from_numpy(y[start : start + 50]))
    assert all(np.array_equal(a, b) for a, b in zip(whole.state().values(), half.state().values()))


def test_merging_processes() -> None:
    x, y = sample()
    left, right = streamed(x[:150], y[:150], 10, 6), streamed(x[150:], y[150:], 10, 6)
    left.merge(right)
    assert left.cdnv().mean == pytest.approx(cdnv(x, y).mean, rel=1e-12)
    with pytest.raises(ValueError, match=r"got \(5, 9\) classes and features to merge"):
        left.merge(ClassMoments(5, 9))


def test_classes_with_fewer_than_two_samples_are_left_out() -> None:
    moments = ClassMoments(4, 2)
    moments.update([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0], [4.0, 2.0], [9.0, 9.0]], [0, 0, 2, 2, 3])
    result = moments.cdnv()
    assert result.excluded == (1, 3) and result.mean == pytest.approx((1 + 1) / (2 * 16))
    with pytest.raises(ValueError, match="at least 2 classes need at least 2 samples each, got 0"):
        ClassMoments(3, 2).cdnv()


def test_what_is_refused() -> None:
    moments = ClassMoments(3, 2)
    for features, labels, words in (
        ([[1.0, 2.0, 3.0]], [0], r"got features \(1, 3\)"),
        ([[1.0, 2.0]], [0, 1], "labels"),
        ([[1.0, float("nan")]], [0], "1 NaN or infinite"),
        ([[1.0, 2.0]], [3], "labels are 3 to 3, expected 0 to 2"),
        ([[1.0, 2.0]], [-1], "labels are -1 to -1"),
    ):
        with pytest.raises(ValueError, match=words):
            moments.update(features, labels)
    assert not moments.counts.any()
    moments.update(np.zeros((0, 2)), np.zeros(0, dtype=int))
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        ClassMoments(0, 2)
