"""Voting: the mean of a network's probabilities over differently scaled copies of a cloud (facts 4.7).

    vote 0:     p_0 = softmax(net(cloud))
    vote v > 0: p_v = softmax(net(s * cloud)), s of three axes ~ U(low, high), drawn anew
                from the cloud as it is
    p = mean of p_0 .. p_{N-1}

PointCMT's paper does not speak of it; its README and released code do. That script multiplies one tensor in
place, so that its scales compound over the votes, repeats that 300 times and reports the best (trap T39).
Here every vote starts from the cloud itself, and one number comes out, for one seed. It is reported beside
the number without votes and never instead of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.sample import Sample

__all__ = ["Voting", "average_votes"]

Probabilities = Callable[[Sequence[Sample]], npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Voting:
    """How votes are drawn.

    Attributes:
        votes: N, the cloud as it is among them.
        seed: of the scales, which follow from (seed, number of the cloud, number of the vote) alone.
        low, high: range of the factor of each axis; 0.85 and 1.15 in the released script.

    Raises:
        ValueError: fewer than 2 votes (1 is not voting), a negative seed, or a range that is not positive.
    """

    votes: int
    seed: int = 0
    low: float = 0.85
    high: float = 1.15

    def __post_init__(self) -> None:
        if self.votes < 2:
            raise ValueError(
                f"voting: got {self.votes} votes, expected at least 2; 1 is evaluation without votes."
            )
        if self.seed < 0 or not 0 < self.low <= self.high < np.inf:
            raise ValueError(
                f"voting: got seed {self.seed} and factors {self.low} to {self.high}, "
                "expected 0 or more and 0 < low <= high."
            )

    def factors(self, cloud: int, vote: int) -> npt.NDArray[np.float32]:
        """(3,): what vote number `vote` of cloud number `cloud` multiplies each axis by; ones for vote 0."""
        if vote == 0:
            return np.ones(3, dtype=np.float32)
        return (
            np.random.default_rng([self.seed, cloud, vote]).uniform(self.low, self.high, 3).astype(np.float32)
        )

    def describe(self) -> dict[str, Any]:
        """For the protocol."""
        return {
            "votes": self.votes,
            "seed": self.seed,
            "scale_of_each_axis": [self.low, self.high],
            "averaged": "softmax probabilities",
        }


def average_votes(
    predict: Probabilities, samples: Sequence[Sample], voting: Voting, xyz_in_features: bool = True
) -> npt.NDArray[np.float64]:
    """(R, C): the mean over the votes of what `predict` gives for the samples,
    one row per cloud or per point.

    Args:
        predict: samples to probabilities (R, C), as after a softmax.
        samples: the clouds as the network sees them; they stay as they are.
        xyz_in_features: whether the first three features are the coordinates,
            which are then scaled with them.

    Raises ValueError for no samples, and for a `predict` whose rows differ between votes or are no
    probabilities.
    """
    if not samples:
        raise ValueError("voting: got no clouds, expected at least one.")
    total: npt.NDArray[np.float64] | None = None
    for vote in range(voting.votes):
        scaled = [
            _scaled(sample, voting.factors(i, vote), xyz_in_features) for i, sample in enumerate(samples)
        ]
        found = np.asarray(predict(scaled), dtype=np.float64)
        if found.ndim != 2 or (total is not None and found.shape != total.shape):
            raise ValueError(
                f"voting: vote {vote} gave shape {found.shape}, "
                "expected the rows and classes of the first vote."
            )
        if not np.allclose(found.sum(1), 1, atol=1e-3) or found.min(initial=0) < 0:
            raise ValueError(
                f"voting: vote {vote} gave rows that do not sum to one, expected probabilities: "
                "take the softmax first."
            )
        total = found if total is None else total + found
    assert total is not None
    return total / voting.votes


def _scaled(sample: Sample, factors: npt.NDArray[np.float32], xyz_in_features: bool) -> Sample:
    features = sample.features
    if features is not None and xyz_in_features:
        features = np.concatenate([features[:, :3] * factors, features[:, 3:]], axis=1)
    return replace(sample, xyz=sample.xyz * factors, features=features)
