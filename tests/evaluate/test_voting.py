"""Voting: fresh scales for every vote, the mean of probabilities, the clouds as they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pointlift.data.sample import Sample
from pointlift.evaluate.voting import Voting, average_votes

RNG = np.random.default_rng(0)
CLOUDS = [Sample(RNG.normal(size=(n, 3)), i, RNG.normal(size=(n, 5))) for i, n in enumerate((7, 4, 9))]


def probabilities(samples: Sequence[Sample]) -> np.ndarray[Any, Any]:
    """Something that depends on coordinates and features."""
    score = np.array(
        [
            [s.xyz[:, 0].max(), s.xyz[:, 1].max(), 0 if s.features is None else s.features.sum()]
            for s in samples
        ]
    )
    p = np.exp(score - score.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def test_the_mean_over_fresh_scales_of_the_cloud_itself() -> None:
    before = [(s.xyz.copy(), None if s.features is None else s.features.copy()) for s in CLOUDS]
    voting = Voting(5, seed=3)
    found = average_votes(probabilities, CLOUDS, voting)
    expected = np.zeros((3, 3))
    for vote in range(5):
        scaled = []
        for i, (xyz, features) in enumerate(before):
            assert features is not None
            s = (
                np.ones(3, np.float32)
                if vote == 0
                else np.random.default_rng([3, i, vote]).uniform(0.85, 1.15, 3).astype(np.float32)
            )
            scaled.append(Sample(xyz * s, i, np.concatenate([features[:, :3] * s, features[:, 3:]], 1)))
        expected += probabilities(scaled) / 5
    assert np.allclose(found, expected, atol=1e-12) and np.allclose(found.sum(1), 1)
    for sample, (xyz, features) in zip(CLOUDS, before):  # nothing in place
        assert features is not None and sample.features is not None
        assert np.array_equal(sample.xyz, xyz) and np.array_equal(sample.features, features)


def test_scales_do_not_compound() -> None:
    # in place they would wander: the spread of the product of many factors grows,
    # that of fresh ones stays within the range (trap T39)
    seen: list[np.ndarray[Any, Any]] = []

    def spy(samples: Sequence[Sample]) -> np.ndarray[Any, Any]:
        seen.append(samples[0].xyz / CLOUDS[0].xyz)
        return probabilities(samples)

    average_votes(spy, CLOUDS[:1], Voting(60))
    ratios = np.stack(seen)
    assert np.allclose(ratios[0], 1) and ratios.min() > 0.85 - 1e-6 and ratios.max() < 1.15 + 1e-6
    assert np.allclose(ratios, ratios[:, :1], atol=1e-5)  # one factor per axis for all points
    factors = ratios[1:, 0]
    # 4 standard errors
    assert len(np.unique(factors.round(6))) == factors.size and np.abs(factors.mean(0) - 1).max() < 0.05
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.5  # axes on their own


def test_they_follow_from_seed_cloud_and_vote_alone() -> None:
    whole = average_votes(probabilities, CLOUDS, Voting(4, 1))
    assert np.array_equal(whole[:1], average_votes(probabilities, CLOUDS[:1], Voting(4, 1)))
    assert not np.allclose(whole, average_votes(probabilities, CLOUDS, Voting(4, 2)), atol=1e-6)
    assert np.allclose(
        average_votes(probabilities, CLOUDS, Voting(3, low=1.0, high=1.0)), probabilities(CLOUDS), atol=1e-12
    )
    kept = average_votes(
        lambda s: probabilities([Sample(x.xyz, 0, c.features) for x, c in zip(s, CLOUDS)]),
        CLOUDS,
        Voting(4, 1),
    )
    other = average_votes(probabilities, CLOUDS, Voting(4, 1), xyz_in_features=False)
    assert np.allclose(kept, other, atol=1e-12)  # features that are no coordinates stay


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1,), "1 votes"),
        ((0,), "0 votes"),
        ((3, -1), "seed -1"),
        ((3, 0, 0.0), "0.0 to"),
        ((3, 0, 1.2), "1.2 to 1.15"),
    ],
)
def test_bad_votes(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Voting(*arguments)


def test_bad_networks() -> None:
    with pytest.raises(ValueError, match="no clouds"):
        average_votes(probabilities, [], Voting(2))
    with pytest.raises(ValueError, match="softmax first"):
        average_votes(lambda s: 3 * probabilities(s), CLOUDS, Voting(2))
    with pytest.raises(ValueError, match="softmax first"):
        average_votes(lambda s: np.full((3, 2), np.nan), CLOUDS, Voting(2))
    rows = iter((3, 2))
    with pytest.raises(ValueError, match="vote 1 gave shape"):
        average_votes(lambda s: np.ones((next(rows), 1)), CLOUDS, Voting(2))
