"""PointBatch and SparseTensor: shapes, empty clouds, moves, pickling, errors,
and the symmetries of networks that run on them.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pointlift as pl
from pointlift.core.sparse_tensor import CLOUD, GridError, Level, pack_coords


@pytest.fixture(autouse=True)
def reference_backend() -> Iterator[None]:
    with pl.backend("reference"):
        yield


def cloud(*sizes: int, seed: int = 0) -> pl.PointBatch:
    g = torch.Generator().manual_seed(seed)
    xyz = [torch.rand(n, 3, generator=g) for n in sizes]
    labels = {
        "class": torch.arange(len(sizes)),
        "part": torch.arange(sum(sizes)),
        "name": [f"c{i}" for i in range(len(sizes))],
        "k": 7,
    }
    return pl.PointBatch.from_list(xyz, [x * 2 for x in xyz], labels)


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    image = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1),
                      nn.BatchNorm2d(16), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    return pl.inflate(image, num_classes=5, in_channels=channels)


# ------------------------------------------------------------------------------------ PointBatch


def test_from_list_and_back() -> None:
    batch = cloud(4, 0, 2)
    assert (
        len(batch) == 3
        and batch.offsets.tolist() == [0, 4, 4, 6]
        and batch.batch.tolist() == [0, 0, 0, 0, 2, 2]
    )
    first, empty, last = batch[0], batch[1], batch[-1]
    assert torch.equal(first.xyz, batch.xyz[:4]) and torch.equal(first.features, batch.features[:4])
    assert (
        first.labels["part"].tolist() == [0, 1, 2, 3]
        and first.labels["class"].tolist() == [0]
        and first.labels["name"] == ["c0"]
    )
    assert len(empty) == 1 and empty.xyz.shape == (0, 3) and empty.labels["part"].numel() == 0
    assert last.labels["part"].tolist() == [4, 5] and last.labels["k"] == 7
    with pytest.raises(IndexError):
        batch[3]


def test_arrays_and_nothing() -> None:
    batch = pl.PointBatch.from_list(
        [np.zeros((3, 3)), np.zeros((0, 3), np.float32), np.ones((1, 3), np.float64)]
    )
    assert (
        batch.xyz.dtype == torch.float32 and batch.offsets.tolist() == [0, 3, 3, 4] and batch.features is None
    )
    nothing = pl.PointBatch.from_list([])
    assert len(nothing) == 0 and nothing.batch.numel() == 0 and nothing.dense().shape == (0, 0, 3)
    assert pl.PointBatch.from_list([np.zeros((0, 3))] * 2).dense().shape == (2, 0, 3)


def test_labels_that_could_be_per_cloud_or_per_point() -> None:
    """Two clouds of 2 and 0 points: a tensor of two labels has two readings, which must not be guessed."""
    batch = pl.PointBatch.from_list(
        [torch.zeros(2, 3), torch.zeros(0, 3)], labels={"part": torch.tensor([5, 6])}
    )
    with pytest.raises(ValueError, match="per cloud and per point look alike: drop the empty clouds"):
        batch[0]
    single = pl.PointBatch.from_list([torch.zeros(1, 3)] * 2, labels={"part": torch.tensor([5, 6])})
    assert single[1].labels["part"].tolist() == [6]


def test_dense_needs_one_length() -> None:
    assert torch.equal(cloud(3, 3).dense()[1], cloud(3, 3)[1].xyz)
    with pytest.raises(ValueError, match="one length, got 2 to 3 points: resample"):
        cloud(3, 2).dense()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: pl.PointBatch(torch.zeros(3, 2), None, torch.tensor([0, 3])),
            r"shape \(N, 3\), got \(3, 2\)",
        ),
        (
            lambda: pl.PointBatch(torch.zeros(3, 3), torch.zeros(2, 1), torch.tensor([0, 3])),
            r"shape \(3, C\) like xyz's 3 points, got "
            r"\(2, 1\)",
        ),
        (
            lambda: pl.PointBatch(torch.zeros(3, 3), None, torch.tensor([0, 2])),
            r"from 0 to the number of points \(3\), got \[0, 2\]",
        ),
        (lambda: pl.PointBatch(torch.zeros(3, 3), None, torch.tensor([0, 3, 2, 3])), "offsets must rise"),
        (
            lambda: pl.PointBatch(torch.tensor([[0, 0, torch.nan]]), None, torch.tensor([0, 1])),
            "1 of 1 points have NaN or infinite",
        ),
        (
            lambda: pl.PointBatch.from_list([torch.tensor([[0.0, 0, 0], [torch.inf, 0, 0]])]),
            r"1 of 2 points .*\(first: row 1\)",
        ),
        (
            lambda: pl.PointBatch.from_list([torch.zeros(3, 3), torch.zeros(3, 2)]),
            r"Cloud 1 must have shape \(N, 3\), got \(3, 2\)",
        ),
        (lambda: pl.PointBatch.from_list([torch.zeros(3, 3)], []), r"one entry per cloud \(1\), got 0"),
        (
            lambda: pl.PointBatch.from_list([torch.zeros(3, 3)], [torch.zeros(2, 1)]),
            r"features of cloud 0 must have shape \(3, C\)",
        ),
    ],
)
def test_point_batch_errors(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_point_batch_moves_and_pickles() -> None:
    batch = cloud(4, 2)
    moved = batch.to("meta", non_blocking=True)
    assert all(
        t.device.type == "meta" for t in (moved.xyz, moved.features, moved.offsets, moved.labels["class"])
    )
    assert moved.labels["name"] == ["c0", "c1"] and moved.labels["k"] == 7
    again = pickle.loads(pickle.dumps(batch))
    assert (
        torch.equal(again.xyz, batch.xyz)
        and torch.equal(again.labels["part"], batch.labels["part"])
        and again.device == batch.device
    )


# ------------------------------------------------------------------------------------ SparseTensor


def test_rows_are_sorted() -> None:
    g = torch.Generator().manual_seed(0)
    coords = torch.cartesian_prod(
        torch.arange(2), torch.arange(-2, 2), torch.arange(3), torch.arange(-1, 2)
    ).int()
    order = torch.randperm(len(coords), generator=g)
    x = pl.SparseTensor(order[:, None].float(), coords[order])
    assert torch.equal(x.coords, coords) and x.features[:, 0].tolist() == list(range(len(coords)))
    assert (
        x.coords.dtype == torch.int32 and x.batch_size == 2 and "72 voxels of stride 1 in 2 clouds" in repr(x)
    )
    assert torch.equal(pl.SparseTensor(order[:, None].float(), coords[order].long()).coords, coords)


def at(*rows: tuple[int, int, int, int], stride: int = 1, **options: Any) -> pl.SparseTensor:
    coords = torch.tensor(rows)
    return pl.SparseTensor(torch.ones(len(rows), 2), coords, stride, **options)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: at((0, 1, 2, 3), (0, 1, 2, 3)),
            ValueError,
            "name the same voxel twice: use pointlift.voxelize",
        ),
        (lambda: at((0, 2**31 - 1, 0, 0)), GridError, "2147483647 does not fit the grid"),
        (lambda: at((0, -(2**31), 0, 0)), GridError, "2147483648 does not fit the grid"),
        (
            lambda: pl.SparseTensor(torch.ones(1, 1), torch.tensor([[0, -(2**31), 0, 0]]).int()),
            GridError,
            "does not fit the grid",
        ),
        (
            lambda: at((0, 0, 0, 0), (0, 2**30 - 1, 2**30 - 1, 2**30 - 1)),
            GridError,
            "does not fit a 64-bit key: use a larger voxel size",
        ),
        (lambda: at((-1, 0, 0, 0)), ValueError, "must not be negative"),
        (lambda: at((0, 2, 3, 4), stride=2), ValueError, "coords at stride 2 must be multiples of 2"),
        (lambda: at((0, 2, 3, 4), stride=0), ValueError, "stride must be at least 1"),
        (lambda: at((3, 2, 3, 4), batch_size=3), ValueError, "batch_size is 3, but coords name cloud 3"),
        (lambda: pl.SparseTensor(torch.ones(2, 1), torch.zeros(2, 3).int()), ValueError, r"shape \(M, 4\)"),
        (
            lambda: pl.SparseTensor(torch.ones(2, 1), torch.zeros(2, 4)),
            ValueError,
            "must be integers, got torch.float32: use pointlift.voxelize",
        ),
        (
            lambda: pl.SparseTensor(torch.ones(3, 1), torch.zeros(2, 4).int()),
            ValueError,
            r"shape \(2, C\) like coords",
        ),
        (
            lambda: pl.SparseTensor(torch.ones(2), torch.zeros(2, 4).int()),
            ValueError,
            r"shape \(2, C\) like coords",
        ),
        (
            lambda: pl.SparseTensor(torch.ones(1, 1, device="meta"), torch.zeros(1, 4).int()),
            ValueError,
            "features are on meta but coords on cpu",
        ),
        (
            lambda: at((0, 0, 0, 0)).with_features(torch.ones(2, 1)),
            ValueError,
            r"one row per voxel \(1 at stride 1\)",
        ),
        (
            lambda: at((0, 0, 0, 0)).at_level(torch.ones(1, 1), Level(2)),
            ValueError,
            r"No voxels are known at stride 2 \(known: \[1\]\)",
        ),
        (lambda: at((0, 0, 0, 0)).to_points(), ValueError, "needs the points that were voxelized"),
        (lambda: at((0, 0, 0, 5)).dense((2, 2, 2)), ValueError, None),
        (
            lambda: at((0, 0, 0, 0), (0, 0, 0, 5)).dense((2, 2, 2)),
            ValueError,
            r"outside the box of shape \(2, 2, 2\) at origin \(0, 0, "
            r"0\)",
        ),
    ],
)
def test_sparse_tensor_errors(make: Callable[[], Any], kind: type[Exception], message: str | None) -> None:
    if message is None:  # the box starts at the lowest voxel, so a single voxel always fits
        assert make().shape == (1, 2, 2, 2, 2)
        return
    with pytest.raises(kind, match=message):
        make()


def test_to_points_at_every_stride() -> None:
    batch = cloud(50, 0, 30)
    x = pl.voxelize(batch, 0.1)
    xyz = torch.floor(batch.xyz.double() / 0.1).long()
    pool = pl.nn.SparseMaxPool3d(2)
    level = x.with_features(x.coords.float())
    for stride in (1, 2, 4, 8, 16):
        assert level.stride == stride
        expected = torch.cat(
            [batch.batch[:, None], torch.div(xyz, stride, rounding_mode="floor") * stride], 1
        )
        assert torch.equal(level.with_features(level.coords.float()).to_points(), expected.float())
        level = pool(level)
    pooled = pl.nn.SparseGlobalPool("max")(x.with_features(x.batch[:, None].float()))
    assert torch.equal(pooled.to_points()[:, 0], batch.batch.float())
    reach = pl.nn.SparseConv3d(3, 3, 3, sites="reach")(x)
    assert len(reach) > len(x) and reach.to_points().shape == (80, 3)


def test_dense_box() -> None:
    x = pl.SparseTensor(
        torch.tensor([[1.0], [2.0]], dtype=torch.float64), torch.tensor([[0, -2, 0, 2], [1, 2, 2, 4]]), 2
    )
    dense = x.dense()
    assert dense.shape == (2, 1, 3, 2, 2) and dense.sum() == 3 and dense.dtype == torch.float64
    assert dense[0, 0, 0, 0, 0] == 1 and dense[1, 0, 2, 1, 1] == 2
    assert x.dense((4, 4, 4), (-1, 0, 0))[1, 0, 2, 1, 2] == 2
    empty = pl.SparseTensor(torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.int32), batch_size=2)
    assert empty.dense().shape == (2, 3, 1, 1, 1)
    assert pl.nn.SparseGlobalPool()(x).dense().shape == (2, 1, 1, 1, 1)


def test_empty_clouds_and_batches_run() -> None:
    net = network().eval()
    full = net(pl.voxelize(cloud(60, 40), 0.1, features=cloud(60, 40).xyz))
    batch = cloud(60, 40)
    with_empty = pl.PointBatch.from_list(
        [torch.zeros(0, 3), batch[0].xyz, torch.zeros(0, 3), batch[1].xyz, torch.zeros(0, 3)]
    )
    out = net(pl.voxelize(with_empty, 0.1))
    assert out.shape == (5, 5) and torch.allclose(out[[1, 3]], full, atol=1e-5) and torch.isfinite(out).all()
    nothing = pl.voxelize(pl.PointBatch.from_list([torch.zeros(0, 3)] * 2), 0.1)
    assert net(nothing).shape == (2, 5)
    assert net.forward_map(nothing).to_points().shape == (0, 16)
    assert net(pl.voxelize(pl.PointBatch.from_list([]), 0.1)).shape == (0, 5)


def test_pickle_and_copy_keep_the_link_between_tensors() -> None:
    x = pl.voxelize(cloud(50, 30), 0.1, features=cloud(50, 30).xyz)
    y = pl.nn.SparseConv3d(3, 4, 3, 2)(x).detach()
    for a, b in (pickle.loads(pickle.dumps((x, y))), copy.deepcopy((x, y))):
        assert (
            a.maps is b.maps and torch.equal(b.coords, y.coords) and torch.equal(b.to_points(), y.to_points())
        )
        assert not a.maps.kernel_maps and x.maps.kernel_maps  # large and quickly made again
        assert torch.equal((pl.nn.SparseUpsample(2)(b)).coords, x.coords)


def test_moves_take_all_levels_and_maps_along() -> None:
    x = pl.voxelize(cloud(50, 30), 0.1, features=cloud(50, 30).xyz)
    conv = pl.nn.SparseConv3d(3, 3, 3)
    conv(x)
    moved = x.to("meta")
    assert moved.device.type == moved.coords.device.type == "meta" and moved.maps is x.to("meta").maps
    assert moved.maps.kernel_maps.keys() == x.maps.kernel_maps.keys()
    table = next(iter(moved.maps.kernel_maps.values()))[0].table
    assert table.device.type == "meta"
    down = pl.nn.SparseMaxPool3d(2)(x)  # a level that is newer than the move
    later = down.to("meta")
    assert later.maps is moved.maps and later.stride == 2 and later.coords.shape == down.coords.shape
    assert moved.maps.points.device.type == moved.maps.point_rows.device.type == "meta"
    assert x.to("cpu").maps is x.maps and x.cpu().maps is x.maps
    assert x.double().dtype == torch.float64 and x.to(torch.float64, copy=True).maps is x.maps
    assert {x.half().dtype, x.bfloat16().dtype, x.float().dtype, x.type(torch.float64).dtype} == {
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
    }  # fmt: skip


def test_pack_coords_keeps_the_order() -> None:
    coords = torch.tensor([[0, -5, 3, 1], [0, -5, 3, 2], [0, 4, -1, 0], [1, -9, 0, 0]])
    key, step = pack_coords(coords, margin=2)
    assert (key.diff() > 0).all() and key[1] - key[0] == step[3]
    assert pack_coords(torch.zeros(0, 4))[0].numel() == 0


def test_levels_that_do_not_nest() -> None:
    x = at((0, 0, 0, 0), (0, 4, 4, 4))
    x.maps.add(Level(2), torch.tensor([[0, 0, 0, 0]], dtype=torch.int32))
    with pytest.raises(ValueError, match="stride 1 have no parent at stride 2"):
        x.maps.parents(Level(1), Level(2))
    assert set(x.maps.levels()) == {Level(1), Level(2)} and x.maps.coords(CLOUD).shape == (1, 4)


# ------------------------------------------------------------------------------------ symmetries of a network


@pytest.fixture(scope="module")
def inflated() -> nn.Module:
    return network().eval().double()


def run(net: nn.Module, batch: pl.PointBatch, **options: Any) -> torch.Tensor:
    features = options.pop("features", None)
    with torch.no_grad():
        x = pl.voxelize(
            batch, 0.125, features=torch.ones(len(batch.xyz), 3) if features is None else features, **options
        )
        return net(x.double())


def test_order_of_points_does_not_matter(inflated: nn.Module) -> None:
    a = cloud(80)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    b = pl.PointBatch.from_list([a.xyz[order]])
    assert torch.allclose(run(inflated, a, features=a.xyz), run(inflated, b, features=b.xyz), rtol=1e-5)


def test_translation_by_whole_voxels_does_not_matter_when_the_grid_starts_at_the_cloud(
    inflated: nn.Module,
) -> None:
    a = cloud(80)
    for shift in (1, 3, -5):  # not multiples of the network's stride of 4
        b = pl.PointBatch.from_list([a.xyz + shift * 0.125])
        assert torch.allclose(run(inflated, a, origin="cloud"), run(inflated, b, origin="cloud"), rtol=1e-9)
    assert not torch.allclose(run(inflated, a), run(inflated, b), rtol=1e-6)


def test_clouds_of_a_batch_do_not_see_each_other(inflated: nn.Module) -> None:
    batch = cloud(80, 30, 55)
    together = run(inflated, batch)
    for i in range(3):
        assert torch.allclose(together[i : i + 1], run(inflated, batch[i]), rtol=1e-9)


def test_autocast_in_bfloat16() -> None:
    net = network()
    x = pl.voxelize(cloud(80, 60), 0.1, features=cloud(80, 60).xyz)
    exact = net(x).detach()
    with torch.autocast("cpu", torch.bfloat16), pl.backend(None):
        out = net(x)
        nn.functional.cross_entropy(out, torch.tensor([1, 2])).backward()
    assert torch.isfinite(out).all() and float((out.detach().float() - exact).abs().max()) < 0.25 * float(
        exact.abs().max()
    )
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all(), name
