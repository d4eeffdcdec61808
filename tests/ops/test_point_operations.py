"""Sampling, neighbours, grouping and interpolation:
both backends against literal loops, scipy and scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch
from pointlift.ops.interpolate import three_nn_interpolate
from pointlift.ops.neighbors import ball_query, balls, cpu, group, knn, search, tree
from pointlift.ops.sampling import farthest_point_sampling

SIZES = (1, 2, 63, 64, 65, 200)


def random_cloud(n: int, seed: int = 0, snap: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, 3) normal coordinates; `snap` puts them on a coarse grid, which makes duplicates and ties."""
    xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(1000 * seed + n), dtype=torch.float64)
    return ((xyz * 2).round() / 2 if snap else xyz).to(dtype)


def join(*clouds: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat(clouds), torch.tensor([0, *(len(c) for c in clouds)]).cumsum(0)


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of the last axis, each rounded as the definition writes it."""
    d = a - b
    return (d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1]) + d[..., 2] * d[..., 2]


SEARCHES_OF_CPU = ["usual", "built by all threads", "walks of single queries"]


def search_by(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the cpu kernel build and walk its trees in this way, whatever the size of a cloud."""
    if way == "built by all threads":
        monkeypatch.setattr(tree, "_TOGETHER", 1)
    if way == "walks of single queries":
        monkeypatch.setattr(search, "_SHARED", 0)


@pytest.fixture(params=SEARCHES_OF_CPU)
def any_search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way of the cpu kernel to search, for tests that call it beside the reference."""
    search_by(request.param, monkeypatch)


@pytest.fixture(params=["reference", *SEARCHES_OF_CPU])
def searcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backend: the reference, and the cpu kernel in each of its ways to search."""
    search_by(request.param, monkeypatch)
    return "reference" if request.param == "reference" else "cpu"


# ---------------------------------------------------------------- farthest point sampling
def loop_fps(xyz: np.ndarray, n: int, start: int) -> list[int]:
    chosen = [start]
    while len(chosen) < n:
        best, far = -1, -1.0
        for i in range(len(xyz)):
            if i not in chosen:
                d = float(squared(xyz[chosen], xyz[i]).min())
                if d > far:
                    best, far = i, d
        chosen.append(best)
    return chosen


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("snap", [False, True], ids=["general", "ties"])
def test_farthest_points_equal_a_literal_loop(snap: bool, backend: str, dtype: torch.dtype) -> None:
    for n in (1, 2, 40, 66):
        other = random_cloud(70, 1, snap, dtype)
        xyz, offsets = join(other, random_cloud(n, 2, snap, dtype))
        start = torch.tensor([7, n // 2])
        out = farthest_point_sampling(xyz, offsets, min(n, 12), start, backend=backend)
        assert out[0].tolist() == loop_fps(other.numpy(), min(n, 12), 7)
        assert (out[1] - 70).tolist() == loop_fps(xyz[70:].numpy(), min(n, 12), n // 2)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("n", [64, 65, 700, 4500])
def test_blocks_of_the_kernel_change_nothing(n: int, dtype: torch.dtype) -> None:
    for cloud in (
        random_cloud(n, 3, False, dtype),
        random_cloud(n, 4, True, dtype),
        torch.ones(n, 3, dtype=dtype),
        1e-30 * random_cloud(n),
    ):
        xyz, offsets = join(cloud)
        for m in (2, min(n, 600)):
            own, plain = (
                farthest_point_sampling(xyz, offsets, m, n - 1, backend=b) for b in ("cpu", "reference")
            )
            assert torch.equal(own, plain)
            assert len(set(own[0].tolist())) == m


def test_duplicates_are_sampled_once_each_and_in_order(backend: str) -> None:
    xyz, offsets = join(torch.tensor([[0.0, 0, 0], [1, 0, 0]]).repeat(40, 1))
    out = farthest_point_sampling(xyz, offsets, 80, backend=backend)[0].tolist()
    assert out[:2] == [0, 1] and out[2:] == list(range(2, 80))


def test_the_samples_do_not_depend_on_the_order_of_points_or_on_other_clouds(backend: str) -> None:
    xyz, other = random_cloud(300), random_cloud(120, 5)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    start = int((order == 0).nonzero()[0])
    a = farthest_point_sampling(*join(xyz), 50, backend=backend)[0]
    b = farthest_point_sampling(*join(xyz[order]), 50, start, backend=backend)[0]
    assert torch.equal(order[b], a)
    joined = farthest_point_sampling(*join(other, xyz), 50, backend=backend)
    assert torch.equal(joined[1] - 120, a)
    assert torch.equal(joined[0], farthest_point_sampling(*join(other), 50, backend=backend)[0])


def test_sampling_covers_better_than_chance(backend: str) -> None:
    xyz = random_cloud(2000, 6)
    out = farthest_point_sampling(*join(xyz), 100, backend=backend)[0]
    hole = cKDTree(xyz[out].numpy()).query(xyz.numpy())[0].max()
    assert hole < 0.7 * cKDTree(xyz[:100].numpy()).query(xyz.numpy())[0].max()
    kept = xyz[out]
    # greedy: samples are at least as far apart as the largest hole
    assert float(torch.pdist(kept).min()) >= hole - 1e-5


def test_few_points_repeat_and_an_empty_batch_is_empty(backend: str) -> None:
    xyz, offsets = join(random_cloud(3), random_cloud(1))
    out = farthest_point_sampling(xyz, offsets, 5, torch.tensor([1, 0]), repeat=True, backend=backend)
    assert out.tolist() == [[1, 2, 0, 1, 2], [3, 3, 3, 3, 3]]
    nothing = farthest_point_sampling(
        torch.zeros(0, 3), torch.zeros(1, dtype=torch.int64), 4, backend=backend
    )
    assert nothing.shape == (0, 4) and nothing.dtype == torch.int64


# ---------------------------------------------------------------- neighbours
def loop_knn(query: np.ndarray, points: np.ndarray, k: int) -> list[list[int]]:
    return [np.argsort(squared(points, q), kind="stable")[:k].tolist() for q in query]  # ties: the lowest row


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("snap", [False, True], ids=["general", "ties"])
@pytest.mark.parametrize("k", [1, 3, 20, 70])
def test_nearest_equal_a_literal_loop(k: int, snap: bool, searcher: str, dtype: torch.dtype) -> None:
    for n in (70, 131):
        points, offsets = join(
            random_cloud(90, 1, snap, dtype), random_cloud(0, 2, snap, dtype), random_cloud(n, 3, snap, dtype)
        )
        query, asked = join(
            random_cloud(11, 4, snap, dtype), random_cloud(0), random_cloud(9, 5, snap, dtype)
        )
        distance, index = knn(query.to(dtype), points, k, asked, offsets, backend=searcher)
        assert index[:11].tolist() == loop_knn(query[:11].numpy(), points[:90].numpy(), k)
        assert (index[11:] - 90).tolist() == loop_knn(query[11:].numpy(), points[90:].numpy(), k)
        assert distance.tolist() == squared(points[index].numpy(), query[:, None].numpy()).tolist()


def test_nearest_agree_with_scipy_and_scikit_learn(searcher: str, dtype: torch.dtype) -> None:
    points, query = random_cloud(900, 1, dtype=dtype), random_cloud(50, 2, dtype=dtype)
    distance, index = knn(query, points, 16, torch.tensor([0, 50]), torch.tensor([0, 900]), backend=searcher)
    near, rows = cKDTree(points.numpy()).query(query.numpy(), 16)
    np.testing.assert_allclose(distance.sqrt().numpy(), near, rtol=1e-5)
    assert index.tolist() == rows.tolist()
    model = NearestNeighbors(n_neighbors=16, algorithm="brute").fit(points.double().numpy())
    assert index.tolist() == model.kneighbors(query.double().numpy(), return_distance=False).tolist()


@pytest.mark.usefixtures("poisoned")
def test_near_duplicates_far_from_the_origin_keep_their_distances(searcher: str) -> None:
    # |a|^2 - 2ab + |b|^2 loses these: 1e-3 apart at 100 from the origin
    line = torch.stack(
        [100 + 1e-3 * torch.arange(80.0), torch.full((80,), 100.0), torch.full((80,), -50.0)], 1
    )
    distance, index = knn(line, line, 2, *[torch.tensor([0, 80])] * 2, backend=searcher)
    assert index[:, 0].tolist() == list(range(80))
    # spacing of floats at 100: 8e-6
    torch.testing.assert_close(distance[:, 1].sqrt(), torch.full((80,), 1e-3), rtol=0.02, atol=0.0)


@pytest.mark.usefixtures("any_search", "poisoned")
def test_a_large_uneven_cloud_is_searched_exactly(dtype: torch.dtype) -> None:
    xyz = random_cloud(7000, 7, dtype=dtype)
    xyz = xyz * xyz.norm(dim=1, keepdim=True) ** 3  # dense in the middle, sparse outside
    xyz[500:900] = xyz[3]
    query, asked, offsets = (
        torch.cat([xyz[:60], 3 * xyz[:40]]),
        torch.tensor([0, 100]),
        torch.tensor([0, 7000]),
    )
    for k in (1, 16, 100, 500):
        own, plain = (knn(query, xyz, k, asked, offsets, backend=b) for b in ("cpu", "reference"))
        assert torch.equal(own[0], plain[0]) and torch.equal(own[1], plain[1])
    alone = knn(xyz, xyz, 5, offsets, offsets, backend="cpu")[1][:60]
    assert torch.equal(alone, knn(xyz[:60], xyz, 5, torch.tensor([0, 60]), offsets, backend="cpu")[1])


def test_neighbours_do_not_depend_on_the_order_of_points_or_on_where_a_cloud_lies(backend: str) -> None:
    # coordinates are multiples of 1/1024 below 8: a shift by a whole number loses nothing
    points = (random_cloud(700, 9).clamp(-3, 3) * 1024).round() / 1024
    query, asked, offsets = points[:50] + 1 / 4096, torch.tensor([0, 50]), torch.tensor([0, 700])
    order = torch.randperm(700, generator=torch.Generator().manual_seed(2))
    distance = knn(query, points, 12, asked, offsets, backend=backend)[0]
    mixed, rows = knn(query, points[order], 12, asked, offsets, backend=backend)
    assert torch.equal(mixed, distance)
    assert torch.equal(
        (query[:, None] - points[order][rows]).square().sum(2).sort(1).values, mixed.sort(1).values
    )
    shift = torch.tensor([16.0, -8.0, 32.0])
    index = knn(query, points, 12, asked, offsets, backend=backend)[1]
    assert torch.equal(knn(query + shift, points + shift, 12, asked, offsets, backend=backend)[1], index)
    near = ball_query(query, points, 0.3, 400, asked, offsets, backend=backend)
    mixed_balls = order[ball_query(query, points[order], 0.3, 400, asked, offsets, backend=backend)]
    assert [set(a.tolist()) for a in mixed_balls] == [set(a.tolist()) for a in near]
    assert torch.equal(
        ball_query(query + shift, points + shift, 0.3, 400, asked, offsets, backend=backend), near
    )


@pytest.mark.usefixtures("poisoned")
def test_fewer_points_than_neighbours_repeat(searcher: str) -> None:
    points, offsets = join(torch.tensor([[0.0, 0, 0], [3, 0, 0]]), torch.ones(1, 3))
    query, asked = torch.tensor([[2.0, 0, 0], [5.0, 5, 5]]), torch.tensor([0, 1, 2])
    distance, index = knn(query, points, 5, asked, offsets, repeat=True, backend=searcher)
    assert index.tolist() == [[1, 0, 1, 0, 1], [2] * 5]
    assert distance.tolist() == [[1.0, 4.0, 1.0, 4.0, 1.0], [48.0] * 5]


@pytest.mark.usefixtures("poisoned", "any_search")
@pytest.mark.parametrize("sizes", [(300, 1, 5, 0, 33, 40), (65, 16), (7000, 64, 2)])
def test_clouds_of_very_different_sizes_do_not_disturb_each_other(
    sizes: tuple[int, ...], dtype: torch.dtype
) -> None:
    # with k above 64 lists do not fit registers, also those of clouds with few points beside a large one
    points, offsets = join(*(random_cloud(n, 1, dtype=dtype) for n in sizes))
    query, asked = join(*(random_cloud(min(n, 12), 2, dtype=dtype) for n in sizes))
    for k in (64, 65, 100):
        own, plain = (
            knn(query, points, k, asked, offsets, repeat=True, backend=b) for b in ("cpu", "reference")
        )
        assert torch.equal(own[1], plain[1]) and torch.equal(own[0], plain[0])


def test_a_radius_whose_square_overflows_holds_everything(backend: str) -> None:
    points, offsets = join(random_cloud(10))
    found = ball_query(points[:2], points, 1e200, 10, torch.tensor([0, 2]), offsets, backend=backend)
    assert found.tolist() == [list(range(10))] * 2


BALLS_OF_CPU = [
    "scan",
    "grid",
    "tree",
    "grid that gives up",
    "tree that gives up",
    "nearest of an empty ball by a tree",
]


@pytest.fixture(params=["reference", *BALLS_OF_CPU])
def ball_finder(
    request: pytest.FixtureRequest, large_balls_compiled: None, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The backend: the reference, and the cpu kernel in every way that it finds a ball, whatever the size."""
    if request.param == "reference":
        return "reference"
    if request.param != "scan":
        monkeypatch.setattr(cpu, "_LARGE", 1)
        monkeypatch.setattr(cpu, "_OFTEN", 1)
    if request.param.startswith("tree"):
        monkeypatch.setattr(balls, "in_ball_by_grid", lambda *_: False)
    if request.param.endswith("gives up"):
        monkeypatch.setattr(balls, "MANY", 5)
    if request.param.startswith("nearest"):
        monkeypatch.setattr(cpu, "_LOST", 1)
    return "cpu"


@pytest.fixture(scope="module")
def large_balls_compiled() -> None:
    """Before memory is poisoned, which numba must not meet while it compiles."""
    offsets = torch.tensor([0, 300])
    for dtype in (torch.float32, torch.float64):
        cloud = random_cloud(300, dtype=dtype)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "_LARGE", 1)
            ball_query(cloud, cloud, 0.1, 2, offsets, offsets, backend="cpu")
            patch.setattr(balls, "in_ball_by_grid", lambda *_: False)
            ball_query(cloud, cloud, 0.1, 2, offsets, offsets, backend="cpu")


def loop_balls(query: np.ndarray, points: np.ndarray, radius: float, k: int) -> list[list[int]]:
    limit = points.dtype.type(radius * radius)
    rows = []
    for q in query:
        d = squared(points, q)
        inside = np.flatnonzero(d < limit)[:k].tolist() or [int(d.argmin())]
        rows.append(inside + inside[:1] * (k - len(inside)))
    return rows


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("radius", [1e-3, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("snap", [False, True], ids=["general", "on the sphere"])
def test_balls_equal_a_literal_loop(radius: float, snap: bool, ball_finder: str, dtype: torch.dtype) -> None:
    for n in SIZES:
        points, offsets = join(random_cloud(33, 1, snap, dtype), random_cloud(n, 2, snap, dtype))
        query, asked = join(random_cloud(5, 3, snap, dtype), random_cloud(12, 4, snap, dtype))
        for k in (1, 8, 80):
            out = ball_query(query, points, radius, k, asked, offsets, backend=ball_finder)
            assert out[:5].tolist() == loop_balls(query[:5].numpy(), points[:33].numpy(), radius, k)
            assert (out[5:] - 33).tolist() == loop_balls(query[5:].numpy(), points[33:].numpy(), radius, k)


def test_balls_hold_what_scipy_finds(ball_finder: str) -> None:
    points = random_cloud(700, 8)
    out = ball_query(
        points[:100], points, 0.4, 700, torch.tensor([0, 100]), torch.tensor([0, 700]), backend=ball_finder
    )
    expected = cKDTree(points.numpy()).query_ball_point(points[:100].numpy(), 0.4)
    assert [sorted(set(row.tolist())) for row in out] == [sorted(e) for e in expected]


def test_searches_of_an_empty_batch_and_without_queries(searcher: str) -> None:
    none, start = torch.zeros(0, 3), torch.zeros(1, dtype=torch.int64)
    distance, index = knn(none, none, 4, start, start, backend=searcher)
    assert distance.shape == index.shape == (0, 4) and ball_query(
        none, none, 1.0, 4, start, start, backend=searcher
    ).shape == (0, 4)
    assert three_nn_interpolate(torch.zeros(0, 2), none, none, start, start, backend=searcher).shape == (0, 2)
    points, offsets = join(random_cloud(9))
    asked = torch.tensor([0, 0])
    assert knn(none, points, 4, asked, offsets, backend=searcher)[1].shape == (0, 4)
    assert three_nn_interpolate(torch.zeros(9, 2), points, none, offsets, asked, backend=searcher).shape == (
        0,
        2,
    )


# ---------------------------------------------------------------- grouping and interpolation
@pytest.mark.usefixtures("poisoned")
def test_group_and_its_gradient(backend: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    features = torch.randn(30, 7, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    index = torch.randint(0, 25, (40, 6), generator=g)  # rows 25 ... 29 are named by nobody
    grad = torch.randn(40, 6, 7, generator=g, dtype=torch.float64).to(dtype)
    out = group(features, index, backend=backend)
    assert torch.equal(out, features[index])
    out.backward(grad)
    expected = torch.zeros(30, 7, dtype=torch.float64).index_add_(
        0, index.reshape(-1), grad.double().reshape(-1, 7)
    )
    assert features.grad is not None
    torch.testing.assert_close(
        features.grad.double(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13
    )
    assert not features.grad[25:].any()


def test_gradcheck_of_group_and_interpolation(backend: str) -> None:
    features = torch.randn(
        12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    index = torch.randint(0, 12, (5, 3), generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda f: group(f, index, backend=backend), features)
    points, offsets = join(
        random_cloud(9, 1, dtype=torch.float64),
        random_cloud(1, 2, dtype=torch.float64),
        random_cloud(2, 3, dtype=torch.float64),
    )
    query, asked = join(*(random_cloud(n, 4, dtype=torch.float64) for n in (6, 2, 3)))
    assert torch.autograd.gradcheck(
        lambda f: three_nn_interpolate(f, points, query, offsets, asked, backend=backend), features
    )


def loop_interpolate(features: np.ndarray, points: np.ndarray, query: np.ndarray, eps: float) -> np.ndarray:
    rows = []
    for q in query:
        near = sorted((float(squared(p, q)), i) for i, p in enumerate(points))[:3]
        weight = [1 / (d + eps) for d, _ in near]
        rows.append(sum(w / sum(weight) * features[i] for w, (_, i) in zip(weight, near)))
    return np.stack(rows)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_interpolation_equals_a_literal_loop(eps: float, backend: str, dtype: torch.dtype) -> None:
    sizes, asked_sizes = (1, 2, 3, 40), (3, 4, 5, 21)
    points, offsets = join(*(random_cloud(n, 1, dtype=dtype) for n in sizes))
    query, asked = join(*(random_cloud(n, 2, dtype=dtype) for n in asked_sizes))
    features = random_cloud(int(offsets[-1]) * 5, 3, dtype=dtype).reshape(-1, 15)[: int(offsets[-1])]
    out = three_nn_interpolate(features, points, query, offsets, asked, eps, backend=backend)
    for b in range(4):
        p, q = slice(*offsets[b : b + 2].tolist()), slice(*asked[b : b + 2].tolist())
        expected = loop_interpolate(
            features[p].double().numpy(), points[p].double().numpy(), query[q].double().numpy(), eps
        )
        np.testing.assert_allclose(
            out[q].numpy(), expected, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-12
        )


def test_interpolation_reproduces_points_and_constants(backend: str) -> None:
    points, offsets = join(random_cloud(50, 1), random_cloud(20, 2))
    features = random_cloud(70, 3)
    back = three_nn_interpolate(features, points, points, offsets, offsets, backend=backend)
    # the weight of others is eps / d^2: below 1e-4 for points more than a hundredth apart
    torch.testing.assert_close(back, features, rtol=0, atol=1e-3)
    ones = three_nn_interpolate(torch.ones(70, 3), points, points + 0.3, offsets, offsets, backend=backend)
    torch.testing.assert_close(ones, torch.ones(70, 3), rtol=0, atol=1e-6)


def test_half_precision_features_take_the_reference() -> None:
    points, offsets = join(random_cloud(20))
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    exact = three_nn_interpolate(features, points, points + 0.1, offsets, offsets)
    half = three_nn_interpolate(features.bfloat16(), points, points + 0.1, offsets, offsets)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0.05, atol=0.05)  # bfloat16 keeps 8 bits
    assert group(features.bfloat16(), torch.zeros(2, 2, dtype=torch.int64)).dtype == torch.bfloat16


def test_coordinates_that_are_views_and_need_gradients(searcher: str) -> None:
    wide = random_cloud(200, 1).reshape(100, 6).requires_grad_()
    xyz, offsets = wide[:, :3], torch.tensor([0, 100])
    plain = xyz.detach().contiguous()
    assert torch.equal(
        farthest_point_sampling(xyz, offsets, 9, backend=searcher), farthest_point_sampling(plain, offsets, 9)
    )
    assert torch.equal(
        knn(xyz, xyz, 4, offsets, offsets, backend=searcher)[1], knn(plain, plain, 4, offsets, offsets)[1]
    )
    assert group(wide.t()[:3].t(), torch.zeros(1, 1, dtype=torch.int64), backend=searcher).requires_grad


# ---------------------------------------------------------------- refusals
ONE = torch.tensor([0, 5])
Search = Callable[[Tensor, Tensor, Tensor, Tensor], object]
SEARCHES: dict[str, Search] = {
    "knn": lambda q, p, qo, o: knn(q, p, 2, qo, o),
    "ball": lambda q, p, qo, o: ball_query(q, p, 0.5, 2, qo, o),
    "interpolate": lambda q, p, qo, o: three_nn_interpolate(torch.zeros(len(p), 2), p, q, o, qo),
}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e25])
@pytest.mark.parametrize("name", SEARCHES)
def test_unusable_coordinates_are_named(value: float, name: str) -> None:
    bad = random_cloud(5)
    bad[3, 1] = value
    sentence = (
        "square overflows torch.float32: scale the cloud down"
        if math.isfinite(value)
        else r"1 of 5 rows of {} have NaN or infinite.*row 3"
    )
    with pytest.raises(ValueError, match=sentence.format("xyz")):
        farthest_point_sampling(bad, ONE, 2)
    with pytest.raises(ValueError, match=sentence.format("query")):
        SEARCHES[name](bad, random_cloud(5), ONE, ONE)
    with pytest.raises(ValueError, match=sentence.format("points")):
        SEARCHES[name](random_cloud(5), bad, ONE, ONE)


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_refuse_what_they_cannot_answer(name: str) -> None:
    run, cloud = SEARCHES[name], random_cloud(5)
    for query, points, asked, offsets, sentence in [
        (cloud[:, :2], cloud, ONE, ONE, r"query must have shape \(N, 3\), got \(5, 2\)"),
        (cloud, cloud.half(), ONE, ONE, r"points must be float32 or float64, got torch.float16"),
        (cloud, cloud.double(), ONE, ONE, "must share dtype and device"),
        (
            cloud,
            cloud,
            torch.tensor([0, 4]),
            ONE,
            r"query_offsets must rise from 0 to the number of rows of query \(5\)",
        ),
        (cloud, cloud, ONE, torch.tensor([0, 6, 5]), "offsets must rise"),
        (cloud, cloud, ONE, ONE.int(), "dtype int64, got"),
        (cloud, cloud, ONE, torch.tensor([0, 3, 5]), "must cut as many clouds, got 1 and 2"),
        (
            cloud,
            cloud,
            torch.tensor([0, 2, 5]),
            torch.tensor([0, 0, 5]),
            "Cloud 0 has 2 query points but no points",
        ),
    ]:
        with pytest.raises(ValueError, match=sentence):
            run(query, points, asked, offsets)


def test_refusals() -> None:
    cloud, empty = random_cloud(5), torch.tensor([0, 5, 5])
    for n in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="n must be an integer of at least 1"):
            farthest_point_sampling(cloud, ONE, n)
        with pytest.raises(ValueError, match="k must be an integer of at least 1"):
            knn(cloud, cloud, n, ONE, ONE)
    with pytest.raises(
        ValueError, match="Cloud 0 has 5 points, fewer than the 6 to sample: lower n, or pass repeat=True"
    ):
        farthest_point_sampling(cloud, ONE, 6)
    with pytest.raises(ValueError, match="Cloud 1 is empty"):
        farthest_point_sampling(cloud, empty, 2, repeat=True)
    with pytest.raises(
        ValueError, match=r"start is 5 for cloud 0, which has 5 points: it must be in 0 \.\.\. 4"
    ):
        farthest_point_sampling(cloud, ONE, 2, 5)
    with pytest.raises(ValueError, match=r"start must be an int or int64 of shape \(1,\), got \(2,\)"):
        farthest_point_sampling(cloud, ONE, 2, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(
        ValueError,
        match="Cloud 0 has 5 points, fewer than the 6 that knn was asked for: lower k, or pass repeat=True",
    ):
        knn(cloud, cloud, 6, ONE, ONE)
    for radius in (0, -1.0, math.nan, math.inf, "1"):
        with pytest.raises(ValueError, match="radius must be a positive number"):
            ball_query(cloud, cloud, radius, 2, ONE, ONE)
    for eps in (0.0, -1.0, math.nan, 1e-60):
        with pytest.raises(ValueError, match="eps"):
            three_nn_interpolate(cloud, cloud, cloud, ONE, ONE, eps)
    with pytest.raises(ValueError, match=r"features must be floats of shape \(5, C\), got \(4, 3\)"):
        three_nn_interpolate(cloud[:4], cloud, cloud, ONE, ONE)
    for index, wrong in ((torch.tensor([[0, 5]]), 5), (torch.tensor([[-1, 2]]), -1)):
        with pytest.raises(ValueError, match=f"index names row {wrong}, but features have 5 rows"):
            group(cloud, index)
    with pytest.raises(ValueError, match=r"index must be int64 of shape \(Q, k\)"):
        group(cloud, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="features must be floats of shape"):
        group(torch.zeros(5, 2, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))


def test_a_point_batch_fits() -> None:
    batch = PointBatch.from_list([random_cloud(30), random_cloud(12, 1)])
    centres = farthest_point_sampling(batch.xyz, batch.offsets, 4).reshape(-1)
    index = ball_query(batch.xyz[centres], batch.xyz, 1.0, 6, torch.tensor([0, 4, 8]), batch.offsets)
    assert bool((index[:4] < 30).all()) and bool((index[4:] >= 30).all())
    assert group(batch.xyz, index).shape == (8, 6, 3)
