"""Clouds on which searches and matchings degenerate:
many equal points, lines, lattices, an outlier, uneven batches.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from pointlift.ops.distances import match_points
from pointlift.ops.neighbors import ball_query, balls, cpu, knn, tree
from pointlift.ops.neighbors.duplicates import is_crowded, thin
from pointlift.ops.sampling import farthest_point_sampling

CROWDS = ("all equal", "half equal", "ten places", "line", "lattice", "outlier", "signed zeros")


def crowd(name: str, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, 3): a cloud of the kind that is named, its rows in a random order."""
    g = torch.Generator().manual_seed(n)
    xyz = torch.randn(n, 3, generator=g, dtype=torch.float64)
    if name == "all equal":
        xyz[:] = xyz[0].clone()
    elif name == "half equal":
        xyz[torch.randperm(n, generator=g)[: n // 2]] = xyz[0].clone()
    elif name == "ten places":
        xyz = xyz[torch.randint(0, min(n, 10), (n,), generator=g)]
    elif name == "line":
        xyz = torch.arange(n)[:, None] * torch.tensor([0.01, 0.0, 0.0], dtype=torch.float64)
    elif name == "lattice":
        xyz = (4 * xyz).round() / 4
    elif name == "outlier":
        xyz[n // 2] = 1e6
    elif name == "signed zeros":
        xyz = torch.where(torch.rand(n, 3, generator=g, dtype=torch.float64) < 0.5, -0.0, 0.0)
    return xyz[torch.randperm(n, generator=g)].to(dtype)


def ends(*sizes: int) -> Tensor:
    return torch.tensor([0, *sizes]).cumsum(0)


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """As many as the process has: these kernels meet at a barrier after every point, so that a second thread
    whose core others use makes minutes of seconds. `test_point_operations` holds them on two.
    """


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Every kernel compiled before `numpy.empty` is poisoned."""
    for dtype in (torch.float32, torch.float64):
        cloud = crowd("lattice", 40, dtype)
        knn(cloud, cloud, 3, ends(40), ends(40))
        knn(cloud[:5], cloud, 3, ends(5), ends(40))
        farthest_point_sampling(cloud, ends(40), 3)
        match_points(cloud[None], cloud[None].clone(), epsilon=1.0)


# ---------------------------------------------------------------- nearest points
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", CROWDS)
def test_nearest_of_crowded_clouds_equal_all_distances_sorted(name: str, dtype: torch.dtype) -> None:
    cloud, other = crowd(name, 2500, dtype), crowd("half equal", 300, dtype)
    points, offsets = torch.cat([other, cloud]), ends(300, 2500)
    query, asked = torch.cat([other[:7], cloud[:60], cloud[:60] + 0.125]), ends(7, 120)
    for k in (1, 16, 70):
        own, plain = (knn(query, points, k, asked, offsets, backend=b) for b in ("cpu", "reference"))
        assert torch.equal(own[1], plain[1]) and torch.equal(own[0], plain[0])
        themselves = knn(points, points, k, offsets, offsets, backend="cpu")
        some = torch.arange(0, 2800, 61)
        split = int((some < 300).sum())
        alone = knn(points[some], points, k, ends(split, len(some) - split), offsets, backend="reference")
        assert torch.equal(themselves[1][some], alone[1]) and torch.equal(themselves[0][some], alone[0])


def test_what_thinning_keeps_are_the_lowest_rows_of_every_place(dtype: torch.dtype) -> None:
    clouds = [crowd(name, 1100 + i, dtype) for i, name in enumerate(CROWDS)]
    points, offsets = torch.cat(clouds).numpy(), ends(*map(len, clouds)).numpy()
    for k in (1, 3, 2000):
        kept = thin(points, offsets, k)
        where = defaultdict(list)
        for b in range(len(clouds)):
            for row in range(offsets[b], offsets[b + 1]):
                where[(b, *(points[row] + 0.0).tolist())].append(row)  # -0.0 + 0.0 is 0.0
        assert kept.rows.tolist() == sorted(row for rows in where.values() for row in rows[:k])
        assert kept.ends.tolist() == [int((kept.rows < end).sum()) for end in offsets]
        first = {row: rows[0] for rows in where.values() for row in rows}
        assert [first[row] for row in range(len(points))] == kept.rows[kept.twin].tolist()


def test_only_crowded_clouds_are_thinned() -> None:
    for name in CROWDS:
        points = crowd(name, 5000).numpy()
        expected = name in ("all equal", "half equal", "ten places", "signed zeros")
        assert is_crowded(tree.plant(points, np.array([0, 5000]))) == expected, name


def test_many_equal_points_take_no_longer_than_others() -> None:
    # looked at one by one, the 100,000 would be 10^10 pairs: minutes where this takes less than a second
    for points in (torch.ones(100_000, 3), torch.cat([torch.ones(100_000, 3), crowd("line", 50_000)])):
        offsets = ends(len(points))
        distance, index = knn(points, points, 16, offsets, offsets, backend="cpu")
        assert bool((index[:100_000] == torch.arange(16)).all()) and not distance[:100_000].any()


# ---------------------------------------------------------------- balls
@pytest.mark.parametrize("name", CROWDS)
@pytest.mark.parametrize("radius", [1e-9, 0.05, 0.3, 50.0])
def test_balls_of_large_crowded_clouds_equal_all_distances(
    name: str, radius: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what counts as large, as a crowded cell and as a ball of many points is a third of what it is otherwise
    monkeypatch.setattr(cpu, "_LARGE", 2048)
    monkeypatch.setattr(balls, "_CROWDED", 85)
    monkeypatch.setattr(balls, "MANY", 683)
    cloud = crowd(name, 2167, dtype)
    query = torch.cat([cloud[:250], cloud[:50] + 0.125, 3 * cloud[50:100] + 100])
    own, plain = (
        ball_query(query, cloud, radius, 9, ends(350), ends(2167), backend=b) for b in ("cpu", "reference")
    )
    assert torch.equal(own, plain)


def test_a_grid_is_declined_where_an_outlier_makes_its_cells_wide() -> None:
    squared, index = np.array([1e-4], np.float32), np.full((300, 4), 77, np.int64)
    for name, expected in (("outlier", False), ("lattice", True)):
        cloud = crowd(name, 6500).numpy()
        assert balls.in_ball_by_grid(balls.Asked(cloud[:300], cloud, squared, 0, index), 1) is expected
        assert bool((index == 77).all()) is not expected
    assert {balls.EMPTY, balls.UNDECIDED}.isdisjoint(range(6500))


# ---------------------------------------------------------------- samples
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", CROWDS)
def test_samples_of_crowded_and_uneven_clouds_equal_those_of_one_cloud_alone(
    name: str, dtype: torch.dtype
) -> None:
    clouds = [crowd(name, n, dtype) for n in (40, 1500, 33, 700, 64)]
    together = farthest_point_sampling(torch.cat(clouds), ends(*map(len, clouds)), 33, backend="cpu")
    for cloud, begin, rows in zip(clouds, ends(*map(len, clouds)).tolist(), together):
        assert torch.equal(
            rows - begin, farthest_point_sampling(cloud, ends(len(cloud)), 33, backend="reference")[0]
        )
    every = farthest_point_sampling(clouds[3], ends(700), 700, 5, backend="cpu")
    assert torch.equal(every, farthest_point_sampling(clouds[3], ends(700), 700, 5, backend="reference"))


def test_many_equal_points_are_sampled_in_one_go() -> None:
    # one at a time, each after a look at all that are left: 10^10 comparisons
    assert farthest_point_sampling(torch.ones(150_000, 3), ends(150_000), 100_000)[0].tolist() == list(
        range(100_000)
    )


# ---------------------------------------------------------------- earth mover
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("other", CROWDS)
@pytest.mark.parametrize("name", CROWDS)
def test_auctions_of_crowded_clouds_are_bijections_within_epsilon(
    name: str, other: str, dtype: torch.dtype
) -> None:
    a, b = crowd(name, 150, dtype), crowd(other, 151, dtype)[:150]
    extent = float((torch.cat([a, b]).amax(0) - torch.cat([a, b]).amin(0)).double().norm()) or 1.0
    cost = cdist(a.double().numpy(), b.double().numpy())
    best = cost[linear_sum_assignment(cost)].mean()
    for epsilon in (1e-2 * extent, 1e-3 * extent):
        found = match_points(a[None], b[None], epsilon=epsilon)
        assert found.assignment[0].sort().values.tolist() == list(range(150))
        over = cost[np.arange(150), found.assignment[0].numpy()].mean() - best
        room = 1e-12 * extent  # the costs here are float64, of the very points that were matched
        assert -room <= over <= float(found.gap) + room <= epsilon + 2 * room


def test_many_equal_points_are_matched_in_no_more_time_than_others() -> None:
    # each of the 8192 bidders once replaced 64 kept objects by its equals, over and over:
    # half a minute where this takes less than a second
    for name in ("all equal", "half equal"):
        b = crowd(name, 8192)
        for a in (b.flip(0), crowd("line", 8192)):
            found = match_points(a[None], b[None], epsilon=0.5)
            assert torch.equal(found.assignment[0].sort().values, torch.arange(8192))
            assert float(found.gap) <= 0.5
