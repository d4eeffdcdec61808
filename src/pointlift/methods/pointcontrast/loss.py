"""PointContrast's losses (section 3.3; facts 2.4), of features of unit length.

PointInfoNCE is `pointlift.methods.ppkt.loss.ppnce` with the second view's points in the place of pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.methods.ppkt.pairs import first_of_each

__all__ = ["hardest_contrastive", "one_match_each", "some_rows"]


def some_rows(count: int, most: int, generator: torch.Generator | None = None) -> Tensor:
    """At most `most` of `count` rows at random, without repetition; from torch's global stream, or a
    generator, on the CPU.
    """
    return torch.randperm(count, generator=generator)[:most]


def one_match_each(matches: Tensor, most: int, generator: torch.Generator | None = None) -> Tensor:
    """(Q, 2): for every point of the first view that has matches (P, 2) one of them, at random; at most
    `most` of these, at random.
    """
    shuffled = matches[some_rows(len(matches), len(matches), generator).to(matches.device)]
    return shuffled[first_of_each(shuffled[:, 0])][:most]


def hardest_contrastive(
    first: Tensor,
    second: Tensor,
    positives: Tensor,
    candidates: tuple[Tensor, Tensor],
    matches: Tensor,
    positive_margin: float = 0.1,
    negative_margin: float = 1.4,
) -> tuple[Tensor, Tensor]:
    """Terms of the matches and of the hardest negatives, whose sum is the loss.

        matches     mean of max(0, |f0 - f1|^2 - positive_margin)
        negatives   mean of max(0, negative_margin - d)^2, d the distance of a match's point to the nearest of
                    the other side's candidates; the mean of both directions

    A nearest candidate that matches the point itself is left out, as in the released code: the next one does
    not take its place. A direction in which all are left out counts 0.

    Args:
        first, second: (N, D), (M, D) features of the two views' points.
        positives: (P, 2) chosen matches.
        candidates: rows of first (A,) and of second (B,).
        matches: (Q, 2) all matches.
    """
    here, there = first[positives[:, 0]], second[positives[:, 1]]
    pulled = ((here - there).square().sum(1) - positive_margin).relu().mean()
    known = matches[:, 0] * len(second) + matches[:, 1]
    terms = []
    for anchor, other, rows, forward in (
        (here, second, candidates[1], True),
        (there, first, candidates[0], False),
    ):
        nearest, at = _squared(anchor, other[rows]).min(dim=1)
        i, j = (positives[:, 0], rows[at]) if forward else (rows[at], positives[:, 1])
        wrong = ~torch.isin(i * len(second) + j, known)
        cost = (negative_margin - (nearest + 1e-7).sqrt()).relu().square()
        terms.append((cost * wrong).sum() / wrong.sum().clamp(min=1))
    return pulled, (terms[0] + terms[1]) / 2


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) squared distances."""
    found = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * a @ b.t()
    return found.clamp(min=0)
