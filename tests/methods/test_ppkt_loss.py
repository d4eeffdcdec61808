"""The losses of PPKT against sums written out, and which pairs they are of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pointlift.core.point_batch import PointBatch
from pointlift.methods.ppkt.loss import pixel_distillation, ppnce, regression, retrieved
from pointlift.methods.ppkt.pairs import choose_pairs


def units(n: int, d: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=1)


def test_ppnce_is_equation_3() -> None:
    points, pixels, tau = units(7, 5, 0), units(7, 5, 1), 0.04
    total = 0.0
    for i in range(7):
        scores = [math.exp(float(points[i] @ pixels[j]) / tau) for j in range(7)]
        total -= math.log(scores[i] / sum(scores))
    assert float(ppnce(points, pixels, tau)) == pytest.approx(total / 7, rel=1e-5)


def test_rows_are_points_and_columns_pixels() -> None:
    points, pixels = units(6, 4, 2), units(6, 4, 3)
    assert float(ppnce(points, pixels)) != pytest.approx(float(ppnce(pixels, points)), rel=1e-3)


def test_features_that_know_nothing_cost_the_logarithm_of_the_number() -> None:
    same = units(1, 8, 0).expand(50, 8)
    assert float(ppnce(same, same)) == pytest.approx(math.log(50), rel=1e-5)
    assert float(ppnce(torch.eye(50), torch.eye(50))) < 1e-6


def test_ignored_pairs_are_left_out_of_the_sum() -> None:
    points, pixels = units(5, 4, 0), units(5, 4, 1)
    ignored = torch.zeros(5, 5, dtype=torch.bool)
    ignored[0, 3] = ignored[2, 1] = True
    total = 0.0
    for i in range(5):
        scores = [math.exp(float(points[i] @ pixels[j]) / 0.1) for j in range(5) if not ignored[i, j]]
        total -= math.log(math.exp(float(points[i] @ pixels[i]) / 0.1) / sum(scores))
    assert float(ppnce(points, pixels, 0.1, ignored)) == pytest.approx(total / 5, rel=1e-5)


def test_pixels_of_other_processes_stand_around_ones_own() -> None:
    points, pixels = units(4, 6, 0), units(12, 6, 1)
    logits = (points @ pixels.t() / 0.07).numpy()
    expected = np.mean([np.log(np.exp(logits[i]).sum()) - logits[i, 5 + i] for i in range(4)])
    assert float(ppnce(points, pixels, 0.07, first=5)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("points", "pixels"), [(1, 1), (0, 0), (0, 4)])
def test_too_few_pairs_are_refused(points: int, pixels: int) -> None:
    with pytest.raises(ValueError, match="2 pairs of a point and a pixel or more"):
        ppnce(units(points, 3, 0), units(pixels, 3, 1))


def test_gradients_reach_both_sides() -> None:
    points, pixels = units(6, 4, 0).requires_grad_(), units(6, 4, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: ppnce(a.double(), b, 0.5), (points, pixels), atol=1e-3, eps=1e-3
    )


def test_regressions() -> None:
    a, b = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]])
    assert float(regression(a, b, "cosine")) == pytest.approx(0.5)
    assert float(regression(a, b, "l2")) == pytest.approx(math.sqrt(2) / 2, abs=1e-5)
    assert float(regression(a, b, "squared")) == pytest.approx(1.0)


def test_pixel_distillation_is_hintons() -> None:
    points, pixels, t = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.3, -1.0, 2.0]]), 4.0
    p = torch.softmax(pixels / t, 1)
    q = torch.softmax(points / t, 1)
    expected = float((p * (p.log() - q.log())).sum()) * t * t
    assert float(pixel_distillation(points, pixels, t)) == pytest.approx(expected, rel=1e-5)
    assert float(pixel_distillation(pixels, pixels, t)) == pytest.approx(0, abs=1e-6)


def test_ranks_count_ties_against_the_point() -> None:
    pixels = torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]])
    points = torch.tensor([[1.0, 0], [0, 1.0], [0, 1.0]])
    assert retrieved(points, pixels).tolist() == [1, 2, 0]


def cloud(places: list[list[float]], counts: list[int]) -> PointBatch:
    n = sum(counts)
    offsets = torch.tensor([0, *np.cumsum(counts)])
    return PointBatch(torch.rand(n, 3), None, offsets, extras={"places": torch.tensor(places)})


def test_pairs_come_from_all_frames_and_only_from_shown_points() -> None:
    nan = float("nan")
    batch = cloud([[0, 0], [nan, nan], [2, 1], [3, 0], [nan, nan], [5, 5]], [3, 3])
    pairs = choose_pairs(batch, torch.arange(6), 100, True, torch.Generator().manual_seed(0))
    assert sorted(pairs.points.tolist()) == [0, 2, 3, 5] and pairs.candidates == 4
    assert pairs.pictures.tolist() == [0 if p < 3 else 1 for p in pairs.points.tolist()]
    assert torch.equal(pairs.places, batch.extras["places"][pairs.points])


def test_one_point_of_a_voxel_or_every_one() -> None:
    batch = cloud([[i, 0] for i in range(40)], [40])
    voxels = torch.arange(40) // 4
    seen = set()
    for seed in range(60):
        pairs = choose_pairs(batch, voxels, 10, True, torch.Generator().manual_seed(seed))
        assert sorted(pairs.voxels.tolist()) == list(range(10)) and pairs.same_voxel() is None
        seen |= set(pairs.points.tolist())
    assert len(seen) == 40  # any point of a voxel may be the one
    every = choose_pairs(batch, voxels, 30, False, torch.Generator().manual_seed(0))
    assert len(every) == 30 == len(set(every.points.tolist()))
    same = every.same_voxel()
    assert same is not None
    for i in range(30):
        for j in range(30):
            assert bool(same[i, j]) == (i != j and int(every.voxels[i]) == int(every.voxels[j]))


def test_choice_is_uniform_over_voxels() -> None:
    batch = cloud([[i, 0] for i in range(20)], [20])
    counts = torch.zeros(20)
    for seed in range(400):
        counts[
            choose_pairs(batch, torch.arange(20), 5, True, torch.Generator().manual_seed(seed)).points
        ] += 1
    assert counts.min() > 60 and counts.max() < 140  # 100 expected
